//! The heartbeat: this daemon's right to its claims. While it is fresh, nobody else may take them; when it is stale
//! (the process was frozen, or the database was away), no send begins until it is renewed and the claims were read
//! again, because another daemon may have logged them as interrupted in between.
//!
//! A stop between that last look and the socket cannot be excluded by any means.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    keyring::{KeyId, KeyRing},
    pipeline::Pipeline,
    store::{
        Error,
        instances::{self, Instance, Interrupted, Mark},
        outbox,
        session::Session,
    },
};

use super::{answer::PROMPT, guard};

/// How often the heartbeat is renewed: several times before it counts as stale.
pub const EVERY: Duration = Duration::from_secs(5);

/// After this long without a renewal no send begins. Others take the claims after 30 s on the server's clock; half of
/// it leaves room for a renewal that was slow to be answered.
const STALE: Duration = Duration::from_secs(15);

/// Of the time, at most one part in so many goes into searches of the outbox for claims that nobody owns: that is a look at
/// each pending event.
const SEARCHES: u32 = 100;

/// No beat is older.
fn long_ago() -> Instant {
    Instant::now().checked_sub(STALE * 2).unwrap_or_else(Instant::now)
}

/// What the last renewal said.
#[derive(Debug, Clone)]
struct Beat {
    /// When it was asked for, on the monotonic clock.
    at: Instant,
    /// The claims that still stood when a stale heartbeat was renewed, and when that was.
    resumed: Option<(Instant, Arc<HashSet<Uuid>>)>,
}

/// This daemon's heartbeat.
pub struct Heart {
    instance: Instance,
    beat: watch::Sender<Beat>,
    mark: watch::Sender<Option<Mark>>,
    /// The keys that the latest claim can be opened by.
    opens_by: Mutex<Option<Vec<KeyId>>>,
    next_search: Mutex<Instant>,
    /// What the guard has let pass: the version of the installation's row, and who has the key file.
    passed: Mutex<Option<(String, Arc<Pipeline>)>>,
}

impl Heart {
    /// A heart that has not beaten yet: nothing is sent before its first beat.
    pub fn new(instance: Instance) -> Self {
        Self {
            instance,
            beat: watch::Sender::new(Beat { at: long_ago(), resumed: None }),
            mark: watch::Sender::new(None),
            opens_by: Mutex::new(None),
            next_search: Mutex::new(Instant::now()),
            passed: Mutex::new(None),
        }
    }

    /// The daemon.
    pub fn instance_id(&self) -> Uuid {
        self.instance.instance_id
    }

