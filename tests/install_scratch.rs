//! Installing, upgrading and removing, against a real server; and what the triggers promise the application.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, and its own scaffolding")]

mod scratch {
    //! A throw-away server, a database a test.
    use std::{
        io::{BufRead as _, BufReader},
        net::TcpListener,
        os::unix::process::CommandExt as _,
        process::{Child, Command, Stdio},
        sync::{
            OnceLock,
            atomic::{AtomicU32, Ordering},
        },
        time::Duration,
    };

    use lead_webhook::{
        config::{
            Columns, Config, Database, Delivery, Egress, Format, Leads, Level, Log, Mapping, Notify, TableName, Tls,
        },
        store::{
            connect::{Session, connect},
            install::{InstallError, NewInstallation, Report, migrate},
        },
    };
    use tokio_postgres::{Client, NoTls, Row};
    use uuid::Uuid;

    const SUPERVISOR: &str = r#"
d=$(mktemp -d /tmp/lead-webhook-install.XXXXXX) || exit 1
b=/usr/lib/postgresql/15/bin
trap 'test -f "$d/data/postmaster.pid" && "$b/pg_ctl" -D "$d/data" -m immediate -w stop >/dev/null 2>&1; rm -rf "$d"' EXIT
"$b/initdb" -D "$d/data" -U postgres --auth=trust -N >/dev/null || exit 1
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$d/data/server.key" -out "$d/data/server.crt" \
    -subj /CN=localhost -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE 2>/dev/null || exit 1
{ echo 'host all scram 127.0.0.1/32 scram-sha-256'; cat "$d/data/pg_hba.conf"; } >"$d/hba" && mv "$d/hba" "$d/data/pg_hba.conf"
"$b/pg_ctl" -D "$d/data" -l "$d/log" -w -o "-p $1 -c listen_addresses=127.0.0.1 -c unix_socket_directories=$d -c fsync=off -c max_connections=200 -c autovacuum=off -c ssl=on" start >/dev/null || exit 1
echo "$d"
cat >/dev/null
"#;

    struct Server {
        port: u16,
        directory: String,
        _shell: Child,
    }

    fn port() -> u16 {
        server().port
    }

    pub(crate) fn certificate() -> std::path::PathBuf {
        format!("{}/data/server.crt", server().directory).into()
    }

    fn server() -> &'static Server {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(|| {
            let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
            let mut shell = Command::new("setpriv")
                .args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups", "sh", "-c", SUPERVISOR, "sh"])
                .arg(port.to_string())
                .current_dir("/")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .process_group(0)
                .spawn()
                .unwrap();
            let mut line = String::new();
            BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
            assert!(line.starts_with("/tmp/"), "the server did not start");
            Server { port, directory: line.trim().to_owned(), _shell: shell }
        })
    }

    pub(crate) const LEADS: &str = "CREATE TABLE leads (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tenant_id text NOT NULL, email text, phone text, first_name text,
        visitor_id text, conversation_id text, created_at timestamptz NOT NULL DEFAULT now(),
        last_conversation_at timestamptz)";

    /// A database with an application's login; `app` owns the leads table.
    pub(crate) struct Db {
        pub(crate) config: Config,
        pub(crate) admin: Session,
        pub(crate) app: Client,
        pub(crate) name: String,
    }

    pub(crate) async fn plain(user: &str, database: &str) -> Client {
        let url = format!("postgres://{user}@127.0.0.1:{}/{database}", port());
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    impl Db {
        pub(crate) async fn new() -> Self {
            Self::with(LEADS).await
        }

        pub(crate) async fn with(leads: &str) -> Self {
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let name = format!("t{}", NUMBER.fetch_add(1, Ordering::Relaxed));
            let root = plain("postgres", "postgres").await;
            root.batch_execute(&format!("CREATE ROLE {name}_app LOGIN; CREATE ROLE {name}_daemon LOGIN"))
                .await
                .unwrap();
            root.batch_execute(&format!("CREATE DATABASE {name} OWNER {name}_app")).await.unwrap();
            let app = plain(&format!("{name}_app"), &name).await;
            app.batch_execute(leads).await.unwrap();
            let config = config(&name);
            let admin = connect(&config.database.owner_url, &config.database).await.unwrap();
            Self { config, admin, app, name }
        }

        /// With the schema, and an endpoint for tenant `acme`.
        pub(crate) async fn installed() -> Self {
            Self::installed_with(LEADS, |_| {}).await
        }

        pub(crate) async fn installed_with(leads: &str, edit: impl FnOnce(&mut Config)) -> Self {
            let mut db = Self::with(leads).await;
            edit(&mut db.config);
            db.migrate().await.unwrap();
            db.endpoint("acme", true).await;
            db
        }

        pub(crate) async fn migrate(&mut self) -> Result<Report, InstallError> {
            migrate(&mut self.admin.client, &self.config, new).await
        }

        pub(crate) async fn endpoint(&self, tenant: &str, enabled: bool) {
            let sql = "INSERT INTO lead_webhook.endpoints (tenant_id, enabled, url_sealed, host, port, secret_sealed, secret_set_at)
                VALUES ($1, $2, 'x', 'h', 443, 'x', now())";
            self.admin.client.execute(sql, &[&tenant, &enabled]).await.unwrap();
        }

        pub(crate) async fn app(&self, sql: &str) {
            self.app.batch_execute(sql).await.unwrap();
        }

        /// lead, kind, previous conversation, in the order they were queued.
        pub(crate) async fn queued(&self) -> Vec<String> {
            let sql = "SELECT lead_id || ' ' || kind || coalesce(' ' || previous_conversation_at, '') || CASE WHEN was_enabled THEN '' ELSE ' off' END
                FROM lead_webhook.outbox ORDER BY queued_at, lead_id";
            texts(&self.admin.client.query(sql, &[]).await.unwrap())
        }

        pub(crate) async fn clear(&self) {
            self.admin.client.batch_execute("DELETE FROM lead_webhook.outbox").await.unwrap();
        }

        /// Whether the mark has moved.
        pub(crate) async fn missed(&self) -> bool {
            self.one("SELECT is_called FROM lead_webhook.missed").await
        }

        pub(crate) async fn one<T: for<'a> tokio_postgres::types::FromSql<'a>>(&self, sql: &str) -> T {
            self.admin.client.query_one(sql, &[]).await.unwrap().get(0)
        }

        pub(crate) async fn daemon(&self) -> Session {
            connect(&self.config.database.url, &self.config.database).await.unwrap()
        }
    }

    pub(crate) fn texts(rows: &[Row]) -> Vec<String> {
        rows.iter().map(|row| row.get(0)).collect()
    }

    pub(crate) fn new() -> Result<NewInstallation, std::io::Error> {
        Ok(NewInstallation {
            installation_id: Uuid::new_v4(),
            key_check_sealed: vec![1],
            uniqueness_key_sealed: vec![2],
        })
    }

    pub(crate) fn column(name: &str) -> Mapping {
        Mapping::Column(name.to_owned())
    }

    pub(crate) fn sql(expression: &str) -> Mapping {
        Mapping::Sql(expression.to_owned())
    }

    pub(crate) fn url(user: &str, name: &str) -> lead_webhook::secret::Secret<String> {
        format!("postgres://{user}@127.0.0.1:{}/{name}", port()).into()
    }

    fn config(name: &str) -> Config {
        let seconds = Duration::from_secs;
        Config {
            database: Database {
                url: url(&format!("{name}_daemon"), name),
                owner_url: url("postgres", name),
                listen_url: url(&format!("{name}_daemon"), name),
                password: None,
                tls: Tls::Prefer,
                tls_ca_file: None,
                notify: Notify::Auto,
                poll_interval: seconds(5),
                owner_role: format!("{name}_owner_role"),
                daemon_role: format!("{name}_daemon_role"),
            },
            leads: Leads {
                table: TableName { schema: "public".to_owned(), name: "leads".to_owned() },
                silence: seconds(30 * 86_400),
                columns: Columns {
                    id: column("id"),
                    tenant_id: column("tenant_id"),
                    email: Some(column("email")),
                    phone: Some(column("phone")),
                    first_name: Some(column("first_name")),
                    visitor_id: Some(column("visitor_id")),
                    conversation_id: Some(column("conversation_id")),
                    captured_at: Some(column("created_at")),
                    last_conversation_at: Some(column("last_conversation_at")),
                },
            },
            delivery: Delivery {
                concurrency: 1,
                per_endpoint: 1,
                connect_timeout: seconds(5),
                timeout: seconds(15),
                max_age: None,
                drain_timeout: seconds(30),
                header_prefix: "X-Wilow".to_owned(),
                user_agent: "Wilow-Webhook/1.0".to_owned(),
            },
            egress: Egress::default(),
            keys_file: "/nowhere".into(),
            log: Log { level: Level::Info, format: Format::Text, response_excerpt: false },
        }
    }
}

