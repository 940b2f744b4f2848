//! While daemons run, the application changes its table, empties it, guards it, and bursts after a rest: nothing is lost,
//! nothing is in its way.

use serde_json::json;

use crate::harness::{Application, Setup};

const LEADS: &str =
    "CREATE TABLE leads (id bigint PRIMARY KEY, tenant_id text, email text, phone text, first_name text,
    visitor_id text, conversation_id text, created_at timestamptz, last_conversation_at timestamptz)";

/// The application's default table, with a daemon that has delivered from it, so that its statements are prepared.
async fn running() -> (Application, crate::harness::Process) {
    let application = Application::installed().await;
    let daemon = application.setup.daemon();
    application.run("INSERT INTO leads (tenant_id, email) VALUES ('acme', 'first@example.com')").await;
    application.setup.db.wait_for_log(1).await;
    (application, daemon)
}

async fn statuses(setup: &Setup, n: usize) -> Vec<String> {
    setup.db.wait_for_log(n).await.into_iter().map(|row| row.reason.unwrap_or(row.status)).collect()
}

#[tokio::test]
async fn columns_that_change_their_type_under_a_running_daemon_cost_no_lead() {
    let (application, daemon) = running().await;
    // Its last change takes the leads' ids away.
    application.setup.leaves_leads_unaccounted();
    let changes = [
        "ALTER TABLE leads ALTER email TYPE varchar(200), ALTER first_name TYPE varchar(200), ADD more text",
        "ALTER TABLE leads ALTER created_at TYPE timestamp, ALTER last_conversation_at TYPE timestamp",
        "ALTER TABLE leads ALTER id DROP DEFAULT, ALTER id TYPE text USING id::text,
             ALTER id SET DEFAULT gen_random_uuid()::text",
        "ALTER TABLE leads ALTER id DROP DEFAULT, ALTER id TYPE uuid USING gen_random_uuid(),
             ALTER id SET DEFAULT gen_random_uuid()",
    ];
    for (n, change) in changes.iter().enumerate() {
        application.run(change).await;
        let insert = format!("INSERT INTO leads (tenant_id, email) VALUES ('acme', 'after{n}@example.com')");
        application.run(&insert).await;
        assert_eq!(statuses(&application.setup, n + 2).await[n + 1], "delivered", "{change}: {:?}", daemon.log());
    }
    assert_eq!(application.missed().await, 0);
    assert_eq!(application.setup.receiver.requests().len(), 5);
}

#[tokio::test]
async fn an_id_that_is_made_wider_under_a_running_daemon_costs_no_lead() {
    let application = Application::installed_beside(&LEADS.replace("bigint", "integer")).await;
    let setup = &application.setup;
    let (app, _daemon) = (setup.db.app().await, setup.daemon());
    let insert = async |id: i64| {
        let insert = format!("INSERT INTO leads (id, tenant_id, email) VALUES ({id}, 'acme', 'lead{id}@example.com')");
        app.batch_execute(&insert).await.unwrap();
    };
    insert(1).await;
    setup.db.wait_for_log(1).await;
    app.batch_execute("ALTER TABLE leads ALTER id TYPE bigint").await.unwrap();
    insert(3_000_000_000).await;
    insert(2).await;
    assert_eq!(statuses(setup, 3).await, ["delivered"; 3]);
}

#[tokio::test]
async fn a_column_that_is_renamed_under_a_running_daemon_is_told_and_what_waited_is_sent_when_it_is_mapped_again() {
    let (application, daemon) = running().await;
    let locked = application.setup.db.admin().await;
    locked.batch_execute("BEGIN; LOCK TABLE lead_webhook.uniqueness IN EXCLUSIVE MODE").await.unwrap();
    application.run("INSERT INTO leads (tenant_id, email) VALUES ('acme', 'waits@example.com')").await;
    application.run("ALTER TABLE leads RENAME email TO mail").await;
    locked.batch_execute("COMMIT").await.unwrap();
    daemon.wait_for_log(|line| line.contains("leads.columns.email")).await;
    application.run("ALTER TABLE leads RENAME mail TO email").await;
    assert_eq!(statuses(&application.setup, 2).await, ["delivered", "delivered"]);
    assert_eq!(application.setup.receiver.requests().len(), 2);
}

#[tokio::test]
async fn leads_that_were_truncated_before_the_claim_are_gone_and_the_table_is_locked_by_nobody() {
    let application = Application::installed().await;
    application.run("INSERT INTO leads (tenant_id, email) SELECT 'acme', n FROM generate_series(1, 3) n").await;
    application.run("TRUNCATE leads").await;
    let _daemon = application.setup.daemon();
    assert_eq!(statuses(&application.setup, 3).await, ["gone"; 3]);
    application.run("INSERT INTO leads (tenant_id, email) VALUES ('acme', 'after@example.com')").await;
    assert_eq!(statuses(&application.setup, 4).await[3], "delivered");
    application.run("SET lock_timeout = '5s'; TRUNCATE leads; RESET lock_timeout").await;
    assert_eq!(application.setup.run(&["reconcile"]).await.code, Some(0));
}

