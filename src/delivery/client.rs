//! Steps 7 and 8, guard and send: one request becomes one attempt becomes one outcome.
//!
//! The only place where an HTTP client is made. It follows no redirect, repeats nothing once a byte may have been
//! written, knows no proxy, and resolves names only through the egress policy's resolver.

use std::{
    error::Error as StdError,
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use reqwest::{
    dns::{Addrs, Name, Resolve, Resolving},
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION},
    redirect, retry,
};
use rustls::ClientConfig;
use tokio::time::error::Elapsed;

use crate::{
    egress::{ResolveError, Resolver},
    event::Event,
    names::LookupError,
    outcome::{Answer, Destination, Failure, Outcome, Status, Timing},
    shortage::Shortage,
};

use super::{
    answer, excerpt,
    kept::{KEPT_FOR, Kept},
    reach::Reach,
    request::Request,
    tls::{self, ClientError},
    trace::{Connection, Timed, Trace},
};

/// No more of an answer is read than this: enough for any error message, and no receiver can fill our memory.
const ANSWER_BYTES: usize = 16 * 1024;

/// A timer that is so late was set before this process was frozen, or the machine slept.
const LATE: Duration = Duration::from_millis(250);

/// So long what came meanwhile is read then.
const READ_ON: Duration = Duration::from_secs(1);

/// Sends requests, each once.
pub struct Client {
    resolver: Resolver,
    tls: ClientConfig,
    connect_timeout: Duration,
    keep_excerpt: bool,
    kept: Kept<reqwest::Client>,
    reach: Reach,
}

impl Client {
    /// A client that resolves through `resolver` and trusts the system's authorities and those of `ca_file`.
    ///
    /// # Errors
    /// [`ClientError`]; the operator must act.
    pub fn new(
        resolver: Resolver,
        ca_file: Option<&Path>,
        connect_timeout: Duration,
        keep_excerpt: bool,
    ) -> Result<Self, ClientError> {
        let client = Self {
            resolver,
            tls: tls::config(ca_file)?,
            connect_timeout,
            keep_excerpt,
            kept: Kept::new(Instant::now()),
            reach: Reach::default(),
        };
        client.http()?;
        Ok(client)
    }

    /// An HTTP client for one attempt at a time; see [`kept`](super::kept).
    #[expect(clippy::disallowed_methods, reason = "the one place where an HTTP client is made")]
    fn http(&self) -> Result<reqwest::Client, ClientError> {
        reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .https_only(true)
            .http1_only()
            .http1_title_case_headers()
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .referer(false)
            .no_proxy()
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(KEPT_FOR)
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .dns_resolver(Guarded(self.resolver.clone()))
            .connector_layer(Timed)
            .build()
            .map_err(|error| ClientError::Library(error.into()))
    }

    /// Makes one attempt: `request`, which was made of `event`.
    ///
    /// # Errors
    /// [`Shortage`]: none could be made, and nothing was sent.
    pub async fn send(&self, request: Request, event: &Event) -> Result<Outcome, Shortage> {
        let destination = request.url.destination();
        let Some(headers) = header_map(&request) else {
            let error = "a header's name or value is not allowed in HTTP".to_owned();
            return Ok(Outcome::unsent(Status::Failed(Failure::Headers), Some(error), Some(destination)));
        };
        let kept = self.kept.take(&destination, Instant::now());
        let is_again = kept.is_some();
        let Ok(http) = kept.map_or_else(|| self.http(), Ok) else {
            let error = "the HTTP client cannot be made".to_owned();
            return Ok(Outcome::unsent(Status::Failed(Failure::Connect), Some(error), Some(destination)));
        };
        let trace = Arc::new(Trace::default());
        let mut attempt = Attempt {
            destination: destination.clone(),
            literal: request.url.literal(),
            sent_at: Timestamp::now(),
            began: Instant::now(),
            first_byte: None,
            remote: None,
            trace: Arc::clone(&trace),
        };
        let deadline = tokio::time::Instant::now() + request.timeout;
        let sending = http.post(request.url.url().clone()).headers(headers).body(request.body.clone()).send();
        match in_time(deadline, trace.scope(sending)).await {
            Err(_) => {
                let missing = if is_again || attempt.is_connected() { "answer" } else { "connection" };
                let error = format!("no {missing} within {} s", request.timeout.as_secs_f32());
                Ok(attempt.ended(Status::Failed(Failure::Timeout), Some(error), None))
            }
            Ok(Err(error)) => {
                if is_again && !error.is_connect() && !attempt.is_connected() {
                    self.kept.distrust(destination, Instant::now());
                }
                match self.shortage(&error, &attempt) {
                    Some(shortage) => Err(shortage),
                    None => Ok(attempt.failed(&error)),
                }
            }
            Ok(Ok(response)) => {
                attempt.first_byte = Some(attempt.began.elapsed());
                attempt.remote = response.remote_addr().map(|address| address.ip());
                attempt.remote.into_iter().for_each(|address| self.reach.answered(address));
                let keep_alive = text(&response, HeaderName::from_static("keep-alive"));
                let status = response.status().as_u16();
                let serves_again = answer::leaves_connection(status, announced(&response), keep_alive);
                let outcome = self.answered(attempt, response, deadline, &request, event).await;
                if serves_again {
                    self.kept.keep(destination, http, Instant::now());
                }
                Ok(outcome)
            }
        }
    }

