//! What helps with a delivery that failed, where there is more to say than its error does.

use jiff::{SignedDuration, Timestamp};

use super::time::span;
use crate::{
    delivery::hints::{self, Ended},
    outcome::Status,
    store::delivery_list::Delivery,
};

/// After another secret was generated receivers refuse for so long, if at all.
const NEW_SECRET: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A sentence or two; `secret_set_at`: when its tenant's present secret was generated.
pub fn hint(delivery: &Delivery, secret_set_at: Option<Timestamp>) -> Option<String> {
    let http_status = delivery.http_status.and_then(|status| u16::try_from(status).ok());
    let Status::Failed(failure) = Status::parse(&delivery.status, delivery.failure.as_deref(), None)? else {
        return None;
    };
    if let (Some(401 | 403), Some(sent_at), Some(secret_set_at)) = (http_status, delivery.sent_at, secret_set_at) {
        let after = sent_at.duration_since(secret_set_at);
        if (SignedDuration::ZERO..NEW_SECRET).contains(&after) {
            let after = span(after);
            return Some(format!(
                "The secret was generated {after} before: see whether the receiver verifies by that one."
            ));
        }
    }
    let host = delivery.host.as_deref()?;
    hints::hint(&Ended { host, failure, http_status }).map(str::to_owned)
}
