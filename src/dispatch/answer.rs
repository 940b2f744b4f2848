//! How long the database's answers are waited for. A server that is frozen, or behind a network that has lost us, says
//! nothing, and a session that waits for it helps nobody: it is given up, which cancels what it was doing.

use std::time::Duration;

use futures_util::{FutureExt as _, TryFutureExt as _};
use tokio::time::timeout;

use crate::store::{self, session::explain};

/// For heartbeats and outcomes: milliseconds of work. Others take a daemon for dead after 30 s without one.
pub(super) const PROMPT: Duration = Duration::from_secs(15);

/// For claims and looks: they wait for a lock for a second, and read more.
pub(super) const PATIENT: Duration = Duration::from_secs(60);

/// The database has not answered in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the database has not answered for {} s", .0.as_secs())]
pub(super) struct Unanswered(Duration);

/// Waits for `work` no longer than `limit`. No `async fn`: each layer of those takes its argument's size once more.
pub(super) fn within<T>(limit: Duration, work: impl Future<Output = T>) -> impl Future<Output = Result<T, Unanswered>> {
    timeout(limit, work).map_err(move |_| Unanswered(limit))
}

/// What the database answers to `work` within `limit`, in an operator's words where it fails. `daemon_role` is
/// `database.daemon_role`.
pub(super) fn explained<T>(
    limit: Duration,
    daemon_role: &str,
    work: impl Future<Output = Result<T, store::Error>>,
) -> impl Future<Output = Result<T, String>> {
    within(limit, work).map(|answer| match answer {
        Ok(answer) => answer.map_err(|error| explain(&error, daemon_role)),
        Err(unanswered) => Err(unanswered.to_string()),
    })
}
