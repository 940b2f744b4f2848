//! Answers HTTP/1.1 on a listener: so many connections at once, each with a limit of time for what it asks and for taking
//! the answer.

use std::{io, sync::Arc, time::Duration};

use axum::{Router, serve::Listener};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use tokio_io_timeout::TimeoutWriter;

/// For what comes before the first request, as TLS; for each request's head, the wait for it included; and for a client that
/// takes nothing of an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers what comes to `listener` by `routes`, each connection as `open` makes it of what was accepted; so many
/// connections at once, others wait until one of them ends. After `stop` nothing is accepted any more, and it ends when
/// what was asked is answered; where it is dropped, its connections end with it.
pub async fn serve<L, O, F, S>(
    mut listener: L,
    connections: usize,
    routes: Router,
    open: O,
    stop: impl Future<Output = ()>,
) where
    L: Listener,
    O: Fn(L::Io) -> F,
    F: Future<Output = io::Result<S>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let free = Arc::new(Semaphore::new(connections));
    let graceful = GracefulShutdown::new();
    let mut open_ones = JoinSet::new();
    tokio::pin!(stop);
    loop {
        let next = async {
            // Never closed.
            let permit = free.clone().acquire_owned().await.ok();
            (permit, listener.accept().await.0)
        };
        let (permit, accepted) = tokio::select! {
            () = &mut stop => break,
            next = next => next,
        };
        let (opening, routes, watcher) = (open(accepted), routes.clone(), graceful.watcher());
        open_ones.spawn(async move {
            if let Ok(Ok(stream)) = timeout(PATIENCE, opening).await {
                answer(stream, routes, watcher).await;
            }
            drop(permit);
        });
        while open_ones.try_join_next().is_some() {}
    }
    drop(listener);
    graceful.shutdown().await;
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, routes: Router, watcher: Watcher) {
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(PATIENCE));
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    let connection = server.serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(routes));
    // What a client does wrong is its own affair.
    let _ = watcher.watch(connection).await;
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use futures_util::FutureExt as _;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
        net::{TcpListener, TcpStream},
        sync::oneshot,
        time::sleep,
    };

    use super::*;

    /// More than what fits between the two.
    fn routes() -> Router {
        Router::new().route("/", get(|| async { "x".repeat(64 * 1024) }))
    }

    /// The future of an answer to what the client's end says.
    fn answered(asked: &'static str) -> (impl Future<Output = ()>, DuplexStream, GracefulShutdown) {
        let (ours, mut theirs) = duplex(1024);
        let graceful = GracefulShutdown::new();
        let answered = answer(ours, routes(), graceful.watcher());
        theirs.write_all(asked.as_bytes()).now_or_never().unwrap().unwrap();
        (answered, theirs, graceful)
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_of_an_answer_loses_the_connection() {
        let (answered, theirs, _graceful) = answered("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        // The clock moves on by itself where everything waits.
        assert!(timeout(2 * PATIENCE, answered).await.is_ok());
        drop(theirs);
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_ends_a_request_loses_the_connection() {
        let (answered, theirs, _graceful) = answered("GET / HTTP/1.1\r\nHost: a\r\n");
        assert!(timeout(2 * PATIENCE, answered).await.is_ok());
        drop(theirs);
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_it_slowly_gets_all_of_it() {
        let (answered, mut theirs, _graceful) = answered("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let read = async {
            let (mut all, mut part) = (0, [0; 1024]);
            loop {
                sleep(PATIENCE / 2).await;
                match theirs.read(&mut part).await.unwrap() {
                    0 => break all,
                    some => all += some,
                }
            }
        };
        let (all, ()) = tokio::join!(read, answered);
        assert!(all > 64 * 1024, "{all}");
    }

    #[tokio::test(start_paused = true)]
    async fn at_a_stop_an_idle_connection_ends_at_once() {
        let (answered, mut theirs, graceful) = answered("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let read = async {
            let mut all = vec![0; 64 * 1024];
            theirs.read_exact(&mut all).await.unwrap();
            timeout(PATIENCE / 2, async { tokio::join!(graceful.shutdown(), theirs.read_to_end(&mut all)) }).await
        };
        let (read, ()) = tokio::join!(read, answered);
        assert!(read.is_ok());
    }

    #[tokio::test]
    async fn it_ends_when_it_is_told_to() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let open = |stream| async { Ok::<_, io::Error>(stream) };
        let (stop, stopped) = oneshot::channel::<()>();
        let served = serve(listener, 1, routes(), open, async { stopped.await.unwrap_or_default() });
        let asked = async {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            let mut all = vec![0; 64 * 1024];
            client.read_exact(&mut all).await.unwrap();
            stop.send(()).unwrap();
            client.read_to_end(&mut all).await.unwrap();
            assert!(TcpStream::connect(address).await.is_err());
        };
        tokio::join!(served, asked);
    }
}
