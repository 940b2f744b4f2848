//! How long one lead takes when there are fifty a second: from its insert, the commit included, to its arrival.

use std::time::Duration;

use tokio_postgres::Client;

use crate::{
    clock,
    harness::Database,
    pgbench,
    stand::{Stand, one},
    table::{Column, Table},
};

/// Half of the leads take no longer.
pub(crate) const P50: &str = "p50 ms";
/// 99 of 100 take no longer.
pub(crate) const P99: &str = "p99 ms";
const MOST: &str = "longest ms";
const ARRIVED: &str = "arrived, of 100";

/// What [`Latencies::note`] fills.
pub(crate) const COLUMNS: [Column; 4] = [(P50, 2), (P99, 2), (MOST, 2), (ARRIVED, 1)];

/// In milliseconds, in order; infinite for leads that did not arrive.
pub(crate) struct Latencies(Vec<f64>);

impl Latencies {
    /// Inserts leads of so many tenants for so many seconds.
    pub(crate) async fn measure(stand: &Stand, database: &Database, tenants: u64, seconds: u64) -> Self {
        let admin = database.admin().await;
        let script = pgbench::insert("leads", "t", tenants);
        // Once with everything cold, which is not what is asked for.
        stand.receiver.reset(Duration::ZERO);
        pgbench::run(stand, database, &script, &["--client", "2", "--transactions", "10"]).await;
        stand.receiver.wait_for(20).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let last: i64 = one(&admin, "SELECT max(id) FROM leads").await;
        stand.receiver.reset(Duration::ZERO);
        let seconds = seconds.to_string();
        pgbench::run(stand, database, &script, &["--client", "2", "--rate", "50", "--time", &seconds]).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        Self::since(stand, &admin, last).await
    }

    /// Of the leads that were inserted after this one.
    async fn since(stand: &Stand, admin: &Client, last: i64) -> Self {
        let inserted = "SELECT id, (extract(epoch FROM created_at) * 1000000)::bigint FROM leads WHERE id > $1";
        let arrivals = stand.receiver.arrivals();
        let leads = admin.query(inserted, &[&last]).await.unwrap();
        let latency = |row: &tokio_postgres::Row| {
            let inserted = u64::try_from(row.get::<_, i64>(1)).unwrap();
            arrivals.get(&row.get(0)).map_or(f64::INFINITY, |arrival| clock::seconds(inserted, *arrival) * 1e3)
        };
        let mut all: Vec<f64> = leads.iter().map(latency).collect();
        all.sort_by(f64::total_cmp);
        Self(all)
    }

    /// Adds them to a row.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    pub(crate) fn note(&self, table: &mut Table, row: &str) {
        let (arrived, all) = (self.0.iter().filter(|latency| latency.is_finite()).count(), self.0.len());
        let percentile = |percent: usize| self.0[(all - 1) * percent / 100];
        table.add(row, P50, percentile(50));
        table.add(row, P99, percentile(99));
        table.add(row, MOST, percentile(100));
        table.add(row, ARRIVED, 100.0 * arrived as f64 / all as f64);
    }
}
