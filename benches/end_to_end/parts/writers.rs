//! What the application's own commits cost once there is a trigger on its table.
//!
//! Tables of one shape, one a variant. While ours is measured, the daemon runs under its defaults and the receiver takes
//! half a second to answer, so that it sends as in ordinary operation without taking the machine.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::{
    contenders::{
        graphile::{self, Graphile},
        ours::Ours,
    },
    harness::Database,
    pgbench,
    stand::{self, COLUMNS, Stand, insert_leads, leads_of, one},
    table::Table,
};

const TENANTS: u64 = 1_000;

/// How long the receiver takes.
const ANSWER: Duration = Duration::from_millis(500);

/// Writers, and whether every flush to disk waits for 2 ms first, as on an ordinary network disk.
const LOADS: [(&str, &str, bool); 3] =
    [("commits/s, 8 writers", "8", false), (MANY, "32", false), ("commits/s, 32 writers, 2 ms flush", "32", true)];
const MANY: &str = "commits/s, 32 writers";

const BARE: &str = "no trigger";
const OURS: &str = "ours, daemon running";
const UNCONFIGURED: &str = "ours, tenant without endpoint";
const NOTIFYING: &str = "outbox row and NOTIFY in a plain trigger";
const GRAPHILE: &str = "graphile-worker's add_job";

const UPDATE: &str = "UPDATE of another column, commits/s, 32 writers";
const INSERT: &str = "INSERT … SELECT, ms";
const COPY: &str = "COPY, ms";
const TRIGGERS: &str = "ours";
/// Each with its table.
const BESIDE_BARE: [(&str, &str); 2] = [(BARE, "bare"), (TRIGGERS, "leads")];
const BARE_KEYED: &str = "no trigger, UUIDs as keys";
const TRIGGERS_KEYED: &str = "ours, UUIDs as keys";
const BARE_PARTITIONED: &str = "no trigger, in partitions";
const TRIGGERS_PARTITIONED: &str = "ours, in partitions";

/// The tables beside `leads`, and the trigger that most hand-made outboxes have, with somebody who listens.
const TABLES: &str = "
CREATE TABLE bare (LIKE leads INCLUDING ALL);
CREATE TABLE notifying (LIKE leads INCLUDING ALL);
CREATE TABLE plain_outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, lead_id bigint NOT NULL);
CREATE FUNCTION notify_lead() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO plain_outbox (lead_id) VALUES (NEW.id);
    PERFORM pg_notify('plain_outbox', '');
    RETURN NULL;
END $$;
CREATE TRIGGER notify_lead AFTER INSERT ON notifying FOR EACH ROW EXECUTE FUNCTION notify_lead();
LISTEN plain_outbox;";

/// Removes what a variant has left, so that none meets another's.
const CLEAN: &str = "TRUNCATE leads, bare, notifying, plain_outbox, lead_webhook.outbox, lead_webhook.deliveries,
                              lead_webhook.uniqueness";
const CLEAN_GRAPHILE: &str = "TRUNCATE leads, graphile_worker._private_jobs";

