//! The log rows of events that a claim settles by itself, without an attempt.

use jiff::Timestamp;

use crate::{
    event::EventKind,
    outcome::{Destination, Failure, Outcome, SkipReason, Status},
    store::{
        delivery_log::{self, Entry},
        endpoints::SealedEndpoint,
        outbox::Pending,
    },
};

/// Nothing is sent, for this reason.
pub(super) fn skipped(
    event: &Pending,
    captured_at: Option<Timestamp>,
    reason: SkipReason,
    endpoint: Option<&SealedEndpoint>,
) -> Entry {
    let outcome = Outcome::unsent(Status::Skipped(reason), delivery_log::skip_text(reason), destination(endpoint));
    entry(event, captured_at, outcome)
}

/// Nothing can be sent, because the lead cannot be read.
pub(super) fn broken(event: &Pending, error: &str, endpoint: Option<&SealedEndpoint>) -> Entry {
    let outcome = Outcome::unsent(Status::Failed(Failure::Lead), Some(error.to_owned()), destination(endpoint));
    entry(event, None, outcome)
}

fn entry(event: &Pending, captured_at: Option<Timestamp>, outcome: Outcome) -> Entry {
    let (kind, last_conversation_at) = event.marked();
    Entry {
        place: event.place.clone(),
        delivery_id: event.delivery_id,
        lead_id: event.lead_id.clone(),
        event: kind,
        captured_at,
        last_conversation_at: last_conversation_at.filter(|_| kind == EventKind::ReEngaged),
        outcome,
    }
}

fn destination(endpoint: Option<&SealedEndpoint>) -> Option<Destination> {
    endpoint.and_then(|e| e.destination())
}
