//! A backlog of leads waits while the daemon is down; then it is started. How fast it sends them, and what that costs,
//! from the process's start on.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    contenders::{
        graphile::{self, Graphile},
        limit,
        ours::{Ours, as_many_in_flight},
    },
    drain::{Drain, Drained, per_10k, rate},
    receiver::Seen,
    stand::{Stand, insert_leads, one},
    table::Table,
    usage,
};

const RATE: &str = "leads/s";
const RATE_FROM_START: &str = "leads/s from the start";
const CPU: &str = "CPU s/10k";
const SERVER_CPU: &str = "PostgreSQL CPU s/10k";
const IDLE: &str = "idle MiB";
const PEAK: &str = "peak MiB";
const OPEN: &str = "connections";
const IN_FLIGHT: &str = "in flight";
const LOGGED: &str = "log rows";

const LIMIT: &str = "limit: HTTP client alone";
const OURS: &str = "ours, 1 tenant";
const OURS_OF_MANY: &str = "ours, 100 tenants";
const OURS_INSTALLED: &str = "ours, 100 tenants, as it is installed";
const OURS_SLOWLY: &str = "ours, receiver takes 50 ms";
const GRAPHILE: &str = "graphile-worker";

/// 64 attempts in flight are 1,280 a second at most then.
const SLOW_ANSWER: Duration = Duration::from_millis(50);

/// The defaults: a line a delivery among them, which the harness reads.
fn as_installed() -> [(&'static str, Value); 1] {
    [("log.level", json!("info"))]
}

/// One table.
pub(crate) async fn measure(stand: &Stand) -> Vec<Table> {
    let leads = stand.number(20_000, 5_000);
    let columns = [
        (RATE, 0),
        (RATE_FROM_START, 0),
        (CPU, 2),
        (SERVER_CPU, 2),
        (IDLE, 1),
        (PEAK, 1),
        (OPEN, 0),
        (IN_FLIGHT, 0),
        (LOGGED, 0),
    ];
    let mut table = Table::new(&format!("Backlog of {leads} leads"), &columns);
    for _ in 0..stand.rounds {
        limit(stand, &mut table, 2 * leads);
        for (row, config, tenants, answer) in [
            (OURS, &as_many_in_flight()[..], 1, Duration::ZERO),
            (OURS_OF_MANY, &as_many_in_flight(), 100, Duration::ZERO),
            (OURS_INSTALLED, &as_installed(), 100, Duration::ZERO),
            (OURS_SLOWLY, &as_many_in_flight(), 1, SLOW_ANSWER),
        ] {
            let installed = Ours::install(stand, tenants, config).await;
            insert_leads(&installed.admin, leads, tenants).await;
            ours(stand, &mut table, row, &installed, leads, answer).await;
        }
        if graphile::is_here() {
            graphile(stand, &mut table, leads).await;
        }
    }
    for (column, row, with) in
        [(RATE, OURS, LIMIT), (RATE, OURS, GRAPHILE), (CPU, OURS, LIMIT), (SERVER_CPU, OURS, GRAPHILE)]
    {
        table.compare(column, row, with);
    }
    table.draw("Backlog: leads a second", RATE, &[LIMIT, OURS, OURS_OF_MANY, GRAPHILE], None);
    vec![table]
}

fn limit(stand: &Stand, table: &mut Table, requests: u64) {
    stand.receiver.reset(Duration::ZERO);
    let limit = limit::measure(stand, requests);
    let seen = stand.receiver.seen();
    table.add(LIMIT, RATE, rate(&seen));
    table.add(LIMIT, CPU, per_10k(limit.cpu, requests));
    table.add(LIMIT, PEAK, limit.peak_memory);
    add_connections(table, LIMIT, &seen);
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
async fn ours(stand: &Stand, table: &mut Table, row: &str, ours: &Ours, leads: u64, answer: Duration) {
    let drain = Drain::begin(stand, &ours.admin, answer).await;
    let daemon = ours.start();
    let seen = stand.receiver.wait_for(leads).await;
    ours.until_sent().await;
    add_drained(table, row, &drain.end(stand, &[daemon.id()], &seen), &seen);
    settle(table, row, daemon.id()).await;
    // A receiver that answers at once never has more in its hands than it has threads.
    if !answer.is_zero() {
        table.add(row, IN_FLIGHT, seen.most_in_flight as f64);
    }
    let logged: i64 = one(&ours.admin, "SELECT count(*) FROM lead_webhook.deliveries WHERE status = 'delivered'").await;
    add_logged(table, row, logged, leads);
    ours.stop(daemon).await;
}

async fn graphile(stand: &Stand, table: &mut Table, leads: u64) {
    let graphile = Graphile::install(stand).await;
    graphile.admin.batch_execute("SET session_replication_role = replica").await.unwrap();
    insert_leads(&graphile.admin, leads, 1).await;
    graphile.queue_all().await;
    let drain = Drain::begin(stand, &graphile.admin, Duration::ZERO).await;
    let child = graphile.start(stand);
    let seen = stand.receiver.wait_for(leads).await;
    while one::<i64>(&graphile.admin, graphile::PENDING).await > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    add_drained(table, GRAPHILE, &drain.end(stand, &[child.id()], &seen), &seen);
    settle(table, GRAPHILE, child.id()).await;
    let logged: i64 = one(&graphile.admin, "SELECT count(*) FROM webhook_log").await;
    add_logged(table, GRAPHILE, logged, leads);
    child.stop();
}

fn add_drained(table: &mut Table, row: &str, drained: &Drained, seen: &Seen) {
    table.add(row, RATE, drained.rate);
    table.add(row, RATE_FROM_START, drained.rate_from_start);
    table.add(row, CPU, drained.cpu);
    table.add(row, SERVER_CPU, drained.server_cpu);
    add_connections(table, row, seen);
}

/// Memory once it has nothing to do any more.
async fn settle(table: &mut Table, row: &str, process: u32) {
    tokio::time::sleep(Duration::from_secs(2)).await;
    table.add(row, IDLE, usage::memory(process));
    table.add(row, PEAK, usage::peak_memory(process));
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn add_connections(table: &mut Table, row: &str, seen: &Seen) {
    table.add(row, OPEN, seen.most_open as f64);
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn add_logged(table: &mut Table, row: &str, logged: i64, leads: u64) {
    assert_eq!(u64::try_from(logged), Ok(leads), "{row}: leads that were logged as delivered");
    table.add(row, LOGGED, logged as f64);
}
