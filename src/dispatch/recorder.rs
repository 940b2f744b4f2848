//! The recorder: writes outcomes in batches that form while the last one is being written, and keeps the heartbeat, on
//! a session of its own, so that a claim that waits for a lock on the leads delays neither.
//!
//! What cannot be written because the database is away, or another one than the installation's, is kept and written when
//! it is back; only the write is repeated.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use uuid::Uuid;

use crate::{
    config::Database,
    failpoint,
    metrics::Metrics,
    pipeline::Pipeline,
    store::{
        Error, bell, connect,
        delivery_log::{self, Entry},
        instances::{self, Interrupted},
        outbox, said,
        session::Session,
    },
};

use super::{
    answer::{self, PROMPT},
    backoff::Backoff,
    clock::Clock,
    flight::{Flight, Seat},
    guard,
    heart::{self, Beaten, Heart, Pulse},
    memory::Memory,
};

/// The most outcomes in one statement: beyond it a statement gets longer, not cheaper.
const BATCH: usize = 500;

/// So many outcomes are worth a statement: each has a price of its own.
const ENOUGH: usize = 100;

/// Where there are fewer, others are waited for so long while attempts are under way.
const SWARM: Duration = Duration::from_millis(20);

/// An outcome that is to be written. The seat is given up when it is.
pub struct Ended {
    /// The log row.
    pub entry: Entry,
    /// The delivery's place in flight.
    pub seat: Option<Seat>,
}

/// How the daemon stands with its database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It cannot be written to.
    Away,
    /// It can.
    There,
    /// It is not the installation's, or the key file is not: nothing is written.
    Guarded,
}

/// The recorder's state.
pub struct Recorder {
    database: Arc<Database>,
    heart: Arc<Heart>,
    flight: Arc<Flight>,
    memory: Arc<Mutex<Memory>>,
    metrics: Arc<Metrics>,
    pipeline: watch::Receiver<Arc<Pipeline>>,
    status: watch::Sender<Standing>,
    session: Option<Session>,
    pulse: Pulse,
    clock: Clock,
    backoff: Backoff,
    next_beat: Instant,
}

impl Recorder {
    /// A recorder without a session yet; `status` tells how it stands with the database, `pipeline` has the key file.
    pub fn new(
        database: Arc<Database>,
        heart: Arc<Heart>,
        flight: Arc<Flight>,
        memory: Arc<Mutex<Memory>>,
        metrics: Arc<Metrics>,
        pipeline: watch::Receiver<Arc<Pipeline>>,
        status: watch::Sender<Standing>,
    ) -> Self {
        let (session, pulse, backoff, next_beat) = (None, Pulse::default(), Backoff::default(), Instant::now());
        let clock = Clock::default();
        Self { database, heart, flight, memory, metrics, pipeline, status, session, pulse, clock, backoff, next_beat }
    }

    /// Writes what comes until `ended` closes, then signs off.
    pub async fn run(mut self, mut ended: mpsc::UnboundedReceiver<Ended>) {
        let mut batch: Vec<Ended> = Vec::new();
        loop {
            tokio::select! {
                n = ended.recv_many(&mut batch, BATCH) => {
                    if n == 0 {
                        break;
                    }
                    self.gather(&mut ended, &mut batch).await;
                }
                () = sleep_until(self.next_beat) => if self.beat().await { self.worked() },
            }
            self.write(&mut batch).await;
        }
        self.leave().await;
    }

    /// Waits for the swarm, where there are few outcomes yet and attempts are under way.
    async fn gather(&self, ended: &mut mpsc::UnboundedReceiver<Ended>, batch: &mut Vec<Ended>) {
        // What is not recorded takes room: where there is little, more than half of it is not waited for.
        let enough = ENOUGH.min(self.flight.most_unrecorded() / 2);
        let swarm = async {
            while batch.len() < enough && self.flight.attempts() > 0 {
                if ended.recv_many(batch, BATCH).await == 0 {
                    break;
                }
            }
        };
        let _ = timeout(SWARM, swarm).await;
    }

    /// Writes the whole batch, however long the database is away.
    async fn write(&mut self, batch: &mut Vec<Ended>) {
        let own = self.heart.instance_id();
        let (flight, role) = (Arc::clone(&self.flight), self.database.daemon_role.clone());
        while !batch.is_empty() {
            if Instant::now() >= self.next_beat {
                // It says nothing of the outcomes, which a lock may keep back.
                self.beat().await;
            }
            let Some(session) = self.session().await else { continue };
            let entries: Vec<&Entry> = batch.iter().map(|ended| &ended.entry).collect();
            failpoint::reached("recorder::collected");
            match answer::explained(PROMPT, &role, record_halving(session, &flight, own, &entries)).await {
                Ok(()) => {
                    failpoint::reached("recorder::written");
                    batch.drain(..).filter_map(|ended| ended.seat).for_each(Seat::leave_recorded);
                    self.worked();
                }
                Err(error) => self.lost(&error).await,
            }
        }
    }

