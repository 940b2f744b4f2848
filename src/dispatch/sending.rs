//! One delivery from its claim to the recorder: sent while the claim is ours, and logged in one line.

use std::{sync::Arc, time::Instant};

use tokio::sync::{mpsc, watch};

use crate::{
    delivery::request::Endpoint,
    failpoint,
    metrics::Metrics,
    outcome::{Failure, Outcome, SkipReason, Status},
    pipeline::{Pipeline, Unusable},
    store::delivery_log::Entry,
};

use super::{claim::Delivery, flight::Seat, heart::Heart, pause::Pause, recorder::Ended};

/// One delivery on its way.
pub(super) struct Sending {
    /// Prepares and sends.
    pub(super) pipeline: Arc<Pipeline>,
    /// Opened, or why it cannot be.
    pub(super) endpoint: Result<Arc<Endpoint>, Unusable>,
    /// Its place in flight.
    pub(super) seat: Seat,
    /// Says whether the claim is still ours.
    pub(super) heart: Arc<Heart>,
    /// How it ended is counted.
    pub(super) metrics: Arc<Metrics>,
    /// Where nothing can be sent just now.
    pub(super) pause: Arc<Pause>,
    /// On the monotonic clock, before the claim was made.
    pub(super) claimed_at: Instant,
    /// Whether others go first: where there is more to claim, so that the server works while this is sent.
    pub(super) yields_first: bool,
    /// To the recorder.
    pub(super) ended: mpsc::UnboundedSender<Ended>,
    /// Whether to stop.
    pub(super) stop: watch::Receiver<bool>,
}

impl Sending {
    /// Steps 6 to 8, then on to the recorder.
    pub(super) async fn run(mut self) {
        if self.yields_first {
            tokio::task::yield_now().await;
        }
        let delivery = Arc::clone(self.seat.delivery());
        let may_send = async {
            self.seat.admitted().await
                && (self.endpoint.is_err() || self.heart.may_send(delivery.delivery_id, self.claimed_at).await)
        };
        let may_send = tokio::select! {
            // A claim that was under way when the stop came: nothing of it is begun.
            biased;
            _ = self.stop.wait_for(|stop| *stop) => return,
            may_send = may_send => may_send,
        };
        if !may_send {
            self.seat.leave_unsent();
            return;
        }
        let outcome = match &self.endpoint {
            Err(unusable) => Pipeline::refuse(&delivery.endpoint, unusable),
            Ok(endpoint) => {
                self.seat.begin();
                failpoint::reached("sending::begun");
                match self.pipeline.send(endpoint, &delivery.event, delivery.delivery_id).await {
                    Ok(outcome) => outcome,
                    Err(shortage) => {
                        self.pause.begin(shortage);
                        self.metrics.fell_short();
                        self.seat.leave_unsent();
                        return;
                    }
                }
            }
        };
        failpoint::reached("sending::answered");
        self.seat.end();
        if outcome.timing.first_byte.is_some() {
            self.pause.end();
        }
        log_outcome(&outcome);
        self.metrics.ended(outcome.status, outcome.timing.total);
        // The recorder outlives every delivery.
        let _ = self.ended.send(Ended { entry: entry(&delivery, outcome), seat: Some(self.seat) });
    }
}

/// The log row of a delivery that ended so.
pub(super) fn entry(delivery: &Delivery, outcome: Outcome) -> Entry {
    Entry {
        place: delivery.place.clone(),
        delivery_id: delivery.delivery_id,
        lead_id: delivery.event.lead_id.clone(),
        event: delivery.event.kind,
        captured_at: delivery.captured_at,
        last_conversation_at: delivery.event.last_conversation_at,
        outcome,
    }
}

/// The one line of a finished delivery, in its span.
fn log_outcome(outcome: &Outcome) {
    let host = outcome.destination.as_ref().map(|d| d.host.as_str());
    let http_status = outcome.answer.as_ref().map(|a| a.http_status);
    let total_ms = outcome.timing.total.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX));
    match outcome.status {
        Status::Delivered => tracing::info!(host, http_status, total_ms, "delivered"),
        // What is sealed under another key, or was altered: only the operator can mend it.
        Status::Failed(failure @ (Failure::Secret | Failure::Headers)) => {
            tracing::error!(host, failure = %failure, error = outcome.error, "not delivered");
        }
        status => tracing::warn!(
            host,
            http_status,
            total_ms,
            failure = status.failure(),
            error = outcome.error,
            "not delivered"
        ),
    }
}

/// The one line of an event that was settled without an attempt.
pub(super) fn log_settled(entry: &Entry) {
    let ids = (entry.place.event_id, &entry.place.tenant_id);
    match entry.outcome.status {
        Status::Skipped(reason @ (SkipReason::Gone | SkipReason::Expired)) => {
            tracing::warn!(event.id = %ids.0, event.kind = %entry.event, tenant.id = %ids.1, reason = %reason, "skipped");
        }
        Status::Skipped(reason) => {
            tracing::info!(event.id = %ids.0, event.kind = %entry.event, tenant.id = %ids.1, reason = %reason, "skipped");
        }
        status => tracing::warn!(
            event.id = %ids.0, event.kind = %entry.event, tenant.id = %ids.1,
            failure = status.failure(), error = entry.outcome.error, "not delivered"
        ),
    }
}
