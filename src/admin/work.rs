//! What is under way for those who asked: so much of it at once, and to its end, whether or not they stay.

use std::{sync::Arc, time::Duration};

use axum::{extract::Request, middleware::Next, response::Response};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::task::TaskTracker;

use super::{problem::Problem, shares::Shares};
use crate::control::token::Bearer;

/// For a request that asks the database alone.
pub(super) const QUICK: Duration = Duration::from_secs(30);

/// For one that waits for a receiver: an attempt takes a minute at most, and its outcome is to be written.
pub(super) const SLOW: Duration = Duration::from_secs(120);

/// Requests at once that wait for a receiver, and among them those of all tenants, so that the operator has its own, and those
/// of one tenant.
const WAITING: usize = 16;
const WAITING_OF_TENANTS: usize = 12;
const WAITING_OF_ONE: usize = 3;

/// Bodies at once of those of whom it is not known yet who they are: anybody may send them, and the connections that are left
/// are for the probes and for who is known.
const UNKNOWN: usize = 16;

/// Does what is asked.
#[derive(Clone)]
pub(super) struct Work {
    under_way: TaskTracker,
    waiting: Arc<Semaphore>,
    waiting_of_tenants: Arc<Semaphore>,
    waiting_of: Shares,
    unknown: Arc<Semaphore>,
}

/// Room for a request that waits for a receiver.
pub(super) struct Slot {
    _one: OwnedSemaphorePermit,
    _of_tenants: Option<OwnedSemaphorePermit>,
    _of_theirs: OwnedSemaphorePermit,
}

impl Work {
    pub(super) fn new() -> Self {
        Self {
            under_way: TaskTracker::new(),
            waiting: Arc::new(Semaphore::new(WAITING)),
            waiting_of_tenants: Arc::new(Semaphore::new(WAITING_OF_TENANTS)),
            waiting_of: Shares::new(WAITING_OF_ONE),
            unknown: Arc::new(Semaphore::new(UNKNOWN)),
        }
    }

    /// Answers a request. What it began goes on where the client leaves: a change has its line in the log, what was sent has its
    /// outcome there.
    pub(super) async fn carry_out(&self, limit: Duration, request: Request, next: Next) -> Result<Response, Problem> {
        let done = self.under_way.spawn(timeout(limit, next.run(request))).await;
        let done = done.map_err(|_| Problem::internal("it ended unexpectedly: read what is in force"))?;
        done.map_err(|_| Problem::slow("it was ended: read what is in force before you try again"))
    }

    /// Waits for all that is under way.
    pub(super) async fn end(&self) {
        self.under_way.close();
        self.under_way.wait().await;
    }

    /// Room for the body of somebody who is not known yet.
    pub(super) fn unknown(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let a_while = Duration::from_secs(2);
        let free = self.unknown.clone().try_acquire_owned();
        free.map_err(|_| Problem::unavailable("too many are signing in just now").wait(a_while))
    }

    /// Room for a request that waits for a receiver. One tenant whose receiver hangs leaves room for the others.
    pub(super) fn slot(&self, bearer: &Bearer) -> Result<Slot, Problem> {
        let a_while = Duration::from_secs(5);
        let of_theirs = self.waiting_of.of(bearer).try_acquire_owned().map_err(|_| {
            Problem::too_many("so many requests of this tenant's wait for its receiver already").wait(a_while)
        })?;
        let full = |_| Problem::unavailable("too many requests wait for receivers").wait(a_while);
        let of_tenants = match bearer {
            Bearer::Operator => None,
            Bearer::Tenant(_) => Some(self.waiting_of_tenants.clone().try_acquire_owned().map_err(full)?),
        };
        let one = self.waiting.clone().try_acquire_owned().map_err(full)?;
        Ok(Slot { _one: one, _of_tenants: of_tenants, _of_theirs: of_theirs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_tenants_together_leave_the_operator_room_to_send() {
        let work = Work::new();
        let of = |nth: usize| work.slot(&Bearer::Tenant(nth.to_string()));
        let theirs: Vec<_> = (0..3 * WAITING).filter_map(|nth| of(nth / 3).ok()).collect();
        assert_eq!(theirs.len(), WAITING_OF_TENANTS);
        let operators: Vec<_> = (0..WAITING).filter_map(|_| work.slot(&Bearer::Operator).ok()).collect();
        assert_eq!(operators.len(), WAITING - WAITING_OF_TENANTS);
        drop(theirs);
        assert!(of(0).is_ok());
    }
}
