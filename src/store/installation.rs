//! The one installation in this database: when it was made, what was sealed for it, and which database it was made in.

use jiff::Timestamp;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::{client::Client, is_refusal, row_version, session::Session, table_oid};

/// The row of `lead_webhook.installation`.
#[derive(Debug, Clone)]
pub struct Installation {
    /// Names the installation; bound into what is sealed for it.
    pub installation_id: Uuid,
    /// When the triggers were first installed.
    pub installed_at: Timestamp,
    /// Leads captured from then on came after that.
    pub leads_since: Timestamp,
    /// The database that it was made in, or that was adopted since.
    pub identity: Identity,
    /// A known text, sealed: opens only with this installation's key file.
    pub key_check_sealed: Vec<u8>,
    /// The HMAC key of the uniqueness keys, sealed.
    pub uniqueness_key_sealed: Vec<u8>,
    /// What the triggers go by, as [`spelled`](super::mapped_as::spelled); `None`: not noted.
    pub mapped: Option<String>,
}

/// What tells a database from its copies, as far as the server does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Given by initdb, the same on a physical copy; `None` where the server refuses to tell.
    pub system_identifier: Option<i64>,
    /// The database's name.
    pub database_name: String,
    /// The installation's table, which every restore of a dump makes anew; `None`: there is none.
    pub table_oid: Option<u32>,
}

/// One thing that is not as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// Another server: upgraded by `pg_upgrade`, moved, or a dump that was restored elsewhere.
    #[error("the server's system identifier is {now}, not {remembered}")]
    Server {
        /// As it was noted.
        remembered: i64,
        /// As it is.
        now: i64,
    },
    /// Another database of the same server, or one that was renamed.
    #[error("the database is called {now:?}, not {remembered:?}")]
    Name {
        /// As it was noted.
        remembered: String,
        /// As it is.
        now: String,
    },
    /// A dump that was restored, in place of the original perhaps: what was pending then may have been sent since.
    #[error("the tables were restored from a dump: lead_webhook.installation has the oid {now}, not {remembered}")]
    Table {
        /// As it was noted.
        remembered: u32,
        /// As it is.
        now: u32,
    },
}

impl Identity {
    /// In what `now` is not what is remembered here. An identifier that is unknown on one side tells nothing.
    pub fn differences(&self, now: &Self) -> Vec<Difference> {
        let server = match (self.system_identifier, now.system_identifier) {
            (Some(remembered), Some(now)) if remembered != now => Some(Difference::Server { remembered, now }),
            _ => None,
        };
        let (remembered, name) = (&self.database_name, &now.database_name);
        let name = (remembered != name).then(|| Difference::Name { remembered: remembered.clone(), now: name.clone() });
        let table = match (self.table_oid, now.table_oid) {
            (Some(remembered), Some(now)) if remembered != now => Some(Difference::Table { remembered, now }),
            _ => None,
        };
        server.into_iter().chain(name).chain(table).collect()
    }
}

/// The columns of `lead_webhook.installation i`. A macro because `concat!` takes literals only.
macro_rules! columns {
    () => {
        "i.installation_id, i.installed_at, coalesce(i.leads_since, i.installed_at) AS leads_since, i.system_identifier, \
         i.database_name, i.table_oid, i.key_check_sealed, i.uniqueness_key_sealed, i.mapped"
    };
}

const READ: &str = concat!(
    "\
-- installation::read
SELECT ",
    columns!(),
    " FROM lead_webhook.installation i"
);

/// Reads it; `None`: the schema is there, the row is not.
///
/// # Errors
/// What the database says (the schema may be missing: `lead-webhook migrate`), or that the connection is lost.
pub async fn read(session: &mut Session) -> Result<Option<Installation>, Error> {
    session.query_opt(READ, &[]).await?.map(|row| from_row(&row)).transpose()
}