use std::time::{Duration, Instant};

use lead_webhook::{
    config::{Notify, Tls},
    store::install::{InstallError, Verdict, migrate, migrate_plan, uninstall, uninstall_plan, verify},
};
use scratch::{Db, LEADS, column, new, plain, sql, texts};

const INTEGER_LEADS: &str = "CREATE TABLE leads (
    id bigint PRIMARY KEY, tenant_id text, email text, phone text, first_name text, visitor_id text,
    conversation_id text, created_at timestamptz, last_conversation_at timestamptz)";

const PARTITIONED: &str = "CREATE TABLE leads (
    id bigint, tenant_id text, email text, phone text, first_name text, visitor_id text,
    conversation_id text, created_at timestamptz, last_conversation_at timestamptz) PARTITION BY RANGE (id);
    CREATE TABLE leads_low PARTITION OF leads FOR VALUES FROM (0) TO (100);
    CREATE TABLE leads_high PARTITION OF leads FOR VALUES FROM (100) TO (200)";

#[tokio::test]
async fn every_way_of_inserting_queues_each_lead_with_a_contact_once() {
    let db = Db::installed_with(INTEGER_LEADS, |_| {}).await;
    db.endpoint("off", false).await;
    db.app("INSERT INTO leads (id, tenant_id, email) VALUES (1, 'acme', 'a@b.c')").await;
    db.app(
        "INSERT INTO leads (id, tenant_id, phone) VALUES (2, 'acme', '1'), (3, 'acme', NULL), (4, 'acme', E' \\t\\n')",
    )
    .await;
    db.app("INSERT INTO leads (id, tenant_id, email) VALUES (5, 'nobody', 'a@b.c'), (6, 'off', 'a@b.c'), (7, NULL, 'a@b.c')").await;
    db.app("INSERT INTO leads (id, tenant_id, email) VALUES (1, 'acme', 'z'), (8, 'acme', 'z') ON CONFLICT (id) DO UPDATE SET email = 'z'").await;
    db.app("INSERT INTO leads (id, tenant_id, email) VALUES (1, 'acme', 'z') ON CONFLICT DO NOTHING").await;
    db.app("MERGE INTO leads USING (VALUES (1), (9)) AS v (id) ON leads.id = v.id
            WHEN MATCHED THEN UPDATE SET email = 'y' WHEN NOT MATCHED THEN INSERT (id, tenant_id, email) VALUES (v.id, 'acme', 'm')").await;
    db.app("WITH more AS (INSERT INTO leads (id, tenant_id, email) VALUES (10, 'acme', 'c') RETURNING id) SELECT * FROM more").await;
    let copy = db.app.copy_in("COPY leads (id, tenant_id, email) FROM STDIN").await.unwrap();
    let mut copy = std::pin::pin!(copy);
    futures_util::SinkExt::send(&mut copy, bytes::Bytes::from_static(b"11\tacme\tx\n12\tacme\t\\N\n")).await.unwrap();
    copy.finish().await.unwrap();
    let expected = ["1", "2", "6 off", "8", "9", "10", "11"].map(|lead| {
        let (id, off) = lead.split_once(' ').map_or((lead, ""), |(id, _)| (id, " off"));
        format!("{id} inserted{off}")
    });
    assert_eq!(db.queued().await, expected);
    db.app("BEGIN; INSERT INTO leads (id, tenant_id, email) VALUES (20, 'acme', 'a@b.c'); ROLLBACK").await;
    assert_eq!(db.queued().await.len(), expected.len());
    assert!(!db.missed().await);
}

#[tokio::test]
async fn a_row_written_by_a_role_without_any_right_on_our_schema_is_queued() {
    let db = Db::installed().await;
    let reads = db.app.query("SELECT FROM lead_webhook.outbox", &[]).await;
    assert_eq!(reads.unwrap_err().code().unwrap().code(), "42501");
    let calls = db.app.query("SELECT nextval('lead_webhook.missed')", &[]).await;
    assert_eq!(calls.unwrap_err().code().unwrap().code(), "42501");
    db.app("INSERT INTO leads (tenant_id, email) VALUES ('acme', 'a@b.c')").await;
    assert_eq!(db.queued().await.len(), 1);
    // Nor may it call our functions from a trigger of its own.
    let trigger =
        "CREATE TRIGGER mine AFTER INSERT ON leads FOR EACH ROW EXECUTE FUNCTION lead_webhook.lead_inserted()";
    assert_eq!(db.app.batch_execute(trigger).await.unwrap_err().code().unwrap().code(), "42501");
}

#[tokio::test]
async fn a_lead_comes_back_at_exactly_the_silence_and_not_a_microsecond_before() {
    let db = Db::installed_with(INTEGER_LEADS, |_| {}).await;
    db.app("SET TimeZone = 'Europe/Berlin'; INSERT INTO leads (id, tenant_id, email, last_conversation_at) VALUES
            (1, 'acme', 'a', '2026-03-01T00:00Z'), (2, 'acme', 'a', '2026-03-01T00:00Z'), (3, 'acme', NULL, '2026-03-01T00:00Z'),
            (4, 'acme', 'a', NULL), (5, 'acme', 'a', 'infinity'), (6, 'acme', 'a', NULL), (7, 'acme', 'a', '-infinity')").await;
    db.app("UPDATE leads SET created_at = CASE id WHEN 4 THEN timestamptz '2026-03-01T00:00Z' END").await;
    db.clear().await;
    // Across a change of the clocks in the session's zone.
    db.app("UPDATE leads SET last_conversation_at = '2026-03-31T00:00Z' WHERE id = 1").await;
    db.app("UPDATE leads SET last_conversation_at = '2026-03-30T23:59:59.999999Z' WHERE id = 2").await;
    db.app("UPDATE leads SET last_conversation_at = '2026-03-31T00:00Z' WHERE id IN (3, 4, 5, 6, 7)").await;
    db.app("UPDATE leads SET last_conversation_at = 'infinity' WHERE id = 1").await;
    db.app("UPDATE leads SET last_conversation_at = NULL, phone = '1' WHERE id = 2").await;
    db.app("UPDATE leads SET last_conversation_at = '2020-01-01' WHERE id = 1").await;
    let before = "2026-03-01 00:00:00+00";
    assert_eq!(db.queued().await, [format!("1 came_back {before}"), format!("4 came_back {before}")]);
    assert!(!db.missed().await);
}

#[tokio::test]
async fn a_contact_that_is_added_is_a_new_lead_even_when_it_comes_back_too() {
    let db = Db::installed_with(INTEGER_LEADS, |_| {}).await;
    db.app("INSERT INTO leads (id, tenant_id, email, last_conversation_at) VALUES (1, 'acme', '  ', '2026-01-01'), (2, 'acme', 'a', '2026-01-01'), (3, 'nobody', NULL, NULL)").await;
    db.clear().await;
    db.app("UPDATE leads SET phone = '1', last_conversation_at = '2026-06-01' WHERE id = 1").await;
    db.app("UPDATE leads SET phone = '1' WHERE id IN (2, 3)").await;
    db.app("UPDATE leads SET email = 'other' WHERE id = 2").await;
    db.app("UPDATE leads SET email = NULL, phone = NULL WHERE id = 2").await;
    db.app("UPDATE leads SET email = 'b' WHERE id = 2").await;
    assert_eq!(db.queued().await, ["1 contact_added", "2 contact_added"]);
}

#[tokio::test]
async fn a_muted_session_queues_nothing_and_its_leads_are_noted() {
    for leads in [INTEGER_LEADS, PARTITIONED] {
        let db = Db::installed_with(leads, |_| {}).await;
        db.app("INSERT INTO leads (id, tenant_id) VALUES (9, 'acme')").await;
        db.app("SET lead_webhook.mute = 'on'").await;
        db.app("INSERT INTO leads (id, tenant_id, email, last_conversation_at) VALUES (1, 'acme', 'a', '2026-01-01'), (2, 'nobody', 'a', NULL), (3, 'acme', '', NULL), (4, NULL, 'a', NULL)").await;
        db.app("UPDATE leads SET last_conversation_at = '2026-06-01' WHERE id = 1").await;
        db.app("UPDATE leads SET email = 'a' WHERE id = 9").await;
        assert_eq!(db.queued().await, [""; 0]);
        let noted = db.admin.client.query("SELECT lead_id FROM lead_webhook.muted ORDER BY 1", &[]).await.unwrap();
        assert_eq!(texts(&noted), ["1", "2", "9"]);
        db.app("RESET lead_webhook.mute; INSERT INTO leads (id, tenant_id, email) VALUES (5, 'acme', 'a')").await;
        assert_eq!(db.queued().await, ["5 inserted"]);
        assert!(!db.missed().await);
    }
}

#[tokio::test]
async fn a_partitioned_table_queues_whatever_partition_is_written() {
    let mut db = Db::installed_with(PARTITIONED, |_| {}).await;
    db.app("INSERT INTO leads (id, tenant_id, email) VALUES (1, 'acme', 'a'), (101, 'acme', 'a'), (2, 'acme', '')")
        .await;
    db.app("INSERT INTO leads_high (id, tenant_id, email) VALUES (102, 'acme', 'a')").await;
    db.app("CREATE TABLE leads_new (tenant_id text, id bigint, created_at timestamptz, email text, phone text, first_name text,
            visitor_id text, conversation_id text, last_conversation_at timestamptz)").await;
    db.app("ALTER TABLE leads ATTACH PARTITION leads_new FOR VALUES FROM (200) TO (300)").await;
    db.app("CREATE TABLE leads_last PARTITION OF leads FOR VALUES FROM (300) TO (400)").await;
    db.app("INSERT INTO leads (id, tenant_id, email) VALUES (301, 'acme', 'a')").await;
    db.app("INSERT INTO leads_new (id, tenant_id, email) VALUES (201, 'acme', 'a')").await;
    db.app("UPDATE leads SET email = 'b' WHERE id = 2").await;
    assert_eq!(
        db.queued().await,
        ["1 inserted", "101 inserted", "102 inserted", "301 inserted", "201 inserted", "2 contact_added"]
    );
    db.clear().await;
    // A row that moves is an INSERT to the trigger; the claim knows it.
    db.app("UPDATE leads SET id = 150 WHERE id = 1").await;
    assert_eq!(db.queued().await, ["150 inserted"]);
    assert!(!db.missed().await);
    assert_eq!(db.migrate().await.unwrap().done, [""; 0]);
}

#[tokio::test]
async fn a_locked_outbox_delays_the_application_by_a_tenth_of_a_second_and_never_fails_it() {
    for leads in [INTEGER_LEADS, PARTITIONED] {
        let db = Db::installed_with(leads, |_| {}).await;
        db.app("INSERT INTO leads (id, tenant_id) VALUES (1, 'acme')").await;
        let blocker = plain("postgres", &db.name).await;
        blocker.batch_execute("BEGIN; LOCK TABLE lead_webhook.outbox").await.unwrap();
        let started = Instant::now();
        db.app("INSERT INTO leads (id, tenant_id, email) VALUES (2, 'acme', 'a')").await;
        db.app("UPDATE leads SET email = 'a' WHERE id = 1").await;
        let took = started.elapsed();
        assert!(took > Duration::from_millis(150) && took < Duration::from_millis(600), "{took:?}");
        blocker.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(db.one::<i64>("SELECT count(*) FROM public.leads WHERE email = 'a'").await, 2);
        assert_eq!(db.queued().await, [""; 0]);
        assert_eq!(db.one::<i64>("SELECT last_value FROM lead_webhook.missed").await, 2);
    }
}

#[tokio::test]
async fn the_mark_survives_a_roll_back_and_a_lost_sequence_does_not_fail_the_application() {
    let db = Db::installed().await;
    db.admin.client.batch_execute("ALTER TABLE lead_webhook.outbox ADD CHECK (false)").await.unwrap();
    db.app("BEGIN; INSERT INTO leads (tenant_id, email) VALUES ('acme', 'a'); ROLLBACK").await;
    assert!(db.missed().await);
    db.admin.client.batch_execute("DROP SEQUENCE lead_webhook.missed").await.unwrap();
    db.app("INSERT INTO leads (tenant_id, email) VALUES ('acme', 'a')").await;
}

#[tokio::test]
async fn the_application_alters_its_table_as_it_likes() {
    for (leads, kind) in [(INTEGER_LEADS, "plain"), (PARTITIONED, "partitioned")] {
        let db = Db::installed_with(leads, |_| {}).await;
        let daemon = db.daemon().await;
        db.app("INSERT INTO leads (id, tenant_id, email) VALUES (1, 'acme', 'a'); UPDATE leads SET phone = '1'").await;
        // The same session goes on: it has prepared the triggers' expressions.
        db.app("ALTER TABLE leads ALTER tenant_id TYPE varchar(20), ALTER email TYPE varchar(99), ALTER created_at TYPE timestamp,
                ALTER last_conversation_at TYPE timestamptz(0), ADD more text").await;
        db.app("INSERT INTO leads (id, tenant_id, email) VALUES (2, 'acme', 'a'), (3, 'acme', NULL)").await;
        db.app("UPDATE leads SET phone = '1' WHERE id = 3").await;
        assert_eq!(db.queued().await, ["1 inserted", "2 inserted", "3 contact_added"], "{kind}");
        assert!(!db.missed().await, "{kind}");
        db.app("ALTER TABLE leads DROP COLUMN more, DROP COLUMN first_name").await;
        db.app("INSERT INTO leads (id, tenant_id, email) VALUES (4, 'acme', 'a')").await;
        assert_eq!(db.queued().await.len(), 4, "{kind}");
        db.app("ALTER TABLE leads RENAME COLUMN email TO mail").await;
        db.app("INSERT INTO leads (id, tenant_id, phone) VALUES (5, 'acme', '1'); UPDATE leads SET phone = '2'").await;
        assert!(db.missed().await, "{kind}");
        assert_eq!(db.queued().await.len(), 4, "{kind}");
        let findings = verify(&daemon.client, &db.config).await.unwrap();
        let broken: Vec<_> = findings
            .iter()
            .filter(|finding| finding.verdict == Verdict::Broken)
            .map(|finding| finding.text.as_str())
            .collect();
        assert_eq!(broken.len(), 2, "{broken:?}");
        assert!(
            broken[0].starts_with(r#"leads.columns.email = "email": public.leads has no such column"#),
            "{broken:?}"
        );
        db.app("ALTER TABLE leads RENAME TO prospects; DROP TABLE prospects").await;
    }
}

#[tokio::test]
async fn expressions_over_the_row_are_mapped() {
    let leads = "CREATE SCHEMA lib; CREATE FUNCTION lib.tidy(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)';
        REVOKE ALL ON FUNCTION lib.tidy FROM PUBLIC;
        CREATE TYPE lib.kind AS ENUM ('a', 'b');
        CREATE TABLE leads (id int PRIMARY KEY, org int, contact jsonb, at double precision, day date, secret text, kind text)";
    for partitioned in [false, true] {
        let leads = if partitioned {
            leads.replace("PRIMARY KEY", "") + " PARTITION BY LIST (id); CREATE TABLE p PARTITION OF leads DEFAULT"
        } else {
            leads.to_owned()
        };
        let db = Db::installed_with(&leads, |config| {
            let columns = &mut config.leads.columns;
            columns.tenant_id = sql("'org-' || lead.org");
            columns.email = Some(sql("lib.tidy(lead.contact->>'email') -- the contact"));
            columns.phone = Some(sql(r"regexp_replace(lead.contact->>'phone', '\D', '', 'g')"));
            columns.first_name = Some(sql("lead.kind::lib.kind"));
            columns.visitor_id = None;
            columns.conversation_id = Some(sql("to_char(now(), 'YYYY')"));
            columns.captured_at = Some(sql("to_timestamp(lead.at)"));
            columns.last_conversation_at = Some(column("day"));
        })
        .await;
        db.endpoint("org-7", true).await;
        db.app("SET standard_conforming_strings = off; SET TimeZone = 'America/New_York'").await;
        db.app(r#"INSERT INTO leads VALUES (1, 7, '{"email": "A@B.C"}', 0, NULL), (2, 7, '{}', 0, NULL), (3, 7, '{"phone": "--"}', 0, NULL), (4, 7, '{"phone": "-1"}', 0, NULL), (5, 7, '"no object"', 0, NULL)"#).await;
        assert_eq!(db.queued().await, ["1 inserted", "4 inserted"]);
        db.clear().await;
        db.app("UPDATE leads SET day = '1970-01-31' WHERE id = 1").await;
        db.app("UPDATE leads SET day = '1970-03-01' WHERE id = 1").await;
        db.app("UPDATE leads SET day = '1970-04-01', at = 1 WHERE id = 1").await;
        assert_eq!(db.queued().await, ["1 came_back 1970-01-01 00:00:00+00", "1 came_back 1970-03-01 00:00:00+00"]);
        assert!(!db.missed().await);
        let daemon = db.daemon().await;
        let findings = verify(&daemon.client, &db.config).await.unwrap();
        assert!(findings.iter().all(|finding| finding.verdict != Verdict::Broken), "{findings:?}");
        let reads = daemon.client.query("SELECT secret FROM public.leads", &[]).await;
        assert_eq!(reads.unwrap_err().code().unwrap().code(), "42501", "only the mapped columns can be read");
    }
}

#[tokio::test]
async fn every_problem_of_a_mapping_is_told_at_once() {
    let mut db = Db::new().await;
    let columns = &mut db.config.leads.columns;
    columns.id = sql("(SELECT min(l.id::text) FROM public.leads AS l)");
    columns.tenant_id = sql("coalesce(lead.tenant_id, random()::text)");
    columns.email = Some(column("emial"));
    columns.phone = Some(sql("phone"));
    columns.first_name = Some(sql("max(lead.first_name)"));
    columns.visitor_id = Some(sql("regexp_split_to_table(lead.visitor_id, ',')"));
    columns.conversation_id = Some(sql("lead.conversation_id || $1"));
    columns.captured_at = Some(sql("extract(epoch FROM lead.created_at)"));
    columns.last_conversation_at = Some(sql("lead.last_conversation_at +"));
    let Err(InstallError::Mapping(problems)) = db.migrate().await else { panic!() };
    let mut texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
    texts.sort();
    let expected = [
        ("captured_at", "is numeric, not timestamptz, timestamp or date: for Unix seconds write \"sql: to_timestamp("),
        ("conversation_id", "has parameters"),
        ("email", "public.leads has no such column. Perhaps you meant to reference the column \"email\"."),
        ("first_name", "has an aggregate function"),
        ("id", "has a subquery"),
        ("last_conversation_at", "syntax error"),
        ("phone", "column reference \"phone\" is ambiguous: write lead.column"),
        ("tenant_id", "calls random(), which is volatile"),
        ("visitor_id", "makes more than one value"),
    ];
    assert_eq!(texts.len(), expected.len(), "{texts:#?}");
    for (text, (key, part)) in texts.iter().zip(expected) {
        assert!(text.starts_with(&format!("leads.columns.{key} = ")) && text.contains(part), "{text}");
    }
    assert!(!db.one::<bool>("SELECT to_regnamespace('lead_webhook') IS NOT NULL").await);
    for (table, part) in
        [("Leads", "did you mean public.leads?"), ("v", "is a view"), ("nothing", "there is no such table")]
    {
        db.app("CREATE OR REPLACE VIEW v AS SELECT 1").await;
        db.config.leads.table.name = table.to_owned();
        let text = db.migrate().await.unwrap_err().to_string();
        assert!(text.starts_with("leads.table = \"public.") && text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn migrating_again_changes_nothing_and_two_at_once_do_it_once() {
    let mut db = Db::new().await;
    let config = db.config.clone();
    let mut other = lead_webhook::store::connect::connect(&config.database.owner_url, &config.database).await.unwrap();
    let (one, two) =
        tokio::join!(migrate(&mut db.admin.client, &config, new), migrate(&mut other.client, &config, new));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert!(one.done.is_empty() != two.done.is_empty(), "{one:?} {two:?}");
    let snapshot = "SELECT string_agg(x, ',' ORDER BY x) FROM (
        SELECT xmin || proname FROM pg_proc WHERE pronamespace = 'lead_webhook'::regnamespace UNION ALL
        SELECT xmin || tgname FROM pg_trigger UNION ALL SELECT xmin || relname || relacl::text FROM pg_class WHERE relacl IS NOT NULL UNION ALL
        SELECT xmin || attname FROM pg_attribute WHERE attacl IS NOT NULL UNION ALL SELECT xmin || rolname FROM pg_authid) AS t (x)";
    let before: String = db.one(snapshot).await;
    let report =
        migrate(&mut db.admin.client, &config, || Err::<_, std::io::Error>(std::io::Error::other("not asked for")))
            .await
            .unwrap();
    assert_eq!((report.done, report.warnings), (vec![], vec![]));
    assert_eq!(db.one::<String>(snapshot).await, before);
    assert_eq!(migrate_plan(&mut db.admin.client, &config).await.unwrap(), "-- nothing to do\n");
    assert_eq!(db.one::<String>("SELECT current_user::text").await, "postgres");
}

#[tokio::test]
async fn a_changed_setting_or_a_trigger_that_was_tampered_with_is_put_right() {
    let mut db = Db::installed().await;
    let body = "SELECT prosrc FROM pg_proc WHERE proname = 'lead_inserted'";
    assert!(db.one::<String>(body).await.contains("max_prepared_transactions"));
    db.config.database.notify = Notify::Off;
    let daemon = db.daemon().await;
    let broken = |findings: Vec<lead_webhook::store::install::Finding>| {
        findings.into_iter().filter(|one| one.verdict == Verdict::Broken).map(|one| one.text).collect::<Vec<_>>()
    };
    assert_eq!(broken(verify(&daemon.client, &db.config).await.unwrap()).len(), 2);
    assert_eq!(db.migrate().await.unwrap().done.len(), 2);
    assert!(!db.one::<String>(body).await.contains("notify('"));
    db.app("ALTER TABLE leads DISABLE TRIGGER lead_webhook_update; DROP TRIGGER lead_webhook_insert ON leads").await;
    let texts = broken(verify(&daemon.client, &db.config).await.unwrap());
    assert_eq!(
        texts,
        [
            "lead_webhook_insert is not in place: no lead is queued by it",
            "lead_webhook_update is switched off: no lead is queued by it"
        ]
    );
    assert_eq!(db.migrate().await.unwrap().done, [r#"install the triggers on "public"."leads""#]);
    assert_eq!(broken(verify(&daemon.client, &db.config).await.unwrap()), [""; 0]);
    // Another table is configured: the first one is let go.
    db.app(&LEADS.replace("TABLE leads", "TABLE prospects")).await;
    db.config.leads.table.name = "prospects".to_owned();
    db.migrate().await.unwrap();
    db.app("INSERT INTO leads (tenant_id, email) VALUES ('acme', 'a')").await;
    assert_eq!(db.queued().await.len(), 0);
    db.app("INSERT INTO prospects (tenant_id, email) VALUES ('acme', 'a')").await;
    assert_eq!(db.queued().await.len(), 1);
    db.config.leads.columns.phone = None;
    db.migrate().await.unwrap();
    let phone = daemon.client.query("SELECT phone FROM public.prospects", &[]).await;
    assert_eq!(phone.unwrap_err().code().unwrap().code(), "42501");
    assert_eq!(broken(verify(&daemon.client, &db.config).await.unwrap()), [""; 0]);
}

#[tokio::test]
async fn a_ring_is_heard_and_only_for_what_was_queued() {
    let db = Db::installed().await;
    let (sender, mut heard) = tokio::sync::mpsc::channel(8);
    let listener =
        lead_webhook::store::connect::connect_listening(&db.config.database.url, &db.config.database, sender)
            .await
            .unwrap();
    listener.client.batch_execute("LISTEN lead_webhook").await.unwrap();
    db.app("INSERT INTO leads (tenant_id, email) VALUES ('nobody', 'a'), ('acme', '')").await;
    db.app("INSERT INTO leads (tenant_id, email) VALUES ('acme', 'a'), ('acme', 'b')").await;
    assert_eq!(heard.recv().await.unwrap().channel(), "lead_webhook");
    db.app("UPDATE leads SET phone = '1' WHERE email = ''").await;
    assert_eq!(heard.recv().await.unwrap().payload(), "");
    drop(listener.client);
    listener.connection.await.unwrap().unwrap();
    assert!(heard.recv().await.is_none());
}

#[tokio::test]
async fn a_busy_table_makes_the_triggers_wait_and_is_not_blocked_by_it() {
    let mut db = Db::new().await;
    let writer = plain(&format!("{}_app", db.name), &db.name).await;
    writer.batch_execute("BEGIN; INSERT INTO leads (tenant_id) VALUES ('acme')").await.unwrap();
    let other = plain(&format!("{}_app", db.name), &db.name).await;
    let mut longest = Duration::ZERO;
    let write = async {
        for _ in 0..30 {
            let started = Instant::now();
            other.batch_execute("INSERT INTO leads (tenant_id) VALUES ('acme')").await.unwrap();
            longest = longest.max(started.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        writer.batch_execute("COMMIT").await.unwrap();
    };
    let (done, ()) = tokio::join!(migrate(&mut db.admin.client, &db.config, new), write);
    done.unwrap();
    assert!(longest < Duration::from_millis(450), "{longest:?}");
    db.endpoint("acme", true).await;
    db.app("INSERT INTO leads (tenant_id, email) VALUES ('acme', 'a')").await;
    assert_eq!(db.queued().await.len(), 1);
}

#[tokio::test]
async fn what_a_user_may_not_do_is_printed_for_the_administrator() {
    let mut db = Db::new().await;
    let (name, root) = (db.name.clone(), plain("postgres", &db.name).await);
    root.batch_execute(&format!("CREATE ROLE {name}_op LOGIN; ALTER DATABASE {name} OWNER TO postgres")).await.unwrap();
    db.config.database.owner_url = scratch::url(&format!("{name}_op"), &name);
    let mut session =
        lead_webhook::store::connect::connect(&db.config.database.owner_url, &db.config.database).await.unwrap();
    let mut rounds = 0;
    let report = loop {
        rounds += 1;
        match migrate(&mut session.client, &db.config, new).await {
            Ok(report) => break report,
            Err(InstallError::NeedsAdministrator { sql }) => {
                assert!(rounds < 3, "{sql}");
                for line in sql.lines() {
                    root.batch_execute(line).await.unwrap_or_else(|error| panic!("{line}: {error:?}"));
                }
            }
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(rounds, 2, "the administrator is asked once");
    assert_eq!(report.warnings, [""; 0]);
    db.endpoint("acme", true).await;
    db.app("INSERT INTO leads (tenant_id, email) VALUES ('acme', 'a')").await;
    assert_eq!(db.queued().await.len(), 1);
    assert!(!db.missed().await);
    let daemon = db.daemon().await;
    let findings = verify(&daemon.client, &db.config).await.unwrap();
    assert!(findings.iter().all(|finding| finding.verdict != Verdict::Broken), "{findings:?}");
    // Neither roles nor the rights on the application's table are this user's to remove: it says so and goes on.
    let report = uninstall(&mut session.client, &db.config, false).await.unwrap();
    assert!(!report.warnings.is_empty());
    assert!(db.one::<bool>("SELECT to_regnamespace('lead_webhook') IS NULL").await);
    assert_eq!(db.one::<i64>("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal").await, 0);
}

#[tokio::test]
async fn a_creator_of_roles_who_owns_the_table_needs_no_administrator() {
    let mut db = Db::new().await;
    let root = plain("postgres", &db.name).await;
    root.batch_execute(&format!("ALTER ROLE {}_app CREATEROLE", db.name)).await.unwrap();
    let mut session = lead_webhook::store::connect::connect(
        &scratch::url(&format!("{}_app", db.name), &db.name),
        &db.config.database,
    )
    .await
    .unwrap();
    let report = migrate(&mut session.client, &db.config, new).await.unwrap();
    assert_eq!(report.warnings, [""; 0]);
    db.endpoint("acme", true).await;
    db.app("INSERT INTO leads (tenant_id, email) VALUES ('acme', 'a')").await;
    assert_eq!(db.queued().await.len(), 1);
    let report = uninstall(&mut session.client, &db.config, false).await.unwrap();
    assert_eq!(report.warnings, [""; 0]);
    db.config.database.owner_url = scratch::url("postgres", &db.name);
    let rest: i64 = db.one("SELECT count(*) FROM pg_roles WHERE rolname LIKE current_database() || '_%_role'").await;
    assert_eq!(rest, 0);
    db.admin.client.batch_execute("SELECT 1").await.unwrap();
}

#[tokio::test]
async fn uninstalling_leaves_nothing_and_can_be_repeated() {
    let mut db = Db::installed().await;
    let plan = uninstall_plan(&mut db.admin.client, &db.config, false).await.unwrap();
    assert!(plan.contains("DROP FUNCTION") && plan.contains("DROP SCHEMA lead_webhook"), "{plan}");
    assert!(db.one::<bool>("SELECT to_regnamespace('lead_webhook') IS NOT NULL").await, "the plan changes nothing");
    let report = uninstall(&mut db.admin.client, &db.config, false).await.unwrap();
    assert_eq!(report.warnings, [""; 0]);
    let rest = "SELECT count(*) FROM (SELECT nspname FROM pg_namespace WHERE nspname = 'lead_webhook' OR nspacl::text LIKE '%_role%' UNION ALL
        SELECT tgname FROM pg_trigger WHERE NOT tgisinternal UNION ALL SELECT rolname FROM pg_roles WHERE rolname LIKE current_database() || '\\_%\\_role' UNION ALL
        SELECT attname FROM pg_attribute WHERE attrelid = 'public.leads'::regclass AND attacl IS NOT NULL AND attacl <> '{}') AS t";
    assert_eq!(db.one::<i64>(rest).await, 0);
    let report = uninstall(&mut db.admin.client, &db.config, false).await.unwrap();
    assert_eq!((report.done, report.warnings), (vec![], vec![]));
    db.app("INSERT INTO leads (tenant_id, email) VALUES ('acme', 'a')").await;
    db.migrate().await.unwrap();
}

#[tokio::test]
async fn a_kept_log_is_found_again_by_the_next_install() {
    let mut db = Db::installed().await;
    db.admin.client.batch_execute("INSERT INTO lead_webhook.deliveries (delivery_id, event_id, tenant_id, lead_id, event, status, reason, queued_at, finished_at)
        VALUES (gen_random_uuid(), gen_random_uuid(), 'acme', '1', 'lead.created', 'skipped', 'gone', now(), now())").await.unwrap();
    for _ in 0..2 {
        let report = uninstall(&mut db.admin.client, &db.config, true).await.unwrap();
        assert_eq!(report.warnings, [format!("role {} stays: it owns the kept log", db.config.database.owner_role)]);
        let left = "SELECT relname::text FROM pg_class WHERE relnamespace = 'lead_webhook'::regnamespace AND relkind IN ('r', 'S')";
        assert_eq!(texts(&db.admin.client.query(left, &[]).await.unwrap()), ["deliveries"]);
    }
    db.migrate().await.unwrap();
    assert_eq!(db.one::<i64>("SELECT count(*) FROM lead_webhook.deliveries").await, 1);
    assert!(db.one::<bool>("SELECT to_regclass('lead_webhook.deliveries_kept') IS NULL").await);
    assert_eq!(db.migrate().await.unwrap().done, [""; 0]);
    let daemon = db.daemon().await;
    let findings = verify(&daemon.client, &db.config).await.unwrap();
    assert!(findings.iter().all(|finding| finding.verdict != Verdict::Broken), "{findings:?}");
    uninstall(&mut db.admin.client, &db.config, true).await.unwrap();
    let report = uninstall(&mut db.admin.client, &db.config, false).await.unwrap();
    assert_eq!(report.warnings, [""; 0]);
    assert!(db.one::<bool>("SELECT to_regnamespace('lead_webhook') IS NULL").await);
}

#[tokio::test]
async fn the_printed_plan_run_by_hand_makes_the_same_install() {
    let mut db = Db::new().await;
    let plan = migrate_plan(&mut db.admin.client, &db.config).await.unwrap();
    assert!(!db.one::<bool>("SELECT to_regnamespace('lead_webhook') IS NOT NULL").await, "the plan changes nothing");
    if let Ok(path) = std::env::var("PRINT_PLAN") {
        std::fs::write(path, &plan).unwrap();
    }
    let by_hand = plan.replace("($1, $2, $3, $4, $5)", "(gen_random_uuid(), NULL, current_database(), '', '')");
    db.admin
        .client
        .batch_execute(&by_hand.replace(
            "GRANT SELECT ON lead_webhook.migrations",
            "CREATE TABLE lead_webhook.migrations (); GRANT SELECT ON lead_webhook.migrations",
        ))
        .await
        .unwrap();
    db.endpoint("acme", true).await;
    db.app("INSERT INTO leads (tenant_id, email) VALUES ('acme', 'a')").await;
    assert_eq!(db.queued().await.len(), 1);
}

#[tokio::test]
async fn a_newer_versions_schema_is_left_alone() {
    let mut db = Db::installed().await;
    db.admin.client.batch_execute("INSERT INTO lead_webhook.migrations VALUES (99, 'future', '', '1')").await.unwrap();
    let text = db.migrate().await.unwrap_err().to_string();
    assert!(text.starts_with("migration V99__future is recorded"), "{text}");
    let daemon = db.daemon().await;
    let findings = verify(&daemon.client, &db.config).await.unwrap();
    assert_eq!(findings[0].verdict, Verdict::Broken);
}

#[tokio::test]
async fn row_level_security_that_would_hide_leads_is_told() {
    let db = Db::installed().await;
    db.app("ALTER TABLE leads ENABLE ROW LEVEL SECURITY").await;
    let daemon = db.daemon().await;
    let findings = verify(&daemon.client, &db.config).await.unwrap();
    let broken: Vec<_> = findings.iter().filter(|finding| finding.verdict == Verdict::Broken).collect();
    assert_eq!(broken.len(), 1, "{broken:?}");
    let (_, remedy) = broken[0].text.split_once("an administrator runs ").unwrap();
    db.admin.client.batch_execute(remedy).await.unwrap();
    let findings = verify(&db.daemon().await.client, &db.config).await.unwrap();
    assert!(findings.iter().all(|finding| finding.verdict != Verdict::Broken), "{findings:?}");
}

#[tokio::test]
async fn tls_is_used_as_far_as_it_is_insisted_on() {
    let db = Db::new().await;
    db.admin.client.batch_execute("CREATE ROLE scram LOGIN PASSWORD 'geheim'").await.unwrap();
    let mut database = db.config.database.clone();
    database.password = Some("geheim".to_owned().into());
    let port = db.one::<i32>("SELECT current_setting('port')::integer").await;
    let at = |host: &str| format!("postgres://scram@{host}:{port}/{}", db.name).into();
    let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let mut outcomes = Vec::new();
    for (tls, host, ca) in [
        (Tls::Disable, "127.0.0.1", false),
        (Tls::Prefer, "127.0.0.1", false),
        (Tls::Require, "127.0.0.1", false),
        (Tls::VerifyFull, "localhost", true),
        (Tls::VerifyFull, "127.0.0.1", true),
        (Tls::VerifyFull, "localhost", false),
    ] {
        database.tls = tls;
        database.tls_ca_file = ca.then(scratch::certificate);
        outcomes.push(match lead_webhook::store::connect::connect(&at(host), &database).await {
            Ok(session) => session.client.query_one(encrypted, &[]).await.unwrap().get::<_, bool>(0).to_string(),
            Err(error) => error.to_string(),
        });
    }
    assert_eq!(outcomes[..4], ["false", "true", "true", "true"], "{outcomes:#?}");
    assert!(outcomes[4].contains("certificate not valid for name"), "{outcomes:#?}");
    assert!(
        outcomes[5].contains("no trusted roots") || outcomes[5].contains("invalid peer certificate"),
        "{outcomes:#?}"
    );
    database.tls = Tls::Require;
    database.password = Some("wrong".to_owned().into());
    let text = lead_webhook::store::connect::connect(&at("127.0.0.1"), &database).await.unwrap_err().to_string();
    assert!(!text.contains("wrong") && text.contains("user scram"), "{text}");
}
