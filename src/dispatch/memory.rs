//! What this daemon has claimed of late, for the case that the database forgets it: a standby that takes over without the
//! latest commits has events pending again that were sent, or in flight though their outcome was written. The daemon that
//! sent them tells such a standby by its timeline, and logs them as interrupted before it claims anything there, and
//! before it signs off there. Their uniqueness keys are written again, lest a repeat fires as a new lead.
//!
//! Several daemons wait for each other there, so that all have said what they know; one that has died remembers nothing.

use std::{
    collections::{HashSet, VecDeque},
    time::{Duration, Instant},
};

use uuid::Uuid;

use crate::store::{
    Error,
    outbox::{self, Forgotten},
    session::Session,
    timeline,
};

use super::claim::Delivery;

/// A standby that is longer behind than this is not promoted without a thought.
pub(super) const FOR: Duration = Duration::from_secs(10 * 60);

/// About 7 MiB. More than a busy application captures within the seconds that a standby is behind.
pub(super) const MOST: usize = 50_000;

/// So long the first claim waits where there are other daemons: all are back by then, whatever their back-off.
const GRACE: Duration = Duration::from_secs(10);

/// The latest claims.
#[derive(Default)]
pub struct Memory {
    claims: VecDeque<(Instant, Forgotten)>,
    /// Where they were committed; `None`: not known.
    timeline: Option<String>,
    /// When that was last seen to be another one than before.
    taken_over_at: Option<Instant>,
}

impl Memory {
    /// Notes what was claimed and committed.
    pub(super) fn note(&mut self, deliveries: &[Delivery]) {
        let now = Instant::now();
        self.claims.extend(deliveries.iter().map(|delivery| {
            let &Delivery { ref place, delivery_id, ref event, key, .. } = delivery;
            (now, Forgotten { place: place.clone(), delivery_id, event: event.kind, key })
        }));
        let too_many = self.claims.len().saturating_sub(MOST);
        let old = self.claims.iter().take_while(|(at, _)| now - *at > FOR).count();
        self.claims.drain(..too_many.max(old));
    }

    /// Forgets what was given back unsent: it is to be claimed again.
    pub(super) fn forget(&mut self, given_back: &HashSet<Uuid>) {
        self.claims.retain(|(_, claim)| !given_back.contains(&claim.delivery_id));
    }

    /// Looks at which timeline the server is. Where it is another one than before, what stands unclaimed of these claims is
    /// logged as interrupted, and so is what stands claimed though its outcome was written: all but the `unsettled`. How
    /// many that were.
    ///
    /// # Errors
    /// What the database says, or that the connection is lost; it is to be looked again then, before anything is claimed.
    pub(super) async fn meet(&mut self, session: &mut Session, own: Uuid, unsettled: &[Uuid]) -> Result<u64, Error> {
        let now = timeline::read(session).await?;
        let mut interrupted = 0;
        if self.timeline.is_some() && now.is_some() && self.timeline != now {
            let claims: Vec<&Forgotten> = self.claims.iter().map(|(_, claim)| claim).collect();
            interrupted = outbox::interrupt(session, own, &claims, unsettled).await?;
            tracing::warn!(
                interrupted,
                "another server has taken over; what it did not know to be claimed or recorded was logged as interrupted"
            );
            self.taken_over_at = Some(Instant::now());
        }
        self.timeline = now.or(self.timeline.take());
        Ok(u64::try_from(interrupted).unwrap_or_default())
    }

    /// So long the first claim has to wait where there are other daemons, which may know of more.
    pub(super) fn grace(&self) -> Duration {
        self.taken_over_at.map_or(Duration::ZERO, |at| GRACE.saturating_sub(at.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::flight::tests::delivery;

    #[test]
    fn the_latest_claims_are_remembered_and_what_was_given_back_is_not() {
        let mut memory = Memory::default();
        let deliveries: Vec<Delivery> = (0..MOST + 2).map(|_| delivery("t")).collect();
        memory.note(&deliveries);
        assert_eq!(memory.claims.len(), MOST);
        let (_, oldest) = memory.claims.front().unwrap();
        assert_eq!(oldest.delivery_id, deliveries[2].delivery_id);
        memory.forget(&HashSet::from([deliveries[2].delivery_id]));
        assert_eq!(memory.claims.len(), MOST - 1);
    }
}
