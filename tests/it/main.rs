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

/// A database per test, a TLS receiver, the daemon as a child process.
mod harness;
/// What the other modules stand on: isolation, verification, and nothing left behind.
mod harness_works;
