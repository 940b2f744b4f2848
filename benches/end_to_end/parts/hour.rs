//! An hour of light load: whether the daemon's memory stays where it is while the log grows. Once, however many rounds
//! there are.

use std::time::Duration;

use crate::{
    contenders::ours::Ours,
    pgbench,
    stand::{Stand, one},
    table::Table,
    usage,
};

const TENANTS: u64 = 20;

/// In minutes.
const LENGTH: u64 = 60;

/// When to look, in minutes.
const LOOKS: [u64; 8] = [1, 5, 10, 20, 30, 40, 50, LENGTH];

const MEMORY: &str = "MiB";
const PEAK: &str = "most so far";
const CPU: &str = "CPU s";
const LOGGED: &str = "log rows";

/// One table.
pub(crate) async fn measure(stand: &Stand) -> Vec<Table> {
    let minute = stand.number(60, 1);
    let heading = format!("50 leads a second for {LENGTH} minutes of {minute} s");
    let mut table = Table::new(&heading, &[(MEMORY, 1), (PEAK, 1), (CPU, 1), (LOGGED, 0)]);
    let ours = Ours::install(stand, TENANTS, &[]).await;
    ours.index_captured_times().await;
    stand.receiver.reset(Duration::ZERO);
    let daemon = ours.start_and_wait().await;
    note(&ours, daemon.id(), &mut table, "before").await;

    let script = pgbench::insert("leads", "t", TENANTS);
    let seconds = (minute * LENGTH).to_string();
    let arguments = ["--client", "2", "--rate", "50", "--time", &seconds];
    let looks = async {
        let begun = tokio::time::Instant::now();
        for look in LOOKS {
            tokio::time::sleep_until(begun + Duration::from_secs(look * minute)).await;
            note(&ours, daemon.id(), &mut table, &format!("after {look} min")).await;
        }
    };
    tokio::join!(pgbench::run(stand, &ours.setup.db, &script, &arguments), looks);

    ours.until_sent().await;
    ours.assert_delivered_once().await;
    ours.stop(daemon).await;
    vec![table]
}

async fn note(ours: &Ours, daemon: u32, table: &mut Table, row: &str) {
    let logged: i64 = one(&ours.admin, "SELECT count(*) FROM lead_webhook.deliveries").await;
    table.add(row, MEMORY, usage::memory(daemon));
    table.add(row, PEAK, usage::peak_memory(daemon));
    table.add(row, CPU, usage::cpu(daemon));
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    table.add(row, LOGGED, logged as f64);
}
