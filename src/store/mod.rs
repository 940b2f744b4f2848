//! Everything that is SQL, a file a table: no other module knows a statement.
//!
//! [`connect`] opens sessions that are set up alike, and [`client`] sends their statements so that the same holds behind a
//! pooler; [`mapping`] turns the configured columns into SQL over a row of
//! the application's table; [`install`] creates, upgrades, verifies and removes what belongs to us. A statement is a
//! `const` beside the function that sends it and begins with its name, `-- install::facts`, so that a line of
//! `pg_stat_activity` leads back here.
//!
//! Sessions run with `search_path = pg_catalog, pg_temp`: every name of ours and of the application's is qualified, and
//! nobody's schema can slip a function or an operator in between.

pub mod adoption;
pub mod bell;
pub mod capture_clock;
pub mod capture_index;
pub mod check;
pub mod client;
pub mod clocks;
pub mod connect;
pub mod delivery_list;
pub mod delivery_log;
pub mod delivery_stats;
pub mod endpoints;
mod greeting;
pub mod install;
pub mod installation;
pub mod instances;
pub mod lead_pages;
pub mod lead_slices;
pub mod leads;
pub mod mapped_as;
pub mod mapping;
pub mod notifications;
pub mod outbox;
pub mod reconcile;
pub mod redelivery;
pub mod retention;
mod rows;
pub mod sealed;
pub mod session;
pub mod sweep;
pub mod test_limit;
pub mod timeline;
mod tls;
pub mod transaction_id;
pub mod uniqueness;

/// The version of a row: another one whenever the row was written. A macro because `concat!` takes literals only.
macro_rules! row_version {
    ($row:literal) => {
        concat!($row, ".ctid::text || ' ' || ", $row, ".xmin::text")
    };
}
use row_version;

/// The oid of the installation's table, from the catalog: a login that may not use our schema yet may ask for it.
macro_rules! table_oid {
    () => {
        "(SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'lead_webhook' AND c.relname = 'installation') AS table_oid"
    };
}
use table_oid;

/// The driver's own word: only this folder knows the driver.
pub use tokio_postgres::Error;

pub use self::client::{Client, Statement};

/// What a database error says, for an operator: the server's message, its hint and its code, or the cause of a lost
/// connection. Plain `Display` of the driver's error says "db error" only.
pub(crate) fn said(error: &Error) -> String {
    let Some(db) = error.as_db_error() else {
        return std::error::Error::source(error).map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
    };
    // The detail of a violated constraint shows the row.
    let shows_values = matches!(db.code().code().get(..2), Some("22" | "23"));
    let detail = db.detail().filter(|_| !shows_values);
    let more = detail.into_iter().chain(db.hint()).map(|text| format!(" {text}")).collect::<String>();
    format!("{}{}{more} (SQLSTATE {})", db.message(), if more.is_empty() { "" } else { "." }, db.code().code())
}

/// Whether the login lacks a right.
pub(crate) fn lacks_privilege(error: &Error) -> bool {
    error.code() == Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE)
}

/// Whether the server refuses to tell, as some that are managed: no right, no such function, not supported. Anything else
/// is trouble.
fn is_refusal(error: &Error) -> bool {
    error.code().is_some_and(|code| matches!(code.code(), "42501" | "42883" | "0A000"))
}

/// `name` as an SQL identifier.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `text` as an SQL literal, read with `standard_conforming_strings`.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
