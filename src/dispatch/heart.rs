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
    config::TableName,
    keyring::{KeyId, KeyRing},
    pipeline::Pipeline,
    store::{
        Error,
        clocks::Ahead,
        instances::{self, Glimpse, Instance, Interrupted, Mark, Renewed},
        outbox,
        session::Session,
    },
};

use super::{
    answer::PROMPT,
    guard::{self, Seen},
};

/// How often the heartbeat is renewed: several times before it counts as stale.
pub const EVERY: Duration = Duration::from_secs(5);

/// After this long without a renewal no send begins. Others take the claims after 30 s on the server's clock; half of
/// it leaves room for a renewal that was slow to be answered.
const STALE: Duration = Duration::from_secs(15);

/// The outbox is searched for claims that nobody owns no more often: such a claim counts only after as long.
const SEARCH: Duration = Duration::from_secs(30);

/// At most one part in so many of the time goes into that: each search reads every pending event.
const SEARCHES: u32 = 100;

/// What the last renewal said.
#[derive(Debug, Clone, Default)]
struct Beat {
    /// When it was asked for, on the monotonic clock, and what it saw of the doorbell. `None`: there was none yet, or the
    /// guard forbids the next.
    latest: Option<(Instant, Glimpse)>,
    /// The version of the installation's row that it saw.
    installation: String,
    /// The claims that still stood when a stale heartbeat was renewed, and when that was.
    resumed: Option<(Instant, Arc<HashSet<Uuid>>)>,
}

impl Beat {
    fn age(&self) -> Duration {
        self.latest.map_or(Duration::MAX, |(at, _)| at.elapsed())
    }
}

/// What one beat leaves for the next.
#[derive(Default)]
pub struct Pulse {
    /// What the guard has let pass in this session: the version of the installation's row, and who has the key file.
    passed: Option<(String, Arc<Pipeline>)>,
    /// `None`: there was no search yet.
    next_search: Option<Instant>,
}

impl Pulse {
    /// Notes what the guard let pass by the key file of `pipeline`, in the session that beats from here on.
    pub fn pass(&mut self, seen: Seen, pipeline: &Arc<Pipeline>) {
        self.passed = Some((seen.version, Arc::clone(pipeline)));
    }

    /// The version of the installation's row that has passed. `None`: the guard is to look, because the key file was read
    /// again, or because behind a pooler more than that row can change.
    fn passed(&self, session: &Session, pipeline: &Arc<Pipeline>) -> Option<String> {
        let (version, by) = self.passed.as_ref()?;
        (!session.shared().is_pooled() && Arc::ptr_eq(by, pipeline)).then(|| version.clone())
    }

    /// Whether the outbox is to be searched at `now`. The next search is put off as if this one took as long as is waited
    /// for: it may be given up.
    fn begins_search(&mut self, now: Instant) -> bool {
        let is_due = self.next_search.is_none_or(|next| now >= next);
        if is_due {
            self.searched(PROMPT);
        }
        is_due
    }

    /// Puts the next search off until one that took so long is one part in [`SEARCHES`] of the time, or less.
    fn searched(&mut self, cost: Duration) {
        self.next_search = Some(Instant::now() + SEARCH.max(cost * SEARCHES));
    }
}

/// What came of a beat.
pub struct Beaten {
    /// Claims of dead daemons, which are logged as interrupted now.
    pub interrupted: Vec<Interrupted>,
    /// This host's clock beside the server's.
    pub ahead: Ahead,
}

/// This daemon's heartbeat.
pub struct Heart {
    instance: Instance,
    /// Where there are to be triggers.
    leads: TableName,
    beat: watch::Sender<Beat>,
    mark: watch::Sender<Option<Mark>>,
    /// The keys that the latest claim can be opened by.
    opens_by: Mutex<Option<Vec<KeyId>>>,
}

