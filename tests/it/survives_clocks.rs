//! Clocks that jump, the daemon's and the server's, cost no lead and send nothing twice.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use crate::{
    audit::Audit,
    harness::{Answer, Cluster, Gate, Setup, left_out, patiently},
};

/// A clock that can be put forward and back while a process goes by it.
struct Clock {
    library: PathBuf,
    offset: PathBuf,
}

impl Clock {
    /// Where there is no library for it, that is printed: nothing is left out in silence.
    fn new(setup: &Setup) -> Option<Self> {
        let folders = fs::read_dir("/usr/lib").unwrap().flatten();
        let library = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1")).find(|path| path.exists());
        if library.is_none() {
            left_out("clocks that jump, which needs libfaketime");
        }
        // The server's directory: it may read there.
        let offset = setup.db.cluster.directory().join("clock");
        let clock = Self { library: library?, offset };
        clock.put(0);
        Some(clock)
    }

    /// So many seconds from the machine's clock.
    fn put(&self, seconds: i64) {
        // At once, so that nobody reads half of it.
        let next = self.offset.with_extension("next");
        fs::write(&next, format!("{seconds:+}")).unwrap();
        fs::rename(next, &self.offset).unwrap();
    }

    /// What makes a process go by it. The monotonic clock goes on as it does.
    fn environment(&self) -> [(&'static str, &str); 4] {
        [
            ("LD_PRELOAD", self.library.to_str().unwrap()),
            ("FAKETIME_TIMESTAMP_FILE", self.offset.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]
    }
}

const HOURS: i64 = 3600;

#[tokio::test]
async fn the_daemons_clock_may_jump_either_way_and_no_lead_is_too_old_for_it_nor_a_log_row_out_of_its_place() {
    let setup = Setup::new().await;
    let Some(clock) = Clock::new(&setup) else { return };
    setup.edit_config(&[("delivery.max_age", json!("1h"))]);
    setup.endpoint("acme").await;
    let daemon = setup.daemon_with(&clock.environment());
    let admin = setup.db.admin().await;
    let mut leads = 0;
    for hours in [0, 30, -30, 0] {
        clock.put(hours * HOURS);
        setup.db.insert_leads("acme", 3).await;
        leads += 3;
        let rows = setup.db.wait_for_log(leads).await;
        assert!(rows.iter().all(|row| row.status == "delivered"), "{rows:?}");
        let signed = setup.receiver.requests().last().unwrap().header("webhook-timestamp").unwrap().to_owned();
        let ahead = signed.parse::<i64>().unwrap() - jiff::Timestamp::now().as_second();
        assert!((ahead - hours * HOURS).abs() < 100, "it does go by that clock: {ahead} s");
        let apart = "SELECT count(*) FROM lead_webhook.deliveries
                     WHERE sent_at NOT BETWEEN queued_at - interval '10 s' AND queued_at + interval '1 h'
                        OR finished_at < sent_at OR finished_at > queued_at + interval '1 h'";
        let apart: i64 = admin.query_one(apart, &[]).await.unwrap().get(0);
        assert_eq!(apart, 0, "the log goes by the server's clock");
        if hours != 0 {
            let says_so = |line: &str| {
                let ahead = serde_json::from_str::<Value>(line).unwrap()["ahead_s"].as_i64();
                line.contains("server's are apart") && ahead.is_some_and(|ahead| (ahead - hours * HOURS).abs() < 100)
            };
            daemon.wait_for_log(says_so).await;
            // So that the next is told as well.
            clock.put(0);
            daemon.wait_for_log(|line| line.contains("agree again")).await;
        }
    }
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn the_servers_clock_may_jump_either_way_and_nothing_is_sent_twice() {
    let setup = Setup::on(&Cluster::start(&[])).await;
    let Some(clock) = Clock::new(&setup) else { return };
    setup.db.cluster.restart_with(&clock.environment()).await;
    // So that of four leads each daemon has two.
    setup.edit_config(&[("delivery.concurrency", json!(2)), ("delivery.per_endpoint", json!(2))]);
    setup.endpoint("acme").await;
    let daemons = [setup.daemon(), setup.daemon()];
    let admin = setup.db.admin().await;
    let count = async |sql: &str| admin.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
    let mut leads = 0;
    for hours in [30, 0, -30, 0] {
        let gate = Gate::closed();
        setup.receiver.answer(Answer::status(200).behind(&gate));
        setup.db.insert_leads("acme", 4).await;
        setup.receiver.wait_for(leads + 4).await;
        if leads == 0 {
            // Else both may beat by the new clock before either looks for the dead.
            daemons[1].signal("STOP");
        }
        clock.put(hours * HOURS);
        let now = count("SELECT extract(epoch FROM clock_timestamp())::bigint").await;
        let ahead = now - jiff::Timestamp::now().as_second();
        assert!((ahead - hours * HOURS).abs() < 100, "it does go by that clock: {ahead} s");
        if leads == 0 {
            // The other one has not beaten by the new clock.
            patiently("a daemon to take the other for dead", async {
                while count("SELECT count(*) FROM lead_webhook.deliveries WHERE status = 'interrupted'").await == 0 {}
            })
            .await;
            daemons[1].signal("CONT");
        }
        setup.db.insert_leads("acme", 4).await;
        gate.open();
        leads += 8;
        patiently("the real outcomes", async {
            let delivered = "SELECT count(*) FROM lead_webhook.deliveries WHERE status = 'delivered'";
            while count(delivered).await < i64::try_from(leads).unwrap() {}
        })
        .await;
        assert_eq!(setup.receiver.requests().len(), leads);
    }
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn a_daemon_that_died_before_the_servers_clock_was_put_back_is_found_dead() {
    let setup = Setup::on(&Cluster::start(&[])).await;
    let Some(clock) = Clock::new(&setup) else { return };
    clock.put(30 * HOURS);
    // The server's start is in the future as well.
    setup.db.cluster.restart_with(&clock.environment()).await;
    setup.endpoint("acme").await;
    let gate = Gate::closed();
    setup.receiver.answer(Answer::status(200).behind(&gate));
    let mut dead = setup.daemon();
    setup.db.insert_leads("acme", 3).await;
    setup.receiver.wait_for(3).await;
    dead.kill9();
    gate.open();
    clock.put(0);
    let _other = setup.daemon();
    let admin = setup.db.admin().await;
    let count = async |sql: &str| admin.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
    patiently("no heartbeat to be in the future", async {
        let ahead = "SELECT count(*) FROM lead_webhook.instances WHERE renewed_at > clock_timestamp()";
        while count(ahead).await > 0 {}
    })
    .await;
    let age = "UPDATE lead_webhook.instances SET renewed_at = renewed_at - interval '1 minute'";
    admin.batch_execute(age).await.unwrap();
    let rows = setup.db.wait_for_log(3).await;
    assert!(rows.iter().all(|row| row.status == "interrupted"), "{rows:?}");
    assert_eq!(setup.receiver.requests().len(), 3);
    Audit::of(&setup).await.assert_sound();
}
