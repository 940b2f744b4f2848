//! The sweep's statements: leads that a failing trigger left out go into the outbox.
//!
//! A lead and its outbox row are committed together, and an outbox row goes in the statement that writes its log row. So
//! one snapshot shows a lead with exactly one of them, or it was missed. Two daemons that find the same lead take turns.

use jiff::Timestamp;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::{
    bell,
    capture_clock::MOST_AHEAD,
    mapping::{MappedSql, MappedTime},
    session::Session,
};

/// Nothing is known of lead `l` (`tenant_id`, `lead_id`): no log row, key or mute row. OFFSET 0 keeps these probes.
pub(super) fn unknown(mapped: &MappedSql) -> String {
    let nothing_in = |table: &str| {
        format!(
            "NOT EXISTS (SELECT FROM lead_webhook.{table} r WHERE r.lead_id = l.lead_id AND {} OFFSET 0)",
            mapped.same_tenant("r")
        )
    };
    ["deliveries", "uniqueness", "muted"].map(nothing_in).join(" AND ")
}

/// Whether the endpoint of lead `l`'s tenant was on when the lead was captured.
pub(super) const WAS_ON: &str = "\
coalesce((SELECT s.is_on FROM lead_webhook.endpoint_switches s
          WHERE s.tenant_id = l.tenant_id AND s.switched_at <= l.captured_at
          ORDER BY s.switched_at DESC LIMIT 1), false)";

/// Leads `l` that meet `condition` and have a contact.
pub(super) fn leads_sql(mapped: &MappedSql, captured_at: &str, condition: &str) -> String {
    let MappedSql { table, id, tenant_id, has_contact, .. } = mapped;
    format!(
        "(SELECT {tenant_id} COLLATE \"C\" AS tenant_id, {id} COLLATE \"C\" AS lead_id, {captured_at} AS captured_at \
         FROM {table} lead WHERE {condition} AND {has_contact} OFFSET 0) l"
    )
}

/// What a sweep is measured by.
#[derive(Debug, Clone, Copy)]
pub struct Begin {
    /// Every transaction in which a trigger failed before this was asked has a smaller number.
    pub fence: i64,
    /// The oldest transaction that was still under way, asked after the fence was drawn.
    pub oldest: i64,
    /// The later of the install and 24 hours ago; `None`: the installation is not complete.
    pub since: Option<Timestamp>,
}

const BEGIN: &str = "\
-- sweep::begin
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest,
       (SELECT greatest(i.installed_at, i.leads_since, clock_timestamp() - interval '24 hours') FROM lead_webhook.installation i) AS since";

/// Begins a sweep: draws the fence, then looks who is under way.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn begin(session: &mut Session) -> Result<Begin, Error> {
    let client = session.client();
    let fence = client.query_one(bell::FENCE, &[]).await?.try_get("fence")?;
    let row = client.query_one(BEGIN, &[]).await?;
    Ok(Begin { fence, oldest: row.try_get("oldest")?, since: row.try_get("since")? })
}

/// An event that was queued for a lead that a trigger had missed.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// The event.
    pub event_id: Uuid,
    /// The tenant.
    pub tenant_id: String,
}

/// The most events of one statement: leads that share one captured time are gone through from the start for each.
const BATCH: usize = 10_000;

/// Who queues what was missed, one after the other: whoever waits looks with a snapshot of afterwards. A lock on a table that
/// nobody else writes to, because an advisory one is open to every role that may connect.
const TURN: &str = "\
-- sweep::turn
SET LOCAL lock_timeout = '15s'; SET LOCAL statement_timeout = '15s';
LOCK TABLE lead_webhook.swept IN SHARE UPDATE EXCLUSIVE MODE;
SET LOCAL lock_timeout = '1s'; SET LOCAL statement_timeout = '10s'";

/// Queues those of the leads that meet `condition` (over the row alias `lead`) that were missed: captured while the
/// endpoint was on, and nothing is known of them. In a transaction of its own; where it finds 10,000 of them there may
/// be more. Tells whether there may be.
///
/// Another sweep is waited for as long as its statement may take, the application's table no longer than a second.
///
/// # Errors
/// What the database says, or that the connection is lost; nothing is queued then.
pub async fn queue(
    session: &mut Session,
    mapped: &MappedSql,
    captured: &MappedTime,
    condition: &str,
) -> Result<(Vec<Recovered>, bool), Error> {
    let sql = format!(
        "-- sweep::queue
INSERT INTO lead_webhook.outbox (tenant_id, lead_id, kind, was_enabled)
SELECT DISTINCT l.tenant_id, l.lead_id, 'recovered', true
FROM {leads}
WHERE l.captured_at <= clock_timestamp() + {MOST_AHEAD} AND {unknown} AND {WAS_ON}
  AND NOT EXISTS (SELECT FROM lead_webhook.outbox o WHERE o.lead_id = l.lead_id AND {same_tenant})
LIMIT {BATCH}
RETURNING event_id, tenant_id",
        unknown = unknown(mapped),
        same_tenant = mapped.same_tenant("o"),
        leads = leads_sql(mapped, &captured.sql, condition)
    );
    let transaction = session.begin().await?;
    transaction.batch_execute(TURN).await?;
    let rows = transaction.query(&sql, &[]).await?;
    let recovered = rows.iter().map(recovered).collect::<Result<Vec<_>, _>>()?;
    transaction.commit().await?;
    let is_full = recovered.len() == BATCH;
    Ok((recovered, is_full))
}

const SETTLE: &str = "\
-- sweep::settle
INSERT INTO lead_webhook.swept AS s (missed) VALUES ($1)
ON CONFLICT (only_one) DO UPDATE SET missed = excluded.missed, swept_at = excluded.swept_at
WHERE s.missed < excluded.missed";

/// Notes that whatever triggers had missed when their mark stood at `missed` has been looked for.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn settle(session: &mut Session, missed: i64) -> Result<(), Error> {
    session.execute(SETTLE, &[&missed]).await?;
    Ok(())
}

fn recovered(row: &Row) -> Result<Recovered, Error> {
    Ok(Recovered { event_id: row.try_get("event_id")?, tenant_id: row.try_get("tenant_id")? })
}
