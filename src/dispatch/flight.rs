//! What is in flight: from the claim until the outcome is recorded. Bounds what a crash leaves in doubt, and tells
//! each claim how much more may fly, in all and for each tenant.
//!
//! An attempt makes room when it ends, so that others are claimed and sent while its outcome is being written. As many
//! more as end within some milliseconds are claimed ahead, and admitted as others end, the longest claimed first: so a
//! claim is not waited for where answers are quick, and none is made ahead where they are slow. Where they become slow,
//! what waits for them takes nobody's room, and goes back to the queue. What is claimed and not recorded is bounded as
//! well.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

use crate::store::outbox;

use super::claim::Delivery;

mod seat;

pub use seat::Seat;

/// How far a delivery has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Claimed ahead; waits until an attempt ends.
    Waiting,
    /// Its attempt may begin; nothing was sent.
    Admitted,
    /// Its attempt has begun.
    Begun,
    /// Its outcome waits to be written.
    Ended,
    /// Its outcome is written.
    Recorded,
}

/// So many times the concurrency may be claimed and not recorded; up to twice as many where answers are quick.
const UNRECORDED: usize = 4;

/// For about so long may a delivery that is claimed ahead wait; a claim takes some milliseconds.
const AHEAD: Duration = Duration::from_millis(20);

/// One tenant's part of what is in flight.
#[derive(Default)]
struct Share {
    /// Attempts that are admitted or under way.
    attempts: usize,
    /// Claimed ahead.
    waiting: usize,
    /// Attempts that have ended since they were last counted.
    ended: usize,
    /// How many may be claimed ahead.
    ahead: usize,
}

impl Share {
    fn is_nothing(&self) -> bool {
        self.attempts + self.waiting + self.ended + self.ahead == 0
    }
}

/// A delivery that waits to be admitted.
struct Turn {
    delivery: Arc<Delivery>,
    admit: oneshot::Sender<()>,
}

struct State {
    concurrency: usize,
    per_endpoint: usize,
    deliveries: HashMap<Uuid, (Arc<Delivery>, Phase)>,
    /// Deliveries that may have been sent and have no outcome: they stay claimed, and are never given back.
    in_doubt: HashSet<Uuid>,
    /// Recorded of late: a server that takes over may lack the outcome and have the claim.
    recorded: VecDeque<(Instant, Uuid)>,
    /// Left without having been sent: their claims still stand.
    unsent: Vec<Arc<Delivery>>,
    tenants: HashMap<String, Share>,
    /// Of all tenants, the longest claimed first.
    waiting: VecDeque<Turn>,
    /// Of all tenants.
    attempts: usize,
    /// Of all tenants.
    ahead: usize,
    /// When the attempts that ended were last counted.
    counted_at: Instant,
}

impl State {
    /// How many more may be claimed.
    fn room(&self) -> usize {
        // What its tenant may no longer have waits for that tenant alone.
        let waiting: usize = self.tenants.values().map(|share| share.waiting.min(self.most_waiting(share))).sum();
        let attempts = (self.concurrency + self.ahead).saturating_sub(self.attempts + waiting);
        attempts.min(self.most_unrecorded().saturating_sub(self.deliveries.len()))
    }

    /// How many may be claimed and not recorded: more where answers are quick, because as many end while others are written.
    fn most_unrecorded(&self) -> usize {
        let at_any_rate = self.concurrency * UNRECORDED;
        at_any_rate + self.ahead.min(at_any_rate)
    }

    /// How many more of one tenant's.
    fn room_of(&self, share: &Share) -> usize {
        self.most_waiting(share).saturating_sub(share.waiting)
    }

    /// How many of one tenant's may wait at present.
    fn most_waiting(&self, share: &Share) -> usize {
        (self.per_endpoint + share.ahead).saturating_sub(share.attempts)
    }

    /// How many of each tenant's attempts ended within [`AHEAD`]: so many of its events may be claimed ahead.
    fn count(&mut self) {
        let elapsed = self.counted_at.elapsed();
        if elapsed < AHEAD {
            return;
        }
        self.counted_at = Instant::now();
        self.ahead = 0;
        self.tenants.retain(|_, share| {
            let ended = u128::try_from(std::mem::take(&mut share.ended)).unwrap_or_default();
            share.ahead = usize::try_from(ended * AHEAD.as_micros() / elapsed.as_micros()).unwrap_or_default();
            self.ahead += share.ahead;
            !share.is_nothing()
        });
    }

