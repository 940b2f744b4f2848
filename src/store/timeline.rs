//! The server's timeline: another one after each promotion of a standby.

use tokio_postgres::Error;

use super::session::Session;

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
        // There is no such function, it may not be called, or it does nothing here.
        Err(error) if error.code().is_some_and(|code| matches!(code.code().get(..2), Some("42" | "0A"))) => Ok(None),
        Err(error) => Err(error),
    }
}
