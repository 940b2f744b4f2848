//! [`Seat`]: one delivery's place in flight, and how it is left.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{Flight, Phase};
use crate::dispatch::{claim::Delivery, memory};

/// What has waited for so long was claimed ahead of a receiver that has become slow: it is given back.
const TOO_LONG: Duration = Duration::from_secs(1);

/// One delivery's place in flight; an attempt that has not ended makes room when it is dropped.
pub struct Seat {
    pub(super) flight: Arc<Flight>,
    pub(super) delivery: Arc<Delivery>,
    /// `None`: it is admitted.
    pub(super) turn: Option<oneshot::Receiver<()>>,
}

impl Seat {
    /// The delivery.
    pub fn delivery(&self) -> &Arc<Delivery> {
        &self.delivery
    }

    /// Waits until its attempt may begin. `false`: it has waited too long, and is to be given back.
    pub async fn admitted(&mut self) -> bool {
        let Some(turn) = self.turn.take() else { return true };
        // The other half is dropped only when it has answered: the flight lives as long as we do.
        tokio::time::timeout(TOO_LONG, turn).await.is_ok()
    }

    /// From here on a request may have left.
    pub fn begin(&self) {
        self.flight.state().move_to(&self.delivery, Phase::Begun);
    }

    /// Its outcome is written: nothing is in doubt.
    pub fn leave_recorded(self) {
        let mut state = self.flight.state();
        state.move_to(&self.delivery, Phase::Recorded);
        let now = Instant::now();
        state.recorded.push_back((now, self.delivery.delivery_id));
        let too_many = state.recorded.len().saturating_sub(memory::MOST);
        let old = state.recorded.iter().take_while(|(at, _)| now - *at > memory::FOR).count();
        state.recorded.drain(..too_many.max(old));
    }

    /// It was not sent, and will not be: the claim is to be given back.
    pub fn leave_unsent(self) {
        let (flight, delivery) = (Arc::clone(&self.flight), Arc::clone(&self.delivery));
        flight.state().take_back(&delivery);
        drop(self);
        flight.state().unsent.push(delivery);
        flight.left_unsent.notify_one();
    }

    /// The outcome is known: the attempt makes room.
    pub fn end(&self) {
        let tenant_id = &self.delivery.place.tenant_id;
        let mut state = self.flight.state();
        state.move_to(&self.delivery, Phase::Ended);
        state.change(tenant_id, |share| share.ended += 1);
        state.make_room(tenant_id);
        drop(state);
        self.flight.left.notify_one();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.flight.state();
        let tenant_id = &self.delivery.place.tenant_id;
        match state.deliveries.remove(&self.delivery.delivery_id).map(|(_, phase)| phase) {
            Some(Phase::Waiting) => {
                state.waiting.retain(|turn| turn.delivery.delivery_id != self.delivery.delivery_id);
                state.change(tenant_id, |share| share.waiting -= 1);
            }
            Some(Phase::Admitted) => state.make_room(tenant_id),
            Some(Phase::Begun) => {
                state.in_doubt.insert(self.delivery.delivery_id);
                state.make_room(tenant_id);
            }
            Some(Phase::Ended) => {
                state.in_doubt.insert(self.delivery.delivery_id);
            }
            Some(Phase::Recorded) | None => {}
        }
        drop(state);
        self.flight.left.notify_one();
    }
}
