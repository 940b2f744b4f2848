//! A daemon that was frozen for longer than its heartbeat allows sends nothing that it has not read again.

use std::time::Duration;

use serde_json::json;
use tokio_postgres::Client;

use crate::{
    audit::{Audit, age_heartbeats},
    harness::{Answer, Gate, Process, Setup, patiently, until_true},
};

/// Claims of the daemon that is frozen.
const LEADS: usize = 4;

/// A heartbeat is stale after 15 s, by a clock that nobody can put forward.
const LONG: Duration = Duration::from_secs(17);

/// Holds the commits of claims up for as long as somebody has the advisory lock.
const HOLD_CLAIMS: &str = "
    SELECT pg_advisory_lock(1, 1);
    CREATE FUNCTION public.hold_claims() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        WHILE EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND (classid, objid) = (1, 1)
                      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) LOOP
            PERFORM pg_sleep(0.01);
        END LOOP;
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER hold_claims AFTER UPDATE OF claimed_by ON lead_webhook.outbox
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.hold_claims()";

/// A daemon that is frozen while its claim is being committed: the claim stands, and nothing of it was begun.
async fn frozen_with_claims(setup: &Setup, admin: &Client) -> Process {
    admin.batch_execute(HOLD_CLAIMS).await.unwrap();
    let daemon = setup.daemon();
    setup.db.insert_leads("acme", LEADS).await;
    let held = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    patiently("a commit that is held up", async {
        while admin.query_one(held, &[]).await.unwrap().get::<_, i64>(0) == 0 {}
    })
    .await;
    daemon.signal("STOP");
    admin.batch_execute("SELECT pg_advisory_unlock(1, 1)").await.unwrap();
    let claimed = "SELECT count(*) FROM lead_webhook.outbox WHERE claimed_by IS NOT NULL";
    patiently("the claim", async {
        while admin.query_one(claimed, &[]).await.unwrap().get::<_, i64>(0) < i64::try_from(LEADS).unwrap() {}
    })
    .await;
    daemon
}

#[tokio::test]
async fn a_claim_whose_owner_has_no_heartbeat_at_all_is_logged_as_interrupted() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let admin = setup.db.admin().await;
    let mut frozen = frozen_with_claims(&setup, &admin).await;
    frozen.kill9();
    admin.batch_execute("DELETE FROM lead_webhook.instances").await.unwrap();
    age_heartbeats(&setup).await;
    let _other = setup.daemon();
    let rows = setup.db.wait_for_log(LEADS).await;
    assert!(rows.iter().all(|row| row.status == "interrupted"), "{rows:?}");
    assert!(setup.receiver.requests().is_empty());
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn whoever_locks_the_outbox_for_long_makes_no_daemon_look_dead() {
    let setup = Setup::new().await;
    let _daemon = setup.daemon();
    let admin = setup.db.admin().await;
    until_true(&admin, "a heartbeat", "SELECT count(*) = 1 FROM lead_webhook.instances").await;
    admin.batch_execute("BEGIN; LOCK TABLE lead_webhook.outbox").await.unwrap();
    // A second heartbeat since the lock.
    let renewed = "SELECT min(renewed_at) > now() + interval '6 seconds' FROM lead_webhook.instances";
    until_true(&admin, "heartbeats beside the lock", renewed).await;
    admin.batch_execute("ROLLBACK").await.unwrap();
}

#[tokio::test]
async fn what_another_has_taken_for_interrupted_meanwhile_is_not_sent() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let admin = setup.db.admin().await;
    let frozen = frozen_with_claims(&setup, &admin).await;
    age_heartbeats(&setup).await;
    let _other = setup.daemon();
    let rows = setup.db.wait_for_log(LEADS).await;
    assert!(rows.iter().all(|row| row.status == "interrupted"), "{rows:?}");
    tokio::time::sleep(LONG).await;
    frozen.signal("CONT");
    frozen.wait_for_log(|line| line.contains("not sent: this daemon was away for so long")).await;
    // It goes on with what it claims from now on.
    setup.db.insert_leads("acme", 1).await;
    setup.db.wait_for_log(LEADS + 1).await;
    assert_eq!(setup.receiver.requests().len(), 1);
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn what_is_still_its_own_is_sent_once_the_heartbeat_is_renewed() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let admin = setup.db.admin().await;
    let frozen = frozen_with_claims(&setup, &admin).await;
    tokio::time::sleep(LONG).await;
    // Its heartbeat cannot be renewed for now.
    let heartbeats = setup.db.admin().await;
    heartbeats.batch_execute("BEGIN; LOCK TABLE lead_webhook.instances").await.unwrap();
    frozen.signal("CONT");
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    patiently("a heartbeat that waits", async {
        while admin.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {}
    })
    .await;
    // Long enough for a request that should not be.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(setup.receiver.requests().len(), 0, "nothing is sent before");
    heartbeats.batch_execute("ROLLBACK").await.unwrap();
    let rows = setup.db.wait_for_log(LEADS).await;
    assert!(rows.iter().all(|row| row.status == "delivered"), "{rows:?}");
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn what_was_answered_while_it_was_frozen_is_logged_as_it_was_answered() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    let setup = Setup::new().await;
    setup.edit_config(&[("delivery.timeout", json!(format!("{}s", TIMEOUT.as_secs())))]);
    setup.endpoint("acme").await;
    let [answered, never] = [Gate::closed(), Gate::closed()];
    let answers = [200, 200, 410].map(|status| Answer::status(status).behind(&answered));
    setup.receiver.queue(answers.into_iter().chain([Answer::status(200).behind(&never)]));
    let frozen = setup.daemon();
    setup.db.insert_leads("acme", 4).await;
    setup.receiver.wait_for(4).await;
    frozen.signal("STOP");
    answered.open();
    // The attempts' time goes by.
    tokio::time::sleep(2 * TIMEOUT).await;
    frozen.signal("CONT");
    let rows = setup.db.wait_for_log(4).await;
    let mut outcomes: Vec<_> = rows.iter().map(|row| (row.failure.as_deref(), row.http_status)).collect();
    outcomes.sort_unstable();
    let expected = [(None, Some(200)), (None, Some(200)), (Some("http_status"), Some(410)), (Some("timeout"), None)];
    assert_eq!(outcomes, expected);
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn a_daemon_that_was_frozen_writes_its_real_outcome_over_interrupted() {
    let setup = Setup::new().await;
    // The attempt's own time goes on while the daemon is frozen.
    setup.edit_config(&[("delivery.timeout", json!("60s"))]);
    setup.endpoint("acme").await;
    let gate = Gate::closed();
    setup.receiver.answer(Answer::status(200).behind(&gate));
    let frozen = setup.daemon();
    setup.db.insert_leads("acme", 1).await;
    setup.receiver.wait_for(1).await;
    frozen.signal("STOP");
    age_heartbeats(&setup).await;
    let _second = setup.daemon();
    assert_eq!(setup.db.wait_for_log(1).await[0].status, "interrupted");
    gate.open();
    frozen.signal("CONT");
    let admin = setup.db.admin().await;
    patiently("the real outcome", async {
        loop {
            let sql = "SELECT status FROM lead_webhook.deliveries";
            if admin.query_one(sql, &[]).await.unwrap().get::<_, &str>(0) == "delivered" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(setup.receiver.requests().len(), 1);
    Audit::of(&setup).await.assert_sound();
}
