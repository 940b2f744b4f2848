//! What `check` asks of the server, beside [`install::verify`](super::install::verify). Reads only; the notification that
//! it sends goes to a channel of its own, which no daemon hears.

use std::{net::IpAddr, time::Duration};

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_postgres::{Error, Row};

use super::{
    clocks::{self, Ahead},
    connect::{self, ConnectError},
    instances::seen_at,
    leads,
    mapping::MappedSql,
    notifications, said,
    session::Session,
};
use crate::config::Database;

/// What kind of server it is, and how it is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// `server_version_num`: 150004.
    pub version_number: i32,
    /// `server_version`, for people.
    pub version: String,
    /// Whether it only follows another one.
    pub is_standby: bool,
    /// Whether transactions of this login write nothing, whatever the server is.
    pub is_read_only: bool,
    /// The TLS version of this session, where it has TLS.
    pub tls: Option<String>,
    /// The server's end of the connection; `None` on a Unix socket.
    pub address: Option<IpAddr>,
    /// Above 0, transactions can be prepared for two-phase commit, but not after a NOTIFY.
    pub max_prepared_transactions: i32,
    /// The part of the notification queue that is in use, 0 to 1.
    pub notification_queue: f64,
}

const SERVER: &str = "\
-- check::server
SELECT current_setting('server_version_num')::integer AS version_number, current_setting('server_version') AS version,
       pg_is_in_recovery() AS is_standby, current_setting('default_transaction_read_only')::boolean AS is_read_only,
       (SELECT s.version FROM pg_stat_ssl s WHERE s.pid = pg_backend_pid() AND s.ssl) AS tls,
       inet_server_addr() AS address,
       current_setting('max_prepared_transactions')::integer AS max_prepared_transactions,
       CASE WHEN pg_is_in_recovery() THEN 0 ELSE pg_notification_queue_usage() END AS notification_queue";

/// Asks the server what it is.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn server(session: &mut Session) -> Result<Server, Error> {
    let row = session.client().query_one(SERVER, &[]).await?;
    Ok(Server {
        version_number: row.try_get("version_number")?,
        version: row.try_get("version")?,
        is_standby: row.try_get("is_standby")?,
        is_read_only: row.try_get("is_read_only")?,
        tls: row.try_get("tls")?,
        address: row.try_get("address")?,
        max_prepared_transactions: row.try_get("max_prepared_transactions")?,
        notification_queue: row.try_get("notification_queue")?,
    })
}

/// How far this host's clock is ahead of the server's.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn clocks(session: &mut Session) -> Result<Ahead, Error> {
    let statement = session.statement(clocks::NOW).await?;
    let asked_at = Timestamp::now();
    let row = session.client().query_one(&statement, &[]).await?;
    Ok(Ahead::by_answer(asked_at, row.try_get(0)?))
}

/// Whether a notification came through.
#[derive(Debug)]
pub enum RoundTrip {
    /// It did, after so long.
    Heard(Duration),
    /// It did not, within the time.
    Unheard,
    /// There is no session that listens.
    NotListening(ConnectError),
    /// The listening session was refused, or ended.
    Refused(Error),
}

/// Listens at `listen_url`, notifies from `session`, and waits at most `patience`.
///
/// # Errors
/// What the database says to the notification, or that `session` is lost.
pub async fn notify_round_trip(
    session: &mut Session,
    database: &Database,
    patience: Duration,
) -> Result<RoundTrip, Error> {
    let (sender, mut heard) = mpsc::channel(16);
    let listening = match connect::connect_listening(&database.listen_url, database, sender).await {
        Ok(listening) => listening,
        Err(error) => return Ok(RoundTrip::NotListening(error)),
    };
    if let Err(error) = notifications::listen(&listening.client).await {
        return Ok(RoundTrip::Refused(error));
    }
    let heard = notifications::round_trip(&listening.client, &mut heard, session.shared(), patience).await?;
    Ok(heard.map_or(RoundTrip::Unheard, RoundTrip::Heard))
}

/// Unseen for so many seconds a daemon is dead (specification, section 4).
pub const DEAD: f64 = 30.0;

/// A daemon's heartbeat.
#[derive(Debug, Clone, PartialEq)]
pub struct Daemon {
    /// Its host.
    pub host: String,
    /// Its process there.
    pub process_id: i32,
    /// Its version.
    pub version: String,
    /// Seconds since it was last seen, counted from the later of its last renewal and the server's start.
    pub unseen_s: f64,
}

const DAEMONS: &str = concat!(
    "\
-- check::daemons
SELECT host, process_id, version, extract(epoch FROM clock_timestamp() - ",
    seen_at!("renewed_at"),
    ")::float8 AS unseen_s
FROM lead_webhook.instances
ORDER BY host, process_id"
);

/// The daemons that have signed on and not off.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn daemons(session: &mut Session) -> Result<Vec<Daemon>, Error> {
    let daemon = |row: &Row| {
        Ok(Daemon {
            host: row.try_get("host")?,
            process_id: row.try_get("process_id")?,
            version: row.try_get("version")?,
            unseen_s: row.try_get("unseen_s")?,
        })
    };
    session.client().query(DAEMONS, &[]).await?.iter().map(daemon).collect()
}

const MISSED: &str = "\
-- check::missed
SELECT m.times, (SELECT extract(epoch FROM clock_timestamp() - s.swept_at)::float8 FROM lead_webhook.swept s
                 WHERE s.missed >= m.times) AS swept_s
FROM (SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS times FROM lead_webhook.missed) AS m";

/// What triggers could not queue.
#[derive(Debug, Clone, Copy)]
pub struct Missed {
    /// How often, since the install.
    pub times: i64,
    /// So many seconds ago it had been looked for what they had missed; `None`: it has not been yet.
    pub swept_s: Option<f64>,
}

/// How often triggers could not queue an event, and whether that was looked after.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn missed(session: &mut Session) -> Result<Missed, Error> {
    let row = session.client().query_one(MISSED, &[]).await?;
    Ok(Missed { times: row.try_get("times")?, swept_s: row.try_get("swept_s")? })
}

/// Reads one lead, whichever, through the mapping, as a claim does. `false`: the table is empty.
///
/// # Errors
/// What keeps it from being read, without any value.
pub async fn read_a_lead(session: &mut Session, mapped: &MappedSql) -> Result<bool, String> {
    let sql = format!("-- check::lead\nSELECT {} FROM {} lead LIMIT ", leads::select_list(mapped), mapped.table);
    // What fails without any lead is no lead's value.
    session.client().query_opt(&format!("{sql}0"), &[]).await.map_err(|error| said(&error))?;
    let row = session.client().query_opt(&format!("{sql}1"), &[]).await.map_err(|error| leads::describe(&error))?;
    Ok(row.is_some())
}
