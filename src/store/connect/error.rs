//! Why there is no session, and what is to be done about it.

use std::{error::Error as _, io, time::Duration};

use tokio_postgres::error::SqlState;

use crate::{
    names::LookupError,
    shortage::Shortage,
    store::{said, tls::TlsError},
};

/// Why there is no session. The text names host, port, database and user; never the URL or the password.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL is no connection string. The operator must act.
    ///
    /// The parser's own words are left out: they can quote a part of the password.
    #[error(
        "the database's URL is not a connection string: expected postgres://user@host:port/database; \
         special characters of a user name or password are percent-encoded"
    )]
    Url,
    /// TLS cannot be set up. The operator must act.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// No server answered, or it refused. Passes by itself when the database was only restarting.
    #[error("cannot connect to {target}: {}{}", said(.source), remedy(.source).map(|it| format!("; {it}")).unwrap_or_default())]
    Refused {
        /// Host, port, database and user.
        target: String,
        /// What the driver or the server said.
        source: tokio_postgres::Error,
    },
    /// The server's name has no address. As [`ConnectError::Refused`].
    #[error("cannot connect to {target}: the host's name could not be looked up: {source}")]
    Name {
        /// Host, port, database and user.
        target: String,
        /// What the system said.
        source: LookupError,
    },
    /// The server took a connection and said nothing more. As [`ConnectError::Refused`].
    #[error("cannot connect to {target}: no answer within {} s", .limit.as_secs())]
    Unanswered {
        /// Host, port, database and user.
        target: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// There is a pooler in between that takes no transactions. The operator must act.
    #[error(
        "connected to {target}, which is a pooler in statement mode and takes no transactions: use pool_mode = transaction \
         or session for this login, or name the server itself"
    )]
    StatementPooler {
        /// Host, port, database and user.
        target: String,
    },
    /// The session could not be set up. As [`ConnectError::Refused`].
    #[error("connected to {target}, but the session could not be set up: {}", said(.source))]
    SetUp {
        /// Host, port, database and user.
        target: String,
        /// What the driver or the server said.
        source: tokio_postgres::Error,
    },
    /// None of several servers can be worked with.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    None(Vec<Self>),
}

impl ConnectError {
    /// Whether the text says what is to be done.
    pub fn names_its_remedy(&self) -> bool {
        match self {
            Self::Url | Self::Tls(_) | Self::StatementPooler { .. } => true,
            Self::Refused { source, .. } => remedy(source).is_some(),
            Self::Name { source, .. } => matches!(source, LookupError::Short(_)),
            Self::Unanswered { .. } | Self::SetUp { .. } => false,
            Self::None(errors) => errors.iter().any(Self::names_its_remedy),
        }
    }

    /// Whether trying again later can help without anybody acting.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Refused { .. } | Self::Name { .. } | Self::Unanswered { .. } | Self::SetUp { .. } => true,
            Self::None(errors) => errors.iter().any(Self::may_pass),
            Self::Url | Self::Tls(_) | Self::StatementPooler { .. } => false,
        }
    }
}

/// What is to be done about a server that takes no session, or that this machine has no means to connect to.
fn remedy(error: &tokio_postgres::Error) -> Option<String> {
    if error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS) {
        let needs = "a daemon needs four, a command one";
        return Some(format!("{needs}: raise the login's CONNECTION LIMIT or the server's max_connections"));
    }
    let error = error.source()?.downcast_ref::<io::Error>()?;
    Shortage::of(error).map(|shortage| shortage.to_string())
}
