//! What is under way for those who asked: so much of it at once, and to its end, whether or not they stay.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{extract::Request, middleware::Next, response::Response};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout},
};
use tokio_util::task::TaskTracker;

use super::problem::Problem;

/// For a request that asks the database alone.
pub(super) const QUICK: Duration = Duration::from_secs(30);

/// For one that waits for a receiver: an attempt takes a minute at most, and its outcome is to be written.
pub(super) const SLOW: Duration = Duration::from_secs(120);

/// For an outcome to be written while the database is away.
const WRITTEN_WITHIN: Duration = Duration::from_secs(30);

/// Requests at once that wait for a receiver, and those of one tenant among them.
const WAITING: usize = 16;
const WAITING_OF_ONE: usize = 3;

/// Does what is asked.
#[derive(Clone)]
pub(super) struct Work {
    under_way: TaskTracker,
    waiting: Arc<Semaphore>,
    waiting_of: Arc<Mutex<HashMap<String, usize>>>,
}

/// Room for a request that waits for a receiver.
pub(super) struct Slot {
    tenant: String,
    waiting_of: Arc<Mutex<HashMap<String, usize>>>,
    _permit: OwnedSemaphorePermit,
}

impl Work {
    pub(super) fn new() -> Self {
        Self { under_way: TaskTracker::new(), waiting: Arc::new(Semaphore::new(WAITING)), waiting_of: Arc::default() }
    }

    /// Answers a request. What it began goes on where the client leaves: a change has its line in the log, what was sent has its
    /// outcome there.
    pub(super) async fn carry_out(&self, limit: Duration, request: Request, next: Next) -> Result<Response, Problem> {
        let done = self.under_way.spawn(timeout(limit, next.run(request))).await;
        let done = done.map_err(|_| Problem::internal("it ended unexpectedly: read what is in force"))?;
        done.map_err(|_| Problem::slow("it was ended; a change may have been made all the same: read what is in force"))
    }

    /// Waits for all that is under way.
    pub(super) async fn end(&self) {
        self.under_way.close();
        self.under_way.wait().await;
    }

    /// Room for a request of `tenant`'s that waits for a receiver. One whose receiver hangs leaves room for the others.
    pub(super) fn slot(&self, tenant: &str) -> Result<Slot, Problem> {
        let busy = || Problem::unavailable("too many requests wait for receivers").wait(Duration::from_secs(5));
        let permit = self.waiting.clone().try_acquire_owned().map_err(|_| busy())?;
        let mut waiting_of = self.waiting_of.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting_of.entry(tenant.to_owned()).or_default();
        if *count >= WAITING_OF_ONE {
            return Err(busy());
        }
        *count += 1;
        Ok(Slot { tenant: tenant.to_owned(), waiting_of: Arc::clone(&self.waiting_of), _permit: permit })
    }
}

/// How long it is tried to write an outcome: without it the delivery stands as interrupted.
pub(super) struct Patience {
    until: Instant,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { until: Instant::now() + WRITTEN_WITHIN }
    }

    /// Whether to try once more after this, a moment later.
    pub(super) async fn lasts(&self, problem: &Problem) -> bool {
        let lasts = problem.status().is_server_error() && Instant::now() < self.until;
        if lasts {
            sleep(Duration::from_secs(1)).await;
        }
        lasts
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut waiting_of = self.waiting_of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = waiting_of.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                waiting_of.remove(&self.tenant);
            }
        }
    }
}