#[tokio::test]
async fn a_policy_over_the_leads_hides_none_from_a_login_that_may_pass_it_and_is_told_to_one_that_may_not() {
    let (application, daemon) = running().await;
    let login = application.setup.db.daemon_login.clone();
    application
        .run(
            "ALTER TABLE leads ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
             CREATE POLICY own ON leads USING (tenant_id = current_setting('app.tenant', true))",
        )
        .await;
    application
        .run("SET app.tenant = 'acme'; INSERT INTO leads (tenant_id, email) VALUES ('acme', 'hidden@example.com')")
        .await;
    let told = daemon.wait_for_log(|line| line.contains("row") && line.contains("leads")).await;
    assert!(!told.contains("hidden@"), "{told}");
    assert_eq!(application.setup.db.log_rows().await.len(), 1, "no lead is gone because it is hidden");
    application.administer(&format!("ALTER ROLE {login} BYPASSRLS")).await;
    assert_eq!(statuses(&application.setup, 2).await, ["delivered", "delivered"]);
}

#[tokio::test]
async fn a_statement_timeout_of_the_applications_is_longer_than_what_a_trigger_waits() {
    let application = Application::installed().await;
    application.setup.leaves_leads_unaccounted();
    application.administer("BEGIN; LOCK TABLE lead_webhook.outbox").await;
    application
        .run("SET statement_timeout = '500ms'; INSERT INTO leads (tenant_id, email) VALUES ('acme', 'a@example.com')")
        .await;
    application.administer("ROLLBACK").await;
    assert_eq!((application.missed().await, application.one::<i64>("SELECT count(*) FROM public.leads").await), (1, 1));
}

#[tokio::test]
async fn it_is_longer_than_what_the_triggers_wait_for_many_rows_of_one_statement() {
    let partitioned = format!("{LEADS} PARTITION BY RANGE (id); CREATE TABLE leads_all PARTITION OF leads DEFAULT");
    let application = Application::installed_beside(&partitioned).await;
    application.run("INSERT INTO leads (id, tenant_id) SELECT n, 'acme' FROM generate_series(1, 100) n").await;
    application.administer("BEGIN; LOCK TABLE lead_webhook.outbox").await;
    application
        .run(
            "SET statement_timeout = '5s';
             INSERT INTO leads (id, tenant_id, email) SELECT -n, 'acme', 'a@example.com' FROM generate_series(1, 100) n;
             UPDATE leads SET email = 'b@example.com' WHERE id > 0",
        )
        .await;
    application.administer("ROLLBACK").await;
    assert_eq!((application.missed().await, application.queued().await.len()), (200, 0));
    application.run("INSERT INTO leads (id, tenant_id, email) VALUES (101, 'acme', 'c@example.com')").await;
    assert_eq!(application.queued().await.len(), 1, "what was waited for is forgotten with its transaction");
}

#[tokio::test]
async fn it_is_longer_than_what_the_triggers_wait_for_many_statements_of_one_transaction() {
    let application = Application::installed_beside(LEADS).await;
    let insert = "SET statement_timeout = '5s';
                  DO $$ BEGIN FOR n IN 1..100 LOOP
                      INSERT INTO leads (id, tenant_id, email) VALUES (n, 'acme', n || '@example.com');
                  END LOOP; END $$; TRUNCATE leads";
    application.administer("BEGIN; LOCK TABLE lead_webhook.outbox").await;
    application.run(insert).await;
    application.administer("ROLLBACK").await;
    assert_eq!((application.missed().await, application.queued().await.len()), (100, 0));
    // Where the mark cannot be left either, it is tried no longer.
    application
        .administer("BEGIN; LOCK TABLE lead_webhook.outbox; ALTER SEQUENCE lead_webhook.missed OWNED BY NONE")
        .await;
    application.run(insert).await;
    application.administer("ROLLBACK").await;
    assert_eq!((application.missed().await, application.queued().await.len()), (100, 0));
}

#[tokio::test]
async fn what_was_planned_beside_empty_tables_serves_a_burst_as_well() {
    const EVENTS: i64 = 8_000;
    let application = Application::installed().await;
    // Claims are large, however busy the machine is: what is read for each is read for many events.
    application.setup.edit_config(&[("delivery.per_endpoint", json!(256))]);
    // Each contact twice: what fires is planned for, and what does not.
    let insert = |first: i64, last: i64| {
        format!(
            "INSERT INTO leads (tenant_id, email, visitor_id)
             SELECT 'acme', n / 2 || '@example.com', 'v' FROM generate_series({first}, {last}) AS n"
        )
    };
    let mut daemon = application.setup.daemon();
    application.run(&insert(0, 1)).await;
    application.setup.db.wait_for_log(2).await;
    daemon.signal("TERM");
    daemon.wait().await;
    // As after a quiet night; and nothing has them planned anew meanwhile.
    for table in ["lead_webhook.outbox", "lead_webhook.uniqueness"] {
        application.administer(&format!("ALTER TABLE {table} SET (autovacuum_enabled = off)")).await;
        application.administer(&format!("VACUUM ANALYZE {table}")).await;
    }
    let mut daemon = application.setup.daemon();
    application.run(&insert(2, 3)).await;
    application.setup.db.wait_for_log(4).await;
    application.run(&insert(4, EVENTS - 1)).await;
    application.until("an empty outbox", "SELECT NOT EXISTS (SELECT FROM lead_webhook.outbox)").await;
    // A session tells its figures at its end.
    daemon.signal("TERM");
    daemon.wait().await;
    let deleted = "SELECT n_tup_del FROM pg_stat_user_tables WHERE relid = 'lead_webhook.outbox'::regclass";
    application.until("the sessions' figures", &format!("SELECT ({deleted}) = {EVENTS}")).await;
    for index in ["outbox_pkey", "uniqueness_pkey"] {
        let read = format!("SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = '{index}'");
        let read: i64 = application.one(&read).await;
        // Four for each event, and thrice as many on a busy machine; by the wrong plan more than a hundred.
        assert!(read < 20 * EVENTS, "{index}: {read} entries");
    }
}
