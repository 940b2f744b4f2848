//! This host's clock beside the server's: signatures and the log's times are by the first, the queue's by the other.

use jiff::{SignedDuration, Timestamp};

/// Receivers refuse a signature whose time is minutes away from theirs (Standard Webhooks names five), so a clock that
/// is seconds off is not kept by anybody.
pub const MOST_APART: SignedDuration = SignedDuration::from_secs(5);

/// How far this host's clock is ahead of the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// So far, exact to half the round trip; negative: it is behind.
    pub by: SignedDuration,
    /// What it took to ask.
    pub round_trip: SignedDuration,
}

impl Ahead {
    /// The server was asked at `asked_at` on this host's clock, and has just answered that it is `servers`.
    pub(super) fn by_answer(asked_at: Timestamp, servers: Timestamp) -> Self {
        let round_trip = Timestamp::now().duration_since(asked_at);
        Self { by: asked_at.duration_since(servers) + round_trip / 2, round_trip }
    }

    /// Whether the clocks are apart. `None`: it took so long to ask that nobody can say.
    pub fn is_apart(&self) -> Option<bool> {
        (self.round_trip.abs() < MOST_APART).then(|| self.by.abs() > MOST_APART)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_too_long_to_ask_says_nothing() {
        let ahead = |by, round_trip| Ahead {
            by: SignedDuration::from_millis(by),
            round_trip: SignedDuration::from_millis(round_trip),
        };
        for by in [-5_000, 0, 5_000] {
            assert_eq!(ahead(by, 3).is_apart(), Some(false));
        }
        for by in [-5_001, 5_001] {
            assert_eq!(ahead(by, 3).is_apart(), Some(true));
            assert_eq!(ahead(by, 5_000).is_apart(), None);
        }
        let asked_at = Timestamp::now() - SignedDuration::from_secs(2);
        let found = Ahead::by_answer(asked_at, asked_at - SignedDuration::from_secs(60));
        assert!(found.round_trip.as_secs() == 2 && found.by.as_secs() == 61, "{found:?}");
    }
}