    fn may_begin(&self, tenant_id: &str) -> bool {
        let own = self.tenants.get(tenant_id).map_or(0, |share| share.attempts);
        self.attempts < self.concurrency && own < self.per_endpoint
    }

    /// Counts an attempt that is admitted.
    fn admit(&mut self, tenant_id: &str) {
        self.tenants.entry(tenant_id.to_owned()).or_default().attempts += 1;
        self.attempts += 1;
    }

    /// One attempt less: others that wait are admitted.
    fn make_room(&mut self, tenant_id: &str) {
        self.attempts -= 1;
        self.change(tenant_id, |share| share.attempts -= 1);
        let next = |state: &Self| state.waiting.iter().position(|turn| state.may_begin(&turn.delivery.place.tenant_id));
        while let Some(Turn { delivery, admit }) = next(self).and_then(|at| self.waiting.remove(at)) {
            self.admit(&delivery.place.tenant_id);
            self.change(&delivery.place.tenant_id, |share| share.waiting -= 1);
            self.move_to(&delivery, Phase::Admitted);
            // Its task waits for this, or is about to drop its seat.
            let _ = admit.send(());
        }
    }

    fn move_to(&mut self, delivery: &Delivery, phase: Phase) {
        if let Some((_, p)) = self.deliveries.get_mut(&delivery.delivery_id) {
            *p = phase;
        }
    }

    /// An attempt that has begun could not send: nothing is in doubt.
    fn take_back(&mut self, delivery: &Delivery) {
        if let Some((_, phase @ Phase::Begun)) = self.deliveries.get_mut(&delivery.delivery_id) {
            *phase = Phase::Admitted;
        }
    }

    /// Changes a tenant's share, and forgets it where nothing is left of it.
    fn change(&mut self, tenant_id: &str, change: impl FnOnce(&mut Share)) {
        if let Some(share) = self.tenants.get_mut(tenant_id) {
            change(share);
            if share.is_nothing() {
                self.tenants.remove(tenant_id);
            }
        }
    }
}

/// All deliveries in flight.
pub struct Flight {
    state: Mutex<State>,
    left: Notify,
    left_unsent: Notify,
}

impl Flight {
    /// Nothing in flight yet; `concurrency` attempts at once in all, `per_endpoint` for one tenant.
    pub fn new(concurrency: usize, per_endpoint: usize) -> Self {
        let state = State {
            concurrency,
            per_endpoint,
            deliveries: HashMap::new(),
            in_doubt: HashSet::new(),
            recorded: VecDeque::new(),
            unsent: Vec::new(),
            tenants: HashMap::new(),
            waiting: VecDeque::new(),
            attempts: 0,
            ahead: 0,
            counted_at: Instant::now(),
        };
        Self { state: Mutex::new(state), left: Notify::new(), left_unsent: Notify::new() }
    }

    /// What the claim that now begins may pick; `None`: nothing more may fly now.
    pub fn request(&self, cursor: &str, max_age_us: Option<i64>, since: Option<Timestamp>) -> Option<outbox::Request> {
        let mut state = self.state();
        state.count();
        let permits = state.room();
        if permits == 0 {
            return None;
        }
        let number = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        let free = state.tenants.iter().map(|(tenant, share)| (tenant.clone(), number(state.room_of(share)))).collect();
        Some(outbox::Request {
            permits: i64::try_from(permits).unwrap_or(i64::MAX),
            per_endpoint: number(state.per_endpoint),
            free,
            cursor: cursor.to_owned(),
            max_age_us,
            since,
        })
    }

    /// How many attempts are admitted or under way.
    pub fn attempts(&self) -> usize {
        self.state().attempts
    }

    /// Whether a quarter or more of what may ever be claimed may be claimed now.
    pub fn has_much_room(&self) -> bool {
        let state = self.state();
        4 * state.room() >= state.concurrency + state.ahead
    }

