//! How far back a claim looks. While an old transaction is open somewhere on the server, the rows that claims have left
//! behind cannot be removed, and each look over the whole outbox passes all of them. So the whole is looked over now
//! and then, as its cost allows, and what lies between begins where the oldest pending event was.
//!
//! An event of a transaction that took longer than half a second comes in behind the horizon: the next look over the
//! whole finds it.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// Of the time, at most one part in so many goes into looks over the whole.
const SHARE: u32 = 20;

/// While there is always more to claim, the whole is looked over so often.
const EVERY: Duration = Duration::from_secs(1);

/// What is known of the outbox as a whole.
#[derive(Debug, Default)]
pub(super) struct Horizon {
    since: Option<Timestamp>,
    /// When the latest look over the whole ended, and how long it took.
    latest: Option<(Instant, Duration)>,
    /// Whether something may have come in behind the horizon since.
    is_owed: bool,
    /// Whether something had: the latest look over the whole found it.
    has_receded: bool,
}

impl Horizon {
    /// Nothing that was queued before is pending, as far as is known; `None`: everything must be looked at.
    pub(super) fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// The whole was looked over from `began` to `now`; nothing pending was older than `since`.
    pub(super) fn looked(&mut self, since: Timestamp, began: Instant, now: Instant) {
        let has_receded = self.since.is_some_and(|before| since < before);
        *self = Self { since: Some(since), latest: Some((now, now - began)), is_owed: false, has_receded };
    }

    /// Whether the latest look over the whole found something that claims have left out.
    pub(super) fn has_receded(&self) -> bool {
        self.has_receded
    }

    /// Something may have come in behind the horizon; what was found there is known to claims by now.
    pub(super) fn owe(&mut self) {
        self.is_owed = self.since.is_some();
        self.has_receded = false;
    }

    /// Something went back to the queue; `None`: it is not known how old it is.
    pub(super) fn recede(&mut self, to: Option<Timestamp>) {
        self.since = self.since.min(to);
    }

    /// Whether a look may go over the whole.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due_in(now).is_zero()
    }

    /// Whether a daemon that does not rest should look over the whole.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.is_due(now) && self.latest.is_none_or(|(at, _)| now - at >= EVERY)
    }

    /// After how long a daemon that rests should look over the whole; `None`: when it looks anyway.
    pub(super) fn owed_in(&self, now: Instant) -> Option<Duration> {
        self.is_owed.then(|| self.due_in(now))
    }

    fn due_in(&self, now: Instant) -> Duration {
        self.latest.map_or(Duration::ZERO, |(at, cost)| (cost * SHARE).saturating_sub(now - at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_dear_look_over_the_whole_is_made_seldom() {
        let began = Instant::now();
        let mut horizon = Horizon::default();
        assert!(horizon.is_due(began) && horizon.is_overdue(began), "nothing is known yet");
        horizon.looked(Timestamp::UNIX_EPOCH, began, began + SECOND);
        assert!(!horizon.is_due(began + 20 * SECOND));
        assert!(horizon.is_due(began + 21 * SECOND));
    }

    #[test]
    fn a_cheap_one_is_made_whenever_a_daemon_rests_and_now_and_then_where_it_does_not() {
        let now = Instant::now();
        let mut horizon = Horizon::default();
        horizon.looked(Timestamp::UNIX_EPOCH, now, now);
        assert!(horizon.is_due(now) && !horizon.is_overdue(now));
        assert!(horizon.is_overdue(now + EVERY));
    }

    #[test]
    fn what_may_lie_behind_is_looked_for_as_soon_as_it_is_due() {
        let began = Instant::now();
        let mut horizon = Horizon::default();
        horizon.owe();
        assert_eq!(horizon.owed_in(began), None, "there is no horizon yet");
        horizon.looked(Timestamp::UNIX_EPOCH, began, began + SECOND);
        assert_eq!(horizon.owed_in(began + SECOND), None);
        horizon.owe();
        assert_eq!(horizon.owed_in(began + SECOND), Some(20 * SECOND));
        horizon.looked(Timestamp::UNIX_EPOCH, began + 21 * SECOND, began + 21 * SECOND);
        assert_eq!(horizon.owed_in(began + 21 * SECOND), None);
    }
}
