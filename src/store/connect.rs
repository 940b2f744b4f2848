//! Opens a session with the database: TLS, time-outs, and the settings that every statement of ours relies on.
//!
//! A session that is dropped ends, whatever the server does: one that still owes an answer a moment later has its
//! statement cancelled and its socket closed, so that a claim which was given up holds no lock.

mod error;
mod servers;

use std::{convert::Infallible, future::poll_fn, pin::pin, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tokio_postgres::{
    AsyncMessage, Config, Connection, Notification, SimpleQueryMessage, Socket,
    config::{Host, SslMode},
};
use tokio_postgres_rustls::MakeRustlsConnect;

pub use self::error::ConnectError;
use super::{
    client::{Client, Setting, setting_sql},
    greeting, said,
    tls::client_config,
};
use crate::{
    config::{Database, Tls},
    secret::Secret,
};

/// Shown in `pg_stat_activity`, where the URL names no other.
const APPLICATION_NAME: &str = "lead-webhook";

/// For one host's address, where the URL sets none: a dead primary of several hosts costs no more than this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// From the first host that is tried to a session that is set up, in equal parts for several hosts: a server that is frozen
/// takes connections and says nothing.
const LOGIN_LIMIT: Duration = Duration::from_secs(30);

/// A dropped session whose server still owes an answer then has it cancelled.
const FAREWELL: Duration = Duration::from_secs(1);

/// To reach the server for that. Its socket is closed all the same.
const CANCEL_LIMIT: Duration = Duration::from_secs(5);

/// Idle time before the first keepalive, where the URL sets none.
const KEEPALIVES_IDLE: Duration = Duration::from_secs(30);

/// Between keepalives, and how many may stay unanswered: a server that vanished is noticed within a minute.
const KEEPALIVES_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVES_RETRIES: u32 = 3;

/// How long sent data, on Linux a keepalive too, may stay unacknowledged, where the URL sets nothing.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// What tokio-postgres fills in for the idle time; its `Config` does not tell "unset" from it.
const DRIVERS_KEEPALIVES_IDLE: Duration = Duration::from_secs(2 * 60 * 60);

/// A process that is frozen inside a transaction loses its session after 10 s, and with it the locks that others wait for.
///
/// Not by the startup packet's `options`: poolers refuse those.
const SETTINGS: [Setting; 12] = [
    ("search_path", "pg_catalog, pg_temp"),
    ("row_security", "off"),
    ("TimeZone", "UTC"),
    ("jit", "off"),
    ("default_transaction_isolation", "read committed"),
    ("client_min_messages", "warning"),
    ("standard_conforming_strings", "on"),
    ("quote_all_identifiers", "off"),
    ("statement_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("idle_in_transaction_session_timeout", "10s"),
    ("lock_timeout", "10s"),
];

/// What sets a session up, in one statement and so in one round trip; `is_local` is an SQL expression: whether only for the
/// transaction. A claim must outlive the server's crash before it is sent: `synchronous_commit = off`, which some databases
/// have, would have it sent twice. `transaction_timeout` is there since PostgreSQL 17.
fn set_up_sql(is_local: &str) -> String {
    format!(
        "{},
       CASE WHEN pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off'
            THEN pg_catalog.set_config('synchronous_commit', 'on', {is_local}) END,
       CASE WHEN pg_catalog.current_setting('transaction_timeout', true) IS NOT NULL
            THEN pg_catalog.set_config('transaction_timeout', '0', {is_local}) END",
        setting_sql(&SETTINGS, is_local)
    )
}

/// A connected client, and the task that moves its bytes.
#[derive(Debug)]
pub struct Connected {
    /// Where statements are sent.
    pub client: Client,
    /// Ends with the connection: `Ok` after the client was dropped, else why it was lost.
    pub connection: JoinHandle<Result<(), tokio_postgres::Error>>,
    /// To be kept as long as the client.
    pub life: Life,
}

impl Connected {
    /// As a session that the server keeps for us, though there is a pooler in between.
    pub(super) async fn lasting(self) -> Result<Self, tokio_postgres::Error> {
        let client = self.client.into_direct();
        client.batch_execute(&format!("-- connect::set_up\n{}", set_up_sql("false"))).await?;
        Ok(Self { client, ..self })
    }
}

/// The connection ends, within seconds, when this is dropped.
#[derive(Debug)]
pub struct Life {
    _ends: oneshot::Sender<Infallible>,
}

/// Opens a session at `url`, one of `database`'s.
///
/// # Errors
/// [`ConnectError`].
pub async fn connect(url: &Secret<String>, database: &Database) -> Result<Connected, ConnectError> {
    open(url, database, None).await
}

/// Opens a session at `url` whose notifications go to `notifications`.
///
/// One that finds the channel full is dropped: a notification is a hint to look, and a full channel hints enough.
///
/// # Errors
/// [`ConnectError`].
pub async fn connect_listening(
    url: &Secret<String>,
    database: &Database,
    notifications: mpsc::Sender<Notification>,
) -> Result<Connected, ConnectError> {
    open(url, database, Some(notifications)).await
}

/// The user that `url` logs in as; `None` where it names none, or is no connection string.
pub(super) fn login(url: &Secret<String>) -> Option<String> {
    url.expose().parse::<Config>().ok()?.get_user().map(str::to_owned)
}

async fn open(
    url: &Secret<String>,
    database: &Database,
    notifications: Option<mpsc::Sender<Notification>>,
) -> Result<Connected, ConnectError> {
    let config = configure(url, database)?;
    let tls = MakeRustlsConnect::new(client_config(database)?);
    let servers = servers::each(&config);
    let limit = LOGIN_LIMIT / u32::try_from(servers.len()).unwrap_or(u32::MAX);
    let mut errors = Vec::new();
    for config in servers {
        let opened = timeout(limit, log_in(&config, tls.clone(), notifications.clone())).await;
        match opened.unwrap_or_else(|_| Err(ConnectError::Unanswered { target: target(&config), limit })) {
            Ok(connected) => return Ok(connected),
            Err(error) => errors.push(error),
        }
    }
    match <[_; 1]>::try_from(errors) {
        Ok([error]) => Err(error),
        Err(errors) => Err(ConnectError::None(errors)),
    }
}

async fn log_in(
    config: &Config,
    tls: MakeRustlsConnect,
    notifications: Option<mpsc::Sender<Notification>>,
) -> Result<Connected, ConnectError> {
    let target = || target(config);
    let looked_up = servers::looked_up(config).await;
    let looked_up = looked_up.map_err(|source| ConnectError::Name { target: target(), source })?;
    let (client, connection) =
        looked_up.connect(tls.clone()).await.map_err(|source| ConnectError::Refused { target: target(), source })?;
    let cancel_token = client.cancel_token();
    let process_number = greeting::process_number(&cancel_token).await;
    let cancel = async move {
        if let Ok(Err(error)) = timeout(CANCEL_LIMIT, cancel_token.cancel_query(tls)).await {
            tracing::debug!(error = %said(&error), "a statement that was given up could not be cancelled");
        }
    };
    let (ends, ended) = oneshot::channel();
    #[expect(clippy::disallowed_methods, reason = "the connection's own task; its end is awaited through the session")]
    let connection = tokio::spawn(serve(pump(connection, notifications), ended, cancel));
    let client = set_up(client, process_number).await.map_err(|source| match is_of_statement_pooler(&source) {
        true => ConnectError::StatementPooler { target: target() },
        false => ConnectError::SetUp { target: target(), source },
    })?;
    Ok(Connected { client, connection, life: Life { _ends: ends } })
}

/// Sets the session up, where it is the server's own; behind a pooler nothing is left in the one that was used.
/// `process_number` is the greeting's: a pooler's is not that of the server's process.
async fn set_up(driver: tokio_postgres::Client, process_number: Option<i32>) -> Result<Client, tokio_postgres::Error> {
    let number = process_number.unwrap_or_default();
    let is_pooled = format!("pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.<>) {number}");
    let asked = format!("-- connect::set_up\n{},\n       {is_pooled} AS is_pooled", set_up_sql(&is_pooled));
    let answers = driver.simple_query(&asked).await?;
    let is_pooled = answers.iter().any(|answer| match answer {
        SimpleQueryMessage::Row(row) => row.get("is_pooled") == Some("t"),
        _ => false,
    });
    if !is_pooled {
        return Ok(Client::direct(driver));
    }
    let client = Client::pooled(driver, &set_up_sql("true"));
    client.begin("BEGIN").await?;
    client.commit().await?;
    Ok(client)
}

/// Only the pooler's words tell.
fn is_of_statement_pooler(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|db| db.message().contains("statement pooling mode"))
}

/// What the URL says, and our defaults where it says nothing.
fn configure(url: &Secret<String>, database: &Database) -> Result<Config, ConnectError> {
    let mut config = url.expose().parse::<Config>().map_err(|_| ConnectError::Url)?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(ConnectError::Url);
    }
    if let (None, Some(password)) = (config.get_password(), &database.password) {
        // It is the daemon's login's: offered for another's it would only be told to be wrong.
        let daemons = database.url.expose().parse::<Config>().map_err(|_| ConnectError::Url)?;
        if config.get_user() == daemons.get_user() {
            config.password(password.expose());
        }
    }
    if config.get_application_name().is_none() {
        config.application_name(APPLICATION_NAME);
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(TCP_USER_TIMEOUT);
    }
    if config.get_keepalives_idle() == DRIVERS_KEEPALIVES_IDLE {
        config.keepalives_idle(KEEPALIVES_IDLE);
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(KEEPALIVES_INTERVAL);
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(KEEPALIVES_RETRIES);
    }
    let sockets_only =
        !config.get_hosts().is_empty() && config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
    match database.tls {
        // There is no TLS over a Unix socket; libpq ignores the setting there too.
        _ if sockets_only => config.ssl_mode(SslMode::Disable),
        Tls::Disable => config.ssl_mode(SslMode::Disable),
        // A URL with sslmode=require insists on more than the default does.
        Tls::Prefer => &mut config,
        Tls::Require | Tls::VerifyFull => config.ssl_mode(SslMode::Require),
    };
    Ok(config)
}