    /// Whether it was this machine that could not connect.
    fn shortage(&self, error: &reqwest::Error, attempt: &Attempt) -> Option<Shortage> {
        if !error.is_connect() {
            return None;
        }
        match find::<ResolveError>(error) {
            Some(ResolveError::Lookup(LookupError::Short(shortage))) => Some(*shortage),
            Some(ResolveError::Lookup(LookupError::Failed(_))) => self.reach.is_nowhere().then_some(Shortage::Network),
            Some(_) => None,
            None => {
                let error = find::<io::Error>(error)?;
                Shortage::of(error).or_else(|| self.reach.shortage(error, &attempt.addresses()))
            }
        }
    }

    /// The answer's header is there: its status decides, its body is read for the log only.
    async fn answered(
        &self,
        attempt: Attempt,
        response: reqwest::Response,
        deadline: tokio::time::Instant,
        request: &Request,
        event: &Event,
    ) -> Outcome {
        let http_status = response.status().as_u16();
        let (status, error) = answer::judge(&request.url, http_status, text(&response, LOCATION));
        let content_type =
            response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).and_then(answer::content_type);
        let announced = announced(&response);
        // In what is compressed nothing that was sent could be found.
        let is_plain = text(&response, CONTENT_ENCODING).is_none();
        let body = read_beginning(response, deadline).await;
        let answer = Answer {
            http_status,
            content_type,
            length: announced.or(u64::try_from(body.len()).ok()),
            error_code: answer::error_code(&attempt.destination.host, http_status, &body),
            excerpt: if self.keep_excerpt && is_plain && !(200..300).contains(&http_status) {
                excerpt::of(&body, request, event)
            } else {
                None
            },
        };
        attempt.ended(status, error, Some(answer))
    }
}

/// One attempt under way.
struct Attempt {
    destination: Destination,
    literal: Option<IpAddr>,
    sent_at: Timestamp,
    began: Instant,
    first_byte: Option<Duration>,
    remote: Option<IpAddr>,
    trace: Arc<Trace>,
}

impl Attempt {
    fn failed(self, error: &reqwest::Error) -> Outcome {
        let (failure, text) = classify(error);
        self.ended(Status::Failed(failure), Some(text), None)
    }

    /// Whether a connection was made for it.
    fn is_connected(&self) -> bool {
        self.trace.connection().connect.is_some()
    }

    /// Those that may be connected to.
    fn addresses(&self) -> Vec<IpAddr> {
        self.literal.map_or_else(|| self.trace.connection().addresses, |literal| vec![literal])
    }

    fn ended(self, status: Status, error: Option<String>, answer: Option<Answer>) -> Outcome {
        let total = self.began.elapsed();
        let Connection { dns, addresses, connect } = self.trace.connection();
        let finished_at = Timestamp::now().max(self.sent_at);
        Outcome {
            status,
            error,
            answer,
            destination: Some(self.destination),
            address: self.remote.or(addresses.first().copied()).or(self.literal),
            sent_at: Some(self.sent_at),
            finished_at,
            timing: Timing {
                dns,
                connect: connect.map(|all| all.saturating_sub(dns.unwrap_or_default())),
                first_byte: self.first_byte,
                total: Some(total),
            },
        }
    }
}

