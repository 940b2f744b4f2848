//! [`Receiver`]: an HTTPS server with a CA of its own that records what it gets and answers as it was told to.
//!
//! It runs on a thread of its own, so that a test may block while it answers. Hyper reads the requests; a tape beside
//! it keeps each head's bytes, because hyper's header map forgets order and spelling.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    ops::Range,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    thread::{self, JoinHandle},
    time::Instant,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
    sync::{oneshot, watch},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    Answer, Gate, Identity, Request,
    answer::{Programme, Reply},
    canary, patiently,
};

/// A running receiver; gone when dropped.
pub struct Receiver {
    address: SocketAddr,
    files: TempDir,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    requests: watch::Sender<Vec<Request>>,
    programme: Mutex<Programme>,
    connections: watch::Sender<Connections>,
    held: Mutex<Option<(Range<usize>, Gate)>>,
}

/// How many connections there are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// Accepted until now, also those whose TLS handshake failed.
    pub accepted: usize,
    /// Open now.
    pub open: usize,
    /// The most that were open at once.
    pub most: usize,
}

impl Receiver {
    /// Listens on a free port of 127.0.0.1 with a certificate for `localhost`, and answers 200.
    pub fn start() -> Self {
        Self::start_for(&["localhost"])
    }

    /// The same with a certificate for other names.
    pub fn start_for(names: &[&str]) -> Self {
        Self::launch(names, tempfile::tempdir().unwrap())
    }

    /// As [`Receiver::start`], with its CA's file in this directory.
    pub fn start_in(files: TempDir) -> Self {
        Self::launch(&["localhost"], files)
    }

