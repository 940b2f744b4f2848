//! The first lead after idling: how long from its insert until the receiver hears of it.
//!
//! Ours does not use connections again that were idle for long, because a receiver may be closing them: it is heard when
//! it connects, and the handshake comes on top. The naive daemon finds its connection still open, which a real receiver
//! seldom leaves it.

use std::time::Duration;

use tokio_postgres::Client;

use crate::{
    clock,
    contenders::{naive::Naive, ours::Ours},
    harness::Database,
    stand::Stand,
    table::Table,
};

const HEARD: &str = "connection or, on a kept one, request, ms";
const REQUEST: &str = "request, ms";

const OURS: &str = "ours";
const NAIVE: &str = "naive LISTEN daemon";

/// One table.
pub(crate) async fn measure(stand: &Stand) -> Vec<Table> {
    let seconds = stand.number(60, 5);
    let heading = format!("The first lead after {seconds} s of nothing, from insert to arrival");
    let mut table = Table::new(&heading, &[(HEARD, 2), (REQUEST, 2)]);
    let idle = Duration::from_secs(seconds);
    for _ in 0..stand.rounds {
        let ours = Ours::install(stand, 1, &[]).await;
        let daemon = ours.start_and_wait().await;
        first(stand, &mut table, OURS, &ours.setup.db, idle).await;
        ours.stop(daemon).await;

        let naive = Naive::install(stand, 1).await;
        let child = naive.start(stand);
        first(stand, &mut table, NAIVE, &naive.database, idle).await;
        child.stop();
    }
    table.compare(HEARD, OURS, NAIVE);
    table.compare(REQUEST, OURS, NAIVE);
    vec![table]
}

async fn first(stand: &Stand, table: &mut Table, row: &str, database: &Database, idle: Duration) {
    let application = database.app().await;
    // A session's first insert pays for planning, a daemon's first lead for preparing.
    stand.receiver.reset(Duration::ZERO);
    insert(&application).await;
    stand.receiver.wait_for(1).await;
    tokio::time::sleep(idle).await;
    stand.receiver.reset(Duration::ZERO);
    let inserted = insert(&application).await;
    let seen = stand.receiver.wait_for(1).await;
    let heard = if seen.accepted > 0 { seen.accepted } else { seen.first };
    table.add(row, HEARD, clock::seconds(inserted, heard) * 1e3);
    table.add(row, REQUEST, clock::seconds(inserted, seen.first) * 1e3);
}

/// Inserts a lead; when.
async fn insert(application: &Client) -> u64 {
    let sql = "INSERT INTO leads (tenant_id, email, phone, conversation_id)
               VALUES ('t-0', 'lead@example.com', '+491234567890', 'c-000000000042')
               RETURNING (extract(epoch FROM created_at) * 1000000)::bigint";
    u64::try_from(application.query_one(sql, &[]).await.unwrap().get::<_, i64>(0)).unwrap()
}
