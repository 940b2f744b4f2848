//! The receiver's own process: hyper over rustls on two threads, and commands on the standard input.

use std::{
    convert::Infallible,
    fs,
    io::{self, BufRead as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_rustls::TlsAcceptor;

use super::Seen;
use crate::{clock, harness::Identity};

/// Threads that answer; each has the connections that it was given.
const THREADS: usize = 2;

/// What stands before the lead's id in every contender's body.
const LEAD_ID: &[u8] = b"\"leadId\":";

/// What is asked for under this path goes to a page of its own.
const SLOW: &str = "/slow";

#[derive(Default)]
struct Book {
    ordinary: Page,
    slow: Page,
    open: Level,
    /// When the latest connection was accepted; 0: none since the last reset.
    accepted: AtomicU64,
}

/// The requests for one path.
#[derive(Default)]
struct Page {
    arrivals: [Mutex<Vec<(u64, i64)>>; THREADS],
    count: AtomicU64,
    delay_ms: AtomicU64,
    in_flight: Level,
}

/// A number that rises and falls, and its highest.
#[derive(Default)]
struct Level {
    now: AtomicU64,
    most: AtomicU64,
}

impl Level {
    fn rise(&self) {
        self.most.fetch_max(self.now.fetch_add(1, Relaxed) + 1, Relaxed);
    }

    fn fall(&self) {
        self.now.fetch_sub(1, Relaxed);
    }

    fn reset(&self) {
        self.most.store(self.now.load(Relaxed), Relaxed);
    }
}

/// Prints its port, then serves until its input ends.
pub(crate) fn run(ca_file: &Path) -> io::Result<()> {
    let identity = Identity::of(&["localhost"]);
    fs::write(ca_file, &identity.ca)?;
    let tls = identity.acceptor();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let book = Arc::new(Book::default());
    let threads: Vec<_> = (0..THREADS).map(|number| answering(number, tls.clone(), Arc::clone(&book))).collect();
    let doorman = Arc::clone(&book);
    thread::spawn(move || accept(&listener, &threads, &doorman.accepted));
    writeln!(io::stdout(), "{port}")?;
    for command in io::stdin().lock().lines() {
        writeln!(io::stdout(), "{}", book.obey(&command?))?;
    }
    Ok(())
}

/// Accepts, and deals connections out in turn.
fn accept(listener: &TcpListener, threads: &[mpsc::UnboundedSender<TcpStream>], accepted: &AtomicU64) {
    for (socket, thread) in listener.incoming().zip(threads.iter().cycle()) {
        accepted.store(clock::now(), Relaxed);
        let socket = socket.unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.set_nodelay(true).unwrap();
        thread.send(socket).unwrap();
    }
}

/// A thread that answers the requests of the connections that it is sent.
fn answering(number: usize, tls: TlsAcceptor, book: Arc<Book>) -> mpsc::UnboundedSender<TcpStream> {
    let (sender, mut sockets) = mpsc::unbounded_channel();
    let serve = async move {
        let mut connections = JoinSet::new();
        while let Some(socket) = sockets.recv().await {
            connections.spawn(converse(socket, number, tls.clone(), Arc::clone(&book)));
            while connections.try_join_next().is_some() {}
        }
    };
    thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(serve);
    });
    sender
}

async fn converse(socket: TcpStream, number: usize, tls: TlsAcceptor, book: Arc<Book>) {
    let socket = tokio::net::TcpStream::from_std(socket).unwrap();
    book.open.rise();
    if let Ok(stream) = tls.accept(socket).await {
        let service = service_fn(|request| book.receive(number, request));
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }
    book.open.fall();
}

impl Book {
    async fn receive(&self, number: usize, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let page = if request.uri().path() == SLOW { &self.slow } else { &self.ordinary };
        page.receive(number, request).await;
        Ok(Response::new(Full::from("ok")))
    }

    /// Does what a line says; the answer.
    fn obey(&self, command: &str) -> String {
        match command.split_once(' ').unwrap_or((command, "")) {
            ("count", _) => self.ordinary.count.load(Relaxed).to_string(),
            ("seen", _) => serde_json::to_string(&self.seen(&self.ordinary)).unwrap(),
            ("seen_slow", _) => serde_json::to_string(&self.seen(&self.slow)).unwrap(),
            ("arrivals", _) => serde_json::to_string(&self.ordinary.in_order()).unwrap(),
            ("reset", delay_ms) => self.reset(&self.ordinary, delay_ms.parse().unwrap()),
            ("reset_slow", delay_ms) => self.reset(&self.slow, delay_ms.parse().unwrap()),
            _ => panic!("unknown command: {command}"),
        }
    }

    fn seen(&self, page: &Page) -> Seen {
        let arrivals = page.in_order();
        let at = |arrival: Option<&(u64, i64)>| arrival.map_or(0, |(at, _)| *at);
        Seen {
            requests: page.count.load(Relaxed),
            first: at(arrivals.first()),
            last: at(arrivals.last()),
            accepted: self.accepted.load(Relaxed),
            most_open: self.open.most.load(Relaxed),
            most_in_flight: page.in_flight.most.load(Relaxed),
        }
    }

    fn reset(&self, page: &Page, delay_ms: u64) -> String {
        page.delay_ms.store(delay_ms, Relaxed);
        page.arrivals.iter().for_each(|arrivals| arrivals.lock().unwrap().clear());
        page.count.store(0, Relaxed);
        page.in_flight.reset();
        self.open.reset();
        self.accepted.store(0, Relaxed);
        "ok".to_owned()
    }
}

impl Page {
    /// Reads a request, notes it, and waits as long as its answer is to take.
    async fn receive(&self, number: usize, request: Request<Incoming>) {
        self.in_flight.rise();
        if let Ok(body) = request.into_body().collect().await {
            let arrival = (clock::now(), lead_id(&body.to_bytes()));
            self.arrivals[number].lock().unwrap().push(arrival);
            self.count.fetch_add(1, Relaxed);
            let delay = self.delay_ms.load(Relaxed);
            if delay > 0 {
                tokio::time::sleep(Duration::from_millis(delay)).await;
            }
        }
        self.in_flight.fall();
    }

    fn in_order(&self) -> Vec<(u64, i64)> {
        let mut all: Vec<_> = self.arrivals.iter().flat_map(|arrivals| arrivals.lock().unwrap().clone()).collect();
        all.sort_unstable();
        all
    }
}

/// The number behind `"leadId":`, in quotes or not; 0 where there is none.
fn lead_id(body: &[u8]) -> i64 {
    let Some(at) = body.windows(LEAD_ID.len()).position(|window| window == LEAD_ID) else { return 0 };
    let digits = body[at + LEAD_ID.len()..].iter().skip_while(|byte| **byte == b'"');
    digits.take_while(|byte| byte.is_ascii_digit()).fold(0, |id, digit| id * 10 + i64::from(digit - b'0'))
}