    /// Counts `delivery` as in flight until the seat is dropped.
    pub fn board(self: &Arc<Self>, delivery: Delivery) -> Seat {
        let delivery = Arc::new(delivery);
        let tenant_id = &delivery.place.tenant_id;
        let mut state = self.state();
        let (phase, turn) = if state.may_begin(tenant_id) {
            state.admit(tenant_id);
            (Phase::Admitted, None)
        } else {
            let (admit, turn) = oneshot::channel();
            state.tenants.entry(tenant_id.clone()).or_default().waiting += 1;
            state.waiting.push_back(Turn { delivery: Arc::clone(&delivery), admit });
            (Phase::Waiting, Some(turn))
        };
        state.deliveries.insert(delivery.delivery_id, (Arc::clone(&delivery), phase));
        drop(state);
        Seat { flight: Arc::clone(self), delivery, turn }
    }

    /// The deliveries that must not be given back to the queue: those in flight, those in doubt, and those recorded of late.
    pub fn held(&self) -> Vec<Uuid> {
        let state = self.state();
        let recorded = state.recorded.iter().map(|(_, delivery_id)| delivery_id);
        state.deliveries.keys().chain(&state.in_doubt).chain(recorded).copied().collect()
    }

    /// The deliveries whose claims stand and mean something: an outcome is still to come, or they are to be given back.
    pub fn unsettled(&self) -> Vec<Uuid> {
        let state = self.state();
        let unsent = state.unsent.iter().map(|delivery| &delivery.delivery_id);
        state.deliveries.keys().chain(&state.in_doubt).chain(unsent).copied().collect()
    }

    /// Notes that a delivery may have been sent and has no outcome.
    pub fn doubt(&self, delivery_id: Uuid) {
        self.state().in_doubt.insert(delivery_id);
    }