/// Host, port, database and user, for an error text.
fn target(config: &Config) -> String {
    let hosts = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    });
    let mut hosts: Vec<_> = hosts.collect();
    if hosts.is_empty() {
        hosts = config.get_hostaddrs().iter().map(ToString::to_string).collect();
    }
    let ports = config.get_ports();
    let port = |at: usize| ports.get(at).or_else(|| ports.first()).copied().unwrap_or(5432);
    let hosts: Vec<_> = hosts.iter().enumerate().map(|(at, host)| format!("{host}:{}", port(at))).collect();
    let user = config.get_user().map_or_else(|| "the system's user name".to_owned(), |user| format!("user {user}"));
    let name = config.get_dbname().map_or_else(String::new, |name| format!("database {name}, "));
    format!("{} ({name}{user})", hosts.join(", "))
}

/// Keeps a connection until it ends, or its session's life does.
async fn serve(
    connection: impl Future<Output = Result<(), tokio_postgres::Error>>,
    life: oneshot::Receiver<Infallible>,
    cancel: impl Future<Output = ()>,
) -> Result<(), tokio_postgres::Error> {
    let mut connection = pin!(connection);
    tokio::select! {
        ended = &mut connection => return ended,
        _ = life => {}
    }
    match timeout(FAREWELL, connection).await {
        Ok(ended) => ended,
        Err(_) => {
            cancel.await;
            Ok(())
        }
    }
}

