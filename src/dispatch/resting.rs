//! Between two claims: what the dispatcher waits for, and what it asks of the doorbell meanwhile.

use std::time::{Duration, Instant};

use tokio::task::{JoinError, JoinSet};

use crate::store::bell::{self, Look};

use super::{bell::Bell, dispatcher::Dispatcher, flight::Flight, ready::Ready, stillness::Stillness};

/// While rings are futile, looks come at this pace: a lead that has room waits no longer for its turn.
const PACE: Duration = Duration::from_millis(10);

/// Why nothing more can be claimed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// As many are in flight as may be.
    Full,
    /// As many are in flight as may be of those tenants that have more pending.
    HeldBack,
    /// Nothing more is pending.
    Empty,
    /// This machine lacks what it takes to connect; tried again after so long.
    Short(Duration),
}

/// Room comes in swarms: for so long more of it is waited for, so that a claim is worth its round trips.
const SWARM: Duration = Duration::from_millis(10);

/// What ended a wait.
enum Woken {
    Stopped,
    Rung,
    Room,
    Unsent,
    Timer,
}

impl Dispatcher {
    /// Waits until there may be something to claim. `false`: it is time to stop.
    pub(super) async fn rest(
        &mut self,
        ready: &mut Ready,
        tasks: &mut JoinSet<()>,
        why: Why,
        patience: Duration,
    ) -> Result<bool, String> {
        if let Some(bell) = &mut ready.bell {
            bell.rests();
            if why == Why::Empty {
                bell.is_worth_it_again();
            }
        }
        match why {
            Why::Full => self.rest_unheard(ready, tasks, why, patience).await,
            Why::Short(left) => self.rest_unheard(ready, tasks, why, patience.min(left)).await,
            Why::HeldBack if self.is_paced(ready).await? => {
                Ok(!matches!(self.wait(tasks, PACE, why, false).await, Woken::Stopped))
            }
            Why::HeldBack | Why::Empty => self.rest_on_the_bell(ready, tasks, why, patience).await,
        }
    }

    /// Nobody needs to tell us anything before a delivery leaves, or the pause is over.
    async fn rest_unheard(
        &mut self,
        ready: &mut Ready,
        tasks: &mut JoinSet<()>,
        why: Why,
        patience: Duration,
    ) -> Result<bool, String> {
        if ready.bell.as_ref().is_some_and(Bell::may_ring) {
            self.silence(ready).await?;
        }
        Ok(!matches!(self.wait(tasks, patience, why, false).await, Woken::Stopped))
    }

    /// Whether to look by the clock, because a tenant that has to wait for room rings all the time.
    async fn is_paced(&self, ready: &mut Ready) -> Result<bool, String> {
        let Some(bell) = &mut ready.bell else { return Ok(false) };
        if !bell.is_futile() {
            return Ok(false);
        }
        if !bell.may_ring() {
            return Ok(!bell.paced());
        }
        self.silence(ready).await?;
        Ok(true)
    }

    async fn silence(&self, ready: &mut Ready) -> Result<(), String> {
        self.ask(bell::silence(ready.session.shared())).await?;
        if let Some(bell) = &mut ready.bell {
            bell.silenced();
        }
        Ok(())
    }

    /// Commits ring while we wait here.
    async fn rest_on_the_bell(
        &mut self,
        ready: &mut Ready,
        tasks: &mut JoinSet<()>,
        why: Why,
        patience: Duration,
    ) -> Result<bool, String> {
        let mut stillness = Stillness::default();
        loop {
            let look_at_once = self.make_sure_of_the_bell(ready, why).await?;
            if !look_at_once {
                let fence = ready.bell.as_ref().and_then(Bell::next_look);
                let owed = ready.horizon.owed_in(Instant::now());
                let patience = [fence, owed].into_iter().flatten().fold(patience, Duration::min);
                match self.wait(tasks, patience, why, true).await {
                    Woken::Stopped => return Ok(false),
                    Woken::Room | Woken::Unsent => return Ok(true),
                    Woken::Rung => {
                        if let Some(bell) = &mut ready.bell {
                            bell.heard();
                        }
                        return Ok(true);
                    }
                    Woken::Timer => {
                        // A claim would find out, but where nothing is pending none is made.
                        self.look_out(ready).await?;
                        if fence.is_none() && owed.is_none() && self.is_still(ready, &mut stillness) {
                            continue;
                        }
                    }
                }
            }
            // Of what is held back something is always pending; what was claimed and not begun is not.
            let look = self.look(ready).await?;
            ready.all_ring &= !stillness.is_broken_by(look);
            if look.is_pending || why != Why::Empty || ready.is_uncertain {
                return Ok(true);
            }
            stillness.looked(Instant::now());
        }
    }

