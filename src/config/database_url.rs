//! Whether a database URL can be used, said without quoting any of it: it may hold a password.
//!
//! Knows `tokio_postgres` for one reason: a URL is what that crate takes for one.

use std::error::Error as _;

use tokio_postgres::config::{Host, SslMode};

use super::{Tls, reader::Setting};
use crate::secret::Secret;

/// A URL, or `host=… user=…`.
pub(super) fn database_url(setting: &Setting) -> Result<Secret<String>, String> {
    let url = Secret::new(setting.text()?.trim().to_owned());
    if url.expose().is_empty() {
        return Err("must not be empty: write postgres://user@host:5432/database".to_owned());
    }
    let parsed = parse(url.expose())?;
    if parsed.get_hosts().iter().any(|host| matches!(host, Host::Tcp(name) if name.contains('@'))) {
        return Err("has an @ in its user or password: write it as %40".to_owned());
    }
    let nowhere = parsed.get_hosts().is_empty() && parsed.get_hostaddrs().is_empty();
    if nowhere || parsed.get_hosts().contains(&Host::Tcp(String::new())) {
        return Err(
            "names no host: write postgres://user@host:5432/database, or ?host=/run/postgresql for a socket".to_owned()
        );
    }
    Ok(url)
}

/// As [`database_url`]; empty means that another URL stands in.
pub(super) fn optional_database_url(setting: &Setting) -> Result<Option<Secret<String>>, String> {
    if setting.text()?.trim().is_empty() { Ok(None) } else { database_url(setting).map(Some) }
}

/// An `sslmode` in `url` that asks for something else than `database.tls`, which is what counts.
pub(super) fn contradicts(url: &Secret<String>, tls: Tls) -> Option<&'static str> {
    match (parse(url.expose()).ok()?.get_ssl_mode(), tls) {
        (SslMode::Disable, Tls::Prefer | Tls::Require | Tls::VerifyFull) => {
            Some("has sslmode=disable, which database.tls overrides: remove it, or set database.tls = \"disable\" too")
        }
        (SslMode::Require, Tls::Disable | Tls::Prefer) => Some(
            "has sslmode=require, which database.tls overrides: set database.tls = \"require\" or \"verify-full\" too",
        ),
        _ => None,
    }
}

/// The crate's own texts may quote the URL, except for the one that names an option of which it knows the name.
fn parse(url: &str) -> Result<tokio_postgres::Config, String> {
    url.parse::<tokio_postgres::Config>().map_err(|error| {
        let cause = error.source().map(ToString::to_string).unwrap_or_default();
        let wrong = if cause == "invalid value for option `sslmode`" {
            "has an sslmode that is not known here: remove it and set database.tls instead"
        } else if cause.starts_with("invalid value for option `") {
            return format!("cannot be used: {cause}");
        } else {
            "is not a PostgreSQL URL: write postgres://user:password@host:5432/database, with special characters \
             percent-encoded and no option that is not libpq's"
        };
        wrong.to_owned()
    })
}
