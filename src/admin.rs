//! The admin listener: how the daemon does, for probes and for Prometheus. On this host alone, and without anything that
//! could be changed or that is secret.

use std::{io, os::unix::fs::FileTypeExt as _, path::Path, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::{Mutex, watch},
    time::timeout,
};

use crate::{
    config::{Database, Listen},
    dispatch::{flight::Flight, recorder::Standing, wake_up::WakeUp},
    http_server,
    metrics::{CONTENT_TYPE, Metrics, Snapshot},
    store::{
        connect,
        outbox::{self, Backlog},
        session::Session,
    },
};

/// Whoever scrapes waits for the database no longer than that.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where it listens.
pub enum Bound {
    /// An address of this host's own.
    Tcp(TcpListener),
    /// A socket in the file system.
    Unix(UnixListener),
}

impl Bound {
    /// Begins to listen. A socket that a daemon left is replaced.
    ///
    /// # Errors
    /// What the system says; the operator must act.
    pub async fn bind(listen: &Listen) -> io::Result<Self> {
        match listen {
            Listen::Tcp(address) => TcpListener::bind(address).await.map(Self::Tcp),
            Listen::Unix(path) => {
                remove_socket(path)?;
                UnixListener::bind(path).map(Self::Unix)
            }
        }
    }
}

/// Removes what stands there, if it is a socket.
fn remove_socket(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => std::fs::remove_file(path),
        // Anything else is not ours: binding says that it is in the way.
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// What is told of.
pub struct Admin {
    /// How to reach the database, for the backlog.
    pub database: Arc<Database>,
    /// What was counted.
    pub metrics: Arc<Metrics>,
    /// What is in flight.
    pub flight: Arc<Flight>,
    /// Whether notifications come through.
    pub wake_up: WakeUp,
    /// How the daemon stands with its database.
    pub standing: watch::Receiver<Standing>,
    /// A session of its own, from the first scrape on.
    pub session: Mutex<Option<Session>>,
}

impl Admin {
    /// Answers until it is told to stop.
    pub async fn serve(self, bound: Bound, mut stop: watch::Receiver<bool>) {
        let routes = Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(Arc::new(self));
        let stopped = async move {
            // The sender outlives us; if it did not, that were a stop too.
            let _ = stop.wait_for(|stop| *stop).await;
        };
        let served = async {
            match bound {
                Bound::Tcp(listener) => {
                    http_server::serve(listener, routes.layer(middleware::from_fn(only_here)), ready_at_once).await
                }
                Bound::Unix(listener) => http_server::serve(listener, routes, ready_at_once).await,
            }
        };
        tokio::select! {
            () = stopped => {}
            never = served => match never {},
        }
    }

    fn standing(&self) -> Standing {
        *self.standing.borrow()
    }

    /// What waits, where the database tells in time.
    async fn backlog(&self) -> Option<Backlog> {
        let mut session = self.session.lock().await;
        let asked = async {
            if session.as_ref().is_none_or(Session::is_closed) {
                *session = Some(Session::new(connect::connect(&self.database.url, &self.database).await.ok()?));
            }
            outbox::backlog(session.as_mut()?).await.ok()
        };
        let backlog = timeout(PATIENCE, asked).await.ok().flatten();
        if backlog.is_none() {
            *session = None;
        }
        backlog
    }
}

/// Nothing comes before the first request.
async fn ready_at_once<S>(stream: S) -> io::Result<S> {
    Ok(stream)
}

/// A page of somebody's that a browser on this host has open reaches us under another name, if at all.
async fn only_here(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    if ["localhost", "127.0.0.1", "[::1]"].contains(&name) || host == "[::1]" {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, "this listener answers under localhost and its addresses alone\n").into_response()
}

/// The process answers.
async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether leads are sent just now; where not, why.
async fn readyz(State(admin): State<Arc<Admin>>) -> Response {
    let standing = admin.standing();
    let (database, why) = match standing {
        Standing::There => ("connected", None),
        Standing::Away => ("away", Some("the database cannot be written to: events and outcomes wait")),
        Standing::Guarded => ("guarded", Some("not the installation's database or key file: see `lead-webhook check`")),
    };
    let status = if why.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let notifications = if admin.wake_up.is_listening() { "heard" } else { "not heard, the daemon polls" };
    let told = json!({
        "ready": why.is_none(),
        "why": why,
        "database": database,
        "notifications": notifications,
        "in_flight": admin.flight.len(),
    });
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{told}\n")).into_response()
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let is_up = admin.standing() == Standing::There;
    let backlog = if is_up { admin.backlog().await } else { None };
    let now = Snapshot {
        in_flight: admin.flight.len(),
        unwritten: admin.flight.ended(),
        database_up: is_up,
        notified: admin.wake_up.is_listening(),
        pending: backlog.map(|backlog| backlog.pending),
        oldest_pending_s: backlog.and_then(|backlog| backlog.oldest_s),
    };
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], admin.metrics.text(&now)).into_response()
}
