//! `deliveries stats` and `follow`: what arrives, what fails and how long it takes, of nobody but leads, and as it happens.

use std::{
    collections::HashSet,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::harness::{Answer, Process, Setup, patiently, program, until_true};

/// Between two looks at what was printed.
const LOOK: Duration = Duration::from_millis(20);

/// How many deliveries were shown.
fn shown(follow: &Process) -> usize {
    follow.log().iter().filter(|line| line.starts_with('{')).count()
}

async fn until_shown(follow: &Process, deliveries: usize, what: &str) {
    let enough = async {
        while shown(follow) < deliveries {
            sleep(LOOK).await;
        }
    };
    patiently(what, enough).await;
}

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

#[tokio::test]
async fn each_delivery_is_shown_once_as_it_ends_also_after_the_connection_was_lost() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let _daemon = setup.daemon();
    setup.db.insert_leads("acme", 3).await;
    setup.db.wait_for_log(3).await;
    let follow = setup.start(&["deliveries", "follow", "--json", "--limit", "2"], &[], "");
    until_shown(&follow, 2, "the latest").await;
    setup.db.insert_leads("acme", 5).await;
    until_shown(&follow, 7, "what ended since").await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND query LIKE '-- delivery_list%'";
    setup.db.admin().await.batch_execute(end).await.unwrap();
    follow.wait_for_log(|line| line.contains("the connection is lost, trying again")).await;
    setup.db.insert_leads("acme", 4).await;
    until_shown(&follow, 11, "what ended meanwhile").await;
    let ids: HashSet<Value> = follow
        .log()
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .map(|delivery| delivery["delivery_id"].clone())
        .collect();
    assert_eq!((ids.len(), shown(&follow)), (11, 11));
}

#[tokio::test]
async fn a_clock_that_is_ahead_hides_nothing_of_what_ends_afterwards() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let _daemon = setup.daemon();
    setup.db.insert_leads("acme", 1).await;
    setup.db.wait_for_log(1).await;
    let ahead = "UPDATE lead_webhook.deliveries SET finished_at = finished_at + interval '3 hours'";
    setup.db.admin().await.batch_execute(ahead).await.unwrap();
    let follow = setup.start(&["deliveries", "follow", "--json"], &[], "");
    until_shown(&follow, 1, "the one that is ahead").await;
    setup.db.insert_leads("acme", 2).await;
    until_shown(&follow, 3, "what ended since").await;
}

#[tokio::test]
async fn following_ends_with_its_reader() {
    let setup = Setup::new().await;
    let server = setup.db.server().await;
    let database: String =
        setup.db.admin().await.query_one("SELECT current_database()::text", &[]).await.unwrap().get(0);
    for is_away in [false, true] {
        let mut follow = Command::new(program())
            .args(["deliveries", "follow", "--config"])
            .arg(setup.config_file())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = BufReader::new(follow.stderr.take().unwrap());
        if is_away {
            let looks = format!("datname = '{database}' AND query LIKE '-- delivery_list%'");
            until_true(&server, "a look", &format!("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE {looks})")).await;
            let take_away = format!(
                "ALTER DATABASE {database} ALLOW_CONNECTIONS false;
                 SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {looks}"
            );
            server.batch_execute(&take_away).await.unwrap();
            let mut line = String::new();
            told.read_line(&mut line).unwrap();
            assert!(line.contains("trying again"), "{line}");
        }
        drop(follow.stdout.take());
        let ended = tokio::task::spawn_blocking(move || follow.wait().unwrap());
        let status = timeout(Duration::from_secs(30), ended).await.expect("it goes on for nobody").unwrap();
        assert!(status.success(), "{status}");
    }
    server.batch_execute(&format!("ALTER DATABASE {database} ALLOW_CONNECTIONS true")).await.unwrap();
}
