//! Whether an idle daemon knows without asking that nothing is pending: while the bell is armed every event rings, and each
//! heartbeat brings along how often it was rung. So an idle daemon's poll asks nothing of its own: the heartbeat is all.
//!
//! A ring comes before its commit. So the count must have stood still until all transactions have ended that may have rung
//! before it was first read, and the outbox must have been found empty after that. What no ring tells (an event that
//! somebody else has put there) is found by a look now and then.

use std::time::{Duration, Instant};

use crate::store::{bell::Look, instances::Glimpse};

use super::heart;

/// The outbox is looked at so often, however still it is.
const ANYWAY: Duration = Duration::from_secs(30);

/// So much later than it should have come, a heartbeat still counts.
const LATE: Duration = Duration::from_secs(1);

/// What is known since a daemon rests, and nothing was pending.
#[derive(Debug, Default)]
pub(super) struct Stillness {
    /// The latest heartbeat.
    beat: Option<(Instant, Glimpse)>,
    /// Every transaction that may have rung before the count was first read has a smaller number.
    fence: Option<i64>,
    /// Whether all of those have ended.
    is_passed: bool,
    /// When the outbox was last found empty after that.
    looked_at: Option<Instant>,
}

impl Stillness {
    /// Notes the latest heartbeat; the same may be told more than once.
    pub(super) fn beat(&mut self, at: Instant, glimpse: Glimpse) {
        match self.beat.replace((at, glimpse)) {
            Some((before, _)) if before == at => {}
            Some((_, before)) if before.rung == glimpse.rung && before.backend == glimpse.backend => {
                let fence = *self.fence.get_or_insert(glimpse.own);
                self.is_passed |= glimpse.oldest > fence;
            }
            _ => *self = Self { beat: self.beat, ..Self::default() },
        }
    }

    /// The outbox was found empty.
    pub(super) fn looked(&mut self, now: Instant) {
        self.looked_at = self.is_passed.then_some(now);
    }

    /// Whether `look` has found an event that has not rung, and no later heartbeat can tell of the next one.
    pub(super) fn is_broken_by(&self, look: Look) -> bool {
        look.is_pending && self.looked_at.is_some() && self.beat.is_some_and(|(_, beat)| beat.rung == look.rung)
    }

    /// Whether a poll every `poll_interval` needs no look `now`.
    pub(super) fn holds(&self, now: Instant, poll_interval: Duration) -> bool {
        let is_recent = |at: Instant, within: Duration| now.duration_since(at) < within;
        let has_beaten = self.beat.is_some_and(|(at, _)| is_recent(at, poll_interval.min(heart::EVERY) + LATE));
        has_beaten && self.looked_at.is_some_and(|at| is_recent(at, ANYWAY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Duration = heart::EVERY;

    /// Heartbeats from a start on, each with a look that finds nothing.
    struct Idle {
        still: Stillness,
        now: Instant,
    }

    impl Idle {
        fn new() -> Self {
            Self { still: Stillness::default(), now: Instant::now() }
        }

        fn beat(&mut self, rung: i64, oldest: i64, own: i64, backend: i32) -> bool {
            self.now += heart::EVERY;
            self.still.beat(self.now, Glimpse { rung, oldest, own, backend });
            let holds = self.still.holds(self.now, POLL);
            if !holds {
                self.still.looked(self.now);
            }
            holds
        }
    }

    #[test]
    fn nothing_is_asked_once_the_count_has_stood_still_for_all_that_may_have_rung() {
        let mut idle = Idle::new();
        assert!(!idle.beat(1, 100, 100, 7), "it may have been rung just now");
        assert!(!idle.beat(1, 101, 101, 7), "who rang before is 100 at most");
        assert!(!idle.beat(1, 102, 102, 7), "all of them have ended: what they queued can be seen");
        assert!(idle.beat(1, 103, 103, 7));
        assert!(!idle.beat(2, 104, 104, 7), "a ring");
        assert!(!idle.beat(2, 105, 105, 7) && !idle.beat(2, 106, 106, 7) && idle.beat(2, 107, 107, 7));
        assert!(!idle.beat(2, 108, 108, 8), "another session of the heart's: the server may be another one");
    }

    #[test]
    fn an_old_transaction_may_have_rung_and_must_end_first() {
        let mut idle = Idle::new();
        assert!((101..120).all(|own| !idle.beat(1, 100, own, 7)));
        assert!(!idle.beat(1, 120, 120, 7) && idle.beat(1, 121, 121, 7));
    }

    #[test]
    fn a_beat_that_does_not_come_and_half_a_minute_end_it() {
        let mut idle = Idle::new();
        (100..103).for_each(|own| _ = idle.beat(1, own, own, 7));
        assert!(idle.beat(1, 103, 103, 7));
        assert!(!idle.still.holds(idle.now + heart::EVERY + LATE, POLL));
        assert!(
            !idle.still.holds(idle.now + 2 * LATE, LATE),
            "who polls more often than the heart beats looks by himself"
        );
        let looks = (104..116).filter(|own| !idle.beat(1, *own, *own, 7)).count();
        assert_eq!(looks, 2, "in a minute");
    }

    #[test]
    fn an_event_that_has_not_rung_is_told_from_one_that_rings_just_now() {
        let mut idle = Idle::new();
        let look = |is_pending, rung| Look { is_pending, rung, oldest: 200 };
        assert!(
            !idle.beat(1, 100, 100, 7) && !idle.still.is_broken_by(look(true, 1)),
            "it may have been queued before"
        );
        (101..104).for_each(|own| _ = idle.beat(1, own, own, 7));
        assert!(idle.still.is_broken_by(look(true, 1)));
        assert!(!idle.still.is_broken_by(look(true, 2)) && !idle.still.is_broken_by(look(false, 1)));
    }

    #[test]
    fn one_beat_told_twice_is_one() {
        let (mut still, now) = (Stillness::default(), Instant::now());
        let glimpse = Glimpse { rung: 1, oldest: 200, own: 100, backend: 7 };
        (0..4).for_each(|_| still.beat(now, glimpse));
        still.looked(now);
        assert!(!still.holds(now, POLL));
    }
}
