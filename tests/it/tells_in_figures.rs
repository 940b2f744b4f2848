//! `deliveries stats`: what arrives, what fails and how long it takes, of nobody but leads.

use serde_json::{Value, json};

use crate::harness::{Answer, Setup};

/// Two tenants with an outcome of every kind, and a Test that is nobody's lead.
async fn some_of_everything() -> Setup {
    let setup = Setup::new().await;
    for tenant in ["acme", "bolt"] {
        setup.endpoint(tenant).await;
    }
    setup.receiver.queue([Answer::status(200), Answer::status(503), Answer::status(503), Answer::status(410)]);
    setup.edit_config(&[("delivery.concurrency", json!(1)), ("delivery.per_endpoint", json!(1))]);
    let _daemon = setup.daemon();
    setup.db.insert_leads("acme", 4).await;
    setup.db.wait_for_log(4).await;
    setup.run(&["endpoint", "disable", "bolt"]).await.ok();
    setup.db.insert_leads("bolt", 1).await;
    setup.db.wait_for_log(5).await;
    setup.run(&["endpoint", "enable", "bolt"]).await.ok();
    setup.run(&["test", "bolt"]).await.ok();
    setup
}

#[tokio::test]
async fn every_delivery_counts_once_and_a_test_never() {
    let setup = some_of_everything().await;
    let shown = setup.run(&["deliveries", "stats", "--json"]).await.ok();
    let lines: Vec<Value> = shown.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_kind = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).collect::<Vec<_>>();
    let counts =
        |line: &Value| ["delivered", "failed", "interrupted", "skipped"].map(|status| line[status].as_i64().unwrap());
    assert_eq!(counts(of_kind("all")[0]), [1, 3, 0, 1]);
    assert_eq!(of_kind("all")[0]["success"], json!(0.25));
    let tenants: Vec<_> = of_kind("tenant").iter().map(|line| (line["tenant_id"].clone(), counts(line))).collect();
    assert_eq!(tenants, [(json!("acme"), [1, 3, 0, 0]), (json!("bolt"), [0, 0, 0, 1])]);
    assert!(of_kind("tenant")[0]["latency_us"].as_array().is_some_and(|latency| latency.len() == 3));
    assert_eq!(of_kind("tenant")[1]["latency_us"], Value::Null, "nothing was sent");
    let failures: Vec<_> =
        of_kind("failure").iter().map(|line| (line["http_status"].clone(), line["deliveries"].clone())).collect();
    assert_eq!(failures, [(json!(503), json!(2)), (json!(410), json!(1))]);
    let over_time: i64 = of_kind("time").iter().flat_map(|line| counts(line)).sum();
    assert_eq!(over_time, 5);
}

#[tokio::test]
async fn for_people_it_is_a_table_and_of_nothing_it_says_so_too() {
    let setup = some_of_everything().await;
    let shown = setup.run(&["deliveries", "stats"]).await.ok().stdout;
    let row = |name: &str| -> Vec<String> {
        let line = shown.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {shown}"));
        line.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(row("acme")[..7], ["acme", "1", "3", "0", "0", "25.0", "%"]);
    assert_eq!(row("bolt"), ["bolt", "0", "0", "0", "1", "-", "-", "-", "-"]);
    assert_eq!(row("all")[..6], ["all", "1", "3", "0", "1", "25.0"]);
    assert!(shown.contains("http_status  503") && shown.contains("each bar"), "{shown}");
    let nothing = setup.run(&["deliveries", "stats", "--tenant", "nobody"]).await.ok().stdout;
    assert!(nothing.contains("all") && !nothing.contains("each bar"), "{nothing}");
}
