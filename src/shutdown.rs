//! Signals: SIGTERM and SIGINT stop, a second one ends at once, SIGHUP reloads.

use std::io;

use futures_util::StreamExt as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_tokio::Signals;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Finish what is in flight, then end.
    Stop,
    /// Read the configuration again.
    Reload,
}

/// The signals that the daemon listens to.
pub struct Requests(Signals);

impl Requests {
    /// Takes the signals over from their default effect.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn new() -> io::Result<Self> {
        Signals::new([SIGTERM, SIGINT, SIGHUP]).map(Self)
    }

    /// The next request.
    pub async fn next(&mut self) -> Request {
        match self.0.next().await {
            Some(SIGHUP) => Request::Reload,
            _ => Request::Stop,
        }
    }
}
