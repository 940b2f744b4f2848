//! `lead-webhook receive`: a receiver on this host, which verifies and prints, for trying things out. It needs neither
//! configuration nor database.

mod authority;
mod inspection;

use std::{
    collections::HashSet,
    future::pending,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, request::Parts},
    response::{IntoResponse as _, Response},
};
use jiff::Timestamp;
use serde_json::json;
use tokio::{net::TcpListener, time::sleep};

use self::{
    authority::Authority,
    inspection::{Inspection, Verdict},
};
use super::{Failure, output, verify};
use crate::{http_server, secret::SigningSecret, shutdown};

/// Connections at once: what two daemons have under their defaults.
const CLIENTS: usize = 512;

/// The command line's options.
pub(super) struct Options {
    pub(super) listen: SocketAddr,
    pub(super) secret_file: Option<PathBuf>,
    pub(super) respond: u16,
    pub(super) delay: Duration,
    pub(super) ca_file: PathBuf,
    pub(super) json: bool,
}

/// Receives until a signal comes.
pub(super) async fn receive(options: Options) -> Result<(), Failure> {
    let (secrets, status) = readable(&options)?;
    let authority = Authority::at(&options.ca_file).map_err(Failure::operation)?;
    let tls = authority.server().map_err(Failure::operation)?;
    let place = format!("--listen {}", options.listen);
    let listener = TcpListener::bind(options.listen).await.map_err(|error| Failure::of_the_system(&place, &error))?;
    let address = listener.local_addr().map_err(|error| Failure::of_the_system(&place, &error))?;
    greet(address, &options.ca_file, authority.is_new, secrets.is_some());
    let mut signals = shutdown::Requests::new().map_err(|error| Failure::of_the_system("signals", &error))?;
    let desk = Arc::new(Desk { secrets, status, options, count: AtomicU64::new(0), seen: Mutex::default() });
    let routes = Router::new().fallback(answer).with_state(desk.clone());
    let open = |stream| {
        let opening = tls.accept(stream);
        async { opening.await.inspect_err(tell_handshake) }
    };
    // Whoever stops it waits for nobody's answer.
    tokio::select! {
        () = http_server::serve(listener, CLIENTS, routes, open, pending()) => {}
        _ = signals.next() => {}
    }
    let count = desk.count.load(Ordering::Relaxed);
    output::message(&format!("{count} request{}", if count == 1 { "" } else { "s" }));
    Ok(())
}

/// Secrets and status of the options; every problem of them at once.
fn readable(options: &Options) -> Result<(Option<Vec<SigningSecret>>, StatusCode), Failure> {
    let mut problems = Vec::new();
    if ![IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)].contains(&options.listen.ip()) {
        problems.push(format!(
            "--listen {}: give 127.0.0.1 or [::1] with a port: it is for this host alone",
            options.listen
        ));
    }
    let secrets = options.secret_file.as_deref().map(verify::secrets).transpose();
    let secrets = secrets.unwrap_or_else(|problem| {
        problems.push(problem);
        None
    });
    if problems.is_empty() {
        let status = StatusCode::from_u16(options.respond).map_err(Failure::operation)?;
        return Ok((secrets, status));
    }
    Err(Failure::Arguments(problems.join("\n")))
}

fn greet(address: SocketAddr, ca_file: &Path, is_new: bool, verifies: bool) {
    let file = std::path::absolute(ca_file).unwrap_or_else(|_| ca_file.to_owned());
    output::message(&format!(
        "listens on https://localhost:{}/, any path{}\n\
         {} {}; the daemon sends here with\n\
         \n  [egress]\n  allow_hosts = [\"localhost\"]\n  ca_file = \"{}\"\n\n\
         Ctrl-C ends it",
        address.port(),
        if verifies { "" } else { "; without --secret-file it verifies nothing" },
        if is_new { "made its certification authority," } else { "its certification authority is" },
        file.display(),
        file.display(),
    ));
}

/// What a client is not content with is seen here alone.
fn tell_handshake(error: &io::Error) {
    output::message(&format!("a connection ended before its request, in the TLS handshake: {error}"));
}

