//! The server's timeline: another one after each promotion of a standby. And, behind a pooler, whether a transaction is
//! still where the one before was.

use tokio_postgres::Error;

use super::{client::Client, installation, is_refusal, session::Session, table_oid};

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

const WHERE: &str = concat!(
    "\
-- timeline::where
SELECT current_database()::text AS name, s.system_identifier, left(pg_walfile_name(pg_current_wal_lsn()), 8) AS timeline,
       ",
    table_oid!(),
    "
FROM pg_control_system() s"
);

const WITHOUT_IDENTIFIER: &str = concat!(
    "\
-- timeline::where_without_identifier
SELECT current_database()::text AS name, NULL::bigint AS system_identifier,
       left(pg_walfile_name(pg_current_wal_lsn()), 8) AS timeline,
       ",
    table_oid!(),
);

const WITHOUT_TIMELINE: &str = concat!(
    "\
-- timeline::where_without_timeline
SELECT current_database()::text AS name, s.system_identifier, NULL::text AS timeline,
       ",
    table_oid!(),
    "
FROM pg_control_system() s"
);

const NAME_ALONE: &str = concat!(
    "\
-- timeline::name_alone
SELECT current_database()::text AS name, NULL::bigint AS system_identifier, NULL::text AS timeline,
       ",
    table_oid!(),
);

/// Database, server, timeline and the installation's table, as far as the server tells them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whereabouts {
    /// What asks for no more than the server tells: a refusal would end a transaction.
    sql: &'static str,
    found: Found,
}

impl Whereabouts {
    /// Where the session's transactions are now.
    ///
    /// # Errors
    /// What the database says, or that the connection is lost.
    pub async fn look(session: &mut Session) -> Result<Self, Error> {
        let timeline = read(session).await?;
        let identity = installation::identity(session.shared()).await?;
        let sql = match (identity.system_identifier, timeline) {
            (Some(_), Some(_)) => WHERE,
            (None, Some(_)) => WITHOUT_IDENTIFIER,
            (Some(_), None) => WITHOUT_TIMELINE,
            (None, None) => NAME_ALONE,
        };
        let found = found(session.shared(), sql).await?;
        Ok(Self { sql, found })
    }

    /// Whether the present transaction is there too.
    ///
    /// # Errors
    /// What the database says, or that the connection is lost.
    pub async fn is_here(&self, client: &Client) -> Result<bool, Error> {
        Ok(found(client, self.sql).await? == self.found)
    }
}

type Found = (String, Option<i64>, Option<String>, Option<u32>);

async fn found(client: &Client, sql: &str) -> Result<Found, Error> {
    let row = client.query_one(sql, &[]).await?;
    Ok((row.try_get("name")?, row.try_get("system_identifier")?, row.try_get("timeline")?, row.try_get("table_oid")?))
}
