//! `reconcile` accounts for every lead since the install, and names those that nothing became of.

use serde_json::{Value, json};

use crate::harness::{Answer, Application, Cluster, Database, Output};

const COLUMNS: &str = "id bigint PRIMARY KEY, tenant_id text, email text, phone text, first_name text, visitor_id text,
    conversation_id text, created_at timestamptz DEFAULT now(), last_conversation_at timestamptz";

async fn application(more: &str) -> Application {
    Application::installed_beside(&format!("CREATE TABLE leads ({COLUMNS}){more}")).await
}

fn lines(output: &Output) -> Vec<Value> {
    output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The counts that are not 0, but for the time.
fn counts(output: &Output) -> Value {
    let mut counts = lines(output).remove(0);
    let fields = counts.as_object_mut().unwrap();
    assert_eq!(fields.remove("kind").unwrap(), "counts");
    fields.remove("since");
    fields.retain(|_, count| *count != 0);
    counts
}

/// One lead of each kind; nothing claims any more.
async fn one_of_each(application: &Application) {
    let setup = &application.setup;
    setup.endpoint("off").await;
    setup.run(&["endpoint", "disable", "off"]).await.ok();
    setup.receiver.queue([Answer::status(200), Answer::status(500)]);
    let daemon = setup.daemon();
    for (n, insert) in
        ["(1, 'acme', 'delivered')", "(2, 'acme', 'failed')", "(3, 'off', 'skipped')"].into_iter().enumerate()
    {
        application.run(&format!("INSERT INTO leads (id, tenant_id, email) VALUES {insert}")).await;
        setup.db.wait_for_log(n + 1).await;
    }
    drop(daemon);
    application
        .run(
            "INSERT INTO leads (id, tenant_id, email) VALUES (4, 'acme', 'pending'), (5, 'acme', 'in flight'),
                 (6, 'acme', 'interrupted');
             SET lead_webhook.mute = 'on';
             INSERT INTO leads (id, tenant_id, email) VALUES (7, 'acme', 'muted');
             RESET lead_webhook.mute;
             INSERT INTO leads (id, tenant_id, email) VALUES (8, 'nobody', 'without endpoint'), (9, 'acme', NULL),
                 (11, NULL, 'nobody');
             ALTER TABLE leads DISABLE TRIGGER lead_webhook_insert;
             INSERT INTO leads (id, tenant_id, email, created_at) VALUES (10, 'acme', 'old', now() - interval '1 day');
             ALTER TABLE leads ENABLE TRIGGER lead_webhook_insert",
        )
        .await;
    application
        .administer(
            "UPDATE lead_webhook.outbox SET claimed_by = gen_random_uuid(), claimed_at = now(), delivery_id = gen_random_uuid()
             WHERE lead_id = '5';
             WITH gone AS (DELETE FROM lead_webhook.outbox WHERE lead_id = '6' RETURNING *)
             INSERT INTO lead_webhook.deliveries (delivery_id, event_id, tenant_id, lead_id, event, status, queued_at, finished_at)
             SELECT gen_random_uuid(), event_id, tenant_id, lead_id, 'lead.created', 'interrupted', queued_at, now() FROM gone",
        )
        .await;
}

#[tokio::test]
async fn every_kind_is_counted_and_a_lost_lead_is_named_with_or_without_an_index() {
    for index in ["", "; CREATE INDEX ON leads (created_at)"] {
        let application = application(index).await;
        application.setup.leaves_leads_unaccounted();
        one_of_each(&application).await;
        let output = application.setup.run(&["reconcile", "--json"]).await.ok();
        let mut expected = json!({
            "delivered": 1, "interrupted": 1, "failed": 1, "pending": 1, "in_flight": 1, "skipped": 1, "muted": 1,
            "without_endpoint": 1
        });
        assert_eq!(counts(&output), expected);
        assert_eq!(lines(&output).len(), 1);
        assert_eq!(output.stderr.contains("the whole table is read"), index.is_empty(), "{}", output.stderr);

        application.administer("DELETE FROM lead_webhook.deliveries WHERE lead_id = '1'").await;
        application.administer("DELETE FROM lead_webhook.outbox WHERE lead_id = '4'").await;
        let output = application.setup.run(&["reconcile", "--json"]).await;
        assert_eq!(output.code, Some(1));
        expected["unaccounted"] = json!(2);
        expected.as_object_mut().unwrap().retain(|kind, _| kind != "delivered" && kind != "pending");
        assert_eq!(counts(&output), expected);
        let named: Vec<_> =
            lines(&output)[1..].iter().map(|line| (line["lead_id"].clone(), line["was_claimed"].clone())).collect();
        assert!(named.contains(&(json!("1"), json!(true))) && named.contains(&(json!("4"), json!(false))), "{named:?}");

        let output = application.setup.run(&["reconcile"]).await;
        assert_eq!(output.code, Some(1));
        assert!(output.stdout.contains("unaccounted: tenant acme, lead 4, captured "), "{}", output.stdout);
        assert!(output.stderr.contains("never queued: ") && output.stderr.contains("2 leads are unaccounted"));
        application.setup.run(&["reconcile", "--since", "0s"]).await.ok();
        assert_eq!(application.setup.run(&["reconcile", "--since", "then"]).await.code, Some(2));
    }
}

#[tokio::test]
async fn many_slices_are_counted_whole_and_of_many_findings_the_first_are_named() {
    for index in ["", "; CREATE INDEX ON leads (created_at)"] {
        let application = application(index).await;
        application.setup.leaves_leads_unaccounted();
        application
            .run(
                "INSERT INTO leads (id, tenant_id, email, created_at)
                 SELECT n, 'acme', n, now() + n * interval '1 ms' FROM generate_series(1, 25000) n",
            )
            .await;
        application.administer("DELETE FROM lead_webhook.outbox WHERE lead_id::int % 100 = 0").await;
        let output = application.setup.run(&["reconcile", "--json"]).await;
        assert_eq!(counts(&output), json!({"pending": 24_750, "unaccounted": 250}));
        assert_eq!(lines(&output).len(), 51);
        assert!(output.stderr.contains("200 more unaccounted"), "{}", output.stderr);
    }
}

#[tokio::test]
async fn a_lead_that_was_sent_twice_is_named_and_a_redelivery_is_none() {
    let application = application("").await;
    let daemon = application.setup.daemon();
    application.run("INSERT INTO leads (id, tenant_id, email) VALUES (1, 'acme', 'a')").await;
    application.setup.db.wait_for_log(1).await;
    drop(daemon);
    let again = |of: &str, event: &str| {
        format!(
            "INSERT INTO lead_webhook.deliveries (delivery_id, event_id, tenant_id, lead_id, event, status, http_status, host,
                 port, queued_at, sent_at, finished_at, total_us, redelivery_of)
             SELECT gen_random_uuid(), {event}, tenant_id, lead_id, event, status, http_status, host, port, queued_at, sent_at,
                 finished_at, total_us, {of} FROM lead_webhook.deliveries LIMIT 1"
        )
    };
    application.administer(&again("delivery_id", "event_id")).await;
    let output = application.setup.run(&["reconcile", "--json"]).await.ok();
    assert_eq!(counts(&output), json!({"delivered": 1}));
    application.administer(&again("NULL", "gen_random_uuid()")).await;
    let output = application.setup.run(&["reconcile", "--json"]).await.ok();
    assert_eq!(counts(&output), json!({"delivered": 1, "sent_twice": 1}));
    assert_eq!(lines(&output)[1]["lead_id"], "1");
}

