//! What integration tests and the demo stand on. Nothing of ours is imitated here: a real PostgreSQL server, a real
//! HTTPS receiver, and the built program as a child process.
//!
//! - [`Cluster`]: a throw-away PostgreSQL server, one a process; gone when the process is, however it ends.
//! - [`Database`]: a database and roles of its own for each test, with the application's `leads` table.
//! - [`Receiver`]: records each request and answers as it was told to.
//! - [`Pooler`]: a PgBouncer in front of the server.
//! - [`Process`]: the program, as the daemon or as a command.
//! - [`Setup`]: all of them together: configuration, key file, schema, endpoints, by the real commands.
//! - [`Admin`]: a client of the daemon's admin API.
//! - [`Application`]: the application's own session beside a `Setup` without a daemon, for what the triggers do.
//!
//! Time is bounded everywhere by [`PATIENCE`], and what was waited for is named when it does not come.

#![allow(dead_code, unreachable_pub, unused_imports, reason = "two crates share it, and neither uses all of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a harness that cannot go on ends the test"
)]

mod admin;
mod answer;
mod application;
mod canary;
mod cluster;
mod daemon;
mod database;
mod identity;
mod pooler;
mod receiver;
mod request;
mod setup;

use std::{
    fs::OpenOptions,
    future::Future,
    io::{Write as _, stderr},
    time::Duration,
};

pub use self::{
    admin::{Admin, Answered, ENDPOINT, OPERATOR, Sent, administered, with_endpoint},
    answer::{Answer, Gate},
    application::{Application, done, notes},
    canary::everything_in_our_schema,
    cluster::{Cluster, Stop},
    daemon::{Output, Process, program, signal},
    database::{Database, LogRow, session, until_true},
    identity::Identity,
    pooler::Pooler,
    receiver::{Connections, Receiver},
    request::Request,
    setup::Setup,
};

/// How long anything is waited for. Far more than any of it takes, also on a busy machine: it only ends what hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for `event`, which `what` names.
///
/// Panics after [`PATIENCE`].
pub async fn patiently<T>(what: &str, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, event).await {
        Ok(value) => value,
        Err(_) => panic!("waited {} s in vain for {what}", PATIENCE.as_secs()),
    }
}

/// Waits until something is so that is asked without waiting.
///
/// Panics after [`PATIENCE`].
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let event = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    patiently(what, event).await;
}

/// Prints what is left out on this machine, and why: nothing is in silence. Where the environment names a file for it, it
/// is written there as well.
#[expect(clippy::explicit_write, reason = "of a test that passes, the runner swallows what eprintln! prints")]
pub fn left_out(what: &str) {
    writeln!(stderr(), "left out: {what}").unwrap();
    if let Some(path) = environment("LEAD_WEBHOOK_TEST_LEFT_OUT") {
        let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(format!("{what}\n").as_bytes()).unwrap();
    }
}

/// A variable of the test's environment.
#[expect(
    clippy::disallowed_methods,
    reason = "the rule is about the program, this is about the machine it is tested on"
)]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
