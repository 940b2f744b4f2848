//! What a [`Receiver`](super::Receiver) answers: [`Answer`], and the [`Gate`] that holds one back.

use std::{collections::VecDeque, time::Duration};

use tokio::sync::watch;

use super::Request;

/// One answer to one request.
#[derive(Debug, Clone)]
pub struct Answer {
    pub(super) delay: Duration,
    pub(super) gate: Option<Gate>,
    pub(super) reply: Reply,
}

/// What is sent, and how it ends.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// A proper HTTP answer.
    Http { status: u16, headers: Vec<(String, String)>, body: Vec<u8> },
    /// Exactly these bytes inside TLS; then the connection is closed, or held open until the client closes it.
    Raw { bytes: Vec<u8>, hold: bool },
    /// The connection is reset (RST).
    Reset,
}

impl Answer {
    /// A status code and an empty body.
    pub fn status(status: u16) -> Self {
        Self::new(Reply::Http { status, headers: Vec::new(), body: Vec::new() })
    }

    /// These bytes in place of an HTTP answer, then the end of the connection; none: just the end.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(Reply::Raw { bytes: bytes.into(), hold: false })
    }

    /// These bytes, and then nothing more, on a connection that stays open: a body that stalls.
    pub fn stall_after(bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(Reply::Raw { bytes: bytes.into(), hold: true })
    }

    /// The connection is reset once the request was read.
    pub fn reset() -> Self {
        Self::new(Reply::Reset)
    }

    /// Adds a header to a [`status`](Self::status) answer.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Reply::Http { headers, .. } = &mut self.reply {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Gives a [`status`](Self::status) answer a body.
    pub fn body(mut self, text: impl Into<Vec<u8>>) -> Self {
        if let Reply::Http { body, .. } = &mut self.reply {
            *body = text.into();
        }
        self
    }

    /// Waits before it answers.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Waits until the gate is open; the request is recorded before.
    pub fn behind(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    fn new(reply: Reply) -> Self {
        Self { delay: Duration::ZERO, gate: None, reply }
    }

    /// Waits as told.
    pub(super) async fn hold_back(&self) {
        if let Some(gate) = &self.gate {
            gate.opened().await;
        }
        tokio::time::sleep(self.delay).await;
    }
}

/// Holds answers back until the test has seen what it wants to see.
#[derive(Debug, Clone)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    /// A closed gate.
    pub fn closed() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Lets everything through, now and later.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    pub(super) async fn opened(&self) {
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// How a receiver chooses: first what is queued, then what the rule says.
pub(super) struct Programme {
    pub(super) queue: VecDeque<Answer>,
    pub(super) rule: Box<dyn FnMut(&Request) -> Answer + Send>,
}

impl Default for Programme {
    fn default() -> Self {
        Self { queue: VecDeque::new(), rule: Box::new(|_| Answer::status(200)) }
    }
}

impl Programme {
    pub(super) fn choose(&mut self, request: &Request) -> Answer {
        self.queue.pop_front().unwrap_or_else(|| (self.rule)(request))
    }
}
