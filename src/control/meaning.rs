//! What a delivery's state means, where more is known than the state tells.

use jiff::{SignedDuration, Timestamp};

use crate::{outcome::Status, store::delivery_list::Delivery};

/// As long as an attempt, and the writing of its outcome, may take.
const UNDER_WAY: SignedDuration = SignedDuration::from_mins(2);

/// A sentence; `None`: its columns do not belong together. A Test or a redelivery stands as interrupted until its outcome is
/// written.
pub fn meaning(delivery: &Delivery, now: Timestamp) -> Option<&'static str> {
    let status = Status::parse(&delivery.status, delivery.failure.as_deref(), delivery.reason.as_deref())?;
    let is_by_hand = delivery.is_test || delivery.redelivery_of.is_some();
    if status == Status::Interrupted && is_by_hand && now.duration_since(delivery.queued_at) < UNDER_WAY {
        return Some("It is under way, or the daemon ended before the outcome was known: look again in a minute.");
    }
    Some(status.meaning())
}
