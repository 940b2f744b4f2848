//! The sections of the configuration, key by key: name, default, range. `config/lead-webhook.toml` says the same to
//! people, and a test holds the two together.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::egress::Lists;

use super::{
    Admin, Columns, Config, Database, Delivery, Egress, Format, Leads, Level, Log, Mapping, Notify, Retention,
    TableName, Tls, TokenProblem,
    database_url::{contradicts, database_url, optional_database_url},
    files, parse,
    reader::{Reader, Setting},
};
use crate::secret::Secret;

/// Where the keys are, unless the configuration or systemd says otherwise.
const KEYS_FILE: &str = "/etc/lead-webhook/keys";

/// Where the operator's token is, unless the configuration or systemd says otherwise.
const TOKEN_FILE: &str = "/etc/lead-webhook/admin-token";

/// Beyond this a period is a slip of the pen (humantime's year: 365.25 days), and still fits an interval and a date.
const LONGEST_PERIOD: Duration = Duration::from_secs(10 * 31_557_600);

/// Above it file descriptors and the database, not the setting, are the limit.
const MOST_ATTEMPTS: usize = 4096;

const MILLISECONDS_100: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// Reads every section. What is wrong is noted in `reader`; the result counts only where nothing is.
pub(super) fn read(reader: &mut Reader, credentials_directory: Option<&Path>) -> Config {
    Config {
        database: database(reader),
        leads: leads(reader),
        delivery: delivery(reader),
        egress: egress(reader),
        keys_file: reader.read_or("keys.file", || default_keys_file(credentials_directory), files::path),
        log: log(reader),
        retention: retention(reader),
        admin: Admin {
            listen: reader.read("admin.listen", None, parse::listen),
            origin: reader.read("admin.origin", None, parse::origin),
            token: token(reader, credentials_directory),
        },
    }
}

fn database(reader: &mut Reader) -> Database {
    const URLS: [&str; 3] = ["database.url", "database.owner_url", "database.listen_url"];
    let origins = URLS.map(|key| reader.origin(key));
    let [url_key, owner_key, listen_key] = URLS;
    let url = reader.read_or(url_key, || "postgres://lead_webhook@localhost/app".to_owned().into(), database_url);
    let owner_url = reader.read(owner_key, None, optional_database_url);
    let listen_url = reader.read(listen_key, None, optional_database_url);
    let password = reader.read("database.password_file", None, files::secret_in_file);
    let tls = reader.read("database.tls", Tls::Prefer, parse::word(&TLS));
    for ((key, origin), url) in URLS.iter().zip(&origins).zip([Some(&url), owner_url.as_ref(), listen_url.as_ref()]) {
        let judged = url.filter(|_| reader.is_fine("database.tls"));
        if let Some(text) = judged.and_then(|url| contradicts(url, tls)) {
            reader.note(key, origin, text);
        }
    }
    let notify = reader.read("database.notify", Notify::Auto, parse::word(&NOTIFY));
    let (owner_role, daemon_role) = roles(reader);
    Database {
        owner_url: owner_url.unwrap_or_else(|| url.clone()),
        listen_url: listen_url.unwrap_or_else(|| url.clone()),
        url,
        password,
        tls,
        tls_ca_file: tls_ca_file(reader, tls),
        notify,
        poll_interval: reader.read("database.poll_interval", 5 * SECOND, parse::duration(MILLISECONDS_100..=HOUR)),
        owner_role,
        daemon_role,
    }
}

const TLS: [(&str, Tls); 4] =
    [("disable", Tls::Disable), ("prefer", Tls::Prefer), ("require", Tls::Require), ("verify-full", Tls::VerifyFull)];

const NOTIFY: [(&str, Notify); 3] = [("auto", Notify::Auto), ("on", Notify::On), ("off", Notify::Off)];

/// A CA that nothing is verified against would be trusted by its operator for nothing.
fn tls_ca_file(reader: &mut Reader, tls: Tls) -> Option<PathBuf> {
    const KEY: &str = "database.tls_ca_file";
    let origin = reader.origin(KEY);
    let file = reader.read(KEY, None, files::certificates);
    if file.is_some() && tls != Tls::VerifyFull && reader.is_fine("database.tls") {
        reader.note(
            KEY,
            &origin,
            "is of no effect: set database.tls = \"verify-full\", nothing else verifies certificates",
        );
    }
    file
}

/// The owner may do everything with the schema, the daemon only what it is granted: one role cannot be both.
fn roles(reader: &mut Reader) -> (String, String) {
    const KEY: &str = "database.daemon_role";
    let owner = reader.read("database.owner_role", "lead_webhook_owner".to_owned(), parse::role);
    let origin = reader.origin(KEY);
    let daemon = reader.read(KEY, "lead_webhook_daemon".to_owned(), parse::role);
    if owner == daemon {
        reader.note(KEY, &origin, "is the same as database.owner_role: the daemon needs a role of its own");
    }
    (owner, daemon)
}

fn leads(reader: &mut Reader) -> Leads {
    let table = || TableName { schema: "public".to_owned(), name: "leads".to_owned() };
    Leads {
        table: reader.read_or("leads.table", table, parse::table),
        silence: reader.read("leads.silence", 30 * DAY, parse::duration(SECOND..=LONGEST_PERIOD)),
        columns: columns(reader),
    }
}

