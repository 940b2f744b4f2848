//! The log rows of events that a claim settles by itself, without an attempt.

use std::sync::Arc;

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

/// What an event is logged as where the claim has nothing to decide.
fn event_of(event: &Pending) -> EventKind {
    event.decided.map_or(event.kind.presumed(), |(kind, _)| kind)
}

/// Of one who came back, as far as it is known.
fn last_conversation_of(event: &Pending) -> Option<Timestamp> {
    let presumed = (event.kind.presumed(), event.previous_conversation_at);
    let (kind, last_conversation_at) = event.decided.unwrap_or(presumed);
    last_conversation_at.filter(|_| kind == EventKind::ReEngaged)
}

/// Nothing is sent, for this reason.
pub(super) fn skipped(
    event: &Pending,
    captured_at: Option<Timestamp>,
    reason: SkipReason,
    endpoint: Option<&Arc<SealedEndpoint>>,
) -> Entry {
    let outcome = Outcome::unsent(Status::Skipped(reason), delivery_log::skip_text(reason), destination(endpoint));
    entry(event, captured_at, outcome)
}

/// Nothing can be sent, because the lead cannot be read.
pub(super) fn broken(event: &Pending, error: &str, endpoint: Option<&Arc<SealedEndpoint>>) -> Entry {
    let outcome = Outcome::unsent(Status::Failed(Failure::Lead), Some(error.to_owned()), destination(endpoint));
    entry(event, None, outcome)
}

fn entry(event: &Pending, captured_at: Option<Timestamp>, outcome: Outcome) -> Entry {
    Entry {
        place: event.place.clone(),
        delivery_id: event.delivery_id,
        lead_id: event.lead_id.clone(),
        event: event_of(event),
        captured_at,
        last_conversation_at: last_conversation_of(event),
        outcome,
    }
}

fn destination(endpoint: Option<&Arc<SealedEndpoint>>) -> Option<Destination> {
    endpoint.and_then(|e| e.destination())
}
