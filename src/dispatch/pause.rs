//! While this machine lacks what it takes to connect, nothing is sent: events wait in the outbox.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::shortage::Shortage;

use super::backoff::Backoff;

/// Where there was no shortage for so long, it is over: while there are a few descriptors some attempts get one and some
/// do not.
const CALM: Duration = Duration::from_secs(10);

/// Ever longer pauses, until an attempt is answered.
#[derive(Default)]
pub struct Pause(Mutex<State>);

#[derive(Default)]
struct State {
    backoff: Backoff,
    /// The present pause, or the last one.
    until: Option<Instant>,
    /// That there is a shortage was said.
    told: bool,
}

impl Pause {
    /// An attempt could not connect. Of several at once the first counts.
    pub(super) fn begin(&self, shortage: Shortage) {
        let mut state = self.state();
        let now = Instant::now();
        if state.until.is_some_and(|until| now < until) {
            return;
        }
        if !state.told {
            tracing::error!(error = %shortage, "cannot send, trying again; events wait in the outbox");
            state.told = true;
        }
        state.until = Some(now + state.backoff.next_wait());
    }

    /// How long nothing is to be claimed; `None`: there is no pause.
    pub(super) fn left(&self) -> Option<Duration> {
        let left = self.state().until?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// An attempt was answered.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.backoff.reset();
        if state.told && state.until.is_none_or(|until| until.elapsed() > CALM) {
            tracing::info!("sending again");
            state.told = false;
        }
    }

    /// No code that holds the lock can panic half-way through a change.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