    /// Whether the heartbeat tells that nothing is pending. Behind a pooler it may come from another server.
    fn is_still(&self, ready: &Ready, stillness: &mut Stillness) -> bool {
        if let Some((at, glimpse)) = self.heart.glimpse() {
            stillness.beat(at, glimpse);
        }
        let is_told = ready.all_ring && ready.bell.as_ref().is_some_and(|bell| !bell.must_be_armed());
        let is_connected = !ready.session.is_closed() && !ready.session.shared().is_pooled();
        is_told && is_connected && stillness.holds(Instant::now(), self.database.poll_interval)
    }

    /// Sees to it that commits ring. Whether to look at once, for what came before they did.
    async fn make_sure_of_the_bell(&self, ready: &mut Ready, why: Why) -> Result<bool, String> {
        if ready.bell.as_ref().is_some_and(Bell::wants_a_look) {
            let look = self.look(ready).await?;
            // Of what is held back something is always pending.
            if look.is_pending && (why == Why::Empty || ready.horizon.has_receded()) {
                return Ok(true);
            }
        }
        let Some(bell) = &mut ready.bell else { return Ok(false) };
        if self.wake_up.is_deaf() {
            if !bell.must_be_armed() {
                self.silence(ready).await?;
            }
            return Ok(false);
        }
        if !bell.must_be_armed() {
            return Ok(false);
        }
        bell.armed(self.ask(bell::arm(&mut ready.session)).await?);
        Ok(bell.next_look().is_some())
    }

    /// Looks whether anything is pending, over the whole outbox where that is due.
    pub(super) async fn look(&self, ready: &mut Ready) -> Result<Look, String> {
        let began = Instant::now();
        let look = if ready.horizon.is_due(began) {
            let (look, since) = self.ask(bell::survey(&mut ready.session)).await?;
            ready.horizon.looked(since, began, Instant::now());
            look
        } else {
            ready.horizon.owe();
            self.ask(bell::look(&mut ready.session, ready.horizon.since())).await?
        };
        if let Some(bell) = &mut ready.bell {
            bell.looked(look);
        }
        Ok(look)
    }

    /// Waits for the first reason to look again.
    async fn wait(&mut self, tasks: &mut JoinSet<()>, patience: Duration, why: Why, hears: bool) -> Woken {
        let timer = tokio::time::sleep(patience);
        tokio::pin!(timer);
        loop {
            tokio::select! {
                _ = self.stop.wait_for(|stop| *stop) => return Woken::Stopped,
                () = self.wake_up.heard(), if hears => return Woken::Rung,
                () = &mut timer => return Woken::Timer,
                () = self.flight.left_unsent() => return Woken::Unsent,
                // Somebody waits for the room that this one leaves.
                () = self.flight.left(), if matches!(why, Why::Full | Why::HeldBack) => break,
                Some(ended) = tasks.join_next() => tell_panic(ended),
            }
        }
        tokio::select! {
            () = gather_room(&self.flight) => Woken::Room,
            () = &mut timer => Woken::Room,
            () = self.wake_up.heard(), if hears => Woken::Rung,
        }
    }
}

/// Waits for the swarm, where there is little room. Where it does not come, it is not waited for.
pub(super) async fn gather_room(flight: &Flight) {
    let swarm = async {
        while !flight.has_much_room() {
            flight.left().await;
        }
    };
    let _ = tokio::time::timeout(SWARM, swarm).await;
}

/// Forgets the tasks that have ended: each is kept until then, and claims may follow each other without a rest.
pub(super) fn forget_ended(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.try_join_next() {
        tell_panic(ended);
    }
}

fn tell_panic(ended: Result<(), JoinError>) {
    if ended.is_err_and(|error| error.is_panic()) {
        tracing::error!("a delivery's task has panicked; if it was being sent it will stand as interrupted");
    }
}
