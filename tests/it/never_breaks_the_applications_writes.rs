//! Whatever becomes of us, the application's statements succeed, soon, and its own migrations never meet us.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio_postgres::error::SqlState;

use crate::harness::{Application, Cluster, Database};

const COLUMNS: &str = "id bigint PRIMARY KEY, tenant_id text, email text, phone text, first_name text, visitor_id text,
    conversation_id text, created_at timestamptz, last_conversation_at timestamptz";

/// How long the shortest of some waits for a locked outbox takes, for each of these statements, and the same of
/// statements that the server itself ends after a tenth of a second.
async fn shortest_waits(application: &Application, statements: [&str; 2]) -> ([Duration; 2], Duration) {
    let other = application.setup.db.admin().await;
    other.batch_execute("SET lock_timeout = '100ms'").await.unwrap();
    let (mut least, mut control) = ([Duration::MAX; 2], Duration::MAX);
    for _ in 0..5 {
        for (statement, least) in statements.iter().zip(&mut least) {
            let started = Instant::now();
            application.run(statement).await;
            *least = started.elapsed().min(*least);
        }
        let started = Instant::now();
        let refused = other.batch_execute("TABLE lead_webhook.outbox").await.unwrap_err();
        assert_eq!(refused.code(), Some(&SqlState::LOCK_NOT_AVAILABLE));
        control = started.elapsed().min(control);
    }
    (least, control)
}

/// The leads table, plain and in partitions: their INSERT triggers differ.
fn tables() -> [String; 2] {
    let plain = format!("CREATE TABLE leads ({COLUMNS})");
    let partitioned = format!("{plain} PARTITION BY RANGE (id); CREATE TABLE leads_all PARTITION OF leads DEFAULT");
    [plain, partitioned]
}

#[tokio::test]
async fn the_application_needs_no_right_on_our_schema_and_has_none() {
    let application = Application::installed().await;
    for forbidden in [
        "TABLE lead_webhook.outbox",
        "TABLE lead_webhook.endpoints",
        "SELECT nextval('lead_webhook.missed')",
        "INSERT INTO lead_webhook.muted VALUES ('1', 'acme')",
        "CREATE TRIGGER mine AFTER INSERT ON leads FOR EACH ROW EXECUTE FUNCTION lead_webhook.lead_inserted()",
    ] {
        assert_eq!(application.refusal(forbidden).await, "42501", "{forbidden}");
    }
    application.run("INSERT INTO leads (tenant_id, email) VALUES ('acme', 'a@b.c')").await;
    assert_eq!(application.queued().await.len(), 1);
}

#[tokio::test]
async fn a_locked_outbox_holds_a_statement_up_for_a_tenth_of_a_second_and_never_fails_it() {
    for table in tables() {
        let application = Application::installed_beside(&table).await;
        application.run("INSERT INTO leads (id, tenant_id) SELECT n, 'acme' FROM generate_series(1, 5) AS n").await;
        application.administer("BEGIN; LOCK TABLE lead_webhook.outbox").await;
        let insert = "INSERT INTO leads (id, tenant_id, email)
                      SELECT max(id) + 1, 'acme', 'ann@example.com' FROM leads";
        let update = "UPDATE leads SET email = 'ann@example.com'
                      WHERE id = (SELECT min(id) FROM leads WHERE email IS NULL)";
        let (least, control) = shortest_waits(&application, [insert, update]).await;
        application.administer("ROLLBACK").await;
        assert!(least.iter().all(|least| *least < 2 * control), "{least:?}, and the server alone {control:?}");
        assert_eq!(application.one::<i64>("SELECT count(*) FROM public.leads WHERE email LIKE 'ann%'").await, 10);
        assert_eq!(application.queued().await, [""; 0]);
        assert_eq!(application.missed().await, 10);
        let warnings = application.warnings();
        assert_eq!(warnings.len(), 10, "{warnings:?}");
        for warning in warnings {
            assert!(warning.starts_with("WARNING: lead_webhook: ") && warning.contains("55P03"), "{warning}");
            assert!(!warning.contains("ann"), "{warning}");
        }
    }
}