fn columns(reader: &mut Reader) -> Columns {
    const EMAIL: &str = "leads.columns.email";
    const PHONE: &str = "leads.columns.phone";
    let named = |column: &str| Mapping::Column(column.to_owned());
    let id = reader.read("leads.columns.id", named("id"), parse::mapping);
    let tenant_id = reader.read("leads.columns.tenant_id", named("tenant_id"), parse::mapping);
    let origin = reader.origin(EMAIL);
    let mut optional = |key, column| reader.read(key, Some(named(column)), parse::optional_mapping);
    let columns = Columns {
        id,
        tenant_id,
        email: optional(EMAIL, "email"),
        phone: optional(PHONE, "phone"),
        first_name: optional("leads.columns.first_name", "first_name"),
        visitor_id: optional("leads.columns.visitor_id", "visitor_id"),
        conversation_id: optional("leads.columns.conversation_id", "conversation_id"),
        captured_at: optional("leads.columns.captured_at", "created_at"),
        last_conversation_at: optional("leads.columns.last_conversation_at", "last_conversation_at"),
    };
    if columns.email.is_none() && columns.phone.is_none() {
        reader.note(EMAIL, &origin, format!("neither it nor {PHONE} is mapped: map at least one of the two"));
    }
    columns
}

fn delivery(reader: &mut Reader) -> Delivery {
    let concurrency = reader.read("delivery.concurrency", 256, parse::count(1..=MOST_ATTEMPTS));
    // Where concurrency itself is wrong, its default would judge per_endpoint unjustly.
    let most = if reader.is_fine("delivery.concurrency") { concurrency } else { MOST_ATTEMPTS };
    let per_endpoint = |setting: &Setting| {
        parse::count(1..=most)(setting).map_err(|text| format!("{text}, which is delivery.concurrency"))
    };
    Delivery {
        concurrency,
        per_endpoint: reader.read("delivery.per_endpoint", concurrency.min(16), per_endpoint),
        connect_timeout: reader.read(
            "delivery.connect_timeout",
            5 * SECOND,
            parse::duration(MILLISECONDS_100..=MINUTE),
        ),
        timeout: reader.read("delivery.timeout", 15 * SECOND, parse::duration(SECOND..=MINUTE)),
        max_age: reader.read("delivery.max_age", Some(72 * HOUR), parse::limit(SECOND..=LONGEST_PERIOD)),
        drain_timeout: reader.read(
            "delivery.drain_timeout",
            30 * SECOND,
            parse::duration(Duration::ZERO..=10 * MINUTE),
        ),
        header_prefix: reader.read("delivery.header_prefix", "X-Wilow".to_owned(), parse::header_prefix),
        user_agent: reader.read("delivery.user_agent", "Wilow-Webhook/1.0".to_owned(), parse::user_agent),
    }
}

fn egress(reader: &mut Reader) -> Egress {
    Egress {
        lists: Lists {
            allow_hosts: reader.read("egress.allow_hosts", Vec::new(), parse::list(parse::host)),
            allow_networks: reader.read("egress.allow_networks", Vec::new(), parse::list(parse::network)),
            deny_networks: reader.read("egress.deny_networks", Vec::new(), parse::list(parse::network)),
        },
        ca_file: reader.read("egress.ca_file", None, files::certificates),
    }
}

fn log(reader: &mut Reader) -> Log {
    Log {
        level: reader.read("log.level", Level::Info, parse::word(&LEVELS)),
        format: reader.read("log.format", Format::Auto, parse::word(&FORMATS)),
        response_excerpt: reader.read("log.response_excerpt", false, Setting::flag),
    }
}

/// Nothing newer leaves the log: the sweep knows a lead of the last 24 hours by its row.
pub const SHORTEST_RETENTION: Duration = Duration::from_secs(2 * 86_400);

fn retention(reader: &mut Reader) -> Retention {
    let mut period = |key, default| reader.read(key, Some(default), parse::limit(SHORTEST_RETENTION..=LONGEST_PERIOD));
    Retention {
        delivered: period("retention.delivered", 90 * DAY),
        skipped: period("retention.skipped", 90 * DAY),
        failed: period("retention.failed", 365 * DAY),
    }
}

const LEVELS: [(&str, Level); 5] = [
    ("error", Level::Error),
    ("warn", Level::Warn),
    ("info", Level::Info),
    ("debug", Level::Debug),
    ("trace", Level::Trace),
];

const FORMATS: [(&str, Format); 4] =
    [("auto", Format::Auto), ("text", Format::Text), ("json", Format::Json), ("journald", Format::Journald)];

/// The keys as a systemd credential where there is one, so that the unit needs no setting for it.
fn default_keys_file(credentials_directory: Option<&Path>) -> PathBuf {
    credential(credentials_directory, "keys").unwrap_or_else(|| PathBuf::from(KEYS_FILE))
}

/// What systemd hands out under this name.
fn credential(directory: Option<&Path>, name: &str) -> Option<PathBuf> {
    directory.map(|directory| directory.join(name)).filter(|path| path.exists())
}

fn token(reader: &mut Reader, credentials_directory: Option<&Path>) -> Result<Option<Secret<String>>, TokenProblem> {
    let default = || {
        let file = || Some(PathBuf::from(TOKEN_FILE)).filter(|path| path.exists());
        credential(credentials_directory, "admin-token").or_else(file)
    };
    let path = reader.read_or("admin.token_file", default, files::optional_path);
    path.map(|path| files::token(&path)).transpose()
}
