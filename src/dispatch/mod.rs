//! When things happen: who looks, who claims, who writes.
//!
//! Four tasks, each with a session of its own, and one short task for each delivery:
//!
//! - the [`listener`] hears NOTIFY and rings the [`wake_up`]; it listens before it rings, at every connect, so that
//!   nothing is missed between two connections. NOTIFY is only a hint: a timer looks as well. Whether commits notify at
//!   all is a matter of the bell, which is armed while the dispatcher rests.
//! - the [`dispatcher`] is woken, makes a [`claim`] of as many events as may fly (the [`flight`] counts them, in all
//!   and for each tenant), and starts the deliveries. In the claim, [`decide`] says whether an event is created,
//!   re-engaged or a duplicate. A claim is committed before anything is sent.
//! - the [`recorder`] writes outcomes in batches. It keeps the heartbeat too ([`heart`]), by which several daemons tell
//!   who is alive, and logs the claims of dead ones as `interrupted`.
//! - the [`sweep`] queues what a failing trigger left out, at the start and when the mark of such triggers has moved. Its
//!   session lasts as long as it looks.
//!
//! No lock is held over an HTTP exchange. An attempt makes room when it ends, and where attempts are quick some are
//! claimed ahead, but no more than four times as many deliveries as attempts, and what ends within 20 ms, are claimed and not
//! recorded: a database that is away stops the claims, and what a crash leaves in doubt is bounded. How far back a claim
//! looks is a matter of the horizon.
//!
//! The [`guard`] stands before all of them: in a database that is not the one that was installed in, a copy perhaps,
//! nothing is claimed and nothing written. Where a standby has taken over, the dispatcher's [`memory`] tells it what it
//! may have forgotten, before anything is claimed there.
//!
//! A stop goes the same way: no more claims, the deliveries end within a bound, their outcomes are written, what was
//! claimed and not begun goes back to the queue, the heartbeat is removed.

mod answer;
pub mod backoff;
mod bell;
pub mod claim;
mod clock;
pub mod decide;
pub mod dispatcher;
pub mod endpoints;
pub mod flight;
pub mod guard;
pub mod heart;
mod horizon;
mod keys;
pub mod listener;
pub mod memory;
mod moved;
mod pause;
mod ready;
mod reconcile;
pub mod recorder;
mod resting;
mod retention;
mod sending;
mod settled;
mod statements;
mod stillness;
pub mod sweep;
mod trouble;
pub mod wake_up;
