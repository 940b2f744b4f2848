//! [`Drain`]: a contender sends a backlog, from just before its start until everything is sent.

use std::time::Duration;

use tokio_postgres::Client;

use crate::{clock, contenders::ours::Ours, receiver::Seen, stand::Stand, usage};

/// What was so far when it began.
pub(crate) struct Drain {
    began: u64,
    server_cpu: f64,
}

/// How fast it went, and what it cost: CPU seconds for 10,000 leads.
pub(crate) struct Drained {
    /// Leads a second, from the first arrival on.
    pub(crate) rate: f64,
    /// Leads a second, from the processes' start on.
    pub(crate) rate_from_start: f64,
    /// The contender's CPU.
    pub(crate) cpu: f64,
    /// PostgreSQL's.
    pub(crate) server_cpu: f64,
}

impl Drain {
    /// Tidies the database up; the receiver's answers take so long from now on.
    pub(crate) async fn begin(stand: &Stand, admin: &Client, answer: Duration) -> Self {
        // What was written before must not be flushed meanwhile, nor planned for without statistics.
        admin.batch_execute("VACUUM ANALYZE").await.unwrap();
        admin.batch_execute("CHECKPOINT").await.unwrap();
        stand.receiver.reset(answer);
        Self { server_cpu: usage::cpu_of_server(&stand.cluster), began: clock::now() }
    }

    /// What these processes needed for what was seen.
    pub(crate) fn end(self, stand: &Stand, processes: &[u32], seen: &Seen) -> Drained {
        let n = seen.requests;
        Drained {
            rate: rate(seen),
            rate_from_start: rate_since(self.began, seen),
            cpu: per_10k(processes.iter().map(|process| usage::cpu(*process)).sum(), n),
            server_cpu: per_10k(usage::cpu_of_server(&stand.cluster) - self.server_cpu, n),
        }
    }
}

/// Has so many daemons of ours send all that is pending, which is so many leads, and asserts that each arrived once.
pub(crate) async fn by_ours(stand: &Stand, ours: &Ours, daemons: usize, leads: u64, answer: Duration) -> Drained {
    let drain = Drain::begin(stand, &ours.admin, answer).await;
    let daemons: Vec<_> = (0..daemons).map(|_| ours.start()).collect();
    stand.receiver.wait_for(leads).await;
    ours.until_sent().await;
    let processes: Vec<_> = daemons.iter().map(|daemon| daemon.id()).collect();
    let seen = stand.receiver.seen();
    let drained = drain.end(stand, &processes, &seen);
    assert_eq!(seen.requests, leads, "requests for as many leads");
    ours.assert_delivered_once().await;
    for daemon in daemons {
        ours.stop(daemon).await;
    }
    drained
}

/// Requests a second, from the first arrival to the last.
pub(crate) fn rate(seen: &Seen) -> f64 {
    rate_since(seen.first, seen)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn rate_since(began: u64, seen: &Seen) -> f64 {
    seen.requests as f64 / clock::seconds(began, seen.last)
}

/// Of CPU seconds for so many leads.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(crate) fn per_10k(cpu: f64, leads: u64) -> f64 {
    cpu * 10_000.0 / leads as f64
}
