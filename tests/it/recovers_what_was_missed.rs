//! What a failing trigger leaves out is queued afterwards, once, and nothing else is.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Application, Cluster, Database, Process, until_true};

const COLUMNS: &str = "id bigint PRIMARY KEY, tenant_id text, email text, phone text, first_name text, visitor_id text,
    conversation_id text, created_at timestamptz DEFAULT now(), last_conversation_at timestamptz";

/// With an index on the captured time, and the sweep's own words in the log.
async fn application() -> Application {
    application_beside(&format!("CREATE TABLE leads ({COLUMNS}); CREATE INDEX ON leads (created_at)")).await
}

async fn application_beside(tables: &str) -> Application {
    let db = Database::create_with(&Cluster::shared(), tables).await;
    Application::installed_in(db, &[("log.level", json!("debug"))]).await
}

/// Runs the application's SQL while triggers cannot queue.
async fn missed(application: &Application, sql: &str) {
    let owner = &application.setup.db.owner_role;
    application.administer(&format!("REVOKE INSERT ON lead_webhook.outbox FROM {owner}")).await;
    application.run(sql).await;
    application.administer(&format!("GRANT INSERT ON lead_webhook.outbox TO {owner}")).await;
}

async fn a_sweep(daemon: &Process) -> u64 {
    let line = daemon.wait_for_log(|line| message(line).is_some_and(|text| text.starts_with("swept"))).await;
    let line: Value = serde_json::from_str(&line).unwrap();
    line.get("recovered").or_else(|| line["fields"].get("recovered")).unwrap().as_u64().unwrap()
}

fn message(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    let text = line.get("message").or_else(|| line.get("fields")?.get("message"))?;
    text.as_str().map(str::to_owned)
}

