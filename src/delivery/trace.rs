//! What one attempt's connector did: when it resolved and connected, and to which address. The HTTP client makes
//! connections on its own account; a task-local carries this from the attempt into its resolver and connector.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tower_layer::Layer;
use tower_service::Service;

tokio::task_local! {
    /// The attempt that the present task makes.
    static CURRENT: Arc<Trace>;
}

/// What is known of an attempt's connection; empty where a kept connection served.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Resolving the name took this long.
    pub dns: Option<Duration>,
    /// Those that may be connected to, in this order, or the one that was refused.
    pub addresses: Vec<IpAddr>,
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Notes how long connecting took in the attempt's trace.
#[derive(Debug, Clone)]
pub struct Timed;

impl<S> Layer<S> for Timed {
    type Service = TimedConnector<S>;

    fn layer(&self, inner: S) -> Self::Service {
        TimedConnector(inner)
    }
}

/// A connector that does so.
#[derive(Debug, Clone)]
pub struct TimedConnector<S>(S);

impl<S, R> Service<R> for TimedConnector<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
    S::Response: 'static,
    S::Error: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let trace = Trace::current();
        let began = Instant::now();
        let connecting = self.0.call(request);
        Box::pin(async move {
            let connected = connecting.await;
            if let (Some(trace), true) = (trace, connected.is_ok()) {
                trace.note(|connection| connection.connect = Some(began.elapsed()));
            }
            connected
        })
    }
}
