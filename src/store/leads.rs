//! The application's leads, read by id through the configured mapping. The only place that says how the application's
//! table is read while the daemon runs.

mod latest;

use std::collections::HashMap;

use futures_util::future::join3;
use jiff::Timestamp;
use tokio_postgres::{
    Error, Row,
    error::SqlState,
    types::{FromSql, Type, accepts},
};

use super::{
    client::{Client, Statement},
    mapping::{MappedSql, MappedTime},
    said,
    session::{Param, Session},
};

pub use latest::latest;

/// A lead's values as they stand now. Personal: it has no `Debug`.
#[derive(Clone)]
pub struct Lead {
    /// The lead's id, as text.
    pub lead_id: String,
    /// The email, as it stands.
    pub email: Option<String>,
    /// The phone, as it stands.
    pub phone: Option<String>,
    /// The first name.
    pub first_name: Option<String>,
    /// Who left the contact.
    pub visitor_id: Option<String>,
    /// The present conversation.
    pub conversation_id: Option<String>,
    /// When it was captured.
    pub captured_at: Option<Timestamp>,
    /// When the visitor last talked.
    pub last_conversation_at: Option<Timestamp>,
}

impl Lead {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            lead_id: row.try_get("lead_id")?,
            email: row.try_get("email")?,
            phone: row.try_get("phone")?,
            first_name: row.try_get("first_name")?,
            visitor_id: row.try_get("visitor_id")?,
            conversation_id: row.try_get("conversation_id")?,
            captured_at: row.try_get::<_, Option<Writable>>("captured_at")?.and_then(|time| time.0),
            last_conversation_at: row.try_get::<_, Option<Writable>>("last_conversation_at")?.and_then(|time| time.0),
        })
    }
}

/// A time; one beyond the years that we can write counts as absent, as an infinite one does.
pub(super) struct Writable(pub(super) Option<Timestamp>);

impl<'a> FromSql<'a> for Writable {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(Timestamp::from_sql(ty, raw).ok()))
    }

    accepts!(TIMESTAMPTZ);
}

/// What reading one lead gave.
#[derive(Clone, Copy)]
pub enum Loaded<'a> {
    /// Its values.
    Found(&'a Lead),
    /// Its values cannot be read: the reason without any value.
    Broken(&'a str),
    /// There is no such lead.
    Gone,
}

/// The leads of one batch. An id may be unique only within its tenant.
#[derive(Default)]
pub struct Leads {
    found: HashMap<(String, String), Lead>,
    broken: Vec<Broken>,
}

/// A lead that cannot be read.
struct Broken {
    lead_id: String,
    /// `None`: whose it is cannot be read either, or was not asked.
    tenant_id: Option<String>,
    why: String,
}

impl Broken {
    fn is(&self, tenant_id: &str, lead_id: &str) -> bool {
        self.lead_id == lead_id && self.tenant_id.as_deref().is_none_or(|own| own == tenant_id)
    }
}

impl Leads {
    /// What reading the tenant's lead gave.
    pub fn of(&self, tenant_id: &str, lead_id: &str) -> Loaded<'_> {
        match self.found.get(&(tenant_id.to_owned(), lead_id.to_owned())) {
            Some(lead) => Loaded::Found(lead),
            None => match self.broken.iter().find(|broken| broken.is(tenant_id, lead_id)) {
                Some(broken) => Loaded::Broken(&broken.why),
                None => Loaded::Gone,
            },
        }
    }

    /// Every lead that was read, with its tenant.
    pub fn found(&self) -> impl Iterator<Item = (&str, &Lead)> {
        self.found.iter().map(|((tenant_id, _), lead)| (tenant_id.as_str(), lead))
    }

    /// The ids whose values cannot be read, each with the reason.
    pub fn broken(&self) -> impl Iterator<Item = (&str, &str)> {
        self.broken.iter().map(|broken| (broken.lead_id.as_str(), broken.why.as_str()))
    }

    /// Those of a statement that joined them to events ([`of_event_sql`]); an event without a lead has nulls.
    pub(super) fn of_events(rows: &[Row]) -> Self {
        let mut leads = Self::default();
        leads.take(rows);
        leads
    }

    fn take(&mut self, rows: &[Row]) {
        for row in rows {
            let Ok(lead_id) = row.try_get::<_, String>("lead_id") else { continue };
            match (row.try_get::<_, String>("tenant_id"), Lead::from_row(row)) {
                (Ok(tenant_id), Ok(lead)) => {
                    self.found.insert((tenant_id, lead_id), lead);
                }
                (tenant_id, _) => {
                    let why = "a value is missing".to_owned();
                    self.broken.push(Broken { lead_id, tenant_id: tenant_id.ok(), why });
                }
            }
        }
    }
}

