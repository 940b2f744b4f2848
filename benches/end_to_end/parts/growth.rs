//! What is costly once there is much of it: log rows and uniqueness keys, tenants, dead rows that an open transaction
//! keeps, and old log rows that the daemon prunes meanwhile. Each drains a backlog of the same length, then lists the log.
//!
//! PostgreSQL's CPU is the whole server's, the pruning session's included. A list is a command from its start to its end.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    contenders::ours::{Ours, as_many_in_flight},
    drain::{self, Drained},
    stand::{Stand, insert_leads, one},
    table::Table,
};

const RATE: &str = "leads/s";
const SERVER_CPU: &str = "PostgreSQL CPU s/10k";
const CPU: &str = "CPU s/10k";
const LIST: &str = "list ms";
const LIST_OF_TENANT: &str = "list of a tenant ms";
const COLUMNS: [(&str, usize); 5] = [(RATE, 0), (SERVER_CPU, 2), (CPU, 2), (LIST, 0), (LIST_OF_TENANT, 0)];

const SMALL: &str = "hardly any log";
const LARGE: &str = "a large log";
const PRUNING: &str = "a large log, retention running";
const TENANTS: &str = "a tenant a lead";
const HELD: &str = "an open transaction";

/// Log rows that are there in any case.
const FEW: u64 = 1_000;

/// What was sent long ago, a second between two of them: a log row and a uniqueness key each, of a hundred tenants.
const LOG: &str = "
INSERT INTO lead_webhook.deliveries (delivery_id, event_id, tenant_id, lead_id, event, status, http_status, host, port,
                                     captured_at, queued_at, sent_at, finished_at, first_byte_us, total_us)
SELECT (substr(to_hex(256 + (floor(extract(epoch FROM at) / 3600)::bigint & 255)), 2) || substr(gen_random_uuid()::text, 3))::uuid,
       gen_random_uuid(), 't-' || n % 100, 'old-' || n, 'lead.created', 'delivered', 200,
       'localhost', 443, at, at, at, at, 1000, 1000
FROM generate_series($1::bigint, 1, -1) AS n, LATERAL (SELECT now() - interval '2 days' - n * interval '1 second') t (at)";
const KEYS: &str = "
INSERT INTO lead_webhook.uniqueness (key, tenant_id, lead_id, seen_at)
SELECT sha256(n::text::bytea), 't-' || n % 100, 'old-' || n, now() FROM generate_series(1, $1::bigint) AS n";

/// Under the shorter one all of what [`LOG`] wrote is too old: the daemon prunes from its start on.
const RETENTION: [&str; 2] = ["90d", "2d"];

const LOGGED: &str = "SELECT count(*) FROM lead_webhook.deliveries";

/// One table.
pub(crate) async fn measure(stand: &Stand) -> Vec<Table> {
    let leads = stand.number(10_000, 1_000);
    let logged = stand.number(5_000_000, 100_000);
    let heading = format!("Growth: a backlog of {leads} leads; a large log has {logged} rows, and as many keys");
    let mut table = Table::new(&heading, &COLUMNS);
    let large = install(stand, 1, logged).await;
    for _ in 0..stand.rounds {
        let small = install(stand, 1, FEW).await;
        drain(stand, &mut table, SMALL, &small, (leads, 1)).await;
        drain(stand, &mut table, LARGE, &large, (leads, 1)).await;
        pruning(stand, &mut table, &large, leads).await;
        let many = install(stand, leads, FEW).await;
        drain(stand, &mut table, TENANTS, &many, (leads, leads)).await;
        held(stand, &mut table, leads).await;
    }
    for (column, _) in COLUMNS {
        [LARGE, PRUNING, TENANTS, HELD].iter().for_each(|row| table.compare(column, row, SMALL));
    }
    vec![table]
}

async fn install(stand: &Stand, tenants: u64, logged: u64) -> Ours {
    let ours = Ours::install(stand, tenants, &as_many_in_flight()).await;
    let rows = i64::try_from(logged).unwrap();
    ours.admin.execute(LOG, &[&rows]).await.unwrap();
    ours.admin.execute(KEYS, &[&rows]).await.unwrap();
    ours
}

/// So many leads of so many tenants.
async fn drain(stand: &Stand, table: &mut Table, row: &str, ours: &Ours, (leads, tenants): (u64, u64)) {
    insert_leads(&ours.admin, leads, tenants).await;
    let Drained { rate, cpu, server_cpu, .. } = drain::by_ours(stand, ours, 1, leads, Duration::ZERO).await;
    let list = millis_of(ours, &["deliveries", "list"]).await;
    let list_of_tenant = millis_of(ours, &["deliveries", "list", "--tenant", "t-0"]).await;
    let figures = [rate, server_cpu, cpu, list, list_of_tenant];
    COLUMNS.iter().zip(figures).for_each(|((column, _), figure)| table.add(row, column, figure));
}

async fn millis_of(ours: &Ours, command: &[&str]) -> f64 {
    let began = Instant::now();
    ours.setup.run(command).await.ok();
    began.elapsed().as_secs_f64() * 1e3
}

/// The daemon prunes meanwhile.
async fn pruning(stand: &Stand, table: &mut Table, ours: &Ours, leads: u64) {
    let [usual, short] = RETENTION;
    let before: i64 = one(&ours.admin, LOGGED).await;
    ours.setup.edit_config(&[("retention.delivered", json!(short))]);
    drain(stand, table, PRUNING, ours, (leads, 1)).await;
    ours.setup.edit_config(&[("retention.delivered", json!(usual))]);
    let after: i64 = one(&ours.admin, LOGGED).await;
    assert!(after < before + i64::try_from(leads).unwrap(), "old rows were pruned meanwhile");
}

/// As many leads went through before, while the transaction was open: their outbox rows cannot be vacuumed away.
async fn held(stand: &Stand, table: &mut Table, leads: u64) {
    let ours = install(stand, 1, FEW).await;
    let holder = ours.setup.db.app().await;
    holder.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM leads").await.unwrap();
    insert_leads(&ours.admin, leads, 1).await;
    drain::by_ours(stand, &ours, 1, leads, Duration::ZERO).await;
    drain(stand, table, HELD, &ours, (leads, 1)).await;
    holder.batch_execute("COMMIT").await.unwrap();
}
