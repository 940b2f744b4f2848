//! How the daemon does, for probes and for Prometheus. Nothing of it is secret, and nothing can be changed.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use tokio::{sync::watch, time::timeout};

use super::sessions::{PATIENCE, Sessions};
use crate::{
    control::token::Bearer,
    dispatch::{flight::Flight, recorder::Standing, wake_up::WakeUp},
    metrics::{CONTENT_TYPE, Metrics, Snapshot},
    store::outbox::{self, Backlog},
};

/// What is told of.
#[derive(Clone)]
pub struct Probes {
    /// What was counted.
    pub metrics: Arc<Metrics>,
    /// What is in flight.
    pub flight: Arc<Flight>,
    /// Whether notifications come through.
    pub wake_up: WakeUp,
    /// How the daemon stands with its database.
    pub standing: watch::Receiver<Standing>,
    /// For the backlog.
    pub sessions: Sessions,
}

/// `/healthz`, `/readyz` and `/metrics`.
pub(super) fn routes(probes: Probes) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(probes)
}

impl Probes {
    fn standing(&self) -> Standing {
        *self.standing.borrow()
    }

    /// What waits, where the database tells in time.
    async fn backlog(&self) -> Option<Backlog> {
        let asked = self.sessions.within(&Bearer::Operator, async |session| Ok(outbox::backlog(session).await?));
        timeout(PATIENCE, asked).await.ok()?.ok()
    }
}

/// The process answers.
async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether leads are queued and sent just now; where not, why.
async fn readyz(State(probes): State<Probes>) -> Response {
    let standing = probes.standing();
    let (database, why) = match standing {
        Standing::There if !probes.metrics.is_claiming() => {
            ("connected", Some("no event can be claimed, the log says why: events wait"))
        }
        Standing::There if !probes.metrics.is_queueing() => (
            "connected",
            Some("a trigger is missing or switched off, new leads are not queued: see `lead-webhook check`"),
        ),
        Standing::There if probes.metrics.is_missing_leads() => {
            ("connected", Some("triggers fail and so does the search for what they miss: see `lead-webhook check`"))
        }
        Standing::There => ("connected", None),
        Standing::Away => ("away", Some("the database cannot be written to: events and outcomes wait")),
        Standing::Guarded => ("guarded", Some("not the installation's database or key file: see `lead-webhook check`")),
    };
    let status = if why.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let notifications = if probes.wake_up.is_listening() { "heard" } else { "not heard, the daemon polls" };
    let told = json!({
        "ready": why.is_none(),
        "why": why,
        "database": database,
        "notifications": notifications,
        "in_flight": probes.flight.len(),
    });
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{told}\n")).into_response()
}

async fn metrics(State(probes): State<Probes>) -> Response {
    let is_up = probes.standing() == Standing::There;
    let backlog = if is_up { probes.backlog().await } else { None };
    let now = Snapshot {
        in_flight: probes.flight.len(),
        unwritten: probes.flight.ended(),
        database_up: is_up,
        notified: probes.wake_up.is_listening(),
        pending: backlog.map(|backlog| backlog.pending),
        oldest_pending_s: backlog.and_then(|backlog| backlog.oldest_s),
    };
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], probes.metrics.text(&now)).into_response()
}
