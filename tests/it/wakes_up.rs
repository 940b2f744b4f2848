//! A lead that is committed is looked for at once, though commits ring only while a daemon waits for them. The poll is
//! an hour away in all of these: what comes, comes by the doorbell.

use serde_json::json;
use tokio_postgres::Client;

use crate::harness::{Answer, Gate, Process, Setup, until_true};

/// An installation whose daemon polls once an hour.
async fn without_poll() -> Setup {
    let setup = Setup::new().await;
    setup.edit_config(&[("database.poll_interval", json!("1h"))]);
    setup.endpoint("acme").await;
    setup
}

/// A daemon that has come to rest: the first time, or since something else was seen of it.
async fn resting(setup: &Setup) -> Process {
    let daemon = setup.daemon();
    until_armed(setup).await;
    daemon
}

/// Waits until commits ring.
async fn until_armed(setup: &Setup) {
    until(setup, "the bell to be armed", "SELECT last_value = 1 FROM lead_webhook.bell").await;
}

/// Waits until commits do not ring.
async fn until_silent(setup: &Setup) {
    until(setup, "the bell to be silent", "SELECT last_value >= 256 FROM lead_webhook.bell").await;
}

async fn until(setup: &Setup, what: &str, sql: &str) {
    until_true(&setup.db.admin().await, what, sql).await;
}

/// A transaction of the application's that has written a lead and is not committed.
async fn open_transaction(setup: &Setup, email: &str) -> Client {
    let app = setup.db.app().await;
    let insert = format!("BEGIN; INSERT INTO leads (tenant_id, email) VALUES ('acme', '{email}')");
    app.batch_execute(&insert).await.unwrap();
    app
}

#[tokio::test]
async fn a_transaction_that_found_the_bell_silent_and_commits_after_the_last_look_is_not_forgotten() {
    let setup = without_poll().await;
    setup.edit_config(&[("delivery.concurrency", json!(1)), ("delivery.per_endpoint", json!(1))]);
    let gate = Gate::closed();
    setup.receiver.answer(Answer::status(200).behind(&gate));
    let _daemon = resting(&setup).await;
    // As many attempts as may be are in flight: no commit needs to ring.
    setup.db.insert_lead("acme", "first@example.com").await;
    setup.receiver.wait_for(1).await;
    until_silent(&setup).await;
    let overlapping = open_transaction(&setup, "second@example.com").await;
    gate.open();
    setup.db.wait_for_log(1).await;
    until_armed(&setup).await;
    overlapping.batch_execute("COMMIT").await.unwrap();
    setup.receiver.wait_for(2).await;
}

#[tokio::test]
async fn a_transaction_that_rings_and_takes_long_or_rolls_back_delays_nobody() {
    let setup = without_poll().await;
    let _daemon = resting(&setup).await;
    let long = open_transaction(&setup, "long@example.com").await;
    // As many statements as there are rings.
    for n in 0..260 {
        let insert = format!("INSERT INTO leads (tenant_id, email) VALUES ('acme', 'long{n}@example.com')");
        long.batch_execute(&insert).await.unwrap();
    }
    let vain = open_transaction(&setup, "vain@example.com").await;
    vain.batch_execute("ROLLBACK").await.unwrap();
    for n in 1..=3 {
        setup.db.insert_lead("acme", &format!("short{n}@example.com")).await;
        setup.receiver.wait_for(n).await;
    }
    long.batch_execute("COMMIT").await.unwrap();
    setup.receiver.wait_for(3 + 261).await;
}

#[tokio::test]
async fn a_lead_that_is_older_than_all_that_went_since_is_delivered_when_its_transaction_commits() {
    let setup = without_poll().await;
    let _daemon = resting(&setup).await;
    let long = open_transaction(&setup, "long@example.com").await;
    let is_old = format!("SELECT clock_timestamp() > '{}'::timestamptz + interval '2 seconds'", {
        long.query_one("SELECT clock_timestamp()::text", &[]).await.unwrap().get::<_, String>(0)
    });
    // Each has the daemon look over the whole outbox, where nothing is pending that it can see.
    let mut delivered = 0;
    while !long.query_one(&is_old, &[]).await.unwrap().get::<_, bool>(0) {
        delivered += 1;
        setup.db.insert_lead("acme", &format!("short{delivered}@example.com")).await;
        setup.receiver.wait_for(delivered).await;
    }
    long.batch_execute("COMMIT").await.unwrap();
    setup.receiver.wait_for(delivered + 1).await;
}

