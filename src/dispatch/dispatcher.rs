//! The dispatcher: hears the wake-ups, claims as much as may fly, and starts one task for each delivery. It is the
//! only one that claims, on a session of its own.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tracing::Instrument as _;

use crate::{
    config::{Database, Leads},
    keyring::{Column, Place},
    outcome::{Outcome, Status},
    pipeline::Pipeline,
    store::{
        self, connect, installation,
        mapping::{MappedSql, MappingError},
        outbox,
        session::{Session, explain},
    },
    visitor::UniquenessKey,
};

use super::{
    backoff::Backoff,
    claim::{ClaimError, Claimed, Claimer, Statements},
    flight::Flight,
    heart::Heart,
    recorder::Ended,
    sending::{Sending, entry, log_settled},
    wake_up::WakeUp,
};

/// After a commit whose answer was lost, the server may still finish it: for this long, claims that are not ours to
/// send are looked for and given back.
const UNCERTAIN: Duration = Duration::from_secs(60);

/// A claim takes milliseconds, and waits for a lock for a second. A server that has not answered by now will not.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(60);

/// A claim that is under way when the daemon is told to stop may still end for so long.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// Works until it is done, or until a stop has waited for it for [`STOP_PATIENCE`].
async fn unless_stopped<T>(stop: &mut watch::Receiver<bool>, work: impl Future<Output = T>) -> Option<T> {
    let given_up = async {
        // The sender outlives us; if it did not, that were a stop too.
        let _ = stop.wait_for(|stop| *stop).await;
        tokio::time::sleep(STOP_PATIENCE).await;
    };
    tokio::select! {
        biased;
        done = work => Some(done),
        () = given_up => None,
    }
}

/// What the dispatcher works with.
pub struct Dispatcher {
    /// How to reach the database.
    pub database: Arc<Database>,
    /// The leads table.
    pub leads: Leads,
    /// Older events are skipped.
    pub max_age: Option<Duration>,
    /// How long a stop waits for what is in flight.
    pub drain_timeout: Duration,
    /// Steps 5 to 8; a reload puts a new one here.
    pub pipeline: watch::Receiver<Arc<Pipeline>>,
    /// What is in flight.
    pub flight: Arc<Flight>,
    /// The heartbeat.
    pub heart: Arc<Heart>,
    /// When to look.
    pub wake_up: WakeUp,
    /// To the recorder.
    pub ended: mpsc::UnboundedSender<Ended>,
    /// Whether to stop.
    pub stop: watch::Receiver<bool>,
}

/// A session that can claim.
struct Ready {
    session: Session,
    statements: Statements,
    claimer: Claimer,
}

/// What keeps the dispatcher from claiming; each names its remedy.
#[derive(Debug, thiserror::Error)]
enum Obstacle {
    #[error("{0}")]
    Connect(#[from] connect::ConnectError),
    #[error("{0}")]
    Database(String),
    #[error("{0}")]
    Mapping(#[from] MappingError),
    #[error("the schema is not installed: run `lead-webhook migrate`")]
    NotInstalled,
    #[error(
        "the key file is not the one that this installation was made with ({0}): nothing is claimed until it is back"
    )]
    OtherKeys(crate::keyring::OpenError),
}

/// What to do after a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// There may be more to claim at once.
    ClaimAgain,
    /// More is pending than may fly now: look again when a delivery leaves.
    WaitForRoom,
    /// Nothing more is pending: look again when somebody says so.
    Wait,
}

/// What keeps going wrong: told once, tried again ever more slowly until a claim succeeds.
#[derive(Default)]
struct Trouble {
    backoff: Backoff,
    told: String,
    /// A claim of ours may stand that is not begun; until then a late commit may still bring one.
    uncertain_until: Option<Instant>,
}

impl Trouble {
    /// Logs the error where it is another one than the last; how long to wait.
    fn tell(&mut self, error: String) -> Duration {
        if error != self.told {
            tracing::error!(error, "cannot claim, trying again; events wait in the outbox");
            self.told = error;
        }
        self.backoff.next_wait()
    }

    fn is_over(&mut self) {
        if !self.told.is_empty() {
            tracing::info!("claiming again");
            self.told.clear();
        }
        self.backoff.reset();
    }

    fn is_uncertain(&self) -> bool {
        self.uncertain_until.is_some()
    }

    /// What was not begun has been given back.
    fn looked(&mut self) {
        self.uncertain_until = self.uncertain_until.filter(|until| Instant::now() < *until);
    }

