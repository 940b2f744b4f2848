//! Nothing to do: what the daemon costs all day. Its heartbeat counts to the transactions.

use std::time::Duration;

use crate::{
    contenders::ours::Ours,
    stand::{Stand, one},
    table::Table,
    usage,
};

const CPU: &str = "CPU %";
const SERVER_CPU: &str = "PostgreSQL CPU %";
const MEMORY: &str = "MiB";
const TRANSACTIONS: &str = "transactions a poll";

/// Seconds: the default of `database.poll_interval`.
const POLL: f64 = 5.0;

/// Seconds until an idle session has reported all that it did before.
const SETTLED: u64 = 11;

const TRANSACTIONS_SO_FAR: &str = "
SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()";

/// One table.
pub(crate) async fn measure(stand: &Stand) -> Vec<Table> {
    let columns = [(CPU, 2), (SERVER_CPU, 2), (MEMORY, 1), (TRANSACTIONS, 1)];
    let seconds = stand.number(60, 5);
    let mut table = Table::new(&format!("Nothing to do for {seconds} s"), &columns);
    for _ in 0..stand.rounds {
        let ours = Ours::install(stand, 1, &[]).await;
        ours.index_captured_times().await;
        let daemon = ours.start_and_wait().await;
        tokio::time::sleep(Duration::from_secs(stand.number(SETTLED, 2))).await;
        let before = Costs::so_far(stand, &ours, daemon.id()).await;
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let after = Costs::so_far(stand, &ours, daemon.id()).await;
        #[expect(clippy::cast_precision_loss, reason = "a few seconds")]
        let seconds = seconds as f64;
        table.add("ours", CPU, 100.0 * (after.cpu - before.cpu) / seconds);
        table.add("ours", SERVER_CPU, 100.0 * (after.server_cpu - before.server_cpu) / seconds);
        table.add("ours", MEMORY, usage::memory(daemon.id()));
        // One of them was ours: the look at `before`.
        table.add("ours", TRANSACTIONS, (after.transactions - before.transactions - 1.0) * POLL / seconds);
        ours.stop(daemon).await;
    }
    vec![table]
}

/// What has been spent so far.
struct Costs {
    cpu: f64,
    server_cpu: f64,
    transactions: f64,
}

impl Costs {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    async fn so_far(stand: &Stand, ours: &Ours, process: u32) -> Self {
        let transactions: i64 = one(&ours.admin, TRANSACTIONS_SO_FAR).await;
        let (cpu, server_cpu) = (usage::little_cpu(process), usage::cpu_of_server(&stand.cluster));
        Self { cpu, server_cpu, transactions: transactions as f64 }
    }
}
