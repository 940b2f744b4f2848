//! Fairness: ordinary tenants at fifty leads a second in all, alone and beside one tenant with a long backlog whose
//! receiver takes ten seconds. Under the default `concurrency` and `per_endpoint`.

use std::time::Duration;

use crate::{
    contenders::ours::Ours,
    harness::patiently,
    latency::{COLUMNS, Latencies, P50, P99},
    stand::Stand,
    table::Table,
};

/// Ordinary tenants.
const TENANTS: u64 = 10;

const SLOW_TENANT: &str = "slow";
const SLOW_ANSWER: Duration = Duration::from_secs(10);

/// The default of `delivery.per_endpoint`.
const PER_ENDPOINT: u64 = 16;

/// Between two looks at the slow receiver.
const LOOK: Duration = Duration::from_millis(20);

const IN_FLIGHT: &str = "in flight to the slow receiver";

const ALONE: &str = "alone";
const BESIDE: &str = "beside the slow tenant";

/// One table.
pub(crate) async fn measure(stand: &Stand) -> Vec<Table> {
    let pending = stand.number(100_000, 5_000);
    let heading = format!(
        "Fairness: {TENANTS} tenants at 50 leads a second, beside one with {pending} pending and a receiver that takes {} s",
        SLOW_ANSWER.as_secs()
    );
    let mut columns = COLUMNS.to_vec();
    columns.push((IN_FLIGHT, 0));
    let mut table = Table::new(&heading, &columns);
    for _ in 0..stand.rounds {
        ours(stand, &mut table, ALONE, 0).await;
        ours(stand, &mut table, BESIDE, pending).await;
    }
    table.compare(P50, BESIDE, ALONE);
    table.compare(P99, BESIDE, ALONE);
    vec![table]
}

async fn ours(stand: &Stand, table: &mut Table, row: &str, pending: u64) {
    let ours = Ours::install(stand, TENANTS, &[]).await;
    ours.make_endpoints(&stand.receiver.slow_url(), &[SLOW_TENANT.to_owned()]).await;
    let insert = format!(
        "INSERT INTO leads (tenant_id, email)
         SELECT '{SLOW_TENANT}', 'lead' || n || '@example.com' FROM generate_series(1, {pending}) AS n"
    );
    ours.admin.batch_execute(&insert).await.unwrap();
    // As after a while in operation: planned for with statistics, and nothing is left to be flushed.
    ours.admin.batch_execute("VACUUM ANALYZE").await.unwrap();
    ours.admin.batch_execute("CHECKPOINT").await.unwrap();
    stand.receiver.reset_slow(SLOW_ANSWER);
    let daemon = ours.start_and_wait().await;
    patiently("the slow receiver's requests", in_flight(stand, pending.min(PER_ENDPOINT))).await;
    Latencies::measure(stand, &ours.setup.db, TENANTS, stand.number(30, 4)).await.note(table, row);
    #[expect(clippy::cast_precision_loss, reason = "a few")]
    table.add(row, IN_FLIGHT, stand.receiver.seen_slow().most_in_flight as f64);
    ours.stop(daemon).await;
}

/// Waits until the slow receiver has so many requests.
async fn in_flight(stand: &Stand, requests: u64) {
    while stand.receiver.seen_slow().most_in_flight < requests {
        tokio::time::sleep(LOOK).await;
    }
}
