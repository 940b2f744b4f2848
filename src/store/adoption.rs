//! Adopting a database that is not the one that is remembered: the present identifiers are written, and a copy's queue is
//! discarded. One transaction: half of it would send what was to be discarded.

use jiff::Timestamp;
use tokio_postgres::Error;

use super::{
    installation::{Identity, Installation},
    session::Session,
};

const REMEMBER: &str = "\
-- adoption::remember
UPDATE lead_webhook.installation SET system_identifier = $1, database_name = $2, table_oid = tableoid
WHERE installation_id = $3 AND system_identifier IS NOT DISTINCT FROM $4 AND database_name = $5 AND table_oid = $6";

/// What the original's triggers missed is the original's: neither sweep nor `reconcile` looks further back than this.
const BEGIN_ANEW: &str = "\
-- adoption::begin_anew
UPDATE lead_webhook.installation SET installed_at = clock_timestamp(), leads_since = greatest(clock_timestamp(), $1::timestamptz + interval '1 microsecond')";

/// What was in flight when the copy was made was not sent from here either: where it was sent from, its outcome stands.
const DISCARD: &str = "\
-- adoption::discard
WITH discarded AS (
    DELETE FROM lead_webhook.outbox RETURNING *
), logged AS (
    INSERT INTO lead_webhook.deliveries
        (delivery_id, event_id, tenant_id, lead_id, event, status, reason, error, queued_at, finished_at)
    SELECT coalesce(d.delivery_id, gen_random_uuid()), d.event_id, d.tenant_id, d.lead_id,
           coalesce(d.event, CASE d.kind WHEN 'came_back' THEN 'lead.re_engaged' ELSE 'lead.created' END), 'skipped', 'discarded',
           CASE WHEN d.claimed_by IS NULL THEN 'pending when this copy of the database was adopted'
                ELSE 'in flight in the original when the database was copied: not sent from this copy' END,
           d.queued_at, clock_timestamp()
    FROM discarded d
    ON CONFLICT DO NOTHING
)
SELECT count(*) FILTER (WHERE claimed_by IS NULL) AS pending, count(claimed_by) AS in_flight FROM discarded";

/// How many events were logged as `skipped / discarded`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Discarded {
    /// Pending ones.
    pub pending: i64,
    /// Those that were claimed.
    pub in_flight: i64,
}

/// What becomes of the queue.
#[derive(Debug, Clone, Copy)]
pub enum Queue {
    /// It is the original's, which was moved or upgraded.
    Keep,
    /// It is a copy's.
    Discard {
        /// The newest captured time, where that is ahead of the server's clock; see [`capture_clock`](super::capture_clock).
        newest: Option<Timestamp>,
    },
}

/// Writes `now` as the installation's identity, and discards the queue where that is wanted. `None`: the row is not
/// as `installation` was read, another adoption came first; nothing is changed.
///
/// # Errors
/// What the database says, or that the connection is lost; nothing is changed then.
pub async fn adopt(
    session: &mut Session,
    installation: &Installation,
    now: &Identity,
    queue: Queue,
) -> Result<Option<Discarded>, Error> {
    let transaction = session.begin().await?;
    let Installation { installation_id, identity: remembered, .. } = installation;
    let remembered: [super::session::Param<'_>; 6] = [
        &now.system_identifier,
        &now.database_name,
        installation_id,
        &remembered.system_identifier,
        &remembered.database_name,
        &remembered.table_oid,
    ];
    if transaction.execute(REMEMBER, &remembered).await? == 0 {
        return Ok(None);
    }
    let discarded = if let Queue::Discard { newest } = queue {
        transaction.execute(BEGIN_ANEW, &[&newest]).await?;
        let row = transaction.query_one(DISCARD, &[]).await?;
        Discarded { pending: row.try_get("pending")?, in_flight: row.try_get("in_flight")? }
    } else {
        Discarded::default()
    };
    transaction.commit().await?;
    Ok(Some(discarded))
}
