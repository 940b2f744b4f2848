//! Answers HTTP/1.1 on a listener: so many connections at once, each with a limit of time for what it asks.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use axum::{Router, serve::Listener};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};

/// Connections at once; others wait until one of them ends.
const CONNECTIONS: usize = 64;

/// For what comes before the first request, as TLS; and for each request's head, the wait for it included.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers what comes to `listener` by `routes`, each connection as `open` makes it of what was accepted. Ends with no error;
/// where it is dropped, its connections end with it.
pub async fn serve<L, O, F, S>(mut listener: L, routes: Router, open: O) -> Infallible
where
    L: Listener,
    O: Fn(L::Io) -> F,
    F: Future<Output = io::Result<S>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        // Never closed.
        let permit = free.clone().acquire_owned().await.ok();
        let (accepted, _) = listener.accept().await;
        let (opening, routes) = (open(accepted), routes.clone());
        connections.spawn(async move {
            if let Ok(Ok(stream)) = timeout(PATIENCE, opening).await {
                answer(stream, routes).await;
            }
            drop(permit);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, routes: Router) {
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    // What a client does wrong is its own affair.
    let _ = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes)).await;
}
