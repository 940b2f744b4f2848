//! What is in flight: from the claim until the outcome is recorded. Bounds what a crash leaves in doubt, and tells
//! each claim how much more may fly, in all and for each tenant.
//!
//! An attempt makes room when it ends, so that others are claimed and sent while its outcome is being written; what is
//! claimed and not recorded is bounded as well, to twice as many.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use uuid::Uuid;

use crate::store::outbox;

use super::claim::Delivery;

/// How far a delivery has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Claimed; nothing was sent.
    Claimed,
    /// Its attempt has begun.
    Begun,
    /// Its outcome waits to be written.
    Ended,
    /// Its outcome is written.
    Recorded,
}

/// Times the attempts that may be in flight: the most that may be claimed and not recorded.
const UNRECORDED: usize = 2;

#[derive(Default)]
struct State {
    deliveries: HashMap<Uuid, (Arc<Delivery>, Phase)>,
    /// Deliveries that may have been sent and have no outcome: they stay claimed, and are never given back.
    in_doubt: HashSet<Uuid>,
    /// Whether a delivery left without having been sent: its claim may still stand.
    has_unsent: bool,
    /// Attempts that are to be made or under way.
    by_tenant: HashMap<String, usize>,
}

impl State {
    /// Attempts that are to be made or under way, of all tenants.
    fn attempts(&self) -> usize {
        self.by_tenant.values().sum()
    }

    /// How many more may be claimed.
    fn room(&self, concurrency: usize) -> usize {
        let attempts = concurrency.saturating_sub(self.attempts());
        attempts.min((concurrency * UNRECORDED).saturating_sub(self.deliveries.len()))
    }

    /// One attempt less.
    fn make_room(&mut self, tenant: &str) {
        if let Some(n) = self.by_tenant.get_mut(tenant) {
            *n -= 1;
            if *n == 0 {
                self.by_tenant.remove(tenant);
            }
        }
    }
}

/// All deliveries in flight.
pub struct Flight {
    concurrency: usize,
    per_endpoint: usize,
    state: Mutex<State>,
    left: Notify,
}

impl Flight {
    /// Nothing in flight yet; `concurrency` in all, `per_endpoint` for one tenant.
    pub fn new(concurrency: usize, per_endpoint: usize) -> Self {
        Self { concurrency, per_endpoint, state: Mutex::default(), left: Notify::new() }
    }

    /// What the next claim may pick; `None`: nothing more may fly now.
    pub fn request(&self, cursor: &str, max_age_us: Option<i64>) -> Option<outbox::Request> {
        let state = self.state();
        let permits = state.room(self.concurrency);
        if permits == 0 {
            return None;
        }
        let free = |n: &usize| i32::try_from(self.per_endpoint.saturating_sub(*n)).unwrap_or(i32::MAX);
        Some(outbox::Request {
            permits: i64::try_from(permits).unwrap_or(i64::MAX),
            per_endpoint: i32::try_from(self.per_endpoint).unwrap_or(i32::MAX),
            free: state.by_tenant.iter().map(|(tenant, n)| (tenant.clone(), free(n))).collect(),
            cursor: cursor.to_owned(),
            max_age_us,
        })
    }

    /// How many attempts are to be made or under way.
    pub fn attempts(&self) -> usize {
        self.state().attempts()
    }

    /// Whether half of all attempts or more may begin.
    pub fn has_much_room(&self) -> bool {
        self.state().room(self.concurrency) >= self.concurrency.div_ceil(2)
    }

    /// Counts `delivery` as in flight until the seat is dropped.
    pub fn board(self: &Arc<Self>, delivery: Delivery) -> Seat {
        let delivery = Arc::new(delivery);
        let mut state = self.state();
        *state.by_tenant.entry(delivery.place.tenant_id.clone()).or_default() += 1;
        state.deliveries.insert(delivery.delivery_id, (Arc::clone(&delivery), Phase::Claimed));
        drop(state);
        Seat { flight: Arc::clone(self), delivery }
    }

    /// The deliveries that must not be given back to the queue: those in flight, and those in doubt.
    pub fn held(&self) -> Vec<Uuid> {
        let state = self.state();
        state.deliveries.keys().chain(&state.in_doubt).copied().collect()
    }

    /// Notes that a delivery may have been sent and has no outcome.
    pub fn doubt(&self, delivery_id: Uuid) {
        self.state().in_doubt.insert(delivery_id);
    }

    /// Whether a delivery left unsent since this was last asked: what stands claimed and is not held is to be given back.
    pub fn take_unsent(&self) -> bool {
        std::mem::take(&mut self.state().has_unsent)
    }

    /// Whether [`Flight::take_unsent`] would say so.
    pub fn has_unsent(&self) -> bool {
        self.state().has_unsent
    }

    /// How many are in flight.
    pub fn len(&self) -> usize {
        self.state().deliveries.len()
    }

    /// Whether nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The deliveries whose attempts have begun and not ended.
    pub fn begun(&self) -> Vec<Arc<Delivery>> {
        self.in_phase(Phase::Begun)
    }

    /// How many outcomes wait to be written.
    pub fn ended(&self) -> usize {
        self.in_phase(Phase::Ended).len()
    }

    /// Waits until a delivery leaves.
    pub async fn left(&self) {
        self.left.notified().await;
    }

    fn in_phase(&self, phase: Phase) -> Vec<Arc<Delivery>> {
        let state = self.state();
        state.deliveries.values().filter(|(_, p)| *p == phase).map(|(d, _)| Arc::clone(d)).collect()
    }

    /// No code that holds the lock can panic half-way through a change.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One delivery's place in flight; dropping it makes room.
pub struct Seat {
    flight: Arc<Flight>,
    delivery: Arc<Delivery>,
}

impl Seat {
    /// The delivery.
    pub fn delivery(&self) -> &Arc<Delivery> {
        &self.delivery
    }

    /// From here on a request may have left.
    pub fn begin(&self) {
        self.move_to(Phase::Begun);
    }

    /// Its outcome is written: nothing is in doubt.
    pub fn leave_recorded(self) {
        self.move_to(Phase::Recorded);
    }

    /// It was not sent, and will not be: the claim may be given back.
    pub fn leave_unsent(self) {
        self.flight.state().has_unsent = true;
    }

    /// The outcome is known: the attempt makes room.
    pub fn end(&self) {
        self.move_to(Phase::Ended);
        self.flight.state().make_room(&self.delivery.place.tenant_id);
        self.flight.left.notify_one();
    }

    fn move_to(&self, phase: Phase) {
        if let Some((_, p)) = self.flight.state().deliveries.get_mut(&self.delivery.delivery_id) {
            *p = phase;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.flight.state();
        let phase = state.deliveries.remove(&self.delivery.delivery_id).map(|(_, phase)| phase);
        if let Some(Phase::Begun | Phase::Ended) = phase {
            state.in_doubt.insert(self.delivery.delivery_id);
        }
        if let Some(Phase::Claimed | Phase::Begun) = phase {
            state.make_room(&self.delivery.place.tenant_id);
        }
        drop(state);
        self.flight.left.notify_one();
    }
}
