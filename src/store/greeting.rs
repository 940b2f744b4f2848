//! The process number that a server told in its greeting. A pooler tells one of its own there, which is how it is found:
//! the server's process behind it has another one.
//!
//! The driver keeps the number for its cancel requests and shows it nowhere; so one is written, to ourselves, and read.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::future::join;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex};
use tokio_postgres::{
    CancelToken,
    tls::{ChannelBinding, TlsConnect, TlsStream},
};

/// The protocol's number of a request for TLS, which may come before the cancel request.
const TLS_REQUEST: [u8; 4] = 80_877_103_i32.to_be_bytes();

/// The process number of the session that `token` cancels; `None`: it cannot be had.
pub(super) async fn process_number(token: &CancelToken) -> Option<i32> {
    let (ours, theirs) = duplex(64);
    let (sent, read) = join(token.cancel_query_raw(theirs, AsIfTls), read(ours)).await;
    sent.ok()?;
    read.ok()
}

/// A cancel request is its length, its code, the process number and the secret.
async fn read(mut stream: DuplexStream) -> io::Result<i32> {
    let mut head = [0; 8];
    stream.read_exact(&mut head).await?;
    if head.ends_with(&TLS_REQUEST) {
        stream.write_all(b"S").await?;
        stream.read_exact(&mut head).await?;
    }
    stream.read_i32().await
}

/// Nothing leaves this process: it is as safe as it is.
struct AsIfTls;

impl TlsConnect<DuplexStream> for AsIfTls {
    type Stream = Plain;
    type Error = Infallible;
    type Future = Ready<Result<Plain, Infallible>>;

    fn connect(self, stream: DuplexStream) -> Self::Future {
        ready(Ok(Plain(stream)))
    }
}

struct Plain(DuplexStream);

impl TlsStream for Plain {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Plain {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Plain {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