/// Works until the deadline. Where it is we who are late, what has come by then is still to be read.
async fn in_time<T>(deadline: tokio::time::Instant, work: impl Future<Output = T>) -> Result<T, Elapsed> {
    let mut work = pin!(work);
    match tokio::time::timeout_at(deadline, &mut work).await {
        Err(_) if deadline.elapsed() > LATE => tokio::time::timeout(READ_ON, work).await,
        done => done,
    }
}

/// An answer's header, where it is text.
fn text(response: &reqwest::Response, name: HeaderName) -> Option<&str> {
    std::str::from_utf8(response.headers().get(name)?.as_bytes()).ok()
}

/// The length that its body is said to have.
fn announced(response: &reqwest::Response) -> Option<u64> {
    text(response, CONTENT_LENGTH)?.parse().ok()
}

fn header_map(request: &Request) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(request.headers.len());
    for (name, value) in &request.headers {
        let mut value = HeaderValue::from_str(value.expose()).ok()?;
        value.set_sensitive(true);
        headers.append(HeaderName::from_bytes(name.as_bytes()).ok()?, value);
    }
    Some(headers)
}

/// At most [`ANSWER_BYTES`] of the body, as far as they come before the deadline.
async fn read_beginning(mut response: reqwest::Response, deadline: tokio::time::Instant) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < ANSWER_BYTES {
        match tokio::time::timeout_at(deadline, response.chunk()).await {
            Ok(Ok(Some(chunk))) => {
                let room = ANSWER_BYTES - body.len();
                body.extend(chunk.iter().take(room));
            }
            _ => break,
        }
    }
    body
}

/// Which failure an error is, and words for it that hold nothing of the URL.
fn classify(error: &reqwest::Error) -> (Failure, String) {
    if let Some(resolve) = find::<ResolveError>(error) {
        let failure = if matches!(resolve, ResolveError::Refused(_)) { Failure::Blocked } else { Failure::Dns };
        return (failure, resolve.to_string());
    }
    if error.is_timeout() {
        return (Failure::Timeout, "no connection within delivery.connect_timeout".to_owned());
    }
    if let Some(tls) = find::<rustls::Error>(error) {
        return (Failure::Tls, tls::words(tls));
    }
    // The innermost one: libraries wrap what the system says.
    let io = chain(error).filter_map(|source| source.downcast_ref::<io::Error>()).last();
    let words = io.map_or_else(|| innermost(error), |io| io.kind().to_string());
    if !error.is_connect() {
        return (Failure::Protocol, format!("the connection broke or the answer is not HTTP: {words}"));
    }
    // The connector names its first phase; what else fails while connecting is the handshake.
    if chain(error).any(|source| source.to_string() == "tcp connect error") {
        return (Failure::Connect, format!("could not connect: {words}"));
    }
    (Failure::Tls, format!("the TLS handshake broke off: {words}"))
}

fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| inner(*error))
}

/// An `io::Error` hides what it wraps from `source`.
fn inner<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    chain(error).find_map(|source| source.downcast_ref::<E>())
}

/// The last cause's words; the outer ones repeat the URL.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

/// The egress policy's resolver as the HTTP client's: the connection goes to an address that was vetted here, there is
/// no second look-up.
struct Guarded(Resolver);

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.0.clone();
        let trace = Trace::current();
        Box::pin(async move {
            let began = Instant::now();
            // Port 0 stands for the URL's own port.
            let resolved = resolver.resolve(name.as_str(), 0).await;
            if let Some(trace) = trace {
                let addresses = match &resolved {
                    Ok(addresses) => addresses.iter().map(SocketAddr::ip).collect(),
                    Err(ResolveError::Refused(refused)) => vec![refused.address],
                    Err(_) => Vec::new(),
                };
                trace.note(|connection| {
                    connection.dns = Some(began.elapsed());
                    connection.addresses = addresses;
                });
            }
            let addresses: Addrs = Box::new(resolved?.into_iter());
            Ok(addresses)
        })
    }
}