#[tokio::test]
async fn the_bell_does_not_run_down_while_a_daemon_lives() {
    let setup = without_poll().await;
    let _daemon = resting(&setup).await;
    for n in 1..=300 {
        setup.db.insert_lead("acme", &format!("lead{n}@example.com")).await;
        setup.receiver.wait_for(n).await;
    }
}

#[tokio::test]
async fn a_tenant_that_waits_for_room_keeps_nobody_from_ringing() {
    let setup = without_poll().await;
    setup.edit_config(&[("delivery.per_endpoint", json!(2))]);
    setup.endpoint("other").await;
    let gate = Gate::closed();
    let slow = gate.clone();
    setup.receiver.answer_with(move |request| {
        let answer = Answer::status(200);
        if request.json()["tenantId"] == "acme" { answer.behind(&slow) } else { answer }
    });
    let _daemon = resting(&setup).await;
    for n in 0..20 {
        setup.db.insert_lead("acme", &format!("slow{n}@example.com")).await;
    }
    for n in 1..=5 {
        setup.db.insert_lead("other", &format!("quick{n}@example.com")).await;
        setup.receiver.wait_for(2 + n).await;
    }
    gate.open();
    setup.db.wait_for_log(25).await;
}

#[tokio::test]
async fn a_receiver_that_was_quick_and_hangs_keeps_no_others_waiting_and_what_waits_for_it_goes_back() {
    const QUICK: usize = 300;
    const LEADS: usize = 600;
    let setup = without_poll().await;
    setup.edit_config(&[
        ("delivery.concurrency", json!(8)),
        ("delivery.per_endpoint", json!(4)),
        ("delivery.timeout", json!("60s")),
    ]);
    setup.endpoint("other").await;
    let gate = Gate::closed();
    let hangs = gate.clone();
    let mut answered = 0;
    setup.receiver.answer_with(move |request| {
        answered += usize::from(request.json()["tenantId"] == "acme");
        let is_slow = request.json()["tenantId"] == "acme" && answered > QUICK;
        if is_slow { Answer::status(200).behind(&hangs) } else { Answer::status(200) }
    });
    let insert = format!(
        "INSERT INTO leads (tenant_id, email) SELECT 'acme', i || '@example.com' FROM generate_series(1, {LEADS}) i"
    );
    setup.db.app().await.batch_execute(&insert).await.unwrap();
    let _daemon = setup.daemon();
    setup.receiver.wait_for(QUICK + 4).await;
    for n in 1..=5 {
        setup.db.insert_lead("other", &format!("lead{n}@example.com")).await;
        setup.receiver.wait_for(QUICK + 4 + n).await;
    }
    let sql = "SELECT count(*) = 4 FROM lead_webhook.outbox WHERE tenant_id = 'acme' AND claimed_by IS NOT NULL";
    until(&setup, "what is claimed to be what is in flight", sql).await;
    gate.open();
    let rows = setup.db.wait_for_log(LEADS + 5).await;
    assert!(rows.iter().all(|row| row.status == "delivered"));
    assert_eq!(setup.receiver.requests().len(), LEADS + 5);
}

#[tokio::test]
async fn what_one_daemon_has_no_room_for_another_takes_at_once() {
    let setup = without_poll().await;
    setup.edit_config(&[("delivery.concurrency", json!(1)), ("delivery.per_endpoint", json!(1))]);
    let gate = Gate::closed();
    setup.receiver.answer(Answer::status(200).behind(&gate));
    let _daemons = [resting(&setup).await, setup.daemon()];
    until(&setup, "both daemons to run", "SELECT count(*) = 2 FROM lead_webhook.instances").await;
    for n in 1..=2 {
        setup.db.insert_lead("acme", &format!("lead{n}@example.com")).await;
        setup.receiver.wait_for(n).await;
    }
    gate.open();
    setup.db.wait_for_log(2).await;
}
