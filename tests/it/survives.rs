//! Crashes, restarts and stops: never a second request, never an event without a row.

use std::{collections::HashSet, time::Duration};

use serde_json::json;
use tokio_postgres::Client;

use crate::{
    audit::{Audit, age_heartbeats},
    harness::{Answer, Cluster, Gate, LogRow, Process, Setup, Stop, patiently, signal},
};

/// Waits until a session waits for a lock within a statement of this name.
async fn until_waits_for_a_lock(admin: &Client, statement: &str) {
    let waiting = format!(
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '-- {statement}%'"
    );
    patiently("a session that waits for a lock", async {
        while admin.query_one(&waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 {}
    })
    .await;
}

/// Locks the leads table, and queues one of its leads: the claim has to wait for the lock.
async fn make_a_claim_that_waits(admin: &Client, locker: &Client) {
    let lead = "SET lead_webhook.mute = 'on';
                INSERT INTO leads (tenant_id, email) VALUES ('acme', 'held@example.com')";
    admin.batch_execute(lead).await.unwrap();
    locker.batch_execute("BEGIN; LOCK TABLE leads IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let event = "INSERT INTO lead_webhook.outbox (tenant_id, lead_id, kind, was_enabled)
                 SELECT 'acme', lead_id, 'inserted', true FROM lead_webhook.muted;
                 DELETE FROM lead_webhook.muted;
                 SELECT pg_notify('lead_webhook', '')";
    admin.batch_execute(event).await.unwrap();
}

#[tokio::test]
async fn an_attempt_that_a_kill_cut_off_is_logged_as_interrupted_and_never_sent_again() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let gate = Gate::closed();
    setup.receiver.answer(Answer::status(200).behind(&gate));
    let mut first = setup.daemon();
    setup.db.insert_leads("acme", 3).await;
    setup.receiver.wait_for(3).await;
    first.kill9();
    first.wait().await;
    gate.open();
    setup.db.insert_leads("acme", 1).await;
    age_heartbeats(&setup).await;
    setup.receiver.answer(Answer::status(200));
    let _second = setup.daemon();
    let rows = setup.db.wait_for_log(4).await;
    assert_eq!(rows.iter().filter(|row| row.status == "interrupted").count(), 3);
    assert_eq!(rows.iter().filter(|row| row.status == "delivered").count(), 1);
    assert_eq!(setup.receiver.requests().len(), 4, "no second request");
    assert_eq!(setup.db.outbox_count().await, 0);
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn an_outcome_is_logged_also_where_its_row_in_the_outbox_stands_elsewhere_by_then() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let _daemon = setup.daemon();
    let admin = setup.db.admin().await;
    let moves = [
        // Of one event, beside others that stand where they were; then of all.
        "UPDATE lead_webhook.outbox SET claimed_at = claimed_at WHERE queued_at = (SELECT min(queued_at) FROM lead_webhook.outbox)",
        "VACUUM FULL lead_webhook.outbox",
    ];
    for (round, by) in (1..).zip(moves) {
        let gate = Gate::closed();
        setup.receiver.answer(Answer::status(200).behind(&gate));
        setup.db.insert_leads("acme", 3).await;
        setup.receiver.wait_for(3 * round).await;
        admin.batch_execute(by).await.unwrap();
        gate.open();
        let rows = setup.db.wait_for_log(3 * round).await;
        assert!(rows.iter().all(|row| row.status == "delivered"), "{by}: {rows:?}");
        patiently("an empty outbox", async { while setup.db.outbox_count().await > 0 {} }).await;
    }
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn a_restart_of_the_database_loses_nothing_and_sends_nothing_twice() {
    for how in [Stop::Fast, Stop::Immediate] {
        let setup = Setup::on(&Cluster::start(&[])).await;
        setup.endpoint("acme").await;
        let gate = Gate::closed();
        setup.receiver.answer(Answer::status(200).behind(&gate));
        let daemon = setup.daemon();
        setup.db.insert_leads("acme", 40).await;
        setup.receiver.wait_for(16).await;
        setup.db.cluster.restart(how).await;
        gate.open();
        setup.db.insert_leads("acme", 10).await;
        let rows = setup.db.wait_for_log(50).await;
        assert!(rows.iter().all(|row| row.status == "delivered"), "{how:?}: {:?}", daemon.log());
        let requests = setup.receiver.requests();
        let leads: HashSet<String> = requests.iter().map(|r| r.json()["leadId"].to_string()).collect();
        assert_eq!((requests.len(), leads.len()), (50, 50), "{how:?}");
        Audit::of(&setup).await.assert_sound();
    }
}

#[tokio::test]
async fn the_daemon_starts_and_stays_up_while_the_database_is_away() {
    let setup = Setup::on(&Cluster::start(&[])).await;
    setup.endpoint("acme").await;
    setup.db.insert_leads("acme", 1).await;
    setup.db.cluster.stop(Stop::Fast).await;
    let mut daemon = setup.daemon();
    daemon.wait_for_log(|line| line.contains("cannot claim")).await;
    setup.db.cluster.start_again().await;
    assert_eq!(setup.db.wait_for_log(1).await[0].status, "delivered");
    daemon.signal("TERM");
    assert_eq!(daemon.wait().await.code(), Some(0));
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn outcomes_are_kept_while_the_database_is_away_for_a_minute() {
    let setup = Setup::on(&Cluster::start(&[])).await;
    setup.endpoint("acme").await;
    let gate = Gate::closed();
    setup.receiver.answer(Answer::status(200).behind(&gate));
    let daemon = setup.daemon();
    setup.db.insert_leads("acme", 40).await;
    setup.receiver.wait_for(16).await;
    setup.db.cluster.stop(Stop::Fast).await;
    gate.open();
    daemon.wait_for_log(|line| line.contains("cannot be written to")).await;
    // Longer than heartbeats may be away, by a clock that nobody can put forward.
    tokio::time::sleep(Duration::from_secs(60)).await;
    setup.db.cluster.start_again().await;
    setup.db.insert_leads("acme", 1).await;
    let rows = setup.db.wait_for_log(41).await;
    assert!(rows.iter().all(|row| row.status == "delivered"), "{rows:?}");
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn sigterm_under_load_finishes_what_is_in_flight_and_leaves_the_rest_in_the_queue() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let gate = Gate::closed();
    setup.receiver.answer(Answer::status(200).behind(&gate));
    let mut first = setup.daemon();
    setup.db.insert_leads("acme", 200).await;
    setup.receiver.wait_for(16).await;
    first.signal("TERM");
    first.wait_for_log(|line| line.contains("stopping")).await;
    gate.open();
    assert_eq!(first.wait().await.code(), Some(0));
    let rows = setup.db.log_rows().await;
    let requests = setup.receiver.requests().len();
    assert_eq!(rows.len(), requests, "every attempt has its row");
    assert!(rows.iter().all(|row| row.status == "delivered"));
    let admin = setup.db.admin().await;
    let left = "SELECT count(*) FROM lead_webhook.outbox WHERE claimed_by IS NULL";
    let pending: i64 = admin.query_one(left, &[]).await.unwrap().get(0);
    assert_eq!(usize::try_from(pending).unwrap(), 200 - rows.len());
    let alive: i64 = admin.query_one("SELECT count(*) FROM lead_webhook.instances", &[]).await.unwrap().get(0);
    assert_eq!(alive, 0, "it signed off, so nobody waits for its heartbeat");
    let _second = setup.daemon();
    setup.db.wait_for_log(200).await;
    assert_eq!(setup.receiver.requests().len(), 200);
    Audit::of(&setup).await.assert_sound();
}

/// Stops the daemon while it claims what `insert` writes; the claim then goes through.
async fn stop_within_the_claim_of(setup: &Setup, daemon: &mut Process, insert: impl Future<Output = ()>) {
    let [locker, admin] = [setup.db.admin().await, setup.db.admin().await];
    locker.batch_execute("BEGIN; LOCK TABLE lead_webhook.uniqueness IN EXCLUSIVE MODE").await.unwrap();
    insert.await;
    until_waits_for_a_lock(&admin, "uniqueness::add").await;
    daemon.signal("TERM");
    daemon.wait_for_log(|line| line.contains("stopping")).await;
    locker.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(daemon.wait().await.code(), Some(0));
}

#[tokio::test]
async fn of_a_claim_that_is_under_way_when_the_stop_comes_nothing_is_begun() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let mut daemon = setup.daemon();
    setup.db.insert_leads("acme", 1).await;
    setup.db.wait_for_log(1).await;
    let admin = setup.db.admin().await;
    stop_within_the_claim_of(&setup, &mut daemon, setup.db.insert_leads("acme", 16)).await;
    assert_eq!(setup.receiver.requests().len(), 1);
    let pending = "SELECT count(*) FROM lead_webhook.outbox WHERE claimed_by IS NULL";
    assert_eq!(admin.query_one(pending, &[]).await.unwrap().get::<_, i64>(0), 16);
    let _second = setup.daemon();
    setup.db.wait_for_log(17).await;
    Audit::of(&setup).await.assert_sound();
}

/// Four visitors.
const VISITORS: &str = "INSERT INTO leads (tenant_id, visitor_id, email)
                        SELECT 'acme', 'v' || n, n || '@example.com' FROM generate_series(1, 4) AS n";

/// One lead was sent, and those of [`VISITORS`] were claimed, have added their keys and went back to the queue.
async fn visitors_went_back() -> Setup {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let mut daemon = setup.daemon();
    setup.db.insert_leads("acme", 1).await;
    setup.db.wait_for_log(1).await;
    let [admin, app] = [setup.db.admin().await, setup.db.app().await];
    stop_within_the_claim_of(&setup, &mut daemon, async { app.batch_execute(VISITORS).await.unwrap() }).await;
    let went_back = "SELECT count(*) FROM lead_webhook.outbox WHERE event = 'lead.created' AND claimed_by IS NULL";
    assert_eq!(admin.query_one(went_back, &[]).await.unwrap().get::<_, i64>(0), 4);
    setup
}

fn count(rows: &[LogRow], outcome: &str) -> usize {
    rows.iter().filter(|row| row.reason.as_ref().unwrap_or(&row.status) == outcome).count()
}

#[tokio::test]
async fn a_lead_that_went_back_and_is_gone_before_it_was_sent_keeps_its_visitor_from_nothing() {
    let setup = visitors_went_back().await;
    let app = setup.db.app().await;
    app.batch_execute("DELETE FROM leads WHERE visitor_id IS NOT NULL").await.unwrap();
    app.batch_execute(VISITORS).await.unwrap();
    let _second = setup.daemon();
    let rows = setup.db.wait_for_log(9).await;
    assert_eq!((count(&rows, "delivered"), count(&rows, "gone")), (5, 4), "{rows:?}");
}

#[tokio::test]
async fn a_lead_that_went_back_and_whose_endpoint_was_switched_off_keeps_its_visitor_from_nothing() {
    let setup = visitors_went_back().await;
    setup.run(&["endpoint", "disable", "acme"]).await.ok();
    let _second = setup.daemon();
    setup.db.wait_for_log(5).await;
    setup.run(&["endpoint", "enable", "acme"]).await.ok();
    setup.db.app().await.batch_execute(VISITORS).await.unwrap();
    let rows = setup.db.wait_for_log(9).await;
    assert_eq!((count(&rows, "delivered"), count(&rows, "disabled")), (5, 4), "{rows:?}");
}

#[tokio::test]
async fn a_lead_that_went_back_and_has_another_contact_is_known_by_the_one_that_was_sent() {
    let setup = visitors_went_back().await;
    let app = setup.db.app().await;
    app.batch_execute("UPDATE leads SET email = 'new-' || email WHERE visitor_id IS NOT NULL").await.unwrap();
    let _second = setup.daemon();
    setup.db.wait_for_log(5).await;
    let sent = setup.receiver.requests();
    assert_eq!(sent.iter().filter(|request| request.json()["email"].as_str().unwrap().starts_with("new-")).count(), 4);
    app.batch_execute(&VISITORS.replace("n || '@", "'new-' || n || '@")).await.unwrap();
    let rows = setup.db.wait_for_log(9).await;
    assert_eq!((count(&rows, "delivered"), count(&rows, "duplicate")), (5, 4), "{rows:?}");
}

#[tokio::test]
async fn a_crash_of_the_server_forgets_no_claim_also_where_commits_are_not_durable() {
    let settings = [("fsync", "on"), ("synchronous_commit", "off"), ("wal_writer_delay", "'10s'")];
    let setup = Setup::on(&Cluster::start(&settings)).await;
    setup.endpoint("acme").await;
    let _daemon = setup.daemon();
    let durable =
        "SET synchronous_commit = on; INSERT INTO leads (tenant_id, email) VALUES ('acme', 'ann@example.com')";
    setup.db.app().await.batch_execute(durable).await.unwrap();
    setup.receiver.wait_for(1).await;
    setup.db.cluster.restart(Stop::Immediate).await;
    setup.db.insert_leads("acme", 1).await;
    let rows = setup.db.wait_for_log(2).await;
    assert!(rows.iter().all(|row| row.status == "delivered"), "{rows:?}");
    assert_eq!(setup.receiver.requests().len(), 2);
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn a_standby_that_lacks_the_claims_sends_nothing_again() {
    let setup = Setup::on(&Cluster::start(&[])).await;
    setup.endpoint("acme").await;
    let visitors = "INSERT INTO leads (tenant_id, visitor_id, email)
                    SELECT 'acme', 'v' || n, n || '@example.com' FROM generate_series(1, 3) AS n";
    setup.db.app().await.batch_execute(visitors).await.unwrap();
    setup.db.cluster.stop(Stop::Fast).await;
    setup.db.cluster.copy_to_standby().await;
    setup.db.cluster.start_again().await;
    // One is under way when the server is lost, two are logged: the standby knows of none.
    let gate = Gate::closed();
    setup.receiver.queue([Answer::status(200), Answer::status(200), Answer::status(200).behind(&gate)]);
    let daemon = setup.daemon();
    setup.receiver.wait_for(3).await;
    setup.db.wait_for_log(2).await;
    setup.db.cluster.fail_over().await;
    daemon.wait_for_log(|line| line.contains("leads to a standby: name the primary")).await;
    let check = setup.run(&["check"]).await.stdout;
    let failed: Vec<_> = check.lines().filter(|line| line.starts_with("fail")).collect();
    assert!(failed.len() == 1 && failed[0].contains("is a standby") && !check.contains("NOTIFY"), "{check}");
    setup.db.admin().await.execute("SELECT pg_promote()", &[]).await.unwrap();
    daemon.wait_for_log(|line| line.contains("another server has taken over")).await;
    gate.open();
    setup.db.insert_leads("acme", 1).await;
    let rows = setup.db.wait_for_log(4).await;
    let admin = setup.db.admin().await;
    patiently("the outcome of what was under way", async {
        let sql = "SELECT count(*) FROM lead_webhook.deliveries WHERE status = 'delivered'";
        while admin.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) < 2 {}
    })
    .await;
    assert!(rows.iter().all(|row| row.status == "delivered" || row.status == "interrupted"), "{rows:?}");
    assert_eq!(setup.receiver.requests().len(), 4);
    // Their visitors are known to it all the same.
    setup.db.app().await.batch_execute(visitors).await.unwrap();
    let rows = setup.db.wait_for_log(7).await;
    assert_eq!(rows.iter().filter(|row| row.reason.as_deref() == Some("duplicate")).count(), 3, "{rows:?}");
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn a_standby_that_has_the_claim_and_lacks_the_outcome_sends_nothing_again() {
    let setup = Setup::on(&Cluster::start(&[])).await;
    setup.endpoint("acme").await;
    let gate = Gate::closed();
    setup.receiver.queue([Answer::status(200).behind(&gate)]);
    let mut daemon = setup.daemon();
    setup.db.insert_leads("acme", 1).await;
    setup.receiver.wait_for(1).await;
    let cluster = &setup.db.cluster;
    cluster.stop(Stop::Fast).await;
    cluster.copy_to_standby().await;
    cluster.start_again().await;
    gate.open();
    setup.db.wait_for_log(1).await;
    cluster.fail_over().await;
    setup.db.admin().await.execute("SELECT pg_promote()", &[]).await.unwrap();
    daemon.wait_for_log(|line| line.contains("another server has taken over")).await;
    assert_eq!(setup.db.wait_for_log(1).await[0].status, "interrupted");
    daemon.signal("TERM");
    daemon.wait().await;
    let _next = setup.daemon();
    setup.db.insert_leads("acme", 1).await;
    setup.db.wait_for_log(2).await;
    assert_eq!(setup.receiver.requests().len(), 2);
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn a_daemon_that_is_stopped_while_a_standby_takes_over_tells_it_what_was_sent() {
    let setup = Setup::on(&Cluster::start(&[])).await;
    setup.endpoint("acme").await;
    setup.db.insert_leads("acme", 2).await;
    let cluster = &setup.db.cluster;
    cluster.stop(Stop::Fast).await;
    cluster.copy_to_standby().await;
    cluster.start_again().await;
    let gate = Gate::closed();
    setup.receiver.queue([Answer::status(200), Answer::status(200).behind(&gate)]);
    let mut daemon = setup.daemon();
    setup.receiver.wait_for(2).await;
    setup.db.wait_for_log(1).await;
    cluster.fail_over().await;
    daemon.signal("TERM");
    daemon.wait_for_log(|line| line.contains("draining")).await;
    setup.db.admin().await.execute("SELECT pg_promote()", &[]).await.unwrap();
    gate.open();
    assert_eq!(daemon.wait().await.code(), Some(0));
    let mut statuses: Vec<_> = setup.db.log_rows().await.into_iter().map(|row| row.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, ["delivered", "interrupted"]);
    let _next = setup.daemon();
    setup.db.insert_leads("acme", 1).await;
    setup.db.wait_for_log(3).await;
    assert_eq!(setup.receiver.requests().len(), 3);
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn of_several_daemons_none_sends_again_what_another_has_sent_before_a_failover() {
    const LEADS: usize = 40;
    let setup = Setup::on(&Cluster::start(&[])).await;
    setup.endpoint("acme").await;
    let daemons = [setup.daemon(), setup.daemon()];
    let admin = setup.db.admin().await;
    patiently("both daemons to run", async {
        let both = "SELECT count(*) = 2 FROM lead_webhook.instances";
        while !admin.query_one(both, &[]).await.unwrap().get::<_, bool>(0) {}
    })
    .await;
    daemons.iter().for_each(|daemon| daemon.signal("STOP"));
    setup.db.insert_leads("acme", LEADS).await;
    setup.db.cluster.stop(Stop::Fast).await;
    setup.db.cluster.copy_to_standby().await;
    setup.db.cluster.start_again().await;
    daemons.iter().for_each(|daemon| daemon.signal("CONT"));
    setup.db.wait_for_log(LEADS).await;
    setup.db.cluster.fail_over().await;
    setup.db.admin().await.execute("SELECT pg_promote()", &[]).await.unwrap();
    let rows = setup.db.wait_for_log(LEADS).await;
    assert!(rows.iter().all(|row| row.status == "interrupted"), "{rows:?}");
    setup.db.insert_leads("acme", 1).await;
    setup.db.wait_for_log(LEADS + 1).await;
    assert_eq!(setup.receiver.requests().len(), LEADS + 1);
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn a_leads_table_that_is_locked_is_said_to_be_and_waited_for() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let daemon = setup.daemon();
    setup.db.insert_leads("acme", 1).await;
    setup.db.wait_for_log(1).await;
    let [locker, admin] = [setup.db.admin().await, setup.db.admin().await];
    make_a_claim_that_waits(&admin, &locker).await;
    daemon.wait_for_log(|line| line.contains("is locked") && line.contains("leads table")).await;
    locker.batch_execute("ROLLBACK").await.unwrap();
    let rows = setup.db.wait_for_log(2).await;
    assert!(rows.iter().all(|row| row.status == "delivered"), "{rows:?}");
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn a_leads_table_that_is_locked_at_the_start_is_blamed_on_no_column() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let [locker, admin] = [setup.db.admin().await, setup.db.admin().await];
    locker.batch_execute("BEGIN; LOCK TABLE leads IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let daemon = setup.daemon();
    until_waits_for_a_lock(&admin, "mapping::value_type").await;
    let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity
                  WHERE datname = current_database() AND query LIKE '-- mapping::value_type%'";
    admin.batch_execute(cancel).await.unwrap();
    let said = daemon.wait_for_log(|line| line.contains("cannot claim")).await;
    assert!(said.contains("the leads table could not be looked at") && !said.contains("leads.columns"), "{said}");
    locker.batch_execute("ROLLBACK").await.unwrap();
    setup.db.insert_leads("acme", 1).await;
    assert_eq!(setup.db.wait_for_log(1).await[0].status, "delivered");
}

#[tokio::test]
async fn a_stop_that_runs_out_of_time_logs_what_is_in_flight_as_interrupted() {
    let setup = Setup::new().await;
    setup.edit_config(&[("delivery.drain_timeout", json!("100ms"))]);
    setup.endpoint("acme").await;
    let gate = Gate::closed();
    setup.receiver.answer(Answer::status(200).behind(&gate));
    let mut daemon = setup.daemon();
    setup.db.insert_leads("acme", 2).await;
    setup.receiver.wait_for(2).await;
    daemon.signal("INT");
    assert_eq!(daemon.wait().await.code(), Some(0));
    let rows = setup.db.log_rows().await;
    assert_eq!(rows.iter().filter(|row| row.status == "interrupted").count(), 2);
    assert_eq!(setup.db.outbox_count().await, 0);
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let gate = Gate::closed();
    setup.receiver.answer(Answer::status(200).behind(&gate));
    let mut daemon = setup.daemon();
    setup.db.insert_leads("acme", 1).await;
    setup.receiver.wait_for(1).await;
    daemon.signal("TERM");
    daemon.wait_for_log(|line| line.contains("stopping")).await;
    daemon.signal("TERM");
    assert_eq!(daemon.wait().await.code(), Some(1));
    let claimed = "SELECT count(*) FROM lead_webhook.outbox WHERE claimed_by IS NOT NULL";
    let claimed: i64 = setup.db.admin().await.query_one(claimed, &[]).await.unwrap().get(0);
    assert_eq!(claimed, 1, "it stays claimed, so that it is found and logged");
    age_heartbeats(&setup).await;
    let _second = setup.daemon();
    assert_eq!(setup.db.wait_for_log(1).await[0].status, "interrupted");
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn a_listener_whose_session_is_ended_listens_again() {
    let setup = Setup::new().await;
    // So long a poll that only a notification can bring the lead in time.
    setup.edit_config(&[("database.poll_interval", json!("1h"))]);
    setup.endpoint("acme").await;
    let _daemon = setup.daemon();
    setup.db.insert_leads("acme", 1).await;
    setup.db.wait_for_log(1).await;
    let admin = setup.db.admin().await;
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
               WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    let ended: i64 = admin.query_one(end, &[]).await.unwrap().get(0);
    assert_eq!(ended, 1);
    setup.db.insert_leads("acme", 1).await;
    setup.db.wait_for_log(2).await;
    assert_eq!(setup.receiver.requests().len(), 2);
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn without_notify_the_daemon_polls() {
    let setup = Setup::new().await;
    setup.edit_config(&[("database.notify", json!("off")), ("database.poll_interval", json!("100ms"))]);
    setup.run(&["migrate"]).await.ok();
    setup.endpoint("acme").await;
    let _daemon = setup.daemon();
    setup.db.insert_leads("acme", 1).await;
    setup.db.wait_for_log(1).await;
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn a_stop_waits_for_nothing_that_the_server_does_not_answer() {
    let setup = Setup::new().await;
    setup.edit_config(&[("database.poll_interval", json!("100ms"))]);
    setup.endpoint("acme").await;
    let mut daemon = setup.daemon();
    setup.db.insert_leads("acme", 1).await;
    setup.db.wait_for_log(1).await;
    let admin = setup.db.admin().await;
    // The claims' session looks at every poll.
    let sql =
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query ~ '^-- bell::(look|survey)'";
    let backend = patiently("a look of the daemon's", async {
        loop {
            if let Some(row) = admin.query_opt(sql, &[]).await.unwrap() {
                break u32::try_from(row.get::<_, i32>(0)).unwrap();
            }
        }
    })
    .await;
    signal(backend, "STOP");
    daemon.signal("TERM");
    let ended = daemon.wait().await;
    signal(backend, "CONT");
    assert_eq!(ended.code(), Some(0));
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn a_daemon_that_is_frozen_within_a_claim_holds_no_other_up() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let frozen = setup.daemon();
    setup.db.insert_leads("acme", 1).await;
    setup.db.wait_for_log(1).await;
    let [locker, admin] = [setup.db.admin().await, setup.db.admin().await];
    // So that the daemon can be frozen within it.
    make_a_claim_that_waits(&admin, &locker).await;
    until_waits_for_a_lock(&admin, "outbox::pick").await;
    frozen.signal("STOP");
    locker.batch_execute("ROLLBACK").await.unwrap();
    let _second = setup.daemon();
    let rows = setup.db.wait_for_log(2).await;
    frozen.signal("CONT");
    assert!(rows.iter().all(|row| row.status == "delivered"), "{rows:?}");
    assert_eq!(setup.receiver.requests().len(), 2);
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn a_column_that_the_next_release_adds_beside_a_running_daemon_loses_no_lead_and_sends_none_twice() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let _daemon = setup.daemon();
    setup.db.insert_lead("acme", "before@example.com").await;
    setup.db.wait_for_log(1).await;
    let add = "ALTER TABLE lead_webhook.deliveries ADD COLUMN later text NOT NULL DEFAULT 'x';
               ALTER TABLE lead_webhook.uniqueness ADD COLUMN later text NOT NULL DEFAULT 'x'";
    setup.db.admin().await.batch_execute(add).await.unwrap();
    setup.db.insert_lead("acme", "after@example.com").await;
    let rows = setup.db.wait_for_log(2).await;
    assert!(rows.iter().all(|row| row.status == "delivered"), "{rows:?}");
    assert_eq!(setup.receiver.requests().len(), 2);
    Audit::of(&setup).await.assert_sound();
}
