//! The log does not grow for ever: what is older than the retention goes, and nothing that somebody still needs.

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::harness::{Setup, patiently};

/// Deliveries that ended so many days ago, each of a lead of its own that is there no more.
async fn ended(admin: &Client, status: &str, days: i32, deliveries: i32) {
    let (failure, reason, http, host) = match status {
        "delivered" => ("NULL", "NULL", "200", "'example.com'"),
        "failed" => ("'dns'", "NULL", "NULL", "'example.com'"),
        "skipped" => ("NULL", "'duplicate'", "NULL", "NULL"),
        _ => ("NULL", "NULL", "NULL", "NULL"),
    };
    let (port, sent) = (if host == "NULL" { "NULL" } else { "443" }, if http == "NULL" { "NULL" } else { "at" });
    let took = if http == "NULL" { "NULL" } else { "1000" };
    let insert = format!(
        "INSERT INTO lead_webhook.deliveries
             (delivery_id, event_id, tenant_id, lead_id, event, status, failure, reason, http_status, host, port, queued_at,
              sent_at, finished_at, total_us)
         SELECT gen_random_uuid(), gen_random_uuid(), 'acme', gen_random_uuid(), 'lead.created', '{status}', {failure}, {reason},
                {http}, {host}, {port}, at, {sent}, at, {took}
         FROM (SELECT now() - make_interval(days => {days}) - make_interval(secs => n) AS at
               FROM generate_series(1, {deliveries}) AS n) AS old"
    );
    admin.batch_execute(&insert).await.unwrap();
}

/// How many rows the log has of each status, in the order of their names.
async fn rows(admin: &Client) -> Vec<(String, i64)> {
    let sql = "SELECT status, count(*) FROM lead_webhook.deliveries GROUP BY 1 ORDER BY 1";
    admin.query(sql, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
}

async fn until_left(admin: &Client, expected: &[(&str, i64)]) {
    let expected: Vec<_> = expected.iter().map(|(status, n)| ((*status).to_owned(), *n)).collect();
    patiently("the log to be pruned", async { while rows(admin).await != expected {} }).await;
}

#[tokio::test]
async fn a_daemon_removes_what_is_older_than_its_retention_and_nothing_else() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let admin = setup.db.admin().await;
    ended(&admin, "delivered", 91, 2_500).await;
    ended(&admin, "delivered", 89, 3).await;
    ended(&admin, "skipped", 91, 1_000).await;
    ended(&admin, "failed", 91, 1_200).await;
    ended(&admin, "failed", 366, 4).await;
    ended(&admin, "interrupted", 364, 5).await;
    ended(&admin, "interrupted", 366, 6).await;
    let daemon = setup.daemon();
    until_left(&admin, &[("delivered", 3), ("failed", 1_200), ("interrupted", 5)]).await;
    let said = daemon.wait_for_log(|line| line.contains("pruned the log")).await;
    assert!(said.contains("\"deliveries\":3510"), "{said}");
    setup.db.insert_leads("acme", 1).await;
    setup.receiver.wait_for(1).await;
    until_left(&admin, &[("delivered", 4), ("failed", 1_200), ("interrupted", 5)]).await;
}

#[tokio::test]
async fn what_is_to_be_kept_for_ever_is_kept() {
    let setup = Setup::new().await;
    setup.edit_config(&[("retention.delivered", json!("0")), ("retention.failed", json!("2d"))]);
    let admin = setup.db.admin().await;
    ended(&admin, "delivered", 3_000, 2).await;
    ended(&admin, "failed", 3, 2).await;
    let daemon = setup.daemon();
    daemon.wait_for_log(|line| line.contains("pruned the log")).await;
    assert_eq!(rows(&admin).await, [("delivered".to_owned(), 2)]);
    let checked = setup.run(&["check"]).await;
    assert!(checked.stdout.contains("log: delivered kept for ever, skipped 90d, failed 2d"), "{}", checked.stdout);
}

