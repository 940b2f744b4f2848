//! All leads, a page at a time in the order of their ids: for `seed`.
//!
//! Each page is a transaction of its own and begins behind the last id of the page before. One cursor over the whole
//! table would hold its lock on it until the end, so that a migration of the application's, and behind that every
//! writer, would wait; and it would be lost with the first lead whose mapped expression fails.

use tokio_postgres::{Error, Statement};

use super::{
    leads::{self, Leads, LoadError},
    mapping::MappedSql,
    session::Session,
};

/// Ids a page: a round trip costs little beside reading so many, and a broken lead among them is found in ten halvings.
const PAGE: i64 = 1_000;

/// Why the leads cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// The mapped id fails for some lead, or the table cannot be read: the operator must act.
    #[error("the leads' ids cannot be read: {}", leads::describe(.0))]
    Ids(#[source] Error),
    /// The leads of a page cannot be read at all.
    #[error(transparent)]
    Leads(#[from] LoadError),
}

/// The place in the table.
pub struct Pages {
    first: String,
    next: String,
    load: Statement,
    last: Option<String>,
}

impl Pages {
    /// Before the first lead.
    ///
    /// # Errors
    /// What the database says of the mapping, or that the connection is lost.
    pub async fn new(session: &mut Session, mapped: &MappedSql) -> Result<Self, Error> {
        let load = leads::load_statement(session, mapped).await?;
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
        client.batch_execute("BEGIN READ ONLY").await.map_err(LoadError::Connection)?;
        let leads = leads::load(client, &self.load, &wanted).await;
        client.batch_execute("COMMIT").await.map_err(LoadError::Connection)?;
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

const QUEUED: &str = "\
-- lead_pages::queued
SELECT u.tenant_id, u.lead_id
FROM unnest($1::text[], $2::text[]) AS u (tenant_id, lead_id)
WHERE EXISTS (SELECT FROM lead_webhook.outbox o WHERE o.tenant_id = u.tenant_id AND o.lead_id = u.lead_id)";

/// Those of `leads`, each a tenant and a lead, that have an event in the outbox now.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn queued(session: &mut Session, leads: &[(&str, &str)]) -> Result<Vec<(String, String)>, Error> {
    let (tenants, ids): (Vec<&str>, Vec<&str>) = leads.iter().copied().unzip();
    let rows = session.query(QUEUED, &[&tenants, &ids]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}