#[tokio::test]
async fn a_statement_succeeds_whatever_of_ours_is_broken_and_the_mark_survives_a_roll_back() {
    let application = Application::installed().await;
    let insert = "INSERT INTO leads (tenant_id, email) VALUES ('acme', 'a')";
    application.administer("ALTER TABLE lead_webhook.outbox ADD CHECK (false)").await;
    application.run(&format!("BEGIN; {insert}; ROLLBACK")).await;
    assert_eq!(application.missed().await, 1);
    application.administer("DROP TABLE lead_webhook.outbox CASCADE").await;
    application.run(insert).await;
    assert_eq!(application.missed().await, 2);
    for gone in ["SEQUENCE lead_webhook.missed", "TABLE lead_webhook.endpoints"] {
        application.administer(&format!("DROP {gone} CASCADE")).await;
        application.run(insert).await;
    }
    assert_eq!(application.warnings().len(), 4);
    assert_eq!(application.one::<i64>("SELECT count(*) FROM public.leads").await, 3);
}

#[tokio::test]
async fn the_application_alters_its_table_as_it_likes() {
    for table in tables() {
        let application = Application::installed_beside(&table).await;
        // One session goes on over all of it: it has the triggers' expressions prepared.
        application.run("INSERT INTO leads (id, tenant_id, email) VALUES (1, 'acme', 'a')").await;
        application.run("UPDATE leads SET phone = '1'").await;
        application
            .run(
                "ALTER TABLE leads ALTER tenant_id TYPE varchar(20), ALTER email TYPE varchar(99),
                    ALTER created_at TYPE timestamp, ALTER last_conversation_at TYPE timestamptz(0), ADD more text",
            )
            .await;
        application.run("INSERT INTO leads (id, tenant_id, email) VALUES (2, 'acme', 'a'), (3, 'acme', NULL)").await;
        application.run("UPDATE leads SET phone = '1' WHERE id = 3").await;
        assert_eq!(application.queued().await, ["1 inserted", "2 inserted", "3 contact_added"], "{table}");
        // The triggers do not look at the first name.
        application.run("ALTER TABLE leads DROP COLUMN more, DROP COLUMN first_name").await;
        application.run("INSERT INTO leads (id, tenant_id, email) VALUES (4, 'acme', 'a')").await;
        assert_eq!(application.queued().await.len(), 4, "{table}");
        assert_eq!((application.missed().await, application.warnings().len()), (0, 0), "{table}");
        application.run("ALTER TABLE leads RENAME TO prospects; DROP TABLE prospects").await;
    }
}

#[tokio::test]
async fn a_mapped_column_that_goes_is_told_and_the_applications_writes_go_on() {
    for table in tables() {
        for change in ["RENAME COLUMN email TO mail", "DROP COLUMN email"] {
            let application = Application::installed_beside(&table).await;
            application.run("INSERT INTO leads (id, tenant_id, phone) VALUES (1, 'acme', '1')").await;
            application.run("UPDATE leads SET phone = '2'").await;
            application.run(&format!("ALTER TABLE leads {change}")).await;
            application.run("INSERT INTO leads (id, tenant_id, phone) VALUES (5, 'acme', '1')").await;
            application.run("UPDATE leads SET phone = '3' WHERE id = 1").await;
            assert_eq!(application.queued().await, ["1 inserted"], "{change}");
            assert_eq!((application.missed().await, application.warnings().len()), (2, 2), "{change}");
            let broken = application.broken().await;
            let [(text, remedy)] = broken.as_slice() else { panic!("{broken:?}") };
            assert!(text.starts_with(r#"leads.columns.email = "email": public.leads has no such column"#), "{text}");
            assert!(remedy.contains("migrate"), "{remedy}");
        }
    }
}

#[tokio::test]
async fn a_server_with_two_phase_commit_prepares_the_transactions_that_queue() {
    let cluster = Cluster::start(&[("max_prepared_transactions", "2")]);
    let insert = "INSERT INTO leads (tenant_id, email) VALUES ('acme', 'a')";
    let prepare = |name| format!("BEGIN; {insert}; PREPARE TRANSACTION '{name}'");
    for notify in ["auto", "on"] {
        let edit = [("database.notify", json!(notify))];
        let application = Application::installed_in(Database::create(&cluster).await, &edit).await;
        // A daemon that rests waits to be notified.
        application.arm_the_bell().await;
        if notify == "on" {
            assert_eq!(application.refusal(&prepare("none")).await, "0A000", "it is the notification that cannot be");
            continue;
        }
        application.run(&prepare("one")).await;
        assert_eq!(application.queued().await.len(), 0);
        let _daemon = application.setup.daemon();
        application.run("COMMIT PREPARED 'one'").await;
        application.setup.receiver.wait_for(1).await;
        assert_eq!(application.setup.db.wait_for_log(1).await[0].status, "delivered");
    }
}
