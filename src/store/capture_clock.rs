//! Captured times that run ahead of the server's clock, as local times do that are kept in a `timestamp`. What was there
//! before the install would look as if it had been captured after it, and as if a trigger had missed it. So the install
//! notes how far such times reach.

use jiff::Timestamp;
use tokio_postgres::Error;

use super::{
    client::Client,
    connect,
    mapping::{MappedSql, MappedTime},
    said,
    session::Session,
};
use crate::config::Config;

/// No time zone is further ahead, and no day longer. What lies beyond says nothing of when a lead was captured.
pub(super) const MOST_AHEAD: &str = "interval '26 hours'";

/// While a statement reads the leads, a change of their table waits for it, and behind that every writer. A policy that
/// would hide some of the leads is an error.
const WITHIN: &str = "SET LOCAL statement_timeout = '10s';\nSET LOCAL row_security = off;";

/// The newest of the captured times that are ahead of the server's clock, as a query.
fn newest_sql(mapped: &MappedSql, captured: &MappedTime) -> String {
    let (table, key) = (&mapped.table, &captured.key);
    let [now, most] = ["clock_timestamp()".to_owned(), format!("clock_timestamp() + {MOST_AHEAD}")]
        .map(|time| captured.as_key(&format!("({time})")));
    format!("SELECT max({}) FROM {table} lead WHERE {key} > {now} AND {key} <= {most}", captured.sql)
}

/// The newest of the captured times that are ahead of the server's clock; `None`: none is, or there is no such time. In
/// a transaction of its own, of ten seconds at most.
///
/// # Errors
/// What the database says (the login may not be allowed to read the leads), or that the connection is lost.
pub async fn newest(client: &mut Client, mapped: &MappedSql) -> Result<Option<Timestamp>, Error> {
    let Some(captured) = &mapped.captured_at else { return Ok(None) };
    let transaction = client.transaction().await?;
    transaction.batch_execute(WITHIN).await?;
    let sql = format!("-- capture_clock::newest\n{}", newest_sql(mapped, captured));
    transaction.query_one(&sql, &[]).await?.try_get(0)
}

/// As [`newest`], in a session of the daemon's login, whoever asks: the captured time may be code of whoever owns the
/// leads table, which is to have no more rights than it has in a claim.
///
/// # Errors
/// Why it cannot be had, in words.
pub async fn newest_by_the_daemon(config: &Config) -> Result<Option<Timestamp>, String> {
    let connected =
        connect::connect(&config.database.url, &config.database).await.map_err(|error| error.to_string())?;
    let mut session = Session::new(connected);
    let mapped = MappedSql::resolve(session.client(), &config.leads).await.map_err(|error| error.to_string())?;
    newest(session.client(), &mapped).await.map_err(|error| said(&error))
}

/// What [`newest`] asks, for reading. `None`: no captured time is mapped.
pub(super) fn printed(mapped: &MappedSql) -> Option<String> {
    mapped.captured_at.as_ref().map(|captured| newest_sql(mapped, captured))
}

/// Notes in the installation's row from which captured time on leads came after the install, given the [`newest`].
pub(super) const NOTE: &str = "\
UPDATE lead_webhook.installation SET leads_since = greatest(installed_at, leads_since, $1::timestamptz + interval '1 microsecond')";
