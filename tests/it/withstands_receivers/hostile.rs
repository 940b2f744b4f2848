//! [`Hostile`]: a receiver that does, on each connection, what its script says.

use std::{io, sync::Arc};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Duration, sleep},
};
use tokio_rustls::TlsAcceptor;

use crate::harness::patiently;

/// Between two bytes of a trickle: far less than any limit of the client's.
const DRIP: Duration = Duration::from_millis(50);

/// A flood comes in pieces of this many bytes.
const PIECE: usize = 16 * 1024;

/// Kept small, so that what was written was about as much as was read.
const SEND_BUFFER: u32 = 64 * 1024;

/// Of a request that is not read, both sides' sockets hold 120 kB so, far less than the longest has. By the segments of the
/// loopback interface it were four megabytes.
const RECEIVE_BUFFER: u32 = 8 * 1024;
const SEGMENT: u32 = 1400;

/// What a connection does next. After the last step it is closed.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Reads a request to its end.
    Request,
    /// Reads a request's head and leaves the body where it is.
    Head,
    /// Reads what comes first.
    Beginning,
    /// Writes this.
    Say(Vec<u8>),
    /// Writes this again and again until the client is gone.
    Flood(Vec<u8>),
    /// The same, a byte at a time.
    Trickle(Vec<u8>),
    /// Says nothing more until the client is gone.
    Hold,
    /// Neither reads nor writes until the test ends.
    Ignore,
    /// Resets the connection.
    Reset,
}

/// What a receiver has seen.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// Connections accepted.
    pub(super) connections: usize,
    /// Requests of which at least the first byte came.
    pub(super) requests: usize,
    /// Bytes written by floods.
    pub(super) flooded: usize,
    /// Floods and trickles that ended because the client was gone.
    pub(super) left: usize,
}

/// A running receiver; gone when dropped.
pub(super) struct Hostile {
    port: u16,
    seen: watch::Sender<Seen>,
    _serving: JoinSet<()>,
}

impl Hostile {
    /// Plays the script inside TLS.
    pub(super) fn tls(tls: TlsAcceptor, script: impl Into<Arc<[Step]>>) -> Self {
        Self::start(Some(tls), script.into())
    }

    /// Plays the script on the bare connection, in place of TLS.
    pub(super) fn plain(script: impl Into<Arc<[Step]>>) -> Self {
        Self::start(None, script.into())
    }

    fn start(tls: Option<TlsAcceptor>, script: Arc<[Step]>) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(SEND_BUFFER).unwrap();
        socket.set_recv_buffer_size(RECEIVE_BUFFER).unwrap();
        SockRef::from(&socket).set_tcp_mss(SEGMENT).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1024).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, mut serving) = (watch::Sender::default(), JoinSet::new());
        serving.spawn(serve(listener, tls, script, seen.clone()));
        Self { port, seen, _serving: serving }
    }

    /// Where it is.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// What it has seen until now.
    pub(super) fn seen(&self) -> Seen {
        *self.seen.borrow()
    }

    /// Waits until what it has seen is enough.
    pub(super) async fn until(&self, what: &str, enough: impl Fn(&Seen) -> bool) {
        let mut seen = self.seen.subscribe();
        let _ = patiently(what, seen.wait_for(enough)).await;
    }
}

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, script: Arc<[Step]>, seen: watch::Sender<Seen>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        seen.send_modify(|seen| seen.connections += 1);
        let (tls, script, seen) = (tls.clone(), script.clone(), seen.clone());
        connections.spawn(async move {
            let _ = meet(socket, tls, &script, &seen).await;
        });
    }
}

async fn meet(
    mut socket: TcpStream,
    tls: Option<TlsAcceptor>,
    script: &[Step],
    seen: &watch::Sender<Seen>,
) -> io::Result<()> {
    let resets = matches!(script.last(), Some(Step::Reset));
    match tls {
        None => play(&mut socket, script, seen).await?,
        Some(tls) => {
            let mut stream = tls.accept(socket).await?;
            play(&mut stream, script, seen).await?;
            if !resets {
                stream.shutdown().await?;
            }
            socket = stream.into_inner().0;
        }
    }
    if resets { socket.set_zero_linger() } else { Ok(()) }
}

async fn play<S>(stream: &mut S, script: &[Step], seen: &watch::Sender<Seen>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    for step in script {
        match step {
            Step::Request | Step::Head | Step::Beginning => {
                let mut first = [stream.read_u8().await?; 1].to_vec();
                seen.send_modify(|seen| seen.requests += 1);
                match step {
                    Step::Request => read_request(stream, &mut first, true).await?,
                    Step::Head => read_request(stream, &mut first, false).await?,
                    _ => {}
                }
            }
            Step::Say(bytes) => write(stream, bytes).await?,
            Step::Flood(bytes) => {
                let piece = bytes.repeat(PIECE / bytes.len() + 1);
                while write(stream, &piece).await.is_ok() {
                    seen.send_modify(|seen| seen.flooded += piece.len());
                }
                seen.send_modify(|seen| seen.left += 1);
            }
            Step::Trickle(bytes) => {
                let mut drops = bytes.iter().cycle();
                while write(stream, &[*drops.next().unwrap()]).await.is_ok() {
                    sleep(DRIP).await;
                }
                seen.send_modify(|seen| seen.left += 1);
            }
            Step::Hold => while stream.read(&mut [0; 1024]).await? > 0 {},
            Step::Ignore => std::future::pending().await,
            Step::Reset => return Ok(()),
        }
    }
    Ok(())
}

async fn write<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

async fn read_request<S: AsyncRead + Unpin>(stream: &mut S, head: &mut Vec<u8>, whole: bool) -> io::Result<()> {
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(head).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; if whole { length.parse().unwrap() } else { 0 }];
    stream.read_exact(&mut body).await?;
    Ok(())
}