    fn doubt(&mut self) {
        self.uncertain_until = Some(Instant::now() + UNCERTAIN);
    }
}

impl Dispatcher {
    /// Claims and sends until it is told to stop, then drains.
    pub async fn run(mut self) {
        let mut tasks = JoinSet::new();
        let mut trouble = Trouble::default();
        while !*self.stop.borrow() {
            let Some(ready) = unless_stopped(&mut self.stop.clone(), self.make_ready()).await else { break };
            let error = match ready {
                Ok(ready) => match self.claim_until_lost(ready, &mut tasks, &mut trouble).await {
                    Some(error) => error,
                    None => break,
                },
                Err(obstacle) => obstacle.to_string(),
            };
            let wait = trouble.tell(error);
            self.pause(wait, &mut tasks).await;
        }
        self.drain(tasks).await;
    }

    /// Waits, but not after a stop.
    async fn pause(&mut self, wait: Duration, tasks: &mut JoinSet<()>) {
        tokio::select! {
            _ = self.stop.wait_for(|stop| *stop) => {}
            () = tokio::time::sleep(wait) => {}
        }
        while tasks.try_join_next().is_some() {}
    }

    /// Connects, looks at the leads table and opens the installation's key.
    async fn make_ready(&self) -> Result<Ready, Obstacle> {
        let explained = |error: store::Error| Obstacle::Database(explain(&error, &self.database.daemon_role));
        let connected = connect::connect(&self.database.url, &self.database).await?;
        let mut session = Session::new(connected.client);
        let installation = installation::read(&mut session).await.map_err(explained)?.ok_or(Obstacle::NotInstalled)?;
        let place = Place { tenant: &installation.installation_id.to_string(), column: Column::UniquenessKey };
        let key = self
            .pipeline
            .borrow()
            .keyring()
            .open(&place, &installation.uniqueness_key_sealed)
            .map_err(Obstacle::OtherKeys)?;
        let mapped = MappedSql::resolve(session.client(), &self.leads).await?;
        let statements = Statements::prepare(&mut session, &mapped).await.map_err(explained)?;
        let claimer = Claimer {
            instance_id: self.heart.instance_id(),
            key: UniquenessKey::new(key),
            silence: self.leads.silence,
        };
        Ok(Ready { session, statements, claimer })
    }

    /// The loop of claims on one session. `None`: it is time to stop; else why the session is given up.
    async fn claim_until_lost(
        &mut self,
        mut ready: Ready,
        tasks: &mut JoinSet<()>,
        trouble: &mut Trouble,
    ) -> Option<String> {
        let mut cursor = String::new();
        let mut stop = self.stop.clone();
        loop {
            if *self.stop.borrow() {
                return None;
            }
            tokio::select! {
                () = self.heart.fresh() => {}
                _ = self.stop.wait_for(|stop| *stop) => return None,
            }
            if self.flight.take_unsent() {
                trouble.doubt();
            }
            if trouble.is_uncertain() {
                let given_back =
                    outbox::release(&mut ready.session, self.heart.instance_id(), &self.flight.held()).await;
                match given_back {
                    Err(error) => return Some(explain(&error, &self.database.daemon_role)),
                    Ok(0) => {}
                    Ok(n) => tracing::info!(events = n, "gave claims back that were not begun"),
                }
                trouble.looked();
            }
            let claim = tokio::time::timeout(CLAIM_TIMEOUT, self.claim_once(&mut ready, &mut cursor, tasks));
            let next = match unless_stopped(&mut stop, claim).await {
                None => return None,
                Some(Ok(Ok(next))) => next,
                Some(Err(_)) => {
                    trouble.doubt();
                    return Some(format!("the database has not answered a claim for {} s", CLAIM_TIMEOUT.as_secs()));
                }
                Some(Ok(Err(error))) => {
                    trouble.doubt();
                    return Some(error);
                }
            };
            trouble.is_over();
            let patience = if trouble.is_uncertain() { UNCERTAIN / 12 } else { self.database.poll_interval };
            if next != Next::ClaimAgain && !self.wait(tasks, patience, next == Next::WaitForRoom).await {
                return None;
            }
        }
    }

