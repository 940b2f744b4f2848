//! The daemon's configuration: a TOML file, then the environment, validated as a whole.
//!
//! How it works. [`load()`] lays the environment's variables (`LEAD_WEBHOOK__SECTION__KEY`) over the file and flattens
//! what comes out to leaves by key. `sections` then takes the leaves one by one, each with its default and a parser
//! out of `parse`, `files` or `database_url`. A leaf that does not parse becomes a [`Problem`] and the default stands
//! in, so that the rest is looked at as well; leaves that nobody took are unknown keys. A [`Config`] comes out only
//! where there was no problem at all.
//!
//! Nothing here connects to anything: files are read (a password, CAs), names are not resolved. Values that may hold a
//! credential are [`Secret`] and never stand in a problem's text. This folder is the only reader of the environment.

mod database_url;
mod environment;
mod files;
mod load;
mod parse;
mod problem;
mod reader;
mod sections;

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

pub use self::{
    environment::host_name,
    load::{DEFAULT_FILE, load},
    problem::{ConfigError, Problem},
    sections::SHORTEST_RETENTION,
};
use crate::{egress::Lists, secret::Secret};

/// Everything that the configuration says, validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How to reach the database.
    pub database: Database,
    /// The application's table and what its columns mean.
    pub leads: Leads,
    /// Limits of attempts, and the name under which they are sent.
    pub delivery: Delivery,
    /// What the operator allows and forbids beyond the built-in rules.
    pub egress: Egress,
    /// Where the key file is.
    pub keys_file: PathBuf,
    /// What is logged, and how.
    pub log: Log,
    /// How long the log table keeps its rows.
    pub retention: Retention,
    /// Where health and metrics are told.
    pub admin: Admin,
}

/// Section `[database]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// As tokio-postgres reads it; may hold a password. For the daemon and the commands that need no owner's right.
    pub url: Secret<String>,
    /// For `migrate`, `uninstall` and `seed`; `url` where it is not set.
    pub owner_url: Secret<String>,
    /// For LISTEN, around a transaction pooler; `url` where it is not set.
    pub listen_url: Secret<String>,
    /// The password of `url` and `listen_url`, read from `password_file`.
    pub password: Option<Secret<String>>,
    /// How far TLS is insisted on.
    pub tls: Tls,
    /// PEM file with the database server's CA; `None`: the system's roots.
    pub tls_ca_file: Option<PathBuf>,
    /// Whether the triggers ring by NOTIFY.
    pub notify: Notify,
    /// The look beside NOTIFY, and the only clock without it.
    pub poll_interval: Duration,
    /// The role without login that owns schema, tables and trigger functions.
    pub owner_role: String,
    /// The role without login that holds the daemon's grants; the daemon's login is a member of it.
    pub daemon_role: String,
}

/// `database.tls`, with libpq's meanings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// Never.
    Disable,
    /// When the server offers it; the certificate is not verified.
    Prefer,
    /// Always; the certificate is not verified.
    Require,
    /// Always; certificate and host name are verified.
    VerifyFull,
}

/// `database.notify`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notify {
    /// NOTIFY unless the server allows prepared transactions, which cannot have notified.
    Auto,
    /// Always NOTIFY.
    On,
    /// Never: the daemon polls.
    Off,
}

/// Section `[leads]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leads {
    /// The application's table.
    pub table: TableName,
    /// How long a lead must have been silent to be re-engaged.
    pub silence: Duration,
    /// What the table's columns mean.
    pub columns: Columns,
}

/// A table by schema and name, each as it stands in the catalog (no quotes).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// The schema.
    pub schema: String,
    /// The table.
    pub name: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// Section `[leads.columns]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    /// The lead's id, unique in the table.
    pub id: Mapping,
    /// The tenant.
    pub tenant_id: Mapping,
    /// At least one of `email` and `phone` is mapped.
    pub email: Option<Mapping>,
    /// At least one of `email` and `phone` is mapped.
    pub phone: Option<Mapping>,
    /// Only for templates.
    pub first_name: Option<Mapping>,
    /// Who left the contact; without it each lead is a visitor of its own.
    pub visitor_id: Option<Mapping>,
    /// The present conversation.
    pub conversation_id: Option<Mapping>,
    /// When the lead was first captured.
    pub captured_at: Option<Mapping>,
    /// When the visitor last talked; without it only repeats re-engage.
    pub last_conversation_at: Option<Mapping>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mapping {
    /// A column's name, as it stands in the catalog.
    Column(String),
    /// An SQL expression over the row `lead`, without the prefix `sql:`.
    Sql(String),
}

/// Section `[delivery]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Attempts in flight, all tenants together.
    pub concurrency: usize,
    /// Attempts in flight for one endpoint.
    pub per_endpoint: usize,
    /// For the name, the connection and the TLS handshake together.
    pub connect_timeout: Duration,
    /// For the whole attempt, where the endpoint sets none of its own.
    pub timeout: Duration,
    /// Older events are skipped; `None`: no limit.
    pub max_age: Option<Duration>,
    /// How long a stop waits for what is in flight.
    pub drain_timeout: Duration,
    /// `X-Wilow`: what our own headers begin with.
    pub header_prefix: String,
    /// `User-Agent`.
    pub user_agent: String,
}

/// Section `[egress]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Egress {
    /// What the operator allows and forbids beyond the built-in rules.
    pub lists: Lists,
    /// PEM file with further CAs that receivers' certificates may be signed by.
    pub ca_file: Option<PathBuf>,
}

/// Section `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The least severe level that is written.
    pub level: Level,
    /// How lines are written.
    pub format: Format,
    /// Whether an excerpt of a non-2xx answer is kept in the log table.
    pub response_excerpt: bool,
}

/// Section `[retention]`: how long after its end a delivery stays in the log table; `None`: for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Of what was delivered.
    pub delivered: Option<Duration>,
    /// Of what was not attempted.
    pub skipped: Option<Duration>,
    /// Of what failed or was interrupted.
    pub failed: Option<Duration>,
}

/// Section `[admin]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where to listen; `None`: nowhere.
    pub listen: Option<Listen>,
    /// Under which name a reverse proxy serves it; `None`: this host's own alone.
    pub origin: Option<Origin>,
    /// The operator's token, read from `token_file`; `None`: no API. What is wrong with the file concerns those alone who need
    /// the token: systemd hands it out to the daemon, and only while that runs.
    pub token: Result<Option<Secret<String>>, TokenProblem>,
}

/// What is wrong with the file of `admin.token_file`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenProblem {
    /// This user cannot read it; another one may.
    #[error("admin.token_file: {0}")]
    Unread(String),
    /// What stands in it is no token, or not for the operator alone.
    #[error("admin.token_file: {0}")]
    Unfit(String),
}

/// An origin as a browser names it: scheme, host and port, with TLS always.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// `https://webhooks.example.com`, the port where it is not 443.
    pub text: String,
}

impl Origin {
    /// What its requests have as their Host.
    pub fn authority(&self) -> &str {
        self.text.trim_start_matches("https://")
    }
}

/// Where the admin listener is: on this host alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A loopback address.
    Tcp(SocketAddr),
    /// A Unix socket, by its absolute path.
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// `log.level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words say it")]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// `log.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
    /// The journal's own protocol, with fields.
    Journald,
}