    fn launch(names: &[&str], files: TempDir) -> Self {
        let tls = tls(names, &files.path().join("ca.pem"));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = serve(listener, tls, shared.clone());
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    ended = serving => panic!("the receiver ended: {ended:?}"),
                }
            });
        });
        Self { address, files, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Its URL, with a path that nobody else may see.
    pub fn url(&self) -> String {
        format!("https://localhost:{}/{}", self.port(), canary::PATH)
    }

    /// PEM file of the CA that signed the certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.files.path().join("ca.pem")
    }

    /// Answers each request by `rule` from now on.
    pub fn answer_with(&self, rule: impl FnMut(&Request) -> Answer + Send + 'static) {
        self.shared.programme.lock().unwrap().rule = Box::new(rule);
    }

    /// Answers each request alike from now on.
    pub fn answer(&self, answer: Answer) {
        self.answer_with(move |_| answer.clone());
    }

    /// Answers the next requests by these, one each, before the rule counts again.
    pub fn queue(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.programme.lock().unwrap().queue.extend(answers);
    }

    /// What has arrived, in order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.borrow().clone()
    }

    /// Waits until `n` requests or more have arrived; all of them. They may not be answered yet.
    pub async fn wait_for(&self, n: usize) -> Vec<Request> {
        patiently(&format!("{n} requests at the receiver"), self.arrival(n)).await;
        self.requests()
    }

    /// Waits until `n` requests or more have arrived, for as long as that takes.
    pub async fn arrival(&self, n: usize) {
        let mut arrivals = self.shared.requests.subscribe();
        // The receiver outlives its sender.
        let _ = arrivals.wait_for(|requests| requests.len() >= n).await;
    }

    /// How many connections there were and are.
    pub fn connections(&self) -> Connections {
        *self.shared.connections.borrow()
    }

    /// Waits until every connection is closed.
    pub async fn quiet(&self) {
        let mut connections = self.shared.connections.subscribe();
        let closed = connections.wait_for(|connections| connections.open == 0);
        let _ = patiently("the end of all connections", closed).await;
    }

    /// Shakes hands on the connections of these numbers only once the gate is open. They are accepted before.
    pub fn hold_handshakes(&self, numbers: Range<usize>, gate: &Gate) {
        *self.shared.held.lock().unwrap() = Some((numbers, gate.clone()));
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Makes a certificate for `names`, and writes its CA to `ca_file`.
fn tls(names: &[&str], ca_file: &Path) -> TlsAcceptor {
    let identity = Identity::of(names);
    std::fs::write(ca_file, &identity.ca).unwrap();
    identity.acceptor()
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, shared: Arc<Shared>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await?;
        let number = shared.accepted();
        let (tls, shared) = (tls.clone(), shared.clone());
        connections.spawn(async move {
            shared.hold_back(number).await;
            if let Ok(stream) = tls.accept(socket).await {
                let _ = converse(stream, number, &shared).await;
            }
            shared.connections.send_modify(|connections| connections.open -= 1);
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Answers the requests of one connection. What HTTP does not allow for ends the conversation and is sent afterwards.
async fn converse(stream: TlsStream<TcpStream>, number: usize, shared: &Shared) -> io::Result<()> {
    let tape = Tape::default();
    let unusual = Mutex::new(None);
    let mut conversation = http1::Builder::new().serve_connection(
        TokioIo::new(Recorded { stream, tape: tape.clone() }),
        service_fn(|request| async {
            let answer = shared.receive(request, number, &tape).await?;
            answer.hold_back().await;
            http(answer.reply).map_err(|reply| {
                *unusual.lock().unwrap() = Some(reply);
                io::Error::other("not an HTTP answer")
            })
        }),
    );
    let _ = (&mut conversation).await;
    let mut stream = conversation.into_parts().io.into_inner().stream;
    let unusual = unusual.lock().unwrap().take();
    match unusual {
        Some(Reply::Reset) => stream.get_ref().0.set_zero_linger()?,
        Some(Reply::Raw { bytes, hold }) => return say(&mut stream, &bytes, hold).await,
        Some(Reply::Http { .. }) | None => {}
    }
    Ok(())
}

async fn say(stream: &mut TlsStream<TcpStream>, bytes: &[u8], hold: bool) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await?;
    if hold {
        stream.read_to_end(&mut Vec::new()).await?;
    }
    stream.shutdown().await
}

/// The answer for hyper, or the reply back where it is none.
fn http(reply: Reply) -> Result<Response<Full<Bytes>>, Reply> {
    let Reply::Http { status, headers, body } = reply else { return Err(reply) };
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    Ok(response.body(Full::from(body)).unwrap())
}

impl Shared {
    /// Counts a new connection; its number.
    fn accepted(&self) -> usize {
        let mut number = 0;
        self.connections.send_modify(|connections| {
            number = connections.accepted;
            connections.accepted += 1;
            connections.open += 1;
            connections.most = connections.most.max(connections.open);
        });
        number
    }

    /// Waits before this connection's handshake as told.
    async fn hold_back(&self, number: usize) {
        let held = self.held.lock().unwrap().clone();
        if let Some((_, gate)) = held.filter(|(numbers, _)| numbers.contains(&number)) {
            gate.opened().await;
        }
    }

    /// Reads a request to its end, records it, and chooses the answer.
    async fn receive(&self, request: hyper::Request<Incoming>, connection: usize, tape: &Tape) -> io::Result<Answer> {
        let arrived_at = Instant::now();
        let headers = tape.headers();
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes().to_vec();
        tape.rewind();
        let (method, path) = (head.method.to_string(), head.uri.to_string());
        let request = Request { method, path, headers, body, arrived_at, connection };
        let answer = self.programme.lock().unwrap().choose(&request);
        self.requests.send_modify(|requests| requests.push(request));
        Ok(answer)
    }
}

/// The bytes of the request that is being read.
#[derive(Clone, Default)]
struct Tape(Arc<Mutex<Vec<u8>>>);

impl Tape {
    fn headers(&self) -> Vec<(String, String)> {
        let text = String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned();
        let head = text.split("\r\n\r\n").next().unwrap_or_default();
        let headers = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        headers.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
    }

    fn rewind(&self) {
        self.0.lock().unwrap().clear();
    }
}

/// A stream that keeps what is read on a tape.
struct Recorded {
    stream: TlsStream<TcpStream>,
    tape: Tape,
}

impl AsyncRead for Recorded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.tape.0.lock().unwrap().extend(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Recorded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
