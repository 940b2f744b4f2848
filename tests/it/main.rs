//! The promises of the specification, each against a real PostgreSQL, real TLS and the real program.
//!
//! Modules are named after what they promise, tests are sentences. Waiting is for an event (a request, a log line,
//! a row), never for a time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

/// Bad input gets every problem at once, the right exit code, and changes nothing.
mod command_line;
/// Each lead that is new, or that comes back, is one request and one log row.
mod delivers_once;
/// A database per test, a TLS receiver, the daemon as a child process.
mod harness;
/// What the other modules stand on: isolation, verification, and nothing left behind.
mod harness_works;
/// Secrets and personal data stay where they belong.
mod keeps_secrets;
/// The egress policy at save and at every send.
mod refuses_private_addresses;
/// What is not sent is accounted for.
mod skips_what_must_not_be_sent;
/// Imports point one way, and what is dangerous stands in one place.
mod structure;
/// Crashes, restarts and stops: never a second request, never an event without a row.
mod survives;
/// The notification protocol of systemd.
mod tells_systemd;
/// Every table and column says what it is, and contradictory rows are impossible.
mod the_log;
/// What a receiver gets, and what each of its answers becomes.
mod the_request;
