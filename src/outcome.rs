//! How a delivery ended: [`Status`] and the [`Outcome`] that becomes one row of the log.
//!
//! Whatever the receiver or the tenant's configuration causes is an outcome, never an `Err`.

mod meaning;

use std::{fmt, net::IpAddr, time::Duration};

use jiff::Timestamp;

/// Why an attempt failed, or why none was possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The receiver answered neither 2xx nor a redirect.
    HttpStatus,
    /// The receiver answered 3xx; redirects are not followed.
    Redirect,
    /// A limit of time ran out.
    Timeout,
    /// The host's name did not resolve.
    Dns,
    /// No connection could be made.
    Connect,
    /// The TLS handshake failed, the certificate included.
    Tls,
    /// The connection broke, or what came was not HTTP.
    Protocol,
    /// The egress policy forbids the destination.
    Blocked,
    /// The stored template could not be used.
    Template,
    /// The stored URL or secret could not be opened.
    Secret,
    /// The stored headers could not be opened or used.
    Headers,
    /// The lead's values could not be read.
    Lead,
}

impl Failure {
    /// All of them, in the order of the specification.
    pub const ALL: [Self; 12] = [
        Self::HttpStatus,
        Self::Redirect,
        Self::Timeout,
        Self::Dns,
        Self::Connect,
        Self::Tls,
        Self::Protocol,
        Self::Blocked,
        Self::Template,
        Self::Secret,
        Self::Headers,
        Self::Lead,
    ];

    /// The word in SQL, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HttpStatus => "http_status",
            Self::Redirect => "redirect",
            Self::Timeout => "timeout",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Protocol => "protocol",
            Self::Blocked => "blocked",
            Self::Template => "template",
            Self::Secret => "secret",
            Self::Headers => "headers",
            Self::Lead => "lead",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why no attempt was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SkipReason {
    /// The endpoint was off when the lead was captured, or at the claim.
    Disabled,
    /// The endpoint was removed in between.
    NoEndpoint,
    /// The same visitor left the same contact within the silence.
    Duplicate,
    /// The event is older than `delivery.max_age`.
    Expired,
    /// The lead was deleted before the claim.
    Gone,
    /// The operator discarded the queue of a copied database.
    Discarded,
}

impl SkipReason {
    /// All of them, in the order of the specification.
    pub const ALL: [Self; 6] =
        [Self::Disabled, Self::NoEndpoint, Self::Duplicate, Self::Expired, Self::Gone, Self::Discarded];

    /// The word in SQL, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::NoEndpoint => "no_endpoint",
            Self::Duplicate => "duplicate",
            Self::Expired => "expired",
            Self::Gone => "gone",
            Self::Discarded => "discarded",
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The final state of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// The receiver answered 2xx (or as a Google Apps Script does).
    Delivered,
    /// One attempt that failed, or none possible.
    Failed(Failure),
    /// The attempt was cut off on our side; it may have arrived.
    Interrupted,
    /// Not attempted.
    Skipped(SkipReason),
}

impl Status {
    /// Every word in column `status`.
    pub const WORDS: [&'static str; 4] = ["delivered", "failed", "interrupted", "skipped"];

    /// The word in column `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed(_) => "failed",
            Self::Interrupted => "interrupted",
            Self::Skipped(_) => "skipped",
        }
    }

    /// The word in column `failure`.
    pub fn failure(self) -> Option<&'static str> {
        match self {
            Self::Failed(failure) => Some(failure.as_str()),
            _ => None,
        }
    }

    /// The word in column `reason`.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Skipped(reason) => Some(reason.as_str()),
            _ => None,
        }
    }
}

/// `delivered`, `failed / timeout`, `skipped / gone`.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())?;
        self.failure().or_else(|| self.reason()).map_or(Ok(()), |why| write!(f, " / {why}"))
    }
}

/// How long each phase of an attempt took. `None` where the phase was not reached or not needed
/// (a kept-alive connection needs neither DNS nor a handshake).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timing {
    /// Resolving the name.
    pub dns: Option<Duration>,
    /// Connecting, the TLS handshake included.
    pub connect: Option<Duration>,
    /// From the start of the attempt to the answer's header.
    pub first_byte: Option<Duration>,
    /// The whole attempt.
    pub total: Option<Duration>,
}

/// What the receiver answered, without its body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status code, 100 to 999.
    pub http_status: u16,
    /// `Content-Type`, printable ASCII, at most 100 characters.
    pub content_type: Option<String>,
    /// `Content-Length` where the receiver gave it, else how many bytes were read (at most 16 KiB).
    pub length: Option<u64>,
    /// The error code word of a known destination (`CONFLICT`, `no_service`).
    pub error_code: Option<String>,
    /// The beginning of a non-2xx answer with every sent value blanked out; only where the operator asked for it.
    pub excerpt: Option<String>,
}

/// Where an attempt went. Never a path or query: those are credentials.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The host's name in ASCII, or its address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// How one delivery ended: everything that its log row says beside the event itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The final state.
    pub status: Status,
    /// What went wrong, in words for the operator, without anything secret or personal.
    pub error: Option<String>,
    /// What the receiver answered.
    pub answer: Option<Answer>,
    /// Where it went; `None` where the URL could not be opened.
    pub destination: Option<Destination>,
    /// The address that was connected to, or refused.
    pub address: Option<IpAddr>,
    /// When the attempt began; `None` where none was made.
    pub sent_at: Option<Timestamp>,
    /// When the outcome was known.
    pub finished_at: Timestamp,
    /// The attempt's phases.
    pub timing: Timing,
}

impl Outcome {
    /// An outcome without an attempt: nothing was sent, nothing was measured.
    pub fn unsent(status: Status, error: Option<String>, destination: Option<Destination>) -> Self {
        Self {
            status,
            error,
            answer: None,
            destination,
            address: None,
            sent_at: None,
            finished_at: Timestamp::now(),
            timing: Timing::default(),
        }
    }
}