    /// Notes what the claim that begins now is opened by: after a reload the one before may still be under way. `None`:
    /// nothing is being claimed.
    pub fn opens_by(&self, keyring: Option<&KeyRing>) {
        let keys = keyring.map(|keyring| keyring.key_ids().collect());
        *self.opens_by.lock().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// The keys of `keyring`, less those that the latest claim cannot be opened by.
    fn key_ids(&self, keyring: &KeyRing) -> Vec<String> {
        let claim = self.opens_by.lock().unwrap_or_else(PoisonError::into_inner);
        let opens = |id: &KeyId| claim.as_ref().is_none_or(|keys| keys.contains(id));
        keyring.key_ids().filter(opens).map(|id| id.to_string()).collect()
    }

    /// Renews the heartbeat where the guard lets it, and reads the claims again where it was stale. `pipeline` has the key
    /// file as it was last read. Whether there is something to [`reap`](Self::reap); `None`: the guard forbids it.
    ///
    /// # Errors
    /// What the database says, or that the connection is lost.
    pub async fn renew(&self, session: &mut Session, pipeline: &Arc<Pipeline>) -> Result<Option<bool>, Error> {
        let at = Instant::now();
        let searches = self.searches(at);
        let key_ids = self.key_ids(pipeline.keyring());
        let mut version = self.passed(session, pipeline);
        let renewed = loop {
            if let Some(version) = &version
                && let Some(renewed) = instances::renew(session, &self.instance, &key_ids, searches, version).await?
            {
                break renewed;
            }
            let Ok(seen) = guard::look(session, pipeline.keyring()).await? else { return Ok(None) };
            *self.passed.lock().unwrap_or_else(PoisonError::into_inner) =
                Some((seen.version.clone(), Arc::clone(pipeline)));
            version = Some(seen.version);
        };
        if searches {
            self.search_again(at.elapsed());
        }
        let before = self.beat.borrow().clone();
        let resumed = if at.duration_since(before.at) < STALE {
            before.resumed
        } else {
            let claims = outbox::claimed(session, self.instance.instance_id).await?;
            Some((Instant::now(), Arc::new(claims.into_iter().collect())))
        };
        self.beat.send_replace(Beat { at, resumed });
        self.mark.send_replace(Some(renewed.mark));
        Ok(Some(renewed.is_to_reap))
    }

    /// The version of the installation's row that the guard has let pass. `None`: it is to look, because the key file was
    /// read again, or because behind a pooler more than that row can change.
    fn passed(&self, session: &Session, pipeline: &Arc<Pipeline>) -> Option<String> {
        let passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let (version, by) = passed.as_ref()?;
        (!session.shared().is_pooled() && Arc::ptr_eq(by, pipeline)).then(|| version.clone())
    }

    /// Whether the outbox is to be searched. One that is given up has cost the most that is waited for.
    fn searches(&self, now: Instant) -> bool {
        let is_due = now >= *self.next_search.lock().unwrap_or_else(PoisonError::into_inner);
        if is_due {
            self.search_again(PROMPT);
        }
        is_due
    }

    /// Not before the latest search, which has cost so much, is its part of the time.
    fn search_again(&self, cost: Duration) {
        *self.next_search.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + cost * SEARCHES;
    }

    /// What each heartbeat sees of the failing triggers; `None`: there was none yet.
    pub fn marks(&self) -> watch::Receiver<Option<Mark>> {
        self.mark.subscribe()
    }

    /// Logs the claims of dead daemons as interrupted.
    ///
    /// # Errors
    /// What the database says, or that the connection is lost.
    pub async fn reap(&self, session: &mut Session) -> Result<Vec<Interrupted>, Error> {
        instances::reap(session, self.instance.instance_id).await
    }

    /// The guard forbids the next beat: from here on nothing is claimed or sent, until there is one again.
    pub fn stop(&self) {
        self.beat.send_modify(|beat| beat.at = long_ago());
    }

    /// Whether the latest beats came; the guard has let each of them pass.
    pub fn beats(&self) -> bool {
        self.beat.borrow().at.elapsed() < 2 * EVERY
    }

    /// Waits until the heartbeat is fresh: nothing is claimed before, because it could not be sent.
    pub async fn fresh(&self) {
        // The sender lives as long as we do.
        let _ = self.beat.subscribe().wait_for(|beat| beat.at.elapsed() < STALE).await;
    }

    /// Whether the delivery, claimed at `claimed_at` on the monotonic clock, may be sent now. Waits while the heartbeat
    /// is stale; `false`: the claim is ours no more.
    pub async fn may_send(&self, delivery_id: Uuid, claimed_at: Instant) -> bool {
        let mut beats = self.beat.subscribe();
        let Ok(beat) = beats.wait_for(|beat| beat.at.elapsed() < STALE).await else { return false };
        match &beat.resumed {
            Some((resumed_at, claims)) if *resumed_at > claimed_at && !claims.contains(&delivery_id) => {
                tracing::warn!("not sent: this daemon was away for so long that its claim was taken over");
                false
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::keyring::KeyFile;

    #[test]
    fn a_key_is_told_of_once_no_claim_is_under_way_that_lacks_it() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("keys");
        KeyRing::write_new(&path).unwrap();
        let before = KeyRing::read(&path).unwrap();
        KeyFile::open(&path).unwrap().add().unwrap();
        let after = KeyRing::read(&path).unwrap();
        let ids = |ring: &KeyRing| ring.key_ids().map(|id| id.to_string()).collect::<Vec<_>>();
        let heart = Heart::new(Instance { instance_id: Uuid::nil(), host: "host".to_owned(), process_id: 1 });
        assert_eq!(heart.key_ids(&after), ids(&after), "nothing is being claimed");
        heart.opens_by(Some(&before));
        assert_eq!(heart.key_ids(&after), ids(&before));
        heart.opens_by(Some(&after));
        assert_eq!(heart.key_ids(&after), ids(&after));
        assert_eq!(heart.key_ids(&before), ids(&before), "nor what the file holds no more");
        heart.opens_by(Some(&before));
        heart.opens_by(None);
        assert_eq!(heart.key_ids(&after), ids(&after));
    }

    #[test]
    fn a_search_that_was_long_or_given_up_is_not_made_at_each_beat() {
        let heart = Heart::new(Instance { instance_id: Uuid::nil(), host: "host".to_owned(), process_id: 1 });
        let now = Instant::now();
        assert!(heart.searches(now));
        assert!(!heart.searches(now + 10 * EVERY), "as long as it is not known what it costs");
        heart.search_again(EVERY / SEARCHES / 2);
        assert!(heart.searches(now + EVERY), "it cost little");
        heart.search_again(EVERY);
        assert!(!heart.searches(now + EVERY * (SEARCHES - 1)));
    }
}
