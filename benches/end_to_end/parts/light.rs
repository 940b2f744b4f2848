//! Light load: fifty leads a second. How long from the insert, its commit included, to the request's arrival.

use crate::{
    contenders::{
        graphile::{self, Graphile},
        naive::Naive,
        ours::Ours,
    },
    harness::Database,
    latency::{COLUMNS, Latencies, P50, P99},
    stand::Stand,
    table::Table,
};

const TENANTS: u64 = 20;

const OURS: &str = "ours";
const NAIVE: &str = "naive LISTEN daemon";
const GRAPHILE: &str = "graphile-worker";

/// One table.
pub(crate) async fn measure(stand: &Stand) -> Vec<Table> {
    let mut table = Table::new("Light load: 50 leads a second, from insert to arrival", &COLUMNS);
    for _ in 0..stand.rounds {
        let ours = Ours::install(stand, TENANTS, &[]).await;
        let daemon = ours.start_and_wait().await;
        latencies(stand, &mut table, OURS, &ours.setup.db).await;
        ours.stop(daemon).await;

        let naive = Naive::install(stand, i64::try_from(TENANTS).unwrap()).await;
        let child = naive.start(stand);
        latencies(stand, &mut table, NAIVE, &naive.database).await;
        child.stop();

        if graphile::is_here() {
            let graphile = Graphile::install(stand).await;
            let child = graphile.start(stand);
            latencies(stand, &mut table, GRAPHILE, &graphile.database).await;
            child.stop();
        }
    }
    for column in [P50, P99] {
        table.compare(column, OURS, NAIVE);
        table.compare(column, OURS, GRAPHILE);
    }
    vec![table]
}

async fn latencies(stand: &Stand, table: &mut Table, row: &str, database: &Database) {
    Latencies::measure(stand, database, TENANTS, stand.number(20, 4)).await.note(table, row);
}