    /// The deliveries that left unsent since this was last asked: their claims are to be given back.
    pub fn take_unsent(&self) -> Vec<Arc<Delivery>> {
        std::mem::take(&mut self.state().unsent)
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

    /// How many deliveries may be claimed and not recorded.
    pub fn most_unrecorded(&self) -> usize {
        self.state().most_unrecorded()
    }

    /// How many outcomes wait to be written.
    pub fn ended(&self) -> usize {
        self.in_phase(Phase::Ended).len()
    }

    /// Waits until an attempt ends or a delivery leaves.
    pub async fn left(&self) {
        self.left.notified().await;
    }

    /// Waits until a delivery leaves unsent, or returns at once where one has since the last time.
    pub async fn left_unsent(&self) {
        self.left_unsent.notified().await;
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        event::{Event, EventKind},
        store::endpoints::SealedEndpoint,
    };

    pub(in crate::dispatch) fn delivery(tenant_id: &str) -> Delivery {
        let event_id = Uuid::new_v4();
        let at = Timestamp::UNIX_EPOCH;
        Delivery {
            place: outbox::Place {
                tenant_id: tenant_id.to_owned(),
                queued_at: at,
                event_id,
                row: outbox::RowAt::default(),
            },
            delivery_id: Uuid::new_v4(),
            event: Event {
                event_id,
                kind: EventKind::Created,
                tenant_id: tenant_id.to_owned(),
                lead_id: "1".to_owned(),
                email: None,
                phone: None,
                first_name: None,
                conversation_id: None,
                captured_at: at,
                last_conversation_at: None,
            },
            key: [0; 32],
            captured_at: None,
            endpoint: Arc::new(SealedEndpoint::default()),
        }
    }

    fn board<const N: usize>(flight: &Arc<Flight>, tenants: [&str; N]) -> [Seat; N] {
        tenants.map(|tenant| flight.board(delivery(tenant)))
    }

    fn permits(flight: &Flight) -> i64 {
        flight.request("", None, None).map_or(0, |request| request.permits)
    }

    /// As if so much time had passed since attempts that ended were last counted.
    fn pass(flight: &Flight, time: Duration) {
        let mut state = flight.state();
        state.counted_at = state.counted_at.checked_sub(time).unwrap();
    }

    fn is_admitted(seat: &mut Seat) -> bool {
        seat.turn.as_mut().is_none_or(|turn| turn.try_recv().is_ok())
    }

    #[test]
    fn attempts_are_bounded_in_all_and_for_each_tenant_and_the_longest_claimed_is_admitted_first() {
        let flight = Arc::new(Flight::new(3, 2));
        let [a, b, mut waits, c, mut last] = board(&flight, ["t", "t", "t", "u", "v"]);
        assert_eq!(flight.attempts(), 3);
        c.end();
        assert!(!is_admitted(&mut waits) && is_admitted(&mut last), "its tenant has no room, another one has");
        a.begin();
        a.end();
        assert!(is_admitted(&mut waits));
        assert_eq!(flight.attempts(), 3);
        drop((a, b, c, waits, last));
        assert!(flight.is_empty());
        assert_eq!(flight.attempts(), 0);
        assert!(flight.state().waiting.is_empty());
    }

    #[test]
    fn a_seat_that_is_given_up_while_it_waits_admits_nobody() {
        let flight = Arc::new(Flight::new(1, 1));
        let [first, gone, mut next] = board(&flight, ["t", "u", "v"]);
        drop(gone);
        assert_eq!(flight.attempts(), 1);
        drop(first);
        assert!(is_admitted(&mut next));
        assert_eq!(flight.attempts(), 1);
    }

    #[test]
    fn as_many_are_claimed_ahead_as_end_in_a_moment() {
        let flight = Arc::new(Flight::new(4, 4));
        assert_eq!(permits(&flight), 4);
        for seat in board(&flight, ["t"; 4]) {
            seat.end();
            seat.leave_recorded();
        }
        pass(&flight, AHEAD);
        assert!((7..=8).contains(&permits(&flight)), "they were quick");
        for seat in board(&flight, ["t"; 4]) {
            seat.end();
            seat.leave_recorded();
        }
        pass(&flight, 100 * AHEAD);
        assert_eq!(permits(&flight), 4, "they were slow");
        pass(&flight, AHEAD);
        assert_eq!(permits(&flight), 4);
        assert!(flight.state().tenants.is_empty(), "nothing is kept of tenants that are done");
    }

    #[test]
    fn what_waits_for_a_tenant_that_has_become_slow_takes_nobodys_room() {
        let flight = Arc::new(Flight::new(4, 2));
        for seat in board(&flight, ["t"; 3]) {
            seat.end();
            seat.leave_recorded();
        }
        pass(&flight, AHEAD);
        assert!(permits(&flight) > 4);
        let _hanging = board(&flight, ["t"; 4]);
        pass(&flight, 100 * AHEAD);
        let request = flight.request("", None, None).unwrap();
        assert_eq!((request.permits, request.free), (2, vec![("t".to_owned(), 0)]));
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_waited_too_long_is_to_be_given_back() {
        let flight = Arc::new(Flight::new(1, 1));
        let [hanging, mut waits] = board(&flight, ["t"; 2]);
        assert!(!waits.admitted().await);
        let unsent = Arc::clone(waits.delivery());
        waits.leave_unsent();
        flight.left_unsent().await;
        let taken = flight.take_unsent();
        assert!(matches!(taken.as_slice(), [taken] if Arc::ptr_eq(taken, &unsent)));
        assert_eq!(flight.held(), [hanging.delivery().delivery_id]);
        assert!(flight.take_unsent().is_empty());
    }

    #[test]
    fn what_is_not_recorded_is_bounded() {
        let flight = Arc::new(Flight::new(2, 2));
        let ended: Vec<Seat> = (0..2 * UNRECORDED).map(|_| flight.board(delivery("t"))).collect();
        ended.iter().for_each(Seat::end);
        assert_eq!((flight.attempts(), permits(&flight)), (0, 0));
        pass(&flight, AHEAD);
        let more = permits(&flight);
        assert!((1..=i64::try_from(ended.len()).unwrap()).contains(&more), "they were quick");
        pass(&flight, 100 * AHEAD);
        assert_eq!(permits(&flight), 0, "none has ended since");
        let in_doubt = ended.len();
        drop(ended);
        assert_eq!((flight.held().len(), permits(&flight)), (in_doubt, 2));
    }

    #[test]
    fn what_is_not_recorded_is_bounded_however_quick_answers_are() {
        let flight = Arc::new(Flight::new(2, 2));
        for seat in (0..8 * UNRECORDED).map(|_| flight.board(delivery("t"))) {
            seat.end();
            seat.leave_recorded();
        }
        pass(&flight, AHEAD);
        assert_eq!(permits(&flight), i64::try_from(2 * 2 * UNRECORDED).unwrap());
    }
}
