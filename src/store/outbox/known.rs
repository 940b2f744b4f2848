//! Since when a lead's id is known: of a row that moved, and of another lead under an id that was used before.

use std::collections::HashMap;

use jiff::Timestamp;
use tokio_postgres::Error;

use crate::store::{
    client::{Client, Statement},
    session::Session,
};

/// A redelivery says nothing of when its lead came.
const KNOWN: &str = "\
-- outbox::known
SELECT l.tenant_id, l.lead_id, greatest(
    (SELECT max(u.seen_at) FROM lead_webhook.uniqueness u
     WHERE u.lead_id = l.lead_id AND (u.tenant_id = l.tenant_id) IS TRUE),
    (SELECT max(d.queued_at) FROM lead_webhook.deliveries d
     WHERE d.lead_id = l.lead_id AND (d.tenant_id = l.tenant_id) IS TRUE
       AND d.reason IS DISTINCT FROM 'gone' AND d.redelivery_of IS NULL),
    (SELECT max(m.muted_at) FROM lead_webhook.muted m
     WHERE m.lead_id = l.lead_id AND (m.tenant_id = l.tenant_id) IS TRUE)) AS known_at
FROM unnest($1::text[], $2::text[]) AS l (tenant_id, lead_id)";

/// The statement that [`known`] runs.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn known_statement(session: &mut Session) -> Result<Statement, Error> {
    session.statement(KNOWN).await
}

/// When anything was last known of each of `leads`, tenant and id, on the server's clock: by a key, the log or a mute row.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn known(
    client: &Client,
    statement: &Statement,
    leads: &[(&str, &str)],
) -> Result<HashMap<(String, String), Timestamp>, Error> {
    let (tenants, ids): (Vec<&str>, Vec<&str>) = leads.iter().copied().unzip();
    let mut known = HashMap::with_capacity(leads.len());
    for row in client.query(statement, &[&tenants, &ids]).await? {
        if let Some(at) = row.try_get("known_at")? {
            known.insert((row.try_get("tenant_id")?, row.try_get("lead_id")?), at);
        }
    }
    Ok(known)
}