/// Two tables: single rows, and everything else.
pub(crate) async fn measure(stand: &Stand) -> Vec<Table> {
    let mut inserts = Table::new("The application's commits, one lead each", &LOADS.map(|(column, ..)| (column, 0)));
    let rows = stand.number(20_000, 5_000);
    let heading = format!("The application's other statements ({rows} rows)");
    let mut others = Table::new(&heading, &[(UPDATE, 0), (INSERT, 0), (COPY, 0)]);
    let ours = Ours::install(stand, TENANTS, &[]).await;
    ours.admin.batch_execute(TABLES).await.unwrap();
    let graphile = if graphile::is_here() { Some(Graphile::install(stand).await) } else { None };
    for _ in 0..stand.rounds {
        for (column, clients, is_slow) in LOADS {
            let mut writers = Writers { stand, table: &mut inserts, column, clients, is_slow };
            writers.of_ours(&ours).await;
            if let Some(graphile) = &graphile {
                writers.commit(GRAPHILE, &graphile.database, "leads", "t").await;
                graphile.admin.batch_execute(CLEAN_GRAPHILE).await.unwrap();
            }
        }
        set_flush(&ours.setup.db, DEFAULTS).await;
        for (row, table) in BESIDE_BARE {
            bulk(stand, &ours.admin, &mut others, (row, table), rows).await;
            ours.admin.batch_execute(CLEAN).await.unwrap();
        }
        updates(stand, &ours, &mut others, rows).await;
    }
    let (keyed, partitioned) = (keyed(&ours).await, partitioned(stand).await);
    let pairs = [
        (&keyed, [(BARE_KEYED, "bare"), (TRIGGERS_KEYED, "leads")]),
        (&partitioned.admin, [(BARE_PARTITIONED, "bare"), (TRIGGERS_PARTITIONED, "leads")]),
    ];
    for _ in 0..stand.rounds {
        for (session, pair) in pairs {
            for (row, table) in pair {
                bulk(stand, session, &mut others, (row, table), rows).await;
                session.batch_execute(CLEAN).await.unwrap();
            }
        }
    }
    for (column, ..) in LOADS {
        [OURS, UNCONFIGURED, NOTIFYING, GRAPHILE].iter().for_each(|row| inserts.compare(column, row, BARE));
    }
    [UPDATE, INSERT, COPY].iter().for_each(|column| others.compare(column, TRIGGERS, BARE));
    [INSERT, COPY].iter().for_each(|column| others.compare(column, TRIGGERS_KEYED, BARE_KEYED));
    [INSERT, COPY].iter().for_each(|column| others.compare(column, TRIGGERS_PARTITIONED, BARE_PARTITIONED));
    let rows = [BARE, OURS, UNCONFIGURED, NOTIFYING, GRAPHILE];
    inserts.draw("What is left of the application's commits a second, 32 writers", MANY, &rows, Some(BARE));
    vec![inserts, others]
}

/// Gives both tables what many applications have: a random UUID as the key, and the index over the captured time that
/// `check` asks for. A session that has planned nothing for them as they were.
async fn keyed(ours: &Ours) -> Client {
    for table in ["bare", "leads"] {
        let sql = format!(
            "ALTER TABLE {table} ALTER id DROP IDENTITY;
             ALTER TABLE {table} ALTER id TYPE uuid USING gen_random_uuid(), ALTER id SET DEFAULT gen_random_uuid();
             CREATE INDEX ON {table} (created_at);"
        );
        ours.admin.batch_execute(&sql).await.unwrap();
    }
    ours.setup.db.admin().await
}

/// A database of its own in which both tables are partitioned, with a trigger for each row therefore.
async fn partitioned(stand: &Stand) -> Ours {
    let ours = Ours::install_in(stand.partitioned_database().await, stand, TENANTS, &[]).await;
    let bare = format!("{TABLES} DROP TABLE bare; {}", stand::partitioned("bare"));
    ours.admin.batch_execute(&bare).await.unwrap();
    ours
}

/// So many of them, all variants under the same load.
struct Writers<'a> {
    stand: &'a Stand,
    table: &'a mut Table,
    column: &'static str,
    clients: &'static str,
    is_slow: bool,
}

impl Writers<'_> {
    async fn of_ours(&mut self, ours: &Ours) {
        let database = &ours.setup.db;
        for (row, table, prefix) in [(BARE, "bare", "t"), (NOTIFYING, "notifying", "t"), (UNCONFIGURED, "leads", "x")] {
            self.commit(row, database, table, prefix).await;
            ours.admin.batch_execute(CLEAN).await.unwrap();
        }
        self.stand.receiver.reset(ANSWER);
        let daemon = ours.start_and_wait().await;
        self.commit(OURS, database, "leads", "t").await;
        ours.stop(daemon).await;
        ours.admin.batch_execute(CLEAN).await.unwrap();
    }

    async fn commit(&mut self, row: &str, database: &Database, table: &str, prefix: &str) {
        set_flush(database, if self.is_slow { SLOW } else { DEFAULTS }).await;
        let script = pgbench::insert(table, prefix, TENANTS);
        let seconds = self.stand.number(4, 1).to_string();
        let rate = pgbench::run(self.stand, database, &script, &["--client", self.clients, "--time", &seconds]).await;
        self.table.add(row, self.column, rate);
    }
}

