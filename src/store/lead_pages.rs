//! All leads, a page at a time in the order of their ids: for `seed`.
//!
//! Each page is a transaction of its own and begins behind the last id of the page before. One cursor over the whole
//! table would hold its lock on it until the end, so that a migration of the application's, and behind that every
//! writer, would wait; and it would be lost with the first lead whose mapped expression fails.

use jiff::Timestamp;
use tokio_postgres::{Error, Row};

use super::{
    leads::{self, Lead, Leads, LoadError, LoadStatements},
    mapping::MappedSql,
    session::Session,
    sweep::{self, WAS_ON},
};

/// Ids a page: a round trip costs little beside reading so many, and a broken lead among them is found in ten halvings.
const PAGE: i64 = 1_000;

/// Why the leads cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// The mapped id fails for some lead, or the table cannot be read: the operator must act.
    #[error("the leads' ids cannot be read: {}; `lead-webhook check` tells the remedy", leads::describe(.0))]
    Ids(#[source] Error),
    /// The leads of a page cannot be read at all.
    #[error(transparent)]
    Leads(#[from] LoadError),
}

/// The place in the table.
pub struct Pages {
    first: String,
    next: String,
    load: LoadStatements,
    last: Option<String>,
}

impl Pages {
    /// Before the first lead.
    ///
    /// # Errors
    /// What the database says of the mapping, or that the connection is lost.
    pub async fn new(session: &mut Session, mapped: &MappedSql) -> Result<Self, Error> {
        let load = LoadStatements::prepare(session, mapped).await?;
        let [first, next] = [false, true].map(|is_next| page_sql(mapped, is_next));
        Ok(Self { first, next, load, last: None })
    }

    /// The next leads; `None`: there are no more. Where an id is unique only within its tenant, all leads that have it
    /// are in one page.
    ///
    /// # Errors
    /// [`PageError`].
    pub async fn next(&mut self, session: &mut Session) -> Result<Option<Leads>, PageError> {
        let ids = match &self.last {
            None => session.query(&self.first, &[&PAGE]).await,
            Some(last) => session.query(&self.next, &[&PAGE, last]).await,
        };
        let ids: Vec<String> =
            ids.and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect()).map_err(PageError::Ids)?;
        let Some(last) = ids.last() else { return Ok(None) };
        let wanted: Vec<_> = ids.iter().map(|id| (id.as_str(), None)).collect();
        let client = session.shared();
        client.begin("BEGIN READ ONLY").await.map_err(LoadError::Connection)?;
        let leads = leads::load(client, &self.load, &wanted).await;
        client.commit().await.map_err(LoadError::Connection)?;
        let leads = leads?;
        self.last = Some(last.clone());
        Ok(Some(leads))
    }
}

/// A page of ids, as text: the first one, or the next behind `$2`. Compared in the id's own type so that its index
/// serves.
fn page_sql(mapped: &MappedSql, is_next: bool) -> String {
    let MappedSql { table, id, id_key, id_type, .. } = mapped;
    let from = if is_next { format!("{id_key} > $2::text::{id_type}") } else { format!("{id_key} IS NOT NULL") };
    format!(
        "-- lead_pages::page\nSELECT {id} FROM {table} lead WHERE {from} GROUP BY {id_key} ORDER BY {id_key} LIMIT $1"
    )
}

/// A lead whose key is not for `seed` to write.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Daemons {
    /// The tenant.
    pub tenant_id: String,
    /// The lead.
    pub lead_id: String,
    /// In the outbox; else missed by a trigger: captured since the install while the endpoint was on, and nothing is
    /// known of it.
    pub is_queued: bool,
}

/// One statement, so one snapshot: else a sweep in between could queue a lead that was neither before nor after.
fn daemons_sql(mapped: &MappedSql) -> String {
    format!(
        "-- lead_pages::daemons
SELECT l.tenant_id, l.lead_id, o.lead_id IS NOT NULL AS is_queued
FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS l (tenant_id, lead_id, captured_at)
LEFT JOIN (SELECT DISTINCT tenant_id, lead_id::text AS lead_id FROM lead_webhook.outbox) o
  ON o.tenant_id = l.tenant_id AND o.lead_id = l.lead_id
WHERE o.lead_id IS NOT NULL
   OR l.captured_at >= (SELECT coalesce(leads_since, installed_at) FROM lead_webhook.installation) AND {WAS_ON} AND {unknown}",
        unknown = sweep::unknown(mapped)
    )
}

/// Those of `leads` that are the daemon's: they have an event in the outbox now, or the sweep should give them one.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn daemons(
    session: &mut Session,
    mapped: &MappedSql,
    leads: &[(&str, &Lead)],
) -> Result<Vec<Daemons>, Error> {
    let tenants: Vec<&str> = leads.iter().map(|(tenant_id, _)| *tenant_id).collect();
    let ids: Vec<&str> = leads.iter().map(|(_, lead)| lead.lead_id.as_str()).collect();
    let captured: Vec<Option<Timestamp>> = leads.iter().map(|(_, lead)| lead.captured_at).collect();
    let rows = session.query(&daemons_sql(mapped), &[&tenants, &ids, &captured]).await?;
    let daemons = |row: &Row| {
        Ok(Daemons {
            tenant_id: row.try_get("tenant_id")?,
            lead_id: row.try_get("lead_id")?,
            is_queued: row.try_get("is_queued")?,
        })
    };
    rows.iter().map(daemons).collect()
}