/// The columns that a lead is made of, as the mapping says, over a row `lead`.
pub fn select_list(mapped: &MappedSql) -> String {
    let text = |sql: &Option<String>| sql.as_deref().map_or_else(|| "NULL::text".to_owned(), bounded);
    let MappedSql { id, tenant_id, .. } = mapped;
    let [email, phone, first_name, visitor, conversation] =
        [&mapped.email, &mapped.phone, &mapped.first_name, &mapped.visitor_id, &mapped.conversation_id].map(text);
    let time = |time: &Option<MappedTime>| time.as_ref().map_or_else(|| "NULL".to_owned(), |time| time.sql.clone());
    let [captured, last] = [&mapped.captured_at, &mapped.last_conversation_at].map(time);
    format!(
        "{id} AS lead_id, {tenant_id} AS tenant_id, {email} AS email, {phone} AS phone, {first_name} AS first_name, \
         {visitor} AS visitor_id, {conversation} AS conversation_id, ({captured})::timestamptz AS captured_at, \
         ({last})::timestamptz AS last_conversation_at"
    )
}

/// Bytes of a mapped value at most: whoever leaves a contact chooses what it holds, what is in flight is in memory, and the
/// default body, which has three of them, is to stay below a mebibyte.
pub const VALUE_BYTES: usize = 256 * 1024;

/// A value as text; of one that is too long the query fails, with the code that [`describe`] knows. Its length is known
/// without reading it.
fn bounded(value: &str) -> String {
    format!("CASE WHEN octet_length({value}) <= {VALUE_BYTES} THEN {value} ELSE repeat({value}, 2147483647) END")
}

/// The statement that loads leads by id: `$1` is an array of ids as text, compared in the id's own type so that its
/// index serves; `$2` the tenants whose they are, or null. IS TRUE keeps it to the id's index.
pub fn load_sql(mapped: &MappedSql) -> String {
    format!(
        "-- leads::load\nSELECT {} FROM {} lead WHERE {} = ANY ($1::text[]::{}[]) \
         AND ($2::text[] IS NULL OR ({}) COLLATE \"C\" = ANY ($2)) IS TRUE",
        select_list(mapped),
        mapped.table,
        mapped.id_key,
        mapped.id_type,
        mapped.tenant_id
    )
}

/// Whether ids have the type still, or a domain over it: an ALTER TABLE may have given them another.
fn has_id_type_sql(mapped: &MappedSql) -> String {
    let MappedSql { table, id_key, id_oid, .. } = mapped;
    format!(
        "-- leads::has_id_type
WITH RECURSIVE type AS (
    SELECT pg_typeof({id_key})::oid AS oid FROM (SELECT) AS one LEFT JOIN {table} AS lead ON false
    UNION ALL
    SELECT t.typbasetype FROM type JOIN pg_type AS t USING (oid) WHERE t.typbasetype <> 0
)
SELECT {id_oid} IN (SELECT oid FROM type)"
    )
}

/// The query that finds the lead of an `event`, a row with `lead_id` and `tenant_id`.
pub(super) fn of_event_sql(mapped: &MappedSql, event: &str) -> String {
    format!(
        "SELECT {} FROM {} lead WHERE {} = {event}.lead_id::text::{} AND ({}) COLLATE \"C\" = {event}.tenant_id",
        select_list(mapped),
        mapped.table,
        mapped.id_key,
        mapped.id_type,
        mapped.tenant_id
    )
}