    /// Renews the heartbeat and finds dead daemons' claims, where the guard still lets us; whether it did.
    async fn beat(&mut self) -> bool {
        self.next_beat = Instant::now() + heart::EVERY;
        if self.session().await.is_none() {
            return false;
        }
        let pipeline = Arc::clone(&self.pipeline.borrow());
        let Self { session: Some(session), pulse, heart, database, .. } = self else { return false };
        let beaten = heart.beat(session, &pipeline, pulse);
        match answer::explained(PROMPT, &database.daemon_role, beaten).await {
            Ok(Some(Beaten { interrupted, ahead })) => {
                self.clock.compared(ahead, &self.metrics);
                self.metrics.interrupted(u64::try_from(interrupted.len()).unwrap_or_default());
                interrupted.iter().for_each(log_interrupted);
                return true;
            }
            Ok(None) => self.guarded().await,
            Err(error) => self.lost(&error).await,
        }
        false
    }

    /// Gives back what was never begun and removes the heartbeat.
    async fn leave(&mut self) {
        let own = self.heart.instance_id();
        let (held, unsettled) = (self.flight.held(), self.flight.unsettled());
        let (memory, metrics) = (Arc::clone(&self.memory), Arc::clone(&self.metrics));
        // What stands there is not ours to change.
        if *self.status.borrow() == Standing::Guarded {
            return;
        }
        let Some(session) = self.session().await else { return };
        let left = async {
            // The dispatcher may have been stopped before it met a server that has taken over.
            metrics.interrupted(memory.lock().await.meet(session, own, &unsettled).await?);
            if outbox::release(session, own, &held).await? > 0 {
                // What was given back should not wait for the others' poll.
                bell::call(session.shared()).await?;
            }
            failpoint::reached("recorder::gave_back");
            instances::leave(session, own).await
        };
        if let Err(error) = left.await {
            tracing::warn!(error = %said(&error), "could not sign off; others will find out in 30 s");
        }
    }

    /// The session, connected where it is not. `None`: it could not be, or the guard forbids it, and the back-off was
    /// waited for.
    async fn session(&mut self) -> Option<&mut Session> {
        if self.session.as_ref().is_none_or(Session::is_closed) {
            self.session = None;
            let mut session = match connect::connect(&self.database.url, &self.database).await {
                Ok(connected) => Session::new(connected),
                Err(error) => {
                    self.away(&error.to_string()).await;
                    return None;
                }
            };
            let pipeline = Arc::clone(&self.pipeline.borrow());
            let looked = async {
                session.probe().await?;
                guard::look(&mut session, pipeline.keyring()).await
            };
            match answer::explained(PROMPT, &self.database.daemon_role, looked).await {
                Ok(Ok(seen)) => {
                    self.pulse.pass(seen, &pipeline);
                    self.session = Some(session);
                }
                Ok(Err(_)) => {
                    self.guarded().await;
                    return None;
                }
                Err(error) => {
                    self.lost(&error).await;
                    return None;
                }
            }
        }
        self.session.as_mut()
    }

    fn worked(&mut self) {
        if !self.backoff.is_first() {
            tracing::info!("the database can be written to again");
        }
        self.backoff.reset();
        self.stands(Standing::There);
    }

    /// The session is given up.
    async fn lost(&mut self, error: &str) {
        self.session = None;
        self.away(error).await;
    }

    /// Not our database, or not our key file. The dispatcher says what differs and what helps.
    async fn guarded(&mut self) {
        self.session = None;
        self.heart.go_stale();
        if self.stands(Standing::Guarded) {
            let outcomes = self.flight.ended();
            tracing::warn!(
                outcomes,
                "not the installation's database or key file: nothing is written, outcomes are kept"
            );
        }
        sleep(self.backoff.next_wait()).await;
    }

    /// Whether it stood otherwise before.
    fn stands(&self, standing: Standing) -> bool {
        self.status.send_if_modified(|stood| std::mem::replace(stood, standing) != standing)
    }

    async fn away(&mut self, error: &str) {
        if self.backoff.is_first() {
            tracing::warn!(
                error,
                outcomes = self.flight.ended(),
                "the database cannot be written to; outcomes are kept until it can"
            );
        }
        self.stands(Standing::Away);
        self.metrics.write_failed();
        sleep(self.backoff.next_wait()).await;
    }
}

fn log_interrupted(event: &Interrupted) {
    tracing::warn!(
        event.id = %event.event_id, event.kind = %event.event, tenant.id = %event.tenant_id,
        delivery.id = %event.delivery_id, dead.instance = %event.instance_id,
        "interrupted: the daemon that made the attempt died; it may have arrived",
    );
}

/// Writes a batch; where the database refuses it for what stands in it, halves it until the refused row stands alone.
/// That row stays claimed, and is logged as interrupted when this daemon has ended.
async fn record_halving(session: &mut Session, flight: &Flight, own: Uuid, entries: &[&Entry]) -> Result<(), Error> {
    let mut batches = vec![entries];
    while let Some(batch) = batches.pop() {
        let Err(error) = delivery_log::record(session, own, batch).await else { continue };
        let refused = error.code().is_some_and(|code| matches!(code.code().get(..2), Some("21" | "22" | "23")));
        match batch {
            _ if !refused => return Err(error),
            [entry] => {
                flight.doubt(entry.delivery_id);
                tracing::error!(
                    event.id = %entry.place.event_id, delivery.id = %entry.delivery_id, error = %said(&error),
                    "the log refuses this outcome; it will stand as interrupted once this daemon has ended",
                );
            }
            _ => {
                let (left, right) = batch.split_at(batch.len() / 2);
                batches.extend([right, left]);
            }
        }
    }
    Ok(())
}
