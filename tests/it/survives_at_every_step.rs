//! A kill at each step between the claim and the log: what may have been sent is never sent again, and what was not is
//! sent or said to be interrupted. Built under the feature `failpoints`.

use std::os::unix::process::ExitStatusExt as _;

use serde_json::json;

use crate::{
    audit::{Audit, age_heartbeats},
    harness::{Answer, Gate, Process, Setup},
};

/// Leads in flight at once when the kill comes.
const LEADS: usize = 4;

async fn setup() -> Setup {
    let setup = Setup::new().await;
    setup.edit_config(&[("delivery.concurrency", json!(LEADS)), ("database.poll_interval", json!("1s"))]);
    setup.endpoint("acme").await;
    setup
}

fn daemon_that_ends_at(setup: &Setup, step: &str) -> Process {
    setup.daemon_with(&[("FAILPOINTS", &format!("{step}=panic"))])
}

/// Another daemon takes over from the one that is about to be killed; then everything must be accounted for.
async fn take_over(setup: &Setup, mut killed: Process) -> Audit {
    let ended = killed.wait().await;
    assert_eq!(ended.signal(), Some(9), "{:?}", killed.log());
    age_heartbeats(setup).await;
    let _next = setup.daemon();
    setup.db.wait_for_log(LEADS).await;
    let audit = Audit::of(setup).await;
    audit.assert_sound();
    audit
}

async fn after_a_kill_at(step: &str) -> Audit {
    let setup = setup().await;
    setup.db.insert_leads("acme", LEADS).await;
    let killed = daemon_that_ends_at(&setup, step);
    take_over(&setup, killed).await
}

#[tokio::test]
async fn before_the_claim_is_committed_it_costs_nothing() {
    let audit = after_a_kill_at("claim::decided").await;
    assert_eq!((audit.delivered, audit.interrupted, audit.requests), (LEADS, 0, LEADS));
}

#[tokio::test]
async fn between_the_claim_and_the_first_byte_nothing_was_sent_and_nothing_will_be() {
    for step in ["claim::committed", "sending::begun"] {
        let audit = after_a_kill_at(step).await;
        assert_eq!((audit.delivered, audit.interrupted, audit.requests), (0, LEADS, 0), "{step}");
    }
}

#[tokio::test]
async fn after_the_answer_and_before_the_log_what_arrived_stands_as_interrupted() {
    for step in ["sending::answered", "recorder::collected"] {
        let audit = after_a_kill_at(step).await;
        assert_eq!((audit.delivered, audit.interrupted), (0, LEADS), "{step}");
        assert!((1..=LEADS).contains(&audit.requests), "{step}: {}", audit.requests);
    }
}

#[tokio::test]
async fn once_the_outcome_is_written_it_stands() {
    let audit = after_a_kill_at("recorder::written").await;
    assert!(audit.delivered > 0);
    assert_eq!(audit.delivered + audit.interrupted, LEADS);
}

#[tokio::test]
async fn within_the_stop_what_was_not_begun_goes_back_or_stands_as_interrupted() {
    for step in ["dispatcher::drained", "recorder::gave_back"] {
        let setup = setup().await;
        let gate = Gate::closed();
        setup.receiver.answer(Answer::status(200).behind(&gate));
        setup.db.insert_leads("acme", LEADS).await;
        let killed = daemon_that_ends_at(&setup, step);
        setup.receiver.wait_for(LEADS).await;
        killed.signal("TERM");
        killed.wait_for_log(|line| line.contains("stopping")).await;
        gate.open();
        let audit = take_over(&setup, killed).await;
        assert_eq!((audit.delivered + audit.interrupted, audit.requests), (LEADS, LEADS), "{step}");
    }
}