/// PostgreSQL's own.
const DEFAULTS: [(&str, u32); 2] = [("commit_delay", 0), ("commit_siblings", 5)];

/// Every flush waits for 2 ms first.
const SLOW: [(&str, u32); 2] = [("commit_delay", 2000), ("commit_siblings", 0)];

/// For new sessions: the writers', and those of a daemon that is started later.
async fn set_flush(database: &Database, settings: [(&str, u32); 2]) {
    let admin = database.admin().await;
    for (name, value) in settings {
        let sql = format!("ALTER DATABASE {} SET {name} = {value}", database.name);
        admin.batch_execute(&sql).await.unwrap();
    }
}

/// Many rows in one statement.
async fn bulk(stand: &Stand, admin: &Client, table: &mut Table, (row, name): (&str, &str), rows: u64) {
    let leads = format!("SELECT {}", leads_of(rows, TENANTS));
    // Among the server's own files, where it may write.
    let file = stand.cluster.directory().join("data/leads.copy");
    admin.batch_execute(&format!("COPY ({leads}) TO '{}'", file.display())).await.unwrap();
    admin.batch_execute("CHECKPOINT").await.unwrap();
    table.add(row, COPY, millis_of(admin, &format!("COPY {name} ({COLUMNS}) FROM '{}'", file.display())).await);
    admin.batch_execute(CLEAN).await.unwrap();
    table.add(row, INSERT, millis_of(admin, &format!("INSERT INTO {name} ({COLUMNS}) {leads}")).await);
    let queued: i64 = one(admin, "SELECT count(*) FROM lead_webhook.outbox").await;
    assert_eq!(queued, if name == "leads" { i64::try_from(rows).unwrap() } else { 0 });
}

async fn millis_of(admin: &Client, sql: &str) -> f64 {
    let began = Instant::now();
    admin.batch_execute(sql).await.unwrap();
    began.elapsed().as_secs_f64() * 1e3
}

/// How often the two take turns in a round: neighbours on the machine change within seconds.
const TURNS: usize = 3;

/// Single updates of a column that is mapped to nothing, of the same leads in both tables.
async fn updates(stand: &Stand, ours: &Ours, table: &mut Table, rows: u64) {
    insert_leads(&ours.admin, rows, TENANTS).await;
    let copy = "INSERT INTO bare OVERRIDING SYSTEM VALUE TABLE leads; TRUNCATE lead_webhook.outbox";
    ours.admin.batch_execute(copy).await.unwrap();
    ours.admin.batch_execute("VACUUM ANALYZE bare, leads").await.unwrap();
    let first: i64 = one(&ours.admin, "SELECT min(id) FROM leads").await;
    let last: i64 = one(&ours.admin, "SELECT max(id) FROM leads").await;
    let seconds = stand.number(2, 1).to_string();
    for _ in 0..TURNS {
        for (row, name) in BESIDE_BARE {
            let script = format!(
                "\\set lead random({first}, {last})\n\\set note random(1, 1000000000)\n\
                 UPDATE {name} SET note = 'n' || :note WHERE id = :lead;\n"
            );
            let rate = pgbench::run(stand, &ours.setup.db, &script, &["--client", "32", "--time", &seconds]).await;
            table.add(row, UPDATE, rate);
        }
    }
    ours.admin.batch_execute(CLEAN).await.unwrap();
}
