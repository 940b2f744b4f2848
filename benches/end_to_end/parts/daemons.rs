//! Several daemon processes on one database share a backlog: once with a receiver that answers at once, where the
//! machine is the limit, and once with one that takes its time, where the attempts in flight are.

use std::time::Duration;

use crate::{
    contenders::ours::{Ours, as_many_in_flight},
    drain::{self, Drained},
    stand::{Stand, insert_leads, one},
    table::Table,
};

const TENANTS: u64 = 100;

/// 64 attempts in flight of each daemon are 640 a second at most then.
const SLOW_ANSWER: Duration = Duration::from_millis(100);

const RATE: &str = "leads/s";
const CPU: &str = "CPU s/10k";
const SERVER_CPU: &str = "PostgreSQL CPU s/10k";
const SHARE: &str = "the smallest share, of 100";

const ROWS: [(usize, &str); 3] = [(1, "1 daemon"), (2, "2 daemons"), (3, "3 daemons")];

/// Percent of the backlog that the daemon sent which sent least.
const SMALLEST_SHARE: &str = "
SELECT (100.0 * min(sent) / sum(sent))::float8
FROM (SELECT count(*) AS sent FROM lead_webhook.deliveries GROUP BY instance_id) s";

/// Two tables: each kind of receiver.
pub(crate) async fn measure(stand: &Stand) -> Vec<Table> {
    let at_once = several(stand, "answers at once", stand.number(20_000, 5_000), Duration::ZERO).await;
    let slowly = several(stand, "takes 100 ms", stand.number(8_000, 2_000), SLOW_ANSWER).await;
    vec![at_once, slowly]
}

async fn several(stand: &Stand, receiver: &str, leads: u64, answer: Duration) -> Table {
    let columns = [(RATE, 0), (CPU, 2), (SERVER_CPU, 2), (SHARE, 1)];
    let mut table = Table::new(&format!("Backlog of {leads} leads, receiver {receiver}"), &columns);
    for _ in 0..stand.rounds {
        for (daemons, row) in ROWS {
            let ours = Ours::install(stand, TENANTS, &as_many_in_flight()).await;
            insert_leads(&ours.admin, leads, TENANTS).await;
            let Drained { rate, cpu, server_cpu, .. } = drain::by_ours(stand, &ours, daemons, leads, answer).await;
            let share = one(&ours.admin, SMALLEST_SHARE).await;
            for (column, figure) in [(RATE, rate), (CPU, cpu), (SERVER_CPU, server_cpu), (SHARE, share)] {
                table.add(row, column, figure);
            }
        }
    }
    let [(_, one), others @ ..] = ROWS;
    for column in [RATE, SERVER_CPU] {
        others.iter().for_each(|(_, row)| table.compare(column, row, one));
        let [(_, two), (_, three)] = others;
        table.compare(column, three, two);
    }
    table
}