/// Where requests come in.
struct Desk {
    secrets: Option<Vec<SigningSecret>>,
    status: StatusCode,
    options: Options,
    count: AtomicU64,
    /// Of each event that came.
    seen: Mutex<HashSet<String>>,
}

async fn answer(State(desk): State<Arc<Desk>>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let now = Timestamp::now();
    let limit = usize::try_from(verify::MOST).unwrap_or(usize::MAX);
    let Ok(body) = to_bytes(body, limit).await else {
        output::message("a request ended within its body, or its body has no end");
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let inspection = desk.secrets.as_ref().map(|secrets| Inspection::of(&head.headers, &body, secrets, now));
    let is_right = inspection.as_ref().is_none_or(Inspection::is_right);
    let is_taken = is_right && desk.status.is_success();
    let received = Received {
        number: desk.count.fetch_add(1, Ordering::Relaxed) + 1,
        is_again: is_taken && desk.is_again(&head.headers),
        answered: if is_right { desk.status } else { StatusCode::UNAUTHORIZED },
        at: now,
        head,
        body: String::from_utf8_lossy(&body).into_owned(),
        inspection,
    };
    // Where nobody reads what it says, it answers all the same.
    let _ = if desk.options.json { output::json(&received.json()) } else { received.show() };
    sleep(desk.options.delay).await;
    (received.answered, [("content-type", "text/plain")], format!("{}\n", received.answered)).into_response()
}

impl Desk {
    /// Whether the same event came before, and was taken.
    fn is_again(&self, headers: &HeaderMap) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        inspection::text(headers, "webhook-id").is_some_and(|id| !seen.insert(id.to_owned()))
    }
}

/// A request, and what was made of it.
struct Received {
    number: u64,
    is_again: bool,
    answered: StatusCode,
    at: Timestamp,
    head: Parts,
    body: String,
    inspection: Option<Inspection>,
}

impl Received {
    fn event(&self) -> Option<&str> {
        inspection::ours(&self.head.headers, "-event").map(|(_, event)| event)
    }

    /// What was found of each signature.
    fn verdicts(&self) -> Vec<(&str, &Verdict)> {
        self.inspection
            .iter()
            .flat_map(|found| [(found.hex.0.as_str(), &found.hex.1), ("webhook-signature", &found.standard)])
            .collect()
    }

    fn headers(&self) -> Vec<(&str, String)> {
        let headers = self.head.headers.iter();
        headers.map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()).into_owned())).collect()
    }

    fn json(&self) -> serde_json::Value {
        let signatures: serde_json::Map<_, _> = self
            .verdicts()
            .into_iter()
            .map(|(name, verdict)| (name.to_owned(), json!(verdict.as_ref().err().map_or("fits", String::as_str))))
            .collect();
        json!({
            "number": self.number,
            "at": self.at.to_string(),
            "method": self.head.method.as_str(),
            "path": self.head.uri.to_string(),
            "event": self.event(),
            "headers": self.headers(),
            "body": self.body,
            "verified": self.inspection.as_ref().map(Inspection::is_right),
            "signatures": signatures,
            "seen_before": self.is_again,
            "answered": self.answered.as_u16(),
        })
    }

    fn show(&self) -> Result<(), Failure> {
        let event = self.event().unwrap_or("no event");
        let (method, path, answered) = (&self.head.method, &self.head.uri, self.answered.as_u16());
        let mut lines = vec![format!(
            "#{} {} {method} {path}  {event}  answered {answered}",
            self.number,
            self.at.strftime("%H:%M:%S%.3f")
        )];
        for (name, verdict) in self.verdicts() {
            lines.push(match verdict {
                Ok(()) => format!("✓ {name} fits"),
                Err(why) => format!("✗ {name} {why}"),
            });
        }
        if self.is_again {
            lines.push("! the same webhook-id came before: a receiver takes the first alone".to_owned());
        }
        lines.extend(self.headers().into_iter().map(|(name, value)| format!("  {name}: {value}")));
        lines.push(format!("  {}", self.body));
        lines.iter().try_for_each(|line| output::data(&super::fields::printable(line)))
    }
}
