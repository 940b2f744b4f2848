//! What is too old for the log: counted, and removed a batch at a time. Where the log begins is noted before anything is
//! removed, so that `reconcile` looks at no lead whose row may be gone.

use jiff::Timestamp;
use tokio_postgres::Error;

use super::session::Session;
use crate::config::Retention;

/// Rows removed by one statement: some ten milliseconds of work.
const BATCH: i64 = 1_000;

/// What is kept equally long, in the order of [`Edges`].
const STATUSES: [&[&str]; 3] = [&["delivered"], &["skipped"], &["failed", "interrupted"]];

/// Rows of each class that finished before are too old; `None`: none is.
pub type Edges = [Option<Timestamp>; STATUSES.len()];

/// By the earlier of two clocks: one that jumps ahead takes nothing with it.
const EDGES: &str = "\
-- retention::edges
SELECT now - make_interval(secs => $2), now - make_interval(secs => $3), now - make_interval(secs => $4)
FROM (SELECT least($1::timestamptz, clock_timestamp()) AS now) AS clock";

/// What is too old by `retention`.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn edges(session: &mut Session, retention: &Retention) -> Result<Edges, Error> {
    let Retention { delivered, skipped, failed } = retention;
    let [delivered, skipped, failed] = [delivered, skipped, failed].map(|kept| kept.map(|kept| kept.as_secs_f64()));
    let row = session.client().query_one(EDGES, &[&Timestamp::now(), &delivered, &skipped, &failed]).await?;
    Ok([row.try_get(0)?, row.try_get(1)?, row.try_get(2)?])
}

const COUNT: &str = "\
-- retention::count
SELECT d.status, count(*) AS deliveries FROM lead_webhook.deliveries d
WHERE d.finished_at < greatest($1::timestamptz, $2::timestamptz, $3::timestamptz)
  AND d.finished_at < CASE d.status WHEN 'delivered' THEN $1 WHEN 'skipped' THEN $2 ELSE $3 END
GROUP BY d.status ORDER BY d.status";

/// How many deliveries of each status are too old; those of which none is are left out.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn count(session: &mut Session, edges: &Edges) -> Result<Vec<(String, i64)>, Error> {
    let [delivered, skipped, failed] = edges;
    let rows = session.client().query(COUNT, &[delivered, skipped, failed]).await?;
    rows.iter().map(|row| Ok((row.try_get("status")?, row.try_get("deliveries")?))).collect()
}

const NOTE: &str = "\
-- retention::note
INSERT INTO lead_webhook.log_edge AS noted (edge) VALUES ($1)
ON CONFLICT (only_one) DO UPDATE SET edge = excluded.edge WHERE noted.edge < excluded.edge";

/// In the order of the index over the time, by ids that are found once: a join could be planned from the other side. What
/// another daemon is removing is left to it.
const PRUNE: &str = "\
-- retention::prune
WITH gone AS (
    DELETE FROM lead_webhook.deliveries d
    WHERE d.delivery_id = ANY (ARRAY(
        SELECT old.delivery_id FROM lead_webhook.deliveries old
        WHERE old.finished_at >= $1 AND old.finished_at < $2 AND old.status = ANY ($3::text[])
        ORDER BY old.finished_at LIMIT $4
        FOR UPDATE SKIP LOCKED))
    RETURNING d.finished_at
)
SELECT count(*) AS deliveries, max(finished_at) AS last FROM gone";

/// Pruning under way.
#[derive(Debug, Clone)]
pub struct Pruning {
    edges: Edges,
    /// Of each class nothing older is left.
    from: [Timestamp; STATUSES.len()],
}

impl Pruning {
    /// Notes where the log begins from here on, and begins with what is older than `edges`. Where `before` has ended,
    /// nothing older than its edges is looked at again.
    ///
    /// # Errors
    /// What the database says, or that the connection is lost.
    pub async fn begin(session: &mut Session, edges: Edges, before: Option<&Self>) -> Result<Self, Error> {
        if let Some(edge) = edges.iter().flatten().max() {
            session.execute(NOTE, &[edge]).await?;
        }
        let from = before.map_or([Timestamp::UNIX_EPOCH; STATUSES.len()], |before| before.from);
        Ok(Self { edges, from })
    }

    /// Removes a batch; how many deliveries. 0: there are no more.
    ///
    /// # Errors
    /// What the database says, or that the connection is lost.
    pub async fn step(&mut self, session: &mut Session) -> Result<u64, Error> {
        for ((statuses, edge), from) in STATUSES.iter().zip(self.edges).zip(&mut self.from) {
            let Some(edge) = edge else { continue };
            let rows = session.query(PRUNE, &[from, &edge, statuses, &BATCH]).await?;
            let Some(row) = rows.first() else { continue };
            let deliveries: i64 = row.try_get("deliveries")?;
            if deliveries == BATCH {
                *from = row.try_get("last")?;
            } else {
                *from = edge.max(*from);
            }
            if deliveries > 0 {
                return Ok(u64::try_from(deliveries).unwrap_or_default());
            }
        }
        Ok(0)
    }
}

const OLDEST: &str = "\
-- retention::oldest
SELECT extract(epoch FROM clock_timestamp() - min(finished_at))::float8 FROM lead_webhook.deliveries";

/// The age of the oldest row, in seconds; `None`: there is none.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn oldest(session: &mut Session) -> Result<Option<f64>, Error> {
    session.client().query_one(OLDEST, &[]).await?.try_get(0)
}

const EDGE: &str = "\
-- retention::edge
SELECT edge FROM lead_webhook.log_edge";

/// Rows that finished before may have been pruned; `None`: none was.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn edge(session: &mut Session) -> Result<Option<Timestamp>, Error> {
    session.query_opt(EDGE, &[]).await?.map(|row| row.try_get(0)).transpose()
}
