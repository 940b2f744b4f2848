//! The tenants' endpoints as they are stored: sealed. Opening them is the pipeline's work.

use jiff::Timestamp;
use tokio_postgres::{Error, Row};

use crate::outcome::Destination;

use super::{
    client::{Client, Statement, Transaction},
    row_version,
    session::Session,
};

/// What a delivery needs of an endpoint, still sealed.
#[derive(Debug, Clone)]
pub struct SealedEndpoint {
    /// Off: nothing is sent.
    pub enabled: bool,
    /// The whole URL, sealed.
    pub url_sealed: Option<Vec<u8>>,
    /// The URL's host.
    pub host: Option<String>,
    /// The URL's port.
    pub port: Option<i32>,
    /// The signing secret, sealed.
    pub secret_sealed: Option<Vec<u8>>,
    /// The custom headers, sealed.
    pub headers_sealed: Option<Vec<u8>>,
    /// The template's text; `None`: the default body.
    pub template: Option<String>,
    /// Leave out what came out empty.
    pub omit_empty: bool,
    /// Milliseconds for an attempt; `None`: the configuration's.
    pub timeout_ms: Option<i32>,
}

impl Default for SealedEndpoint {
    /// Before anything is set: as the table has it.
    fn default() -> Self {
        Self {
            enabled: true,
            url_sealed: None,
            host: None,
            port: None,
            secret_sealed: None,
            headers_sealed: None,
            template: None,
            omit_empty: false,
            timeout_ms: None,
        }
    }
}

impl SealedEndpoint {
    /// Reads the columns of the same names.
    ///
    /// # Errors
    /// When a column is missing or of another type.
    pub fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            enabled: row.try_get("enabled")?,
            url_sealed: row.try_get("url_sealed")?,
            host: row.try_get("host")?,
            port: row.try_get("port")?,
            secret_sealed: row.try_get("secret_sealed")?,
            headers_sealed: row.try_get("headers_sealed")?,
            template: row.try_get("template")?,
            omit_empty: row.try_get("omit_empty")?,
            timeout_ms: row.try_get("timeout_ms")?,
        })
    }

    /// Host and port, where there is a URL.
    pub fn destination(&self) -> Option<Destination> {
        let port = self.port.and_then(|port| u16::try_from(port).ok())?;
        Some(Destination { host: self.host.clone()?, port })
    }
}

const LOAD: &str = concat!(
    "\
-- endpoints::load
SELECT e.tenant_id, e.enabled, e.url_sealed, e.host, e.port, e.secret_sealed, e.headers_sealed, e.template, e.omit_empty,
       e.timeout_ms, ",
    row_version!("e"),
    " AS endpoint_version
FROM lead_webhook.endpoints e
WHERE e.tenant_id = ANY ($1::text[]) AND e.takes_part"
);

/// An endpoint of a tenant's, with its row's version: another one whenever the row was written.
pub struct Versioned {
    /// The tenant.
    pub tenant_id: String,
    /// The version.
    pub version: String,
    /// The endpoint.
    pub sealed: SealedEndpoint,
}

/// Loads those endpoints of `tenants` that take part.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn load(client: &Client, statement: &Statement, tenants: &[&str]) -> Result<Vec<Versioned>, Error> {
    if tenants.is_empty() {
        return Ok(Vec::new());
    }
    let rows = client.query(statement, &[&tenants]).await?;
    rows.iter()
        .map(|row| {
            Ok(Versioned {
                tenant_id: row.try_get("tenant_id")?,
                version: row.try_get("endpoint_version")?,
                sealed: SealedEndpoint::from_row(row)?,
            })
        })
        .collect()
}

/// The statement that [`load`] runs.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn load_statement(session: &mut Session) -> Result<Statement, Error> {
    session.statement(LOAD).await
}

/// The columns that [`EndpointRow::from_row`] reads.
macro_rules! row {
    () => {
        "tenant_id, enabled, url_sealed, host, port, secret_sealed, headers_sealed, template, omit_empty, timeout_ms,
       header_names, created_at, updated_at, secret_set_at"
    };
}

/// An endpoint as the operator sees it, beside what is sealed.
#[derive(Debug, Clone)]
pub struct EndpointRow {
    /// The tenant.
    pub tenant_id: String,
    /// What a delivery needs.
    pub sealed: SealedEndpoint,
    /// The custom headers' names.
    pub header_names: Vec<String>,
    /// When the endpoint was made.
    pub created_at: Timestamp,
    /// When anything of it last changed.
    pub updated_at: Timestamp,
    /// When the present secret was generated.
    pub secret_set_at: Option<Timestamp>,
}

impl EndpointRow {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            tenant_id: row.try_get("tenant_id")?,
            sealed: SealedEndpoint::from_row(row)?,
            header_names: row.try_get("header_names")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            secret_set_at: row.try_get("secret_set_at")?,
        })
    }
}

const LIST: &str = concat!(
    "\
-- endpoints::list
SELECT ",
    row!(),
    "
FROM lead_webhook.endpoints
ORDER BY tenant_id"
);

/// All endpoints, by tenant.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn list(session: &mut Session) -> Result<Vec<EndpointRow>, Error> {
    session.query(LIST, &[]).await?.iter().map(EndpointRow::from_row).collect()
}

