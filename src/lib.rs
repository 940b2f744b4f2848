//! Pushes rows out of PostgreSQL as signed webhooks.
//!
//! For every new lead in an existing `leads` table, and every lead that comes back after a silence, exactly
//! one signed HTTPS POST goes to the URL that the lead's tenant configured, and one row in a log table says
//! how that went. The path of one lead, in nine steps:
//!
//! 1. **trigger** – a row of `leads` becomes a row of the outbox, in the application's own transaction:
//!    [`store::install`].
//! 2. **wake-up** – NOTIFY, a timer, the start or a reconnect say "look now": [`dispatch::listener`].
//! 3. **claim** – up to the free permits, fair between endpoints; decides created, re-engaged or duplicate:
//!    [`store::outbox`].
//! 4. **load** – the lead's values, by id: [`store::leads`].
//! 5. **open** – URL, secret and headers are unsealed: [`keyring`].
//! 6. **prepare** – body, headers, signature; pure: [`delivery`].
//! 7. **guard** – where it may send: [`egress`].
//! 8. **send** – one attempt becomes one [`outcome::Outcome`]: [`delivery::client`].
//! 9. **record** – outcomes, many in one statement: [`dispatch::recorder`], [`store::delivery_log`].
//!
//! The claim is committed before the POST and the outcome is written after it, so a crash in between leaves an
//! event in doubt, never a second POST. Whatever a receiver or a tenant's configuration causes is an
//! [`outcome::Outcome`]; an `Err` means that something could not be recorded.
//!
//! Imports point one way: the words ([`event`], [`outcome`], [`secret`], [`shortage`]) know nothing; [`keyring`],
//! [`names`], [`roots`] and [`egress`] know the words; [`delivery`] and [`store`] stand on those; [`pipeline`] joins them for one event;
//! [`dispatch`] decides when, and [`metrics`] count; [`control`] is what is done by hand, over [`cli`] and [`admin`]; [`daemon`]
//! and [`cli`] start it all.

pub mod event;
pub mod outcome;
pub mod secret;
pub mod shortage;
pub mod visitor;

pub mod failpoint;
pub mod http_server;

pub mod names;
pub mod roots;

pub mod config;
pub mod egress;
pub mod keyring;

pub mod delivery;
pub mod store;

pub mod metrics;
pub mod pipeline;

pub mod control;
pub mod dispatch;

pub mod admin;
pub mod daemon;
pub mod shutdown;
pub mod telemetry;

pub mod cli;
