//! What keeps the dispatcher from claiming: told once, tried again ever more slowly.

use std::time::{Duration, Instant};

use super::backoff::Backoff;

/// After a commit whose answer was lost, the server may still finish it: for this long, claims that are not ours to
/// send are looked for and given back.
pub(super) const UNCERTAIN: Duration = Duration::from_secs(60);

/// What keeps going wrong: told once, tried again ever more slowly until a claim succeeds.
#[derive(Default)]
pub(super) struct Trouble {
    backoff: Backoff,
    told: String,
    /// A claim of ours may stand that is not begun; until then a late commit may still bring one.
    uncertain_until: Option<Instant>,
}

impl Trouble {
    /// Logs the error where it is another one than the last; how long to wait.
    pub(super) fn tell(&mut self, error: String) -> Duration {
        if error != self.told {
            tracing::error!(error, "cannot claim, trying again; events wait in the outbox");
            self.told = error;
        }
        self.backoff.next_wait()
    }

    /// Whether it was told of already.
    pub(super) fn lasts(&self) -> bool {
        !self.told.is_empty()
    }

    pub(super) fn is_over(&mut self) {
        if !self.told.is_empty() {
            tracing::info!("claiming again");
            self.told.clear();
        }
        self.backoff.reset();
    }

    pub(super) fn is_uncertain(&self) -> bool {
        self.uncertain_until.is_some()
    }

    /// What was not begun has been given back.
    pub(super) fn looked(&mut self) {
        self.uncertain_until = self.uncertain_until.filter(|until| Instant::now() < *until);
    }

    pub(super) fn doubt(&mut self) {
        self.uncertain_until = Some(Instant::now() + UNCERTAIN);
    }
}
