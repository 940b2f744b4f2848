//! The one installation in this database: when it was made, and what was sealed for it.

use jiff::Timestamp;
use tokio_postgres::Error;
use uuid::Uuid;

use super::session::Session;

/// The row of `lead_webhook.installation`.
#[derive(Debug, Clone)]
pub struct Installation {
    /// Names the installation; bound into what is sealed for it.
    pub installation_id: Uuid,
    /// When the triggers were first installed.
    pub installed_at: Timestamp,
    /// A known text, sealed: opens only with this installation's key file.
    pub key_check_sealed: Vec<u8>,
    /// The HMAC key of the uniqueness keys, sealed.
    pub uniqueness_key_sealed: Vec<u8>,
}

const READ: &str = "\
-- installation::read
SELECT installation_id, installed_at, key_check_sealed, uniqueness_key_sealed
FROM lead_webhook.installation";

/// Reads it; `None`: the schema is there, the row is not.
///
/// # Errors
/// What the database says (the schema may be missing: `lead-webhook migrate`), or that the connection is lost.
pub async fn read(session: &mut Session) -> Result<Option<Installation>, Error> {
    let row = session.query_opt(READ, &[]).await?;
    row.map(|row| {
        Ok(Installation {
            installation_id: row.try_get("installation_id")?,
            installed_at: row.try_get("installed_at")?,
            key_check_sealed: row.try_get("key_check_sealed")?,
            uniqueness_key_sealed: row.try_get("uniqueness_key_sealed")?,
        })
    })
    .transpose()
}