    /// One claim, and what to do next.
    async fn claim_once(
        &mut self,
        ready: &mut Ready,
        cursor: &mut String,
        tasks: &mut JoinSet<()>,
    ) -> Result<Next, String> {
        let max_age_us = self.max_age.and_then(|age| i64::try_from(age.as_micros()).ok());
        let Some(request) = self.flight.request(cursor, max_age_us) else { return Ok(Next::WaitForRoom) };
        let claimed_at = Instant::now();
        let claimed =
            ready.claimer.claim(&mut ready.session, &ready.statements, &request).await.map_err(
                |error| match error {
                    ClaimError::Leads(error) => error.to_string(),
                    ClaimError::Database(error) => explain(&error, &self.database.daemon_role),
                },
            )?;
        let all_permits_used = i64::try_from(claimed.picked.len()).unwrap_or(i64::MAX) >= request.permits;
        // What was found may have been waited for by another event of the same lead.
        let found_nothing = claimed.picked.is_empty();
        let is_wrapped = cursor.is_empty();
        // What was settled takes no room: there may be more where it was.
        let room_is_short = claimed.settled.is_empty() && request.holds_back(&claimed.picked);
        *cursor = match claimed.picked.iter().max() {
            Some(last) if all_permits_used => last.clone(),
            _ => String::new(),
        };
        self.start(claimed, claimed_at, tasks);
        Ok(match () {
            () if all_permits_used || !is_wrapped => Next::ClaimAgain,
            () if room_is_short => Next::WaitForRoom,
            () if found_nothing => Next::Wait,
            () => Next::ClaimAgain,
        })
    }

    /// Steps 5 to 8 for each delivery, in a task of its own.
    fn start(&self, claimed: Claimed, claimed_at: Instant, tasks: &mut JoinSet<()>) {
        for entry in &claimed.settled {
            log_settled(entry);
        }
        let pipeline = Arc::clone(&self.pipeline.borrow());
        let mut opened = HashMap::new();
        for delivery in claimed.deliveries {
            let tenant_id = delivery.place.tenant_id.clone();
            let endpoint = opened
                .entry(tenant_id)
                .or_insert_with_key(|tenant_id| pipeline.open(tenant_id, &delivery.endpoint).map(Arc::new))
                .clone();
            let span = tracing::info_span!(
                "delivery",
                event.id = %delivery.place.event_id, event.kind = %delivery.event.kind,
                tenant.id = %delivery.place.tenant_id, delivery.id = %delivery.delivery_id,
            );
            let seat = self.flight.board(delivery);
            let sending = Sending {
                pipeline: Arc::clone(&pipeline),
                endpoint,
                seat,
                heart: Arc::clone(&self.heart),
                claimed_at,
                ended: self.ended.clone(),
                stop: self.stop.clone(),
            };
            tasks.spawn(sending.run().instrument(span));
        }
    }

    /// Waits for a reason to look again. `false`: it is time to stop.
    async fn wait(&mut self, tasks: &mut JoinSet<()>, patience: Duration, is_held_back: bool) -> bool {
        let poll = tokio::time::sleep(patience.min(self.database.poll_interval));
        tokio::pin!(poll);
        loop {
            tokio::select! {
                _ = self.stop.wait_for(|stop| *stop) => return false,
                () = self.wake_up.heard() => return true,
                () = &mut poll => return true,
                // Somebody waits for the room that this one leaves.
                () = self.flight.left(), if is_held_back => return true,
                Some(ended) = tasks.join_next() => if ended.is_err_and(|error| error.is_panic()) {
                    tracing::error!("a delivery's task has panicked; if it was being sent it will stand as interrupted");
                },
            }
        }
    }

    /// Ends what is in flight, within the bound; what has begun and not ended then is logged as interrupted.
    async fn drain(self, mut tasks: JoinSet<()>) {
        let in_flight = self.flight.len();
        if in_flight > 0 {
            tracing::info!(in_flight, "draining");
        }
        let all = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(self.drain_timeout, all).await.is_ok() {
            return;
        }
        let cut_off = self.flight.begun();
        tasks.abort_all();
        while tasks.join_next().await.is_some() {}
        for delivery in cut_off {
            tracing::warn!(
                event.id = %delivery.place.event_id, tenant.id = %delivery.place.tenant_id,
                delivery.id = %delivery.delivery_id,
                "interrupted: the daemon was stopped before the answer came; it may have arrived",
            );
            let error = "the daemon was stopped before the answer came: it may have arrived".to_owned();
            let outcome = Outcome::unsent(Status::Interrupted, Some(error), delivery.endpoint.destination());
            // The recorder outlives the dispatcher.
            let _ = self.ended.send(Ended { entry: entry(&delivery, outcome), seat: None });
        }
    }
}
