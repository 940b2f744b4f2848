//! This host's clock beside the server's: signatures are by the first, the queue's times by the other, and the log's as well
//! where the two are apart.

use jiff::{SignedDuration, Timestamp};
use tokio_postgres::Error;

use super::client::Client;

/// Receivers refuse a signature whose time is minutes away from theirs (Standard Webhooks names five), so a clock that
/// is seconds off is not kept by anybody.
pub(super) const MOST_APART: SignedDuration = SignedDuration::from_secs(5);

/// Asks for the server's time.
pub(super) const NOW: &str = "\
-- clocks::now
SELECT clock_timestamp()";

/// The server's time.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn now(client: &Client) -> Result<Timestamp, Error> {
    client.query_one(NOW, &[]).await?.try_get(0)
}

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
        let (by, uncertain) = (self.by.abs(), self.round_trip.abs() / 2);
        if by > MOST_APART + uncertain {
            Some(true)
        } else if by + uncertain <= MOST_APART {
            Some(false)
        } else {
            None
        }
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
        for (by, round_trip, is_apart) in [
            (0, 10_000, Some(false)),
            (0, 10_001, None),
            (4_990, 20, Some(false)),
            (4_991, 20, None),
            (5_010, 20, None),
            (5_011, 20, Some(true)),
            (600_000, 10_000, Some(true)),
        ] {
            assert_eq!(ahead(by, round_trip).is_apart(), is_apart, "{by} {round_trip}");
            assert_eq!(ahead(-by, round_trip).is_apart(), is_apart, "{by} {round_trip}");
        }
        let asked_at = Timestamp::now() - SignedDuration::from_secs(2);
        let found = Ahead::by_answer(asked_at, asked_at - SignedDuration::from_secs(60));
        assert!(found.round_trip.as_secs() == 2 && found.by.as_secs() == 61, "{found:?}");
    }
}
