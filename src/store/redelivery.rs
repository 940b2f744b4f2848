//! An operator's explicit second send: which deliveries may be sent again, and the log row that such a send begins with.
//!
//! The row is written as `interrupted` before anything is sent, as a Test's is: whoever dies in between leaves what it is,
//! and two operators at once do not both send.

use jiff::Timestamp;
use tokio_postgres::Error;
use uuid::Uuid;

use super::{
    session::{Param, Session},
    uniqueness::Key,
};

/// Whether a redelivery may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// Yes; it was asked for at this time of the server's.
    At(Timestamp),
    /// The first delivery is gone, or it was sent again meanwhile and not refused.
    No,
}

/// Two that begin at once must see each other.
const ONE_BY_ONE: &str = "\
-- redelivery::one_by_one
SELECT pg_advisory_xact_lock(hashtextextended('lead-webhook redelivery ' || $1::uuid::text, 0))";

/// What was skipped has no key yet: without one, the visitor's next lead would be another new one.
const BEGIN: &str = "\
-- redelivery::begin
WITH begun AS (
    INSERT INTO lead_webhook.deliveries
        (delivery_id, event_id, tenant_id, lead_id, event, status, captured_at, queued_at, finished_at, redelivery_of,
         last_conversation_at)
    SELECT $1::uuid, d.event_id, d.tenant_id, d.lead_id, d.event, 'interrupted', d.captured_at, statement_timestamp(),
           statement_timestamp(), d.delivery_id, d.last_conversation_at
    FROM lead_webhook.deliveries d
    WHERE d.delivery_id = $2::uuid AND d.redelivery_of IS NULL AND NOT d.is_test
      AND NOT EXISTS (SELECT FROM lead_webhook.deliveries r
                      WHERE r.lead_id = d.lead_id AND r.tenant_id = d.tenant_id AND r.redelivery_of = d.delivery_id
                        AND r.status <> 'failed' AND NOT $3::boolean)
    RETURNING queued_at, tenant_id, lead_id, event_id, redelivery_of
), keyed AS (
    INSERT INTO lead_webhook.uniqueness (key, tenant_id, lead_id, seen_at, event_id)
    SELECT $4::bytea, b.tenant_id, b.lead_id, d.queued_at, b.event_id
    FROM begun b JOIN lead_webhook.deliveries d ON d.delivery_id = b.redelivery_of
    ON CONFLICT DO NOTHING
)
SELECT queued_at FROM begun";

/// Writes down that the delivery `first` is sent again, as `delivery_id`, and the `key` of its lead where it is not known
/// yet. Not where a redelivery of it stands as delivered or interrupted, unless it is `insisted` on.
///
/// # Errors
/// What the database says, or that the connection is lost. Then nothing may be sent.
pub async fn begin(
    session: &mut Session,
    delivery_id: Uuid,
    first: Uuid,
    key: &Key,
    insisted: bool,
) -> Result<Begun, Error> {
    let (one_by_one, begin) = (session.statement(ONE_BY_ONE).await?, session.statement(BEGIN).await?);
    let transaction = session.begin().await?;
    transaction.query_one(&one_by_one, &[&first]).await?;
    let key = key.as_slice();
    let params: [Param<'_>; 4] = [&delivery_id, &first, &insisted, &key];
    let rows = transaction.query(&begin, &params).await?;
    transaction.commit().await?;
    rows.first().map_or(Ok(Begun::No), |row| row.try_get(0).map(Begun::At))
}

const SENT_AGAIN: &str = "\
-- redelivery::sent_again
SELECT r.redelivery_of FROM lead_webhook.deliveries r
JOIN unnest($1::text[], $2::text[]) AS l (lead_id, tenant_id) ON r.lead_id = l.lead_id AND r.tenant_id = l.tenant_id
WHERE r.redelivery_of IS NOT NULL AND r.status <> 'failed'";

/// Of these leads, each with its tenant, the deliveries that were sent again and not refused.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn sent_again(session: &mut Session, leads: &[(&str, &str)]) -> Result<Vec<Uuid>, Error> {
    let (ids, tenants): (Vec<&str>, Vec<&str>) = leads.iter().copied().unzip();
    session.query(SENT_AGAIN, &[&ids, &tenants]).await?.iter().map(|row| row.try_get(0)).collect()
}
