//! The doorbell as this daemon knows it: when commits should ring, and when they should not.
//!
//! A transaction that notifies takes a lock of the whole server until its commit is flushed, so that commits line up.
//! It is therefore asked for only by a daemon that *rests*. One that finds work twice in a row looks again anyway: it
//! silences the bell, and arms it when it has found nothing more.
//!
//! **The fence.** A transaction that found the bell silent may commit after the daemon's last look, and nobody would
//! tell. So after arming it the daemon looks on, ever more slowly, until every transaction that was under way then has
//! ended. An old transaction anywhere on the server can hold that up; after [`LOOKS`] the poll is relied on.
//!
//! **Rings are counted down** ([`RINGS`] for each arming), so that the application does not pay for a daemon that died.
//! A ringer that rolls back or takes long delays nobody: the next commit rings as well.
//!
//! Several daemons share one bell. Whoever rests arms it; whoever is busy silences it, which calls the others: those
//! that find nothing arm it again.

use std::time::Duration;

use crate::store::bell::{Armed, Look, RINGS};

/// How often it is looked after arming, at most.
const LOOKS: u32 = 20;

/// The first look of the fence comes after this: a transaction that inserts one lead is over by then.
const FIRST_LOOK: Duration = Duration::from_millis(5);

/// Looks of the fence are no further apart than this.
const LAST_LOOK: Duration = Duration::from_millis(200);

/// Claims in a row that found something: then this daemon is busy.
const BUSY: u32 = 2;

/// Rings for nothing, because their tenant may have no more in flight: then commits are not asked to ring for a while.
const FUTILE: u32 = 4;

/// That while, in looks at the dispatcher's pace: a second, or less where attempts end meanwhile.
const PACES: u32 = 100;

/// What this daemon believes of the bell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not asked yet: commits may ring.
    Unknown,
    /// Commits ring.
    Armed,
    /// Commits do not ring.
    Silent,
}

/// The bell.
#[derive(Debug)]
pub(super) struct Bell {
    state: State,
    fence: Option<(i64, u32)>,
    /// Whether it was heard since it was looked at: it may have run down, or another daemon has silenced it, and called.
    was_heard: bool,
    /// Whether the next claim is made because of a ring.
    is_rung: bool,
    streak: u32,
    /// Rings in a row that were for nothing.
    futile: u32,
}

impl Default for Bell {
    fn default() -> Self {
        Self { state: State::Unknown, fence: None, was_heard: false, is_rung: false, streak: 0, futile: 0 }
    }
}

impl Bell {
    /// Notes whether a claim found something. Tells whether a ring was for nothing.
    pub(super) fn claimed(&mut self, found: bool) -> bool {
        self.streak = if found { self.streak.saturating_add(1) } else { 0 };
        let is_rung = std::mem::take(&mut self.is_rung);
        if is_rung {
            self.futile = if found { 0 } else { self.futile.saturating_add(1) };
        }
        is_rung && !found
    }

    /// Whether the next claim silences it: this daemon looks again without being told.
    pub(super) fn is_in_the_way(&self) -> bool {
        self.streak >= BUSY && self.may_ring()
    }

    /// Whether commits ring, as far as is known.
    pub(super) fn may_ring(&self) -> bool {
        self.state != State::Silent
    }

    /// It was silenced.
    pub(super) fn silenced(&mut self) {
        self.state = State::Silent;
        self.fence = None;
    }

    /// Whether it must be armed before this daemon may rest.
    pub(super) fn must_be_armed(&self) -> bool {
        self.state != State::Armed
    }

    /// It was armed.
    pub(super) fn armed(&mut self, armed: Armed) {
        // Below half of them, nobody can have found it silent, not even while it was being armed.
        let was_silent = self.state != State::Armed || armed.rung_before >= RINGS / 2;
        if was_silent {
            self.fence = Some((armed.fence, 0));
        }
        self.state = State::Armed;
        self.was_heard = false;
    }

    /// Whether it should be looked at before this daemon rests, lest it run down or was silenced unseen.
    pub(super) fn wants_a_look(&self) -> bool {
        self.state == State::Armed && self.was_heard
    }

    /// Notes a look.
    pub(super) fn looked(&mut self, look: Look) {
        self.was_heard = false;
        self.state = match self.state {
            State::Silent if look.rung >= RINGS => State::Silent,
            State::Armed if look.rung < RINGS / 2 => State::Armed,
            // Another daemon has armed it, or it has nearly run down.
            _ => State::Unknown,
        };
        self.fence = match self.fence {
            Some((fence, looks)) if look.oldest <= fence && looks + 1 < LOOKS => Some((fence, looks + 1)),
            // What is pending is claimed after this look, or waits for something else.
            _ => None,
        };
    }

