//! Sealed values as they stand, for those that are sealed anew by another key. A value is only ever replaced where it is
//! still the one that was read, so that whoever changes an endpoint meanwhile is not overwritten; and nothing is locked
//! for longer than one row's statement takes.

use tokio_postgres::{Error, Row};

use super::{installation::Installation, session::Session};

/// The sealed values of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedValues {
    /// The tenant.
    pub tenant_id: String,
    /// The URL.
    pub url_sealed: Option<Vec<u8>>,
    /// The signing secret.
    pub secret_sealed: Option<Vec<u8>>,
    /// The custom headers.
    pub headers_sealed: Option<Vec<u8>>,
}

impl SealedValues {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            tenant_id: row.try_get("tenant_id")?,
            url_sealed: row.try_get("url_sealed")?,
            secret_sealed: row.try_get("secret_sealed")?,
            headers_sealed: row.try_get("headers_sealed")?,
        })
    }
}

const PAGE: &str = "\
-- sealed::page
SELECT tenant_id, url_sealed, secret_sealed, headers_sealed
FROM lead_webhook.endpoints
WHERE tenant_id > $1
ORDER BY tenant_id
LIMIT $2";

/// The next endpoints behind the tenant `after`, at most `limit`; none: that was the last one. The first tenant's id is
/// never empty.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn page(session: &mut Session, after: &str, limit: i64) -> Result<Vec<SealedValues>, Error> {
    session.query(PAGE, &[&after, &limit]).await?.iter().map(SealedValues::from_row).collect()
}

/// `updated_at` stays: nothing of the endpoint is another.
const REPLACE: &str = "\
-- sealed::replace
UPDATE lead_webhook.endpoints SET url_sealed = $2, secret_sealed = $3, headers_sealed = $4
WHERE tenant_id = $1 AND url_sealed IS NOT DISTINCT FROM $5 AND secret_sealed IS NOT DISTINCT FROM $6
  AND headers_sealed IS NOT DISTINCT FROM $7";

/// Replaces the values of one endpoint, of which `before` was read. `false`: it has changed or gone since.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn replace(session: &mut Session, before: &SealedValues, after: &SealedValues) -> Result<bool, Error> {
    let params: [super::session::Param<'_>; 7] = [
        &before.tenant_id,
        &after.url_sealed,
        &after.secret_sealed,
        &after.headers_sealed,
        &before.url_sealed,
        &before.secret_sealed,
        &before.headers_sealed,
    ];
    Ok(session.execute(REPLACE, &params).await? == 1)
}

const MAY_REPLACE_INSTALLATION: &str = "\
-- sealed::may_replace_installation
SELECT FROM lead_webhook.installation FOR NO KEY UPDATE";

/// Asks for the right to replace the installation's values, and changes nothing.
///
/// # Errors
/// What the database says (the owner's rights are needed), or that the connection is lost.
pub async fn may_replace_installation(session: &mut Session) -> Result<(), Error> {
    session.query(MAY_REPLACE_INSTALLATION, &[]).await.map(drop)
}

const REPLACE_INSTALLATION: &str = "\
-- sealed::replace_installation
UPDATE lead_webhook.installation SET key_check_sealed = $2, uniqueness_key_sealed = $3
WHERE installation_id = $1 AND key_check_sealed = $4 AND uniqueness_key_sealed = $5";

/// Replaces both values of the installation, as which `before` was read. `false`: they have changed since.
///
/// # Errors
/// What the database says (the owner's rights are needed), or that the connection is lost.
pub async fn replace_installation(
    session: &mut Session,
    before: &Installation,
    key_check_sealed: &[u8],
    uniqueness_key_sealed: &[u8],
) -> Result<bool, Error> {
    let params: [super::session::Param<'_>; 5] = [
        &before.installation_id,
        &key_check_sealed,
        &uniqueness_key_sealed,
        &before.key_check_sealed,
        &before.uniqueness_key_sealed,
    ];
    Ok(session.execute(REPLACE_INSTALLATION, &params).await? == 1)
}

const HEADS: &str = "\
-- sealed::heads
SELECT substring(v.sealed FROM 1 FOR $1) AS head, count(*) AS n
FROM (SELECT url_sealed AS sealed FROM lead_webhook.endpoints
      UNION ALL SELECT secret_sealed FROM lead_webhook.endpoints
      UNION ALL SELECT headers_sealed FROM lead_webhook.endpoints
      UNION ALL SELECT key_check_sealed FROM lead_webhook.installation
      UNION ALL SELECT uniqueness_key_sealed FROM lead_webhook.installation) AS v
WHERE v.sealed IS NOT NULL
GROUP BY 1";

/// How many values begin with the same `length` bytes, which name the key that sealed them.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn heads(session: &mut Session, length: i32) -> Result<Vec<(Vec<u8>, i64)>, Error> {
    let rows = session.query(HEADS, &[&length]).await?;
    rows.iter().map(|row| Ok((row.try_get("head")?, row.try_get("n")?))).collect()
}