/// Why leads could not be loaded at all: nothing is claimed then.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The statement fails whichever leads it is to read: a column or a right is missing.
    #[error("the leads table cannot be read: {}; `lead-webhook check` tells the remedy", said(.0))]
    Table(#[source] Error),
    /// They cannot be read, because of the server or of a value.
    #[error("the leads table cannot be read: {}; `lead-webhook check` tells the remedy", describe(.0))]
    Leads(#[source] Error),
    /// The leads table, or one of ours that is read with it, is locked.
    #[error("the leads table, or one of lead-webhook's own, is locked: {}", describe(.0))]
    Locked(#[source] Error),
    /// The connection is lost.
    #[error("the connection was lost while leads were read")]
    Connection(#[source] Error),
}

/// Loads leads, within a transaction, each an id and whose it is; `None`: whosever. Where a batch fails for one lead's
/// values, it is halved until that lead stands alone. Whether its error concerns it alone is told by asking for none, and
/// for it once more: what concerned all may be over by then. Where ids have another type than when the statement was made,
/// every lead is concerned: a longer one is no value of the type before.
///
/// # Errors
/// [`LoadError`], when every lead is concerned.
pub async fn load(
    client: &Client,
    statements: &LoadStatements,
    wanted: &[(&str, Option<&str>)],
) -> Result<Leads, LoadError> {
    let statement = &statements.load;
    let mut loaded = Leads::default();
    let mut batches = vec![wanted];
    let mut doubted = None;
    let mut fits = None;
    while let Some(batch) = batches.pop() {
        if batch.is_empty() {
            continue;
        }
        let ids: Vec<&str> = batch.iter().map(|(id, _)| *id).collect();
        let tenants: Option<Vec<&str>> = batch.iter().map(|(_, tenant)| *tenant).collect();
        let (begun, rows, ended) = join3(
            client.batch_execute("SAVEPOINT load"),
            client.query(statement, &[&ids, &tenants]),
            client.batch_execute("RELEASE load"),
        )
        .await;
        begun.map_err(LoadError::Connection)?;
        match rows {
            Ok(rows) => {
                ended.map_err(LoadError::Connection)?;
                loaded.take(&rows);
            }
            Err(error) if concerns_all(&error) => return Err(classify(error)),
            Err(error) => {
                client.batch_execute("ROLLBACK TO load; RELEASE load").await.map_err(LoadError::Connection)?;
                match batch {
                    [one] if may_concern_all(&error) && doubted != Some(one) => {
                        let anybody: Param<'_> = &None::<Vec<&str>>;
                        let probe = client.query(statement, &[&Vec::<&str>::new(), anybody]).await;
                        probe.map_err(
                            |error| {
                                if concerns_all(&error) { classify(error) } else { LoadError::Table(error) }
                            },
                        )?;
                        doubted = Some(one);
                        batches.push(batch);
                    }
                    [(id, tenant)] => {
                        if fits.is_none() {
                            fits = Some(statements.fit(client).await?);
                        }
                        if fits == Some(false) {
                            // Of one lead's values it may speak too.
                            return Err(LoadError::Leads(error));
                        }
                        let (lead_id, tenant_id) = ((*id).to_owned(), tenant.map(str::to_owned));
                        loaded.broken.push(Broken { lead_id, tenant_id, why: describe(&error) });
                    }
                    _ => {
                        let (left, right) = batch.split_at(batch.len() / 2);
                        batches.extend([right, left]);
                    }
                }
            }
        }
    }
    Ok(loaded)
}

/// Characters of a lead's id at most: what `outbox.lead_id` takes.
pub const ID_CHARACTERS: usize = 512;

/// What all leads lack: also a function of the mapping, which only says so once it is called.
const LACKING: [SqlState; 5] = [
    SqlState::LOCK_NOT_AVAILABLE,
    SqlState::INSUFFICIENT_PRIVILEGE,
    SqlState::UNDEFINED_COLUMN,
    SqlState::UNDEFINED_FUNCTION,
    SqlState::UNDEFINED_TABLE,
];

/// Errors of the server, the connection and the table concern every lead; what remains may lie in the values of one: class
/// 22, an exception of a function in the mapping, or JSON so deep that it exceeds a limit (54).
pub(super) fn concerns_all(error: &Error) -> bool {
    let Some(code) = error.code() else { return true };
    let class = code.code().get(..2).unwrap_or_default();
    matches!(class, "08" | "25" | "26" | "40" | "53" | "57" | "58") || LACKING.contains(code)
}

/// Other errors of a statement concern every lead; but casts and functions of the mapping raise the same ones for a value:
/// 42601 for what is no `tsquery`, XX000 for what is no `hstore`.
pub(super) fn may_concern_all(error: &Error) -> bool {
    let code = error.code().map_or("", SqlState::code);
    matches!(code.get(..2), Some("42" | "55" | "0A")) || code == "XX000"
}

/// Whether a lock was waited for in vain.
pub fn is_locked(error: &Error) -> bool {
    error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE)
}

fn classify(error: Error) -> LoadError {
    match error.code() {
        None => LoadError::Connection(error),
        Some(_) if is_locked(&error) => LoadError::Locked(error),
        Some(_) => LoadError::Leads(error),
    }
}

/// Words that cannot quote a value: the server's own where they speak of itself, else only the SQLSTATE.
pub(super) fn describe(error: &Error) -> String {
    match error.code().map(SqlState::code) {
        None => said(error),
        Some(_) if concerns_all(error) => said(error),
        Some(code @ "22001") => {
            format!("a value is too long; an id has {ID_CHARACTERS} characters at most (SQLSTATE {code})")
        }
        Some("54000") => format!("a mapped value has more than {VALUE_BYTES} bytes"),
        Some(code) => format!("a mapped value cannot be read (SQLSTATE {code})"),
    }
}

/// The statements of [`load`], prepared for a session.
pub struct LoadStatements {
    load: Statement,
    has_id_type: Statement,
}

impl LoadStatements {
    /// Prepares them.
    ///
    /// # Errors
    /// What the database says of the mapping, or that the connection is lost.
    pub async fn prepare(session: &mut Session, mapped: &MappedSql) -> Result<Self, Error> {
        let load = session.statement(&load_sql(mapped)).await?;
        Ok(Self { load, has_id_type: session.statement(&has_id_type_sql(mapped)).await? })
    }

    /// Whether ids still are of the type that they are looked up by.
    async fn fit(&self, client: &Client) -> Result<bool, LoadError> {
        let row = client.query_one(&self.has_id_type, &[]).await.map_err(classify)?;
        row.try_get(0).map_err(LoadError::Connection)
    }
}
