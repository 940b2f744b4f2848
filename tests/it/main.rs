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

/// What was captured, what was logged and what arrived, compared.
mod administers;
mod audit;
/// Bad input gets every problem at once, the right exit code, and changes nothing.
mod command_line;
/// Sessions with the database are as safe as the configuration insists.
mod connects;
/// Each lead that is new, or that comes back, is one request and one log row.
mod delivers_once;
/// A transaction pooler in between changes nothing of what is promised.
mod fits_destinations;
mod goes_through_a_pooler;
/// A restored or cloned database sends nothing until an operator says what it is.
mod guards_against_copies;
/// A database per test, a TLS receiver, the daemon as a child process.
mod harness;
/// What the other modules stand on: isolation, verification, and nothing left behind.
mod harness_works;
/// Bodies and headers are what they should be for any value.
mod holds_for_any_value;
/// `migrate` and `uninstall`: by whomever, beside a busy application, once or again, with nothing left over.
mod installs_beside_an_application;
/// Secrets and personal data stay where they belong.
mod keeps_secrets;
/// The daemon's login may do what it does, and nothing beyond.
mod keeps_to_its_rights;
mod keeps_up_with_the_application;
/// The application's table may look as it likes, and every fault of a mapping is told at once.
mod maps_columns;
/// Whatever becomes of us, the application's statements succeed, soon, and its migrations never meet us.
mod never_breaks_the_applications_writes;
/// What no longer fits of the install is named with its remedy, and the remedy puts it right.
mod notices_what_is_broken;
/// A test in namespaces of its own.
mod own_world;
/// The log does not grow for ever.
mod prunes_the_log;
/// The triggers queue every lead that counts, once, whichever way it is written, and nothing else.
mod queues_what_counts;
/// With a log of many rows the commands stay quick.
mod reads_millions;
/// What a failing trigger leaves out is queued afterwards, once, and nothing else is.
mod receivers_verify;
/// `reconcile` accounts for every lead since the install, and names those that nothing became of.
mod reconciles;
mod recovers_what_was_missed;
/// What is sealed and was altered, cut off or moved sends nothing, says what to do, and stops nobody else.
mod refuses_altered_secrets;
/// The egress policy at save and at every send.
mod refuses_private_addresses;
/// An idle daemon asks nothing but its heartbeat, and misses nothing for it.
mod rests;
/// Another key seals everything while daemons run, and the old one is dropped once nothing is sealed by it.
mod rotates_keys;
/// The unit, under a real systemd.
mod runs_under_its_unit;
/// Sealed values wherever they stand.
mod sealed;
/// An operator's explicit second send.
mod sends_again;
/// The admin page: whose forms change something, and what a browser keeps.
mod serves_the_page;
/// The admin page in a real browser.
mod shows_in_a_browser;
/// What commands look like on a terminal.
mod shows_on_a_terminal;
/// What is not sent is accounted for.
mod skips_what_must_not_be_sent;
/// A receiver never has more connections open than attempts were in flight to it.
mod spares_receivers;
/// Imports point one way, and what is dangerous stands in one place.
mod structure;
/// Crashes, restarts and stops: never a second request, never an event without a row.
mod survives;
/// A kill at each step between the claim and the log.
#[cfg(feature = "failpoints")]
mod survives_at_every_step;
/// A daemon that was frozen sends nothing that it has not read again.
mod survives_being_frozen;
/// Clocks that jump cost no lead and send nothing twice.
mod survives_clocks;
/// Daemons killed, frozen and stopped and servers restarted, at random: every lead is accounted for.
mod survives_faults;
/// What the machine or the server lacks stops the daemon for as long as it is lacking, and costs no lead.
mod survives_shortages;
/// A server that is frozen, lost or replaced holds nothing up for longer than its limit, and costs no lead.
mod survives_the_network;
/// What arrives, what fails and how long it takes, in figures and as it happens.
mod tells_in_figures;
/// The admin listener, for probes and Prometheus.
mod tells_monitoring;
/// The notification protocol of systemd.
mod tells_systemd;
/// Every table and column says what it is, and contradictory rows are impossible.
mod the_log;
/// What a receiver gets, and what each of its answers becomes.
mod the_request;
/// `receive`, for trying things out.
mod tries_out;
/// A lead that is committed is looked for at once, though commits ring only while a daemon waits for them.
mod wakes_up;
/// Whatever a receiver does, it gets one request at most, and takes nothing from others.
mod withstands_receivers;
