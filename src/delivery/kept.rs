//! Connections kept for the next attempt at the same destination, each in an HTTP client of its own.
//!
//! A client that many attempts share lets each of them dial while it waits for a connection that comes free, and keeps
//! both: a receiver whose handshakes take longer than its answers sees far more connections than attempts. So an
//! attempt has a client for itself, and dials only where none is kept. All connections to a destination were then in
//! use at once: there are never more than the most attempts that were in flight to it.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::outcome::Destination;

/// A connection that was idle for longer is not used again: receivers close theirs after a few seconds, and a request
/// that meets a closing connection is lost.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(1);

/// So long none is kept where a request met a connection that the receiver had closed sooner than that, and without having
/// said so: each costs a lead, a handshake costs none.
const DISTRUSTED_FOR: Duration = Duration::from_secs(60 * 60);

/// Clients that no attempt uses now.
pub(super) struct Kept<C>(Mutex<State<C>>);

struct State<C> {
    /// Each with the time when it came; the latest stands last.
    clients: HashMap<Destination, Vec<(Instant, C)>>,
    /// Where none is kept, each with the time since when.
    distrusted: HashMap<Destination, Instant>,
    /// When what was too old was last dropped everywhere.
    swept_at: Instant,
}

impl<C> Kept<C> {
    /// None yet.
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(State { clients: HashMap::new(), distrusted: HashMap::new(), swept_at: now }))
    }

    /// The client that came last, so that those which are not needed age.
    pub(super) fn take(&self, destination: &Destination, now: Instant) -> Option<C> {
        let mut state = self.state();
        if is_old(state.swept_at, now) {
            state.swept_at = now;
            state.clients.retain(|_, clients| {
                clients.retain(|(since, _)| !is_old(*since, now));
                !clients.is_empty()
            });
            state.distrusted.retain(|_, since| now.saturating_duration_since(*since) <= DISTRUSTED_FOR);
        }
        let clients = state.clients.get_mut(destination)?;
        let (since, client) = clients.pop()?;
        if is_old(since, now) {
            // So are the others, and they may still be connected.
            clients.clear();
            return None;
        }
        Some(client)
    }

    /// Keeps a client whose attempt has ended with an answer.
    pub(super) fn keep(&self, destination: Destination, client: C, now: Instant) {
        let mut state = self.state();
        if !state.distrusted.contains_key(&destination) {
            state.clients.entry(destination).or_default().push((now, client));
        }
    }

    /// A request was lost to a connection that was used again.
    pub(super) fn distrust(&self, destination: Destination, now: Instant) {
        let mut state = self.state();
        state.clients.remove(&destination);
        state.distrusted.insert(destination, now);
    }

    fn state(&self) -> MutexGuard<'_, State<C>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_old(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) > KEPT_FOR
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    fn at(host: &str) -> Destination {
        Destination { host: host.to_owned(), port: 443 }
    }

    #[test]
    fn the_client_that_came_last_goes_first_and_each_to_one_attempt() {
        let now = Instant::now();
        let kept = Kept::new(now);
        kept.keep(at("a.example"), 1, now);
        kept.keep(at("a.example"), 2, now);
        assert_eq!(kept.take(&at("b.example"), now), None);
        assert_eq!(kept.take(&Destination { port: 8443, ..at("a.example") }, now), None);
        assert_eq!([(); 3].map(|()| kept.take(&at("a.example"), now)), [Some(2), Some(1), None]);
    }

    #[test]
    fn what_is_too_old_is_dropped_before_another_is_made() {
        let (client, millisecond) = (Rc::new(()), Duration::from_millis(1));
        let begin = Instant::now();
        let kept = Kept::new(begin);
        for _ in 0..2 {
            kept.keep(at("a.example"), client.clone(), begin + millisecond);
        }
        // A sweep that finds them still young enough.
        assert!(kept.take(&at("b.example"), begin + KEPT_FOR + millisecond).is_none());
        assert_eq!(Rc::strong_count(&client), 3);
        assert!(kept.take(&at("a.example"), begin + KEPT_FOR + 2 * millisecond).is_none());
        assert_eq!(Rc::strong_count(&client), 1);
    }

    #[test]
    fn where_a_request_was_lost_none_is_kept_for_an_hour() {
        let begin = Instant::now();
        let kept = Kept::new(begin);
        kept.keep(at("a.example"), 1, begin);
        kept.keep(at("b.example"), 2, begin);
        kept.distrust(at("a.example"), begin);
        kept.keep(at("a.example"), 3, begin);
        assert_eq!(kept.take(&at("a.example"), begin), None);
        assert_eq!(kept.take(&at("b.example"), begin), Some(2));
        let later = begin + DISTRUSTED_FOR + Duration::from_millis(1);
        assert_eq!(kept.take(&at("a.example"), later), None);
        kept.keep(at("a.example"), 4, later);
        assert_eq!(kept.take(&at("a.example"), later), Some(4));
    }

    #[test]
    fn destinations_that_are_not_used_again_are_forgotten() {
        let begin = Instant::now();
        let kept = Kept::new(begin);
        for host in ["a.example", "b.example"] {
            kept.keep(at(host), (), begin);
        }
        assert!(kept.take(&at("c.example"), begin + 2 * KEPT_FOR).is_none());
        assert!(kept.state().clients.is_empty());
    }
}