fn sent(application: &Application) -> Vec<String> {
    let requests = application.setup.receiver.requests();
    let mut ids: Vec<_> = requests.iter().map(|r| r.json()["leadId"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn a_lead_missed_while_a_daemon_runs_is_sent_once_without_a_restart() {
    let application = application().await;
    let daemon = application.setup.daemon();
    assert_eq!(a_sweep(&daemon).await, 0);
    missed(&application, "INSERT INTO leads (id, tenant_id, email) VALUES (1, 'acme', 'ann@example.com')").await;
    assert_eq!(application.missed().await, 1);
    let rows = application.setup.db.wait_for_log(1).await;
    assert_eq!(
        (rows[0].lead_id.as_str(), rows[0].status.as_str(), rows[0].event.as_str()),
        ("1", "delivered", "lead.created")
    );
    daemon.wait_for_log(|line| message(line).is_some_and(|text| text.starts_with("recovered"))).await;
    assert!(daemon.log().iter().all(|line| !line.contains("ann@")));
    assert_eq!(sent(&application), ["1"]);
}

#[tokio::test]
async fn check_warns_of_missed_leads_until_they_were_looked_for_and_for_a_day_after() {
    let application = application().await;
    let says = async || {
        let check = application.setup.run(&["check"]).await.stdout;
        check.lines().find(|line| line.contains("missed leads")).unwrap().to_owned()
    };
    missed(&application, "INSERT INTO leads (id, tenant_id, email) VALUES (1, 'acme', 'ann@example.com')").await;
    let line = says().await;
    assert!(line.starts_with("warn") && line.contains("leads may have been missed"), "{line}");
    let _daemon = application.setup.daemon();
    let admin = application.setup.db.admin().await;
    until_true(&admin, "the sweep to be noted", "SELECT EXISTS (SELECT FROM lead_webhook.swept WHERE missed = 1)")
        .await;
    let line = says().await;
    assert!(line.starts_with("warn") && line.contains("had been queued"), "{line}");
    admin.batch_execute("UPDATE lead_webhook.swept SET swept_at = swept_at - interval '25 h'").await.unwrap();
    let line = says().await;
    assert!(line.starts_with("ok") && line.contains("had been queued 1day 1h ago"), "{line}");
}

#[tokio::test]
async fn what_was_captured_without_a_trigger_is_recovered_by_a_running_daemon_once_migrate_has_put_it_back() {
    let application = application().await;
    let daemon = application.setup.daemon();
    a_sweep(&daemon).await;
    application.run("DROP TRIGGER lead_webhook_insert ON leads").await;
    application.run("INSERT INTO leads (id, tenant_id, email) VALUES (1, 'acme', 'ann@example.com')").await;
    application.migrate().await;
    let rows = application.setup.db.wait_for_log(1).await;
    assert_eq!(rows[0].status, "delivered");
    assert_eq!(application.migrate().await, [""; 0]);
}

#[tokio::test]
async fn a_lead_that_is_committed_long_after_the_mark_moved_is_recovered() {
    let application = application().await;
    let daemon = application.setup.daemon();
    assert_eq!(a_sweep(&daemon).await, 0);
    missed(&application, "BEGIN; INSERT INTO leads (id, tenant_id, email) VALUES (1, 'acme', 'a')").await;
    let swept = |daemon: &Process| {
        daemon.log().iter().filter(|line| message(line).is_some_and(|text| text.starts_with("swept"))).count()
    };
    let before = swept(&daemon);
    crate::harness::patiently("a sweep that finds nothing yet", async {
        while swept(&daemon) == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    application.run("COMMIT").await;
    assert_eq!(application.setup.db.wait_for_log(1).await[0].status, "delivered");
}

#[tokio::test]
async fn what_was_missed_while_no_daemon_ran_is_recovered_at_the_start_and_nothing_else() {
    let application = application().await;
    for tenant in ["off", "late"] {
        application.setup.endpoint(tenant).await;
    }
    application.setup.run(&["endpoint", "disable", "off"]).await.ok();
    application.setup.run(&["endpoint", "remove", "late"]).await.ok();
    missed(
        &application,
        "INSERT INTO leads (id, tenant_id, email) VALUES (1, 'acme', 'a'), (2, 'off', 'a'), (3, 'late', 'a'), (4, 'nobody', 'a');
         INSERT INTO leads (id, tenant_id) VALUES (5, 'acme');
         INSERT INTO leads (id, tenant_id, email, created_at) VALUES (6, 'acme', 'b', now() - interval '1 hour'),
             (7, 'acme', 'c', NULL), (8, 'acme', 'd', 'infinity')",
    )
    .await;
    application
        .run("SET lead_webhook.mute = 'on'; INSERT INTO leads (id, tenant_id, email) VALUES (9, 'acme', 'e'); RESET lead_webhook.mute")
        .await;
    application.setup.run(&["endpoint", "enable", "off"]).await.ok();
    application.setup.endpoint("late").await;
    let daemon = application.setup.daemon();
    assert_eq!(a_sweep(&daemon).await, 1);
    application.setup.db.wait_for_log(1).await;
    assert_eq!(sent(&application), ["1"]);
}

#[tokio::test]
async fn what_was_there_before_the_install_is_not_new_because_its_captured_time_is_ahead_of_the_clock() {
    let tables = format!(
        "CREATE TABLE leads ({COLUMNS}); CREATE INDEX ON leads (created_at);
         INSERT INTO leads (id, tenant_id, email, created_at) VALUES (1, 'acme', 'a', now() + interval '1 minute'),
             (2, 'acme', 'b', now() + interval '2 hours'), (3, 'acme', 'c', '2999-01-01')"
    );
    let application = application_beside(&tables).await;
    missed(
        &application,
        "INSERT INTO leads (id, tenant_id, email, created_at) VALUES (4, 'acme', 'd', now() + interval '3 hours')",
    )
    .await;
    let check = application.setup.run(&["check"]).await.stdout;
    let line = check.lines().find(|line| line.contains("captured times")).unwrap();
    assert!(
        line.starts_with("warn")
            && line.contains("ahead of the server's clock, by up to 179 min")
            && line.contains("AT TIME ZONE"),
        "{line}"
    );
    let reconciled = application.setup.run(&["reconcile", "--json"]).await.stdout;
    let counts: Value = serde_json::from_str(reconciled.lines().next().unwrap()).unwrap();
    assert_eq!((&counts["unaccounted"], &counts["undated"]), (&json!(1), &json!(1)), "{counts}");
    let daemon = application.setup.daemon();
    assert_eq!(a_sweep(&daemon).await, 1);
    application.setup.db.wait_for_log(1).await;
    assert_eq!(sent(&application), ["4"]);
}

#[tokio::test]
async fn leads_older_than_a_day_are_left_to_the_operator() {
    let application = application().await;
    application.setup.leaves_leads_unaccounted();
    application
        .administer(
            "UPDATE lead_webhook.installation SET installed_at = now() - interval '9 days', leads_since = NULL;
             UPDATE lead_webhook.endpoint_switches SET switched_at = now() - interval '8 days'",
        )
        .await;
    missed(
        &application,
        "INSERT INTO leads (id, tenant_id, email, created_at) VALUES (1, 'acme', 'a', now() - interval '25 hours'),
             (2, 'acme', 'b', now() - interval '23 hours')",
    )
    .await;
    let daemon = application.setup.daemon();
    assert_eq!(a_sweep(&daemon).await, 1);
    application.setup.db.wait_for_log(1).await;
    assert_eq!(sent(&application), ["2"]);
}

#[tokio::test]
async fn two_daemons_recover_each_lead_once_in_more_than_one_batch() {
    const LEADS: usize = 10_500;
    let application = application().await;
    missed(
        &application,
        &format!("INSERT INTO leads (id, tenant_id, email) SELECT n, 'acme', n FROM generate_series(1, {LEADS}) n"),
    )
    .await;
    // Their turn: both have found out that there is something to look at when the first one may.
    application.administer("BEGIN; LOCK TABLE lead_webhook.swept IN SHARE UPDATE EXCLUSIVE MODE").await;
    let daemons = [application.setup.daemon(), application.setup.daemon()];
    application
        .until(
            "both sweeps",
            "SELECT count(*) >= 2 FROM pg_locks WHERE relation = 'lead_webhook.swept'::regclass AND NOT granted",
        )
        .await;
    application.administer("COMMIT").await;
    let mut recovered = 0;
    for daemon in &daemons {
        recovered += a_sweep(daemon).await;
    }
    assert_eq!(recovered, LEADS as u64);
    // Each half may take as long as anything else.
    application.setup.db.wait_for_log(LEADS / 2).await;
    assert_eq!(application.setup.db.wait_for_log(LEADS).await.len(), LEADS);
    assert_eq!(application.setup.receiver.requests().len(), LEADS);
}

#[tokio::test]
async fn one_lead_that_cannot_be_read_keeps_no_other_from_being_recovered() {
    // What the second cast raises, a statement that is no SQL raises too.
    const PHONE: &str = "sql: coalesce(lead.phone::jsonb->>'phone', (lead.phone::jsonb #>> '{}')::tsquery::text)";
    let db = Database::create_with(
        &Cluster::shared(),
        &format!("CREATE TABLE leads ({COLUMNS}); CREATE INDEX ON leads (created_at)"),
    )
    .await;
    let config = [("log.level", json!("debug")), ("leads.columns.phone", json!(PHONE))];
    let application = Application::installed_in(db, &config).await;
    application
        .run(
            "INSERT INTO leads (id, tenant_id, phone)
             SELECT n, 'acme', CASE WHEN n IN (7, 1500) THEN 'secret' WHEN n = 8 THEN '\"no secret query\"' ELSE '{\"phone\": \"' || n || '\"}' END
             FROM generate_series(1, 3020) n",
        )
        .await;
    assert_eq!((application.missed().await, application.queued().await.len()), (1, 0));
    let counted = async || {
        let counts = application.setup.run(&["reconcile", "--json"]).await.stdout;
        let counts: Value = serde_json::from_str(counts.lines().next().unwrap()).unwrap();
        ["unreadable", "unaccounted", "delivered"].map(|class| counts[class].as_u64().unwrap())
    };
    assert_eq!(counted().await, [3, 3017, 0]);
    application.administer("DROP INDEX leads_created_at_idx").await;
    assert_eq!(counted().await, [3, 3017, 0], "by their ids");
    application.administer("CREATE INDEX ON leads (created_at)").await;
    let daemon = application.setup.daemon();
    assert_eq!(a_sweep(&daemon).await, 3017);
    assert_eq!(application.setup.db.wait_for_log(3017).await.len(), 3017);
    assert_eq!(counted().await, [3, 0, 3017]);
    let log = daemon.log();
    assert!(["lead 7: ", "lead 8: ", "lead 1500: "].iter().all(|lead| log.iter().any(|line| line.contains(lead))));
    assert!(log.iter().all(|line| !line.contains("secret")), "{log:?}");
}

#[tokio::test]
async fn without_an_index_nothing_is_swept_until_the_printed_statement_has_made_one() {
    for (columns, captured, partitions) in [
        (COLUMNS, "created_at", ""),
        (&*COLUMNS.replace("timestamptz DEFAULT now()", "timestamp DEFAULT now()"), "created_at", ""),
        (COLUMNS, "sql: coalesce(lead.created_at, \"lead\".last_conversation_at)", ""),
        (COLUMNS, "created_at", " PARTITION BY RANGE (id); CREATE TABLE leads_all PARTITION OF leads DEFAULT"),
    ] {
        // An index whose second column it is does not serve.
        let table =
            format!("CREATE TABLE leads ({columns}){partitions}; CREATE INDEX ON leads (tenant_id, created_at)");
        let db = Database::create_with(&Cluster::shared(), &table).await;
        let config = [("log.level", json!("debug")), ("leads.columns.captured_at", json!(captured))];
        let application = Application::installed_in(db, &config).await;
        missed(&application, "INSERT INTO leads (id, tenant_id, email) VALUES (1, 'acme', 'a')").await;
        let daemon = application.setup.daemon();
        daemon.wait_for_log(|line| line.contains("cannot sweep") && line.contains("check")).await;
        drop(daemon);
        assert_eq!(application.queued().await.len(), 0);
        let sweep = sweep_line(&application).await;
        assert_eq!(sweep["verdict"], "warn", "{sweep}");
        let statement = sweep["remedy"].as_str().unwrap();
        assert_eq!(statement.contains("CONCURRENTLY"), partitions.is_empty(), "{statement}");
        application.run(statement).await;
        assert_eq!(sweep_line(&application).await["verdict"], "ok");
        let daemon = application.setup.daemon();
        assert_eq!(a_sweep(&daemon).await, 1, "{captured}");
        assert_eq!(application.setup.db.wait_for_log(1).await.len(), 1);
    }
}

async fn sweep_line(application: &Application) -> Value {
    let stdout = application.setup.run(&["check", "--json"]).await.stdout;
    stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .find(|line| line["what"] == "sweep")
        .unwrap()
}

#[tokio::test]
async fn seed_gives_a_missed_lead_no_key_so_that_it_is_still_sent() {
    let application = application().await;
    application
        .run("INSERT INTO leads (id, tenant_id, email, created_at) VALUES (1, 'acme', 'old', '2026-01-01Z')")
        .await;
    application.forget_queued().await;
    missed(&application, "INSERT INTO leads (id, tenant_id, email) VALUES (2, 'acme', 'new')").await;
    let told = application.setup.run(&["seed"]).await.ok().stderr;
    assert!(told.contains("1 left out because a trigger missed them"), "{told}");
    assert_eq!(application.texts("SELECT lead_id FROM lead_webhook.uniqueness").await, ["1"]);
    let daemon = application.setup.daemon();
    assert_eq!(a_sweep(&daemon).await, 1);
    application.setup.db.wait_for_log(1).await;
    assert_eq!(sent(&application), ["2"]);
}

#[tokio::test]
async fn a_lead_that_belongs_to_another_tenant_now_is_known_all_the_same() {
    let application = application().await;
    application.setup.endpoint("beta").await;
    let mut daemon = application.setup.daemon();
    assert_eq!(a_sweep(&daemon).await, 0);
    application.run("INSERT INTO leads (id, tenant_id, email) VALUES (1, 'acme', 'ann@example.com')").await;
    application.setup.db.wait_for_log(1).await;
    application.run("UPDATE leads SET tenant_id = 'beta'").await;
    daemon.signal("TERM");
    daemon.wait().await;
    assert_eq!(a_sweep(&application.setup.daemon()).await, 0);
    let reconciled = application.setup.run(&["reconcile"]).await;
    assert_eq!((reconciled.code, sent(&application)), (Some(0), vec!["1".to_owned()]), "{}", reconciled.stdout);
}

#[tokio::test]
async fn what_is_muted_is_noted_though_a_value_cannot_be_read() {
    let tables = format!("CREATE TABLE leads ({COLUMNS}); CREATE INDEX ON leads (created_at)");
    let db = Database::create_with(&Cluster::shared(), &tables).await;
    let config = [("log.level", json!("debug")), ("leads.columns.phone", json!("sql: lead.phone::jsonb->>'phone'"))];
    let application = Application::installed_in(db, &config).await;
    let muted = "SET lead_webhook.mute = 'on';
                 INSERT INTO leads (id, tenant_id, phone)
                 SELECT n, 'acme', CASE WHEN n = 7 THEN 'bad' ELSE '{\"phone\": \"1\"}' END FROM generate_series(1, 20) n;
                 RESET lead_webhook.mute";
    application.run(muted).await;
    assert_eq!(application.missed().await, 0);
    assert_eq!(a_sweep(&application.setup.daemon()).await, 0);
}

#[tokio::test]
async fn in_a_copy_whose_queue_is_discarded_nothing_is_recovered_that_the_original_missed() {
    let application = application().await;
    missed(&application, "INSERT INTO leads (id, tenant_id, email) VALUES (1, 'acme', 'a')").await;
    // As in a copy.
    application.administer("UPDATE lead_webhook.installation SET database_name = 'original'").await;
    application.setup.run(&["adopt", "--discard-queue"]).await.ok();
    assert_eq!(a_sweep(&application.setup.daemon()).await, 0);
    assert_eq!(application.setup.run(&["reconcile"]).await.code, Some(0));
}
