//! [`InstallError`]: why an install, an upgrade or a removal did not happen.

use std::time::Duration;

use tokio_postgres::error::SqlState;

use crate::store::{
    mapping::{MappingError, Problem, one_a_line},
    said,
};

/// Why nothing, or not everything, was done. Whatever was done is whole and stays; the same command goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The table and `[leads]` do not agree. The operator must act.
    #[error("{}", one_a_line(.0))]
    Mapping(Vec<Problem>),
    /// This user may not do what is left to do. An administrator runs the SQL, then the command is run again.
    #[error("this user may not do the following; have an administrator run it, then run the command again:\n\n{sql}")]
    NeedsAdministrator {
        /// Complete statements, a line each.
        sql: String,
    },
    /// The application held a table all the time. Run the command again at a quieter time.
    #[error(
        "{heading}: a lock was not free within {} s; what was done so far is whole, and a table of the application's was \
         never blocked for longer than a fifth of a second: run the command again when the table is less busy, or \
         look in pg_stat_activity for a transaction that stays open",
        waited.as_secs()
    )]
    Busy {
        /// What could not be done.
        heading: String,
        /// How long it was tried.
        waited: Duration,
    },
    /// Another `migrate` or `uninstall` is at work in this database.
    #[error("another migrate or uninstall is at work in this database: wait for it, then run the command again")]
    AnotherRuns,
    /// The server's version is not supported. The operator must act.
    #[error("PostgreSQL {0} is too old: lead-webhook needs 14 or newer")]
    TooOld(i32),
    /// The server is a standby.
    #[error("the server is a standby and cannot be written to: point database.owner_url at the primary")]
    Standby,
    /// The schema is somebody else's. The operator must act.
    #[error(
        "schema lead_webhook belongs to role {owner:?}, not to database.owner_role = {expected:?}: name its owner there, \
         run `lead-webhook migrate` where a dump was restored without owners, or rename the schema if it is not \
         lead-webhook's"
    )]
    ForeignSchema {
        /// Whose it is.
        owner: String,
        /// Whose it should be.
        expected: String,
    },
    /// The schema was migrated by another version. The operator must act.
    #[error(
        "migration {0} is recorded in lead_webhook.migrations but is not this program's: another version was here; \
         install that one or a newer one"
    )]
    ForeignMigration(String),
    /// What follows a publication would stop. The operator must act.
    #[error(
        "nothing is done: publication {} is FOR ALL TABLES, so it would have the new tables at once, and each subscriber \
         stops until it has them too. Publish the tables by their names, or make them at the subscribers first, by the SQL of \
         `lead-webhook migrate --dry-run`, then run `lead-webhook migrate --published`",
        .0.join(", ")
    )]
    Published(Vec<String>),
    /// Something in our schema is not ours. The operator must act.
    #[error(
        "nothing is done: schema lead_webhook has what is not lead-webhook's, and might run by the rights of this login: {}. Find out \
         who has put it there, and drop it or rename the schema, then run the command again",
        .0.join("; ")
    )]
    Planted(Vec<String>),
    /// Objects of the application's depend on what is to be removed. The operator must act.
    #[error("nothing is removed: what is to go is used by {}: drop that first, then run the command again", .0.join(", "))]
    InTheWay(Vec<String>),
    /// The migrations could not be run.
    #[error("the tables could not be created or upgraded: {0}")]
    Migrations(String, #[source] refinery::Error),
    /// The values of a new installation could not be made.
    #[error("the new installation's keys could not be made: {0}")]
    NewInstallation(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// One step failed. What was done before it stays.
    #[error("{heading}: {}", said(.source))]
    Step {
        /// What could not be done.
        heading: String,
        /// What the server said.
        source: tokio_postgres::Error,
    },
    /// The database could not be asked how things stand.
    #[error("the database could not be looked at: {}", said(.0))]
    Database(#[from] tokio_postgres::Error),
}

impl InstallError {
    /// Whether a lock was waited for in vain.
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Database(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE))
    }
}

impl From<MappingError> for InstallError {
    fn from(error: MappingError) -> Self {
        match error {
            MappingError::Problems(problems) => Self::Mapping(problems),
            MappingError::Database(source) => Self::Database(source),
        }
    }
}

impl From<refinery::Error> for InstallError {
    fn from(error: refinery::Error) -> Self {
        use std::error::Error as _;
        let driver = error.source().and_then(|cause| cause.downcast_ref::<tokio_postgres::Error>());
        Self::Migrations(driver.map_or_else(|| error.to_string(), said), error)
    }
}
