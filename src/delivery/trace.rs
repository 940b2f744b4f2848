//! What one attempt's connector did: when it resolved and connected, and to which address. The HTTP client makes
//! connections on its own account; a task-local carries this from the attempt into its resolver and connector.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

tokio::task_local! {
    /// The attempt that the present task makes.
    static CURRENT: Arc<Trace>;
}

/// What is known of an attempt's connection; empty where a kept connection served.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// Resolving the name took this long.
    pub dns: Option<Duration>,
    /// The first address that may be connected to, or the one that was refused.
    pub address: Option<IpAddr>,
    /// Connecting took this long, resolving and the TLS handshake included.
    pub connect: Option<Duration>,
}

/// One attempt's notes.
#[derive(Debug, Default)]
pub struct Trace(Mutex<Connection>);

impl Trace {
    /// Runs `attempt` with this trace as its task's.
    pub async fn scope<F: Future>(self: Arc<Self>, attempt: F) -> F::Output {
        CURRENT.scope(self, attempt).await
    }

    /// The trace of the present task's attempt.
    pub fn current() -> Option<Arc<Self>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// Notes something.
    pub fn note(&self, change: impl FnOnce(&mut Connection)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What was noted.
    pub fn connection(&self) -> Connection {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