fn from_row(row: &Row) -> Result<Installation, Error> {
    Ok(Installation {
        installation_id: row.try_get("installation_id")?,
        installed_at: row.try_get("installed_at")?,
        leads_since: row.try_get("leads_since")?,
        identity: Identity {
            system_identifier: row.try_get("system_identifier")?,
            database_name: row.try_get("database_name")?,
            table_oid: row.try_get("table_oid")?,
        },
        key_check_sealed: row.try_get("key_check_sealed")?,
        uniqueness_key_sealed: row.try_get("uniqueness_key_sealed")?,
        mapped: row.try_get("mapped")?,
    })
}

const COMPARE: &str = concat!(
    "\
-- installation::compare
SELECT s.system_identifier AS identifier_now, current_database()::text AS name_now, i.tableoid AS table_now, ",
    row_version!("i"),
    " AS version, ",
    columns!(),
    " FROM lead_webhook.installation i, pg_control_system() s"
);

const COMPARE_NAME_ALONE: &str = concat!(
    "\
-- installation::compare_name_alone
SELECT NULL::bigint AS identifier_now, current_database()::text AS name_now, i.tableoid AS table_now, ",
    row_version!("i"),
    " AS version, ",
    columns!(),
    " FROM lead_webhook.installation i"
);

/// The installation, and what it is compared with.
#[derive(Debug, Clone)]
pub struct Compared {
    /// As it is remembered.
    pub installation: Installation,
    /// What this database is now.
    pub now: Identity,
    /// Another one whenever the installation's row was written.
    pub version: String,
}

/// Reads it, and what this database is now.
///
/// # Errors
/// As [`read`] and [`identity`].
pub async fn compare(session: &mut Session) -> Result<Option<Compared>, Error> {
    // Prepared: a claim may wait for it.
    let row = match session.query_opt(COMPARE, &[]).await {
        Err(error) if is_refusal(&error) => session.query_opt(COMPARE_NAME_ALONE, &[]).await,
        row => row,
    }?;
    row.map(|row| {
        let now = Identity {
            system_identifier: row.try_get("identifier_now")?,
            database_name: row.try_get("name_now")?,
            table_oid: row.try_get("table_now")?,
        };
        Ok(Compared { installation: from_row(&row)?, now, version: row.try_get("version")? })
    })
    .transpose()
}

const IDENTITY: &str = concat!(
    "\
-- installation::identity
SELECT current_database()::text AS database_name, s.system_identifier,
       ",
    table_oid!(),
    "
FROM pg_control_system() s"
);

const NAME_ALONE: &str = concat!(
    "\
-- installation::name_alone
SELECT current_database()::text AS database_name, NULL::bigint AS system_identifier,
       ",
    table_oid!(),
);

/// What this database is.
///
/// # Errors
/// What the database says, or that the connection is lost. A server that refuses to tell its identifier is none.
pub async fn identity(client: &Client) -> Result<Identity, Error> {
    let row = match client.query_one(IDENTITY, &[]).await {
        Err(error) if is_refusal(&error) => client.query_one(NAME_ALONE, &[]).await,
        row => row,
    }?;
    Ok(Identity {
        system_identifier: row.try_get("system_identifier")?,
        database_name: row.try_get("database_name")?,
        table_oid: row.try_get("table_oid")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(system_identifier: Option<i64>, database_name: &str) -> Identity {
        Identity { system_identifier, database_name: database_name.to_owned(), table_oid: Some(7) }
    }

    #[test]
    fn an_identifier_that_is_unknown_on_one_side_tells_nothing_and_a_name_always_does() {
        let remembered = identity(Some(1), "app");
        for same in [identity(Some(1), "app"), identity(None, "app")] {
            assert_eq!(remembered.differences(&same), []);
            assert_eq!(same.differences(&remembered), []);
        }
        assert_eq!(remembered.differences(&identity(Some(2), "app")), [Difference::Server { remembered: 1, now: 2 }]);
        assert_eq!(remembered.differences(&identity(None, "App")).len(), 1);
        assert_eq!(remembered.differences(&identity(Some(2), "copy")).len(), 2);
        let restored = Identity { table_oid: Some(8), ..remembered.clone() };
        assert_eq!(remembered.differences(&restored), [Difference::Table { remembered: 7, now: 8 }]);
    }
}
