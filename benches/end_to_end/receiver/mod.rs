//! [`Receiver`]: an HTTPS server in a process of its own, that notes when each lead arrives.
//!
//! Leaner than the tests' receiver, which keeps whole requests and shares their process: here it must never be what
//! limits the daemon, and its CPU time must not count as anybody else's.

pub(crate) mod server;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::child::Child;

/// Between two looks at how many leads have arrived.
const LOOK: Duration = Duration::from_millis(20);

/// For how long nothing may arrive before nothing more is waited for: longer than any contender's poll.
const SILENCE: Duration = Duration::from_secs(15);

/// A running receiver.
pub(crate) struct Receiver {
    child: std::cell::RefCell<Child>,
    port: u16,
    ca_file: PathBuf,
}

/// What it has seen since it was last reset. Times are microseconds since 1970, as the database's `clock_timestamp()`
/// on the same machine.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// Requests.
    pub(crate) requests: u64,
    /// When the first request had arrived.
    pub(crate) first: u64,
    /// When the last request had arrived.
    pub(crate) last: u64,
    /// When the latest connection was accepted; 0: none was.
    pub(crate) accepted: u64,
    /// The most connections open at once.
    pub(crate) most_open: u64,
    /// The most requests in flight at once.
    pub(crate) most_in_flight: u64,
}

impl Receiver {
    /// Starts it; its CA's certificate is written to `ca_file`.
    pub(crate) fn start(ca_file: &Path) -> Self {
        let mut child = Child::in_role(&["receiver", "--ca-file", ca_file.to_str().unwrap()]);
        let port = child.line().parse().unwrap();
        Self { child: child.into(), port, ca_file: ca_file.to_owned() }
    }

    /// Where leads are sent.
    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}/hook", self.port)
    }

    /// Where the leads of a tenant are sent whose receiver is slow: they count by themselves.
    pub(crate) fn slow_url(&self) -> String {
        format!("https://localhost:{}/slow", self.port)
    }

    /// PEM file of its CA.
    pub(crate) fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// Forgets what it has seen; it answers after `delay` from now on.
    pub(crate) fn reset(&self, delay: Duration) {
        self.ask(&format!("reset {}", delay.as_millis()));
    }

    /// The same for [`Receiver::slow_url`].
    pub(crate) fn reset_slow(&self, delay: Duration) {
        self.ask(&format!("reset_slow {}", delay.as_millis()));
    }

    /// What it has seen since the last reset.
    pub(crate) fn seen(&self) -> Seen {
        serde_json::from_str(&self.ask("seen")).unwrap()
    }

    /// What it has seen at [`Receiver::slow_url`].
    pub(crate) fn seen_slow(&self) -> Seen {
        serde_json::from_str(&self.ask("seen_slow")).unwrap()
    }

    /// When each lead first arrived since the last reset, by its id.
    pub(crate) fn arrivals(&self) -> HashMap<i64, u64> {
        let arrivals: Vec<(u64, i64)> = serde_json::from_str(&self.ask("arrivals")).unwrap();
        // Collected backwards, so that the earliest stays.
        arrivals.into_iter().rev().map(|(at, lead)| (lead, at)).collect()
    }

    /// Waits until `n` requests have arrived, or until nothing has arrived for [`SILENCE`].
    pub(crate) async fn wait_for(&self, n: u64) -> Seen {
        let (mut before, mut since) = (0, Instant::now());
        loop {
            let count: u64 = self.ask("count").parse().unwrap();
            if count > before {
                (before, since) = (count, Instant::now());
            }
            if count >= n || since.elapsed() > SILENCE {
                return self.seen();
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn ask(&self, command: &str) -> String {
        let mut child = self.child.borrow_mut();
        child.say(command);
        child.line()
    }
}
