//! A burst: four writers insert leads one by one, as fast as they can, while the daemon sends them.

use std::time::Duration;

use tokio_postgres::Client;

use crate::{
    contenders::{
        graphile::{self, Graphile},
        ours::Ours,
    },
    harness::Database,
    pgbench,
    stand::{Stand, one},
    table::Table,
};

const TENANTS: u64 = 20;
const WRITERS: u64 = 4;

const RATE: &str = "the application's commits/s";
const PENDING: &str = "pending or in flight at its end";

const BARE: &str = "no trigger, no daemon";
const OURS: &str = "ours";
const GRAPHILE: &str = "graphile-worker";

/// One table.
pub(crate) async fn measure(stand: &Stand) -> Vec<Table> {
    let leads = stand.number(20_000, 2_000);
    let mut table = Table::new(&format!("Burst of {leads} leads from {WRITERS} writers"), &[(RATE, 0), (PENDING, 0)]);
    for _ in 0..stand.rounds {
        let bare = stand.database().await;
        let rate = write(stand, &bare, leads).await;
        table.add(BARE, RATE, rate);
        ours(stand, &mut table, leads).await;
        if graphile::is_here() {
            graphile(stand, &mut table, leads).await;
        }
    }
    table.compare(RATE, OURS, BARE);
    table.compare(RATE, GRAPHILE, BARE);
    vec![table]
}

async fn ours(stand: &Stand, table: &mut Table, leads: u64) {
    let ours = Ours::install(stand, TENANTS, &[]).await;
    stand.receiver.reset(Duration::ZERO);
    let daemon = ours.start_and_wait().await;
    table.add(OURS, RATE, write(stand, &ours.setup.db, leads).await);
    table.add(OURS, PENDING, count(&ours.admin, "SELECT count(*) FROM lead_webhook.outbox").await);
    stand.receiver.wait_for(leads).await;
    ours.until_sent().await;
    ours.stop(daemon).await;
}

async fn graphile(stand: &Stand, table: &mut Table, leads: u64) {
    let graphile = Graphile::install(stand).await;
    stand.receiver.reset(Duration::ZERO);
    let child = graphile.start(stand);
    table.add(GRAPHILE, RATE, write(stand, &graphile.database, leads).await);
    table.add(GRAPHILE, PENDING, count(&graphile.admin, graphile::PENDING).await);
    stand.receiver.wait_for(leads).await;
    child.stop();
}

async fn write(stand: &Stand, database: &Database, leads: u64) -> f64 {
    let (clients, each) = (WRITERS.to_string(), (leads / WRITERS).to_string());
    let script = pgbench::insert("leads", "t", TENANTS);
    pgbench::run(stand, database, &script, &["--client", &clients, "--transactions", &each]).await
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
async fn count(admin: &Client, sql: &str) -> f64 {
    one::<i64>(admin, sql).await as f64
}