#[tokio::test]
async fn without_a_captured_time_nothing_is_called_lost_that_may_be_older_than_the_install() {
    let db = Database::create_with(&Cluster::shared(), &format!("CREATE TABLE leads ({COLUMNS})")).await;
    let application = Application::installed_in(db, &[("leads.columns.captured_at", json!(""))]).await;
    application.run("INSERT INTO leads (id, tenant_id, email) VALUES (1, 'acme', 'a'), (2, 'acme', 'b')").await;
    application.administer("DELETE FROM lead_webhook.outbox WHERE lead_id = '1'").await;
    let output = application.setup.run(&["reconcile", "--json"]).await.ok();
    assert_eq!(counts(&output), json!({"pending": 1, "undated": 1}));
    assert_eq!(application.setup.run(&["reconcile", "--since", "1h"]).await.code, Some(2));
}

#[tokio::test]
async fn a_lead_that_waits_under_the_tenant_that_it_had_before_is_pending() {
    let application = application("").await;
    application.setup.endpoint("beta").await;
    application.run("INSERT INTO leads (id, tenant_id, email) VALUES (1, 'acme', 'a')").await;
    application.run("UPDATE leads SET tenant_id = 'beta'").await;
    let output = application.setup.run(&["reconcile", "--json"]).await.ok();
    assert_eq!(counts(&output), json!({ "pending": 1 }));
}

#[tokio::test]
async fn one_captured_time_that_cannot_be_read_keeps_no_other_lead_from_being_counted() {
    let tables = "CREATE TABLE leads (id bigint PRIMARY KEY, tenant_id text, email text, phone text, first_name text,
                      visitor_id text, conversation_id text, last_conversation_at timestamptz, meta jsonb)";
    let db = Database::create_with(&Cluster::shared(), tables).await;
    let captured_at = json!("sql: (lead.meta->>'at')::timestamptz");
    let application = Application::installed_in(db, &[("leads.columns.captured_at", captured_at)]).await;
    application
        .run(
            "INSERT INTO leads (id, tenant_id, email, meta)
             SELECT n, 'acme', n, jsonb_build_object('at', CASE n WHEN 7 THEN 'soon' ELSE now()::text END)
             FROM generate_series(1, 20) n",
        )
        .await;
    let output = application.setup.run(&["reconcile", "--json"]).await.ok();
    assert_eq!(counts(&output), json!({"pending": 19, "unreadable": 1}));
    assert!(
        lines(&output).iter().any(|line| line["kind"] == "unreadable" && line["lead_id"] == "7"),
        "{}",
        output.stdout
    );
}