#[tokio::test]
async fn a_lead_whose_row_was_pruned_is_neither_sent_again_nor_unaccounted() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let admin = setup.db.admin().await;
    {
        let _daemon = setup.daemon();
        setup.db.insert_leads("acme", 3).await;
        setup.db.wait_for_log(3).await;
    }
    // A hundred days later.
    let age = "UPDATE lead_webhook.installation SET installed_at = installed_at - interval '101 days',
                   leads_since = leads_since - interval '101 days';
               UPDATE lead_webhook.endpoint_switches SET switched_at = switched_at - interval '101 days';
               DELETE FROM lead_webhook.log_edge;
               UPDATE leads SET created_at = created_at - interval '100 days';
               UPDATE lead_webhook.deliveries SET queued_at = queued_at - interval '100 days',
                   sent_at = sent_at - interval '100 days', finished_at = finished_at - interval '100 days'";
    admin.batch_execute(age).await.unwrap();
    let counted = setup.run(&["reconcile", "--json"]).await.ok();
    let counts: Value = serde_json::from_str(counted.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(counts["delivered"], 3);
    let _daemon = setup.daemon();
    until_left(&admin, &[]).await;
    let counted = setup.run(&["reconcile", "--json"]).await.ok();
    let counts: Value = serde_json::from_str(counted.stdout.lines().next().unwrap()).unwrap();
    assert_eq!((&counts["delivered"], &counts["unaccounted"]), (&json!(0), &json!(0)));
    setup.db.insert_leads("acme", 1).await;
    setup.db.wait_for_log(1).await;
    assert_eq!(setup.receiver.requests().len(), 4);
}

#[tokio::test]
async fn an_event_whose_first_delivery_is_pruned_is_found_by_what_is_left_and_not_sent_again() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let (event, again) = ("00000001-0000-4000-8000-000000000000", "00000002-0000-4000-8000-000000000000");
    let rows = format!(
        "INSERT INTO lead_webhook.deliveries
             (delivery_id, event_id, tenant_id, lead_id, event, status, queued_at, finished_at, redelivery_of)
         VALUES ('{again}', '{event}', 'acme', 'l', 'lead.created', 'interrupted', now(), now(), gen_random_uuid()),
                (gen_random_uuid(), '{event}', 'acme', 'l', 'lead.created', 'interrupted', now(), now(), gen_random_uuid())"
    );
    setup.db.admin().await.batch_execute(&rows).await.unwrap();
    for id in [event, again] {
        let shown = setup.run(&["deliveries", "show", id]).await.ok().stdout;
        assert!(shown.contains(event), "{shown}");
        let refused = setup.run(&["deliveries", "redeliver", id]).await;
        assert!(refused.code == Some(1) && refused.stderr.contains("no longer in the log"), "{}", refused.stderr);
    }
}

#[tokio::test]
async fn the_command_counts_first_and_refuses_what_is_new() {
    let setup = Setup::new().await;
    let admin = setup.db.admin().await;
    ended(&admin, "delivered", 91, 1_500).await;
    ended(&admin, "failed", 10, 2).await;
    ended(&admin, "skipped", 1, 7).await;
    let dry = setup.run(&["deliveries", "prune", "--dry-run"]).await.ok();
    assert!(dry.stdout.starts_with("delivered    1500, ended before "), "{}", dry.stdout);
    assert_eq!(dry.stderr, "1500 deliveries would be removed\n");
    assert_eq!(rows(&admin).await.len(), 3);
    let new = setup.run(&["deliveries", "prune", "--before", "47h"]).await;
    assert_eq!(new.code, Some(2));
    assert!(new.stderr.contains("what ended within the last 48 hours is kept"), "{}", new.stderr);
    let done = setup.run(&["deliveries", "prune", "--before", "9d", "--json"]).await.ok();
    let pruned: Value = serde_json::from_str(&done.stdout).unwrap();
    let expected = json!({"dry_run": false, "delivered": 1500, "skipped": 0, "failed": 2, "interrupted": 0});
    assert_eq!(pruned, expected);
    assert_eq!(rows(&admin).await, [("skipped".to_owned(), 7)]);
    let again = setup.run(&["deliveries", "prune"]).await.ok();
    assert_eq!(again.stderr, "0 deliveries are removed\n");
}