    /// When to look again because of the fence; `None`: it is passed.
    pub(super) fn next_look(&self) -> Option<Duration> {
        let (_, looks) = self.fence?;
        Some((FIRST_LOOK * (1 + looks * looks / 4)).min(LAST_LOOK))
    }

    /// This daemon rests.
    pub(super) fn rests(&mut self) {
        self.streak = 0;
    }

    /// It rang, or another daemon called.
    pub(super) fn heard(&mut self) {
        self.was_heard = true;
        self.is_rung = true;
    }

    /// Whether rings would mostly be for what has to wait for room: better to look by the clock for a while.
    pub(super) fn is_futile(&self) -> bool {
        self.futile >= FUTILE
    }

    /// It is looked without a ring once more. Whether that while is over.
    pub(super) fn paced(&mut self) -> bool {
        self.futile = self.futile.saturating_add(1);
        let is_over = self.futile >= FUTILE + PACES;
        if is_over {
            self.is_worth_it_again();
        }
        is_over
    }

    /// Nothing waits for room any more.
    pub(super) fn is_worth_it_again(&mut self) {
        self.futile = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Look = Look { is_pending: false, rung: 1, oldest: 100 };

    fn armed_at(fence: i64, rung_before: i64) -> Bell {
        let mut bell = Bell::default();
        bell.armed(Armed { rung_before, fence });
        bell
    }

    #[test]
    fn a_daemon_that_found_something_once_leaves_it_armed() {
        let mut bell = armed_at(1, RINGS);
        bell.claimed(true);
        assert!(!bell.is_in_the_way());
        bell.claimed(true);
        assert!(bell.is_in_the_way());
        bell.silenced();
        assert!(!bell.is_in_the_way() && bell.must_be_armed());
    }

    #[test]
    fn a_busy_daemon_silences_it_once_unless_another_arms_it() {
        let mut bell = armed_at(1, RINGS);
        (0..BUSY).for_each(|_| _ = bell.claimed(true));
        bell.silenced();
        bell.looked(Look { rung: RINGS, ..NOTHING });
        assert!(!bell.is_in_the_way() && bell.must_be_armed());
        bell.looked(NOTHING);
        assert!(bell.is_in_the_way());
    }

    #[test]
    fn the_fence_is_passed_when_every_older_transaction_has_ended() {
        let mut bell = armed_at(99, RINGS);
        bell.looked(Look { oldest: 99, ..NOTHING });
        assert!(bell.next_look().is_some(), "99 itself is under way");
        bell.looked(NOTHING);
        assert_eq!(bell.next_look(), None);
    }

    #[test]
    fn an_old_transaction_does_not_hold_the_fence_up_for_ever() {
        let mut bell = armed_at(99, RINGS);
        let mut waited = Duration::ZERO;
        while let Some(wait) = bell.next_look() {
            assert!(wait <= LAST_LOOK);
            waited += wait;
            bell.looked(Look { oldest: 7, ..NOTHING });
        }
        assert!(waited > Duration::from_millis(500) && waited < Duration::from_secs(5), "{waited:?}");
    }

    #[test]
    fn arming_it_in_time_needs_no_fence() {
        let mut bell = armed_at(99, RINGS);
        bell.looked(NOTHING);
        bell.armed(Armed { rung_before: RINGS / 4, fence: 200 });
        assert_eq!(bell.next_look(), None);
        bell.armed(Armed { rung_before: RINGS / 2, fence: 300 });
        assert!(bell.next_look().is_some());
    }

    #[test]
    fn rings_are_futile_only_where_the_claims_they_cause_find_nothing() {
        let mut bell = armed_at(99, RINGS);
        let ring = |bell: &mut Bell, found| {
            bell.heard();
            assert_ne!(bell.claimed(found), found);
        };
        for _ in 0..10 * FUTILE {
            ring(&mut bell, true);
            bell.claimed(false);
            bell.claimed(false);
        }
        assert!(!bell.is_futile(), "claims made by the clock say nothing of the rings");
        (0..FUTILE).for_each(|_| ring(&mut bell, false));
        assert!(bell.is_futile());
    }

    #[test]
    fn it_is_armed_again_before_it_has_run_down() {
        let mut bell = armed_at(99, RINGS);
        bell.heard();
        assert!(bell.wants_a_look());
        bell.looked(Look { rung: RINGS / 2, ..NOTHING });
        assert!(bell.must_be_armed());
    }
}
