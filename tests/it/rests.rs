//! An idle daemon asks nothing but its heartbeat, and misses nothing for it.

use tokio_postgres::Client;

use crate::harness::{Setup, patiently, until_true};

/// Waits until the daemon's latest look is older than two of its polls, though it lives.
async fn until_still(admin: &Client) {
    let beat = "SELECT max(renewed_at)::text FROM lead_webhook.instances";
    let beat = async || admin.query_one(beat, &[]).await.unwrap().get::<_, Option<String>>(0);
    for n in 1..=4 {
        let before = beat().await;
        patiently(&format!("heartbeat {n}"), async { while beat().await == before {} }).await;
    }
    let is_still = "SELECT count(*) = 1 FROM pg_stat_activity a
                    WHERE a.datname = current_database() AND a.query LIKE '-- bell::survey%'
                      AND a.state_change < (SELECT max(renewed_at) FROM lead_webhook.instances) - interval '9 seconds'";
    until_true(admin, "two polls without a look", is_still).await;
}

#[tokio::test]
async fn an_idle_daemon_looks_no_more_and_still_delivers_at_a_ring_and_what_no_ring_tells() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let _daemon = setup.daemon();
    let admin = setup.db.admin().await;
    until_still(&admin).await;
    setup.db.insert_lead("acme", "rings@example.com").await;
    setup.receiver.wait_for(1).await;
    setup.db.wait_for_log(1).await;
    until_still(&admin).await;
    let app = setup.db.app().await;
    let silent = "BEGIN; SET LOCAL lead_webhook.rung = 'on';
                  INSERT INTO leads (tenant_id, email) VALUES ('acme', 'silent@example.com'); COMMIT";
    app.batch_execute(silent).await.unwrap();
    setup.receiver.wait_for(2).await;
}
