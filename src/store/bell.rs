//! The doorbell: whether the triggers notify at all. `lead_webhook.bell` counts their rings since a daemon armed it,
//! and they ring while it is below [`RINGS`]; nothing about it is transactional, and nobody waits for it.
//!
//! Only numbers are known here; when to arm and when to silence it is for the dispatcher to say.

use jiff::Timestamp;
use tokio_postgres::{Error, Row};

use super::{client::Client, session::Session};

/// How many commits ring after it was armed. A daemon that lives arms it again long before; after one that has died
/// the application pays for so many and no more.
pub const RINGS: i64 = 256;

/// What one look at the outbox and the bell says, all of it from one snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Whether there is an event that nobody has claimed.
    pub is_pending: bool,
    /// How often it was rung since it was armed; [`RINGS`] or more: it is silent.
    pub rung: i64,
    /// The oldest transaction that was still under way.
    pub oldest: i64,
}

const LOOK: &str = "\
-- bell::look
SELECT (SELECT o.event_id FROM lead_webhook.outbox o
        WHERE o.claimed_by IS NULL AND o.queued_at >= coalesce($1::timestamptz, '-infinity')
        ORDER BY o.tenant_id, o.queued_at, o.event_id LIMIT 1) IS NOT NULL AS is_pending,
       b.last_value AS rung,
       pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest
FROM lead_webhook.bell b";

/// Looks, in one statement, at what was queued `since`.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn look(session: &mut Session, since: Option<Timestamp>) -> Result<Look, Error> {
    let statement = session.statement(LOOK).await?;
    from_row(&session.client().query_one(&statement, &[&since]).await?)
}

/// The first pending event of each tenant, by a loose scan. An event that is not seen yet is seldom older than half a
/// second: its transaction would have to take so long.
const SURVEY: &str = "\
-- bell::survey
WITH RECURSIVE tenant AS (
    (SELECT o.tenant_id FROM lead_webhook.outbox o ORDER BY o.tenant_id LIMIT 1)
    UNION ALL
    SELECT (SELECT o.tenant_id FROM lead_webhook.outbox o WHERE o.tenant_id > t.tenant_id ORDER BY o.tenant_id LIMIT 1)
    FROM tenant t WHERE t.tenant_id IS NOT NULL
), pending AS (
    SELECT min((SELECT o.queued_at FROM lead_webhook.outbox o
                WHERE o.tenant_id = t.tenant_id AND o.claimed_by IS NULL ORDER BY o.queued_at LIMIT 1)) AS first
    FROM tenant t WHERE t.tenant_id IS NOT NULL
)
SELECT p.first IS NOT NULL AS is_pending,
       least(p.first, statement_timestamp() - interval '500 milliseconds') AS since,
       b.last_value AS rung,
       pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest
FROM lead_webhook.bell b, pending p";

/// Looks over the whole outbox, in one statement: all that an idle daemon asks at its poll. Nothing that was queued
/// before the time that it tells is pending.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn survey(session: &mut Session) -> Result<(Look, Timestamp), Error> {
    let statement = session.statement(SURVEY).await?;
    let row = session.client().query_one(&statement, &[]).await?;
    Ok((from_row(&row)?, row.try_get("since")?))
}

fn from_row(row: &Row) -> Result<Look, Error> {
    Ok(Look { is_pending: row.try_get("is_pending")?, rung: row.try_get("rung")?, oldest: row.try_get("oldest")? })
}

/// What arming it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Armed {
    /// How often it had been rung before; [`RINGS`] or more: it was silent.
    pub rung_before: i64,
    /// Every transaction that may have found it silent has a smaller number than this.
    pub fence: i64,
}

const ARM: &str = "\
-- bell::arm
SELECT b.last_value AS rung_before, setval('lead_webhook.bell'::regclass, 1) FROM lead_webhook.bell b";

/// A number drawn by a transaction of its own, after the bell was armed. A snapshot's `xmax` would not do: it is the
/// successor of the latest transaction that has *ended*, and those under way may have greater ones.
pub(super) const FENCE: &str = "\
-- bell::fence
SELECT pg_current_xact_id()::text::bigint AS fence";

/// Arms it: commits ring from now on.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn arm(session: &mut Session) -> Result<Armed, Error> {
    let (arm, fence) = (session.statement(ARM).await?, session.statement(FENCE).await?);
    let client = session.client();
    let (armed, fence) =
        futures_util::future::try_join(client.query_one(&arm, &[]), client.query_one(&fence, &[])).await?;
    Ok(Armed { rung_before: armed.try_get("rung_before")?, fence: fence.try_get("fence")? })
}

/// Silences it: commits do not ring until it is armed again. Every daemon is called to look, so that one that rests
/// finds out.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn silence(client: &Client) -> Result<(), Error> {
    let sql = format!(
        "-- bell::silence\nSELECT setval('lead_webhook.bell'::regclass, {RINGS}), pg_notify('lead_webhook', '')"
    );
    client.batch_execute(&sql).await
}

/// Calls every daemon to look, as a ring does.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn call(client: &Client) -> Result<(), Error> {
    client.batch_execute("-- bell::call\nSELECT pg_notify('lead_webhook', '')").await
}

const CAN_NOTIFY: &str = "\
-- bell::can_notify
SELECT current_setting('max_prepared_transactions') = '0'";

/// Whether a transaction that notifies is sure to commit: with two-phase commit it could not be prepared.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn can_notify(session: &mut Session) -> Result<bool, Error> {
    session.client().query_one(CAN_NOTIFY, &[]).await?.try_get(0)
}
