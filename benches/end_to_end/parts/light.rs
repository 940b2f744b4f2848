//! Light load: fifty leads a second. How long from the insert, its commit included, to the request's arrival.

use std::time::Duration;

use tokio_postgres::Client;

use crate::{
    contenders::{
        graphile::{self, Graphile},
        naive::Naive,
        ours::Ours,
    },
    harness::Database,
    pgbench,
    stand::Stand,
    table::Table,
};

const TENANTS: u64 = 20;

const P50: &str = "p50 ms";
const P99: &str = "p99 ms";
const MOST: &str = "longest ms";
const ARRIVED: &str = "arrived, of 100";

const OURS: &str = "ours";
const NAIVE: &str = "naive LISTEN daemon";
const GRAPHILE: &str = "graphile-worker";

/// One table.
pub(crate) async fn measure(stand: &Stand) -> Vec<Table> {
    let columns = [(P50, 2), (P99, 2), (MOST, 2), (ARRIVED, 1)];
    let mut table = Table::new("Light load: 50 leads a second, from insert to arrival", &columns);
    for _ in 0..stand.rounds {
        let ours = Ours::install(stand, TENANTS, &[]).await;
        let daemon = ours.start_and_wait().await;
        latencies(stand, &mut table, OURS, &ours.setup.db, &ours.admin).await;
        ours.stop(daemon).await;

        let naive = Naive::install(stand, i64::try_from(TENANTS).unwrap()).await;
        let child = naive.start(stand);
        latencies(stand, &mut table, NAIVE, &naive.database, &naive.admin).await;
        child.stop();

        if graphile::is_here() {
            let graphile = Graphile::install(stand).await;
            let child = graphile.start(stand);
            latencies(stand, &mut table, GRAPHILE, &graphile.database, &graphile.admin).await;
            child.stop();
        }
    }
    for column in [P50, P99] {
        table.compare(column, OURS, NAIVE);
        table.compare(column, OURS, GRAPHILE);
    }
    vec![table]
}

async fn latencies(stand: &Stand, table: &mut Table, row: &str, database: &Database, admin: &Client) {
    let script = pgbench::insert("leads", "t", TENANTS);
    // Once with everything cold, which is not what is asked for.
    stand.receiver.reset(Duration::ZERO);
    pgbench::run(stand, database, &script, &["--client", "2", "--transactions", "10"]).await;
    stand.receiver.wait_for(20).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    admin.batch_execute("TRUNCATE leads").await.unwrap();
    stand.receiver.reset(Duration::ZERO);
    let seconds = stand.number(20, 4).to_string();
    pgbench::run(stand, database, &script, &["--client", "2", "--rate", "50", "--time", &seconds]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    note(table, row, &between(stand, admin).await);
}

/// From each lead's insert to its arrival, in milliseconds, in order; infinite for those that did not arrive.
async fn between(stand: &Stand, admin: &Client) -> Vec<f64> {
    let inserted = "SELECT id, (extract(epoch FROM created_at) * 1000000)::bigint FROM leads";
    let arrivals = stand.receiver.arrivals();
    let leads = admin.query(inserted, &[]).await.unwrap();
    let latency = |row: &tokio_postgres::Row| {
        let inserted = u64::try_from(row.get::<_, i64>(1)).unwrap();
        arrivals.get(&row.get(0)).map_or(f64::INFINITY, |arrival| crate::clock::seconds(inserted, *arrival) * 1e3)
    };
    let mut all: Vec<f64> = leads.iter().map(latency).collect();
    all.sort_by(f64::total_cmp);
    all
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn note(table: &mut Table, row: &str, latencies: &[f64]) {
    let (arrived, all) = (latencies.iter().filter(|latency| latency.is_finite()).count(), latencies.len());
    let percentile = |percent: usize| latencies[(all - 1) * percent / 100];
    table.add(row, P50, percentile(50));
    table.add(row, P99, percentile(99));
    table.add(row, MOST, percentile(100));
    table.add(row, ARRIVED, 100.0 * arrived as f64 / all as f64);
}