impl Heart {
    /// A heart that has not beaten yet: nothing is sent before its first beat. `leads` is the table that has the triggers.
    pub fn new(instance: Instance, leads: TableName) -> Self {
        Self {
            instance,
            leads,
            beat: watch::Sender::new(Beat::default()),
            mark: watch::Sender::new(None),
            opens_by: Mutex::new(None),
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

    /// Renews the heartbeat where the guard lets it, reads the claims again where it was stale, and logs the claims of dead
    /// daemons as interrupted. `pipeline` has the key file as it was last read. `None`: the guard forbids it.
    ///
    /// # Errors
    /// What the database says, or that the connection is lost.
    pub async fn beat(
        &self,
        session: &mut Session,
        pipeline: &Arc<Pipeline>,
        pulse: &mut Pulse,
    ) -> Result<Option<Beaten>, Error> {
        let at = Instant::now();
        let Some((renewed, installation)) = self.renew(session, pipeline, pulse).await? else { return Ok(None) };
        let before = self.beat.borrow().clone();
        let resumed = if before.latest.is_some_and(|(before, _)| at.duration_since(before) < STALE) {
            before.resumed
        } else {
            let claims = outbox::claimed(session, self.instance_id()).await?;
            Some((Instant::now(), Arc::new(claims.into_iter().collect())))
        };
        self.beat.send_replace(Beat { latest: Some((at, renewed.glimpse)), installation, resumed });
        self.mark.send_replace(Some(renewed.mark));
        let is_to_reap = renewed.is_to_reap || self.searches(session, pulse).await?;
        let interrupted = if is_to_reap { instances::reap(session, self.instance_id()).await? } else { Vec::new() };
        Ok(Some(Beaten { interrupted, ahead: renewed.ahead }))
    }

    /// Searches for claims that nobody owns, where that is due; whether there are any.
    async fn searches(&self, session: &mut Session, pulse: &mut Pulse) -> Result<bool, Error> {
        let began = Instant::now();
        if !pulse.begins_search(began) {
            return Ok(false);
        }
        let found = instances::has_orphans(session, self.instance_id()).await;
        // What failed was a lock perhaps, and says nothing of the cost.
        pulse.searched(if found.is_ok() { began.elapsed() } else { Duration::ZERO });
        found
    }

    /// Only where the installation's row is the one that the guard has let pass; with its version.
    async fn renew(
        &self,
        session: &mut Session,
        pipeline: &Arc<Pipeline>,
        pulse: &mut Pulse,
    ) -> Result<Option<(Renewed, String)>, Error> {
        let key_ids = self.key_ids(pipeline.keyring());
        let mut passed = pulse.passed(session, pipeline);
        loop {
            if let Some(version) = passed
                && let Some(renewed) =
                    instances::renew(session, &self.instance, &key_ids, &version, &self.leads).await?
            {
                return Ok(Some((renewed, version)));
            }
            let Ok(seen) = guard::look(session, pipeline.keyring()).await? else { return Ok(None) };
            passed = Some(seen.version.clone());
            pulse.pass(seen, pipeline);
        }
    }

    /// What each heartbeat sees of the triggers; `None`: there was none yet.
    pub fn marks(&self) -> watch::Receiver<Option<Mark>> {
        self.mark.subscribe()
    }

    /// When the latest beat was asked for, and what it saw of the doorbell. `None`: there was none, or the guard forbids it.
    pub fn glimpse(&self) -> Option<(Instant, Glimpse)> {
        self.beat.borrow().latest
    }

    /// The guard forbids the next beat: as if none had come for long. Nothing is claimed or sent until there is one again.
    pub fn go_stale(&self) {
        self.beat.send_modify(|beat| beat.latest = None);
    }

    /// Whether the latest beats came; the guard has let each of them pass.
    pub fn beats(&self) -> bool {
        self.beat.borrow().age() < 2 * EVERY
    }

    /// Whether the latest beat saw this version of the installation's row.
    pub fn saw(&self, installation: &str) -> bool {
        self.beat.borrow().installation == installation
    }

    /// Waits until the heartbeat is fresh: nothing is claimed before, because it could not be sent.
    pub async fn fresh(&self) {
        // The sender lives as long as we do.
        let _ = self.beat.subscribe().wait_for(|beat| beat.age() < STALE).await;
    }

    /// Whether the delivery, claimed at `claimed_at` on the monotonic clock, may be sent now. Waits while the heartbeat
    /// is stale; `false`: the claim is ours no more.
    pub async fn may_send(&self, delivery_id: Uuid, claimed_at: Instant) -> bool {
        let mut beats = self.beat.subscribe();
        let Ok(beat) = beats.wait_for(|beat| beat.age() < STALE).await else { return false };
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
        let leads = TableName { schema: "public".to_owned(), name: "leads".to_owned() };
        let heart = Heart::new(Instance { instance_id: Uuid::nil(), host: "host".to_owned(), process_id: 1 }, leads);
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
        let mut pulse = Pulse::default();
        let now = Instant::now();
        assert!(pulse.begins_search(now));
        assert!(!pulse.begins_search(now + 10 * EVERY), "as long as it is not known what it costs");
        pulse.searched(EVERY / SEARCHES);
        assert!(!pulse.begins_search(now + EVERY) && pulse.begins_search(now + SEARCH + EVERY), "it cost little");
        pulse.searched(EVERY);
        assert!(!pulse.begins_search(now + 10 * SEARCH), "it cost much");
    }
}
