//! One clock for everything: microseconds since 1970, as the database's `clock_timestamp()` on the same machine.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now.
pub(crate) fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

/// Seconds between two times; negative where `to` was first.
#[expect(clippy::cast_precision_loss, reason = "a benchmark's microseconds stay far below 2^52")]
pub(crate) fn seconds(from: u64, to: u64) -> f64 {
    (to as f64 - from as f64) / 1e6
}