/// Moves the connection's bytes until it ends.
async fn pump<T: AsyncRead + AsyncWrite + Unpin>(
    mut connection: Connection<Socket, T>,
    notifications: Option<mpsc::Sender<Notification>>,
) -> Result<(), tokio_postgres::Error> {
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        match message? {
            AsyncMessage::Notification(notification) => {
                if let Some(channel) = &notifications {
                    drop(channel.try_send(notification));
                }
            }
            AsyncMessage::Notice(notice) => {
                tracing::debug!(severity = notice.severity(), code = notice.code().code(), "notice of the database");
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(tls: Tls) -> Database {
        Database {
            url: "postgres://u@h/d".to_owned().into(),
            owner_url: String::new().into(),
            listen_url: String::new().into(),
            password: Some("from the file".to_owned().into()),
            tls,
            tls_ca_file: None,
            notify: crate::config::Notify::Auto,
            poll_interval: Duration::from_secs(5),
            owner_role: "owner".to_owned(),
            daemon_role: "daemon".to_owned(),
        }
    }

    fn configured(url: &str, tls: Tls) -> Config {
        configure(&url.to_owned().into(), &database(tls)).unwrap()
    }

    #[test]
    fn the_file_s_password_stands_in_where_the_url_has_none() {
        assert_eq!(configured("postgres://u@h/d", Tls::Prefer).get_password(), Some(&b"from the file"[..]));
        assert_eq!(configured("postgres://u:p@h/d", Tls::Prefer).get_password(), Some(&b"p"[..]));
        assert_eq!(configured("postgres://owner@h/d", Tls::Prefer).get_password(), None, "another's");
    }

    #[test]
    fn what_the_url_sets_is_kept() {
        let url = "postgres://u@h/d?connect_timeout=9&keepalives_idle=7&application_name=mine&tcp_user_timeout=3";
        let config = configured(url, Tls::Prefer);
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(9)));
        assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_secs(3)));
        assert_eq!(config.get_keepalives_idle(), Duration::from_secs(7));
        assert_eq!(config.get_application_name(), Some("mine"));
        let config = configured("postgres://u@h/d", Tls::Prefer);
        assert_eq!(config.get_connect_timeout(), Some(&CONNECT_TIMEOUT));
        assert_eq!(config.get_keepalives_idle(), KEEPALIVES_IDLE);
    }

    #[test]
    fn tls_is_as_strict_as_the_stricter_of_setting_and_url_and_never_on_a_unix_socket() {
        for (url, tls, mode) in [
            ("postgres://u@h/d", Tls::Disable, SslMode::Disable),
            ("postgres://u@h/d", Tls::Prefer, SslMode::Prefer),
            ("postgres://u@h/d?sslmode=require", Tls::Prefer, SslMode::Require),
            ("postgres://u@h/d", Tls::Require, SslMode::Require),
            ("postgres://u@h/d?sslmode=disable", Tls::VerifyFull, SslMode::Require),
            ("host=/run/postgresql user=u", Tls::Require, SslMode::Disable),
        ] {
            assert_eq!(configured(url, tls).get_ssl_mode(), mode, "{url} {tls:?}");
        }
    }

    #[tokio::test]
    async fn an_error_names_the_server_and_never_the_password() {
        let mut settings = database(Tls::Disable);
        settings.password = None;
        let url = "postgres://anna:pass-word@127.0.0.1:1/app".to_owned().into();
        let text = connect(&url, &settings).await.unwrap_err().to_string();
        assert!(text.starts_with("cannot connect to 127.0.0.1:1 (database app, user anna): "), "{text}");
        assert!(!text.contains("pass-word"), "{text}");
        let url = "postgres://anna@127.0.0.1:1/app?ss-word=1".to_owned().into();
        let text = connect(&url, &settings).await.unwrap_err().to_string();
        assert!(
            text.starts_with("the database's URL is not a connection string") && !text.contains("ss-word"),
            "{text}"
        );
    }
}