const PAGE: &str = concat!(
    "\
-- endpoints::page
SELECT ",
    row!(),
    "
FROM lead_webhook.endpoints
WHERE $1::text IS NULL OR tenant_id > $1
ORDER BY tenant_id
LIMIT $2"
);

/// The first endpoints behind that of tenant `after`, by tenant: `limit` at most.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn page(session: &mut Session, after: Option<&str>, limit: i64) -> Result<Vec<EndpointRow>, Error> {
    session.query(PAGE, &[&after, &limit]).await?.iter().map(EndpointRow::from_row).collect()
}

const FIND: &str = concat!(
    "\
-- endpoints::find
SELECT ",
    row!(),
    "
FROM lead_webhook.endpoints
WHERE tenant_id = $1"
);

/// One tenant's endpoint.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn find(session: &mut Session, tenant_id: &str) -> Result<Option<EndpointRow>, Error> {
    session.query_opt(FIND, &[&tenant_id]).await?.as_ref().map(EndpointRow::from_row).transpose()
}

const CREATE: &str = "\
-- endpoints::create
INSERT INTO lead_webhook.endpoints (tenant_id) VALUES ($1)
ON CONFLICT (tenant_id) DO NOTHING";

const LOCK: &str = concat!(
    "\
-- endpoints::lock
SELECT ",
    row!(),
    "
FROM lead_webhook.endpoints
WHERE tenant_id = $1
FOR UPDATE"
);

/// One tenant's endpoint, where it has one, locked until the transaction ends.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn lock_present(transaction: &Transaction<'_>, tenant_id: &str) -> Result<Option<EndpointRow>, Error> {
    transaction.query(LOCK, &[&tenant_id]).await?.first().map(EndpointRow::from_row).transpose()
}

/// One tenant's endpoint, locked until the transaction ends, so that two who change it do not overwrite each other; and
/// whether it is new: where there was none it is made, and is on, because a row that does not exist cannot be locked.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn lock(transaction: &Transaction<'_>, tenant_id: &str) -> Result<(EndpointRow, bool), Error> {
    loop {
        let made = transaction.execute(CREATE, &[&tenant_id]).await?;
        // None: somebody has removed it just now.
        if let Some(row) = lock_present(transaction, tenant_id).await? {
            return Ok((row, made == 1));
        }
    }
}

const SAVE: &str = concat!(
    "\
-- endpoints::save
UPDATE lead_webhook.endpoints SET
    url_sealed = $2, host = $3, port = $4, headers_sealed = $5, header_names = $6, template = $7, omit_empty = $8,
    timeout_ms = $9, enabled = $10, updated_at = clock_timestamp()
WHERE tenant_id = $1
RETURNING ",
    row!()
);

/// Replaces everything of a locked endpoint but its secret; the endpoint as it is now.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn save(
    transaction: &Transaction<'_>,
    tenant_id: &str,
    sealed: &SealedEndpoint,
    header_names: &[String],
) -> Result<EndpointRow, Error> {
    let row = transaction
        .query_one(
            SAVE,
            &[
                &tenant_id,
                &sealed.url_sealed,
                &sealed.host,
                &sealed.port,
                &sealed.headers_sealed,
                &header_names,
                &sealed.template,
                &sealed.omit_empty,
                &sealed.timeout_ms,
                &sealed.enabled,
            ],
        )
        .await?;
    EndpointRow::from_row(&row)
}

const SET_SECRET: &str = concat!(
    "\
-- endpoints::set_secret
INSERT INTO lead_webhook.endpoints AS e (tenant_id, secret_sealed, secret_set_at)
VALUES ($1, $2, clock_timestamp())
ON CONFLICT (tenant_id) DO UPDATE SET
    secret_sealed = excluded.secret_sealed, secret_set_at = clock_timestamp(), updated_at = clock_timestamp()
RETURNING ",
    row!()
);

/// Replaces the secret, at the transaction's end; the endpoint as it is now.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn set_secret(
    transaction: &Transaction<'_>,
    tenant_id: &str,
    secret_sealed: &[u8],
) -> Result<EndpointRow, Error> {
    EndpointRow::from_row(&transaction.query_one(SET_SECRET, &[&tenant_id, &secret_sealed]).await?)
}

const SWITCH: &str = "\
-- endpoints::switch
UPDATE lead_webhook.endpoints SET enabled = $2, updated_at = clock_timestamp()
WHERE tenant_id = $1";

/// Switches an endpoint on or off. `false`: the tenant has none.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn switch(session: &mut Session, tenant_id: &str, enabled: bool) -> Result<bool, Error> {
    Ok(session.execute(SWITCH, &[&tenant_id, &enabled]).await? == 1)
}

const REMOVE: &str = "\
-- endpoints::remove
DELETE FROM lead_webhook.endpoints WHERE tenant_id = $1";

/// Removes a locked endpoint with its secret.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn remove_locked(transaction: &Transaction<'_>, tenant_id: &str) -> Result<(), Error> {
    transaction.execute(REMOVE, &[&tenant_id]).await?;
    Ok(())
}

/// Removes an endpoint with its secret. `false`: the tenant has none.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn remove(session: &mut Session, tenant_id: &str) -> Result<bool, Error> {
    Ok(session.execute(REMOVE, &[&tenant_id]).await? == 1)
}
