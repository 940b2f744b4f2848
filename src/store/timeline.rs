//! The server's timeline: another one after each promotion of a standby.

use tokio_postgres::Error;

use super::{is_refusal, session::Session};

/// The first eight hexadecimal digits of a WAL file's name. Every role may ask, on a server that is no standby.
const READ: &str = "\
-- timeline::read
SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)";

/// The present timeline; `None` where the server does not tell, as some that are managed.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn read(session: &mut Session) -> Result<Option<String>, Error> {
    match session.query(READ, &[]).await {
        Ok(rows) => rows.first().map(|row| row.try_get(0)).transpose(),
        Err(error) if is_refusal(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
