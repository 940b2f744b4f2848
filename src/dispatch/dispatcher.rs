//! The dispatcher: hears the wake-ups, claims as much as may fly, and starts one task for each delivery. It is the
//! only one that claims, on a session of its own.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Mutex, mpsc, watch},
    task::JoinSet,
    time::sleep,
};
use tracing::Instrument as _;

use crate::{
    config::{Database, Leads},
    failpoint,
    metrics::Metrics,
    outcome::{Outcome, Status},
    pipeline::Pipeline,
    store::{self, bell, outbox, session::explain},
};

use super::{
    answer::{self, PATIENT, within},
    bell::Bell,
    claim::{ClaimError, Claimed},
    flight::Flight,
    heart::{self, Heart},
    memory::Memory,
    pause::Pause,
    ready::{Obstacle, Ready},
    recorder::Ended,
    resting::{Why, forget_ended, gather_room},
    sending::{Sending, entry, log_settled},
    trouble::{Trouble, UNCERTAIN},
    wake_up::WakeUp,
};

/// While leads keep coming, those of so long are claimed together. Resting after every few would have the
/// application's commits ring each time, and line up for it.
const GATHERING: Duration = Duration::from_millis(8);

/// A claim that is under way when the daemon is told to stop may still end for so long.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// Works until it is done, or until a stop has waited for it for [`STOP_PATIENCE`].
async fn unless_stopped<T>(stop: &mut watch::Receiver<bool>, work: impl Future<Output = T>) -> Option<T> {
    let given_up = async {
        // The sender outlives us; if it did not, that were a stop too.
        let _ = stop.wait_for(|stop| *stop).await;
        sleep(STOP_PATIENCE).await;
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
    /// What was claimed of late.
    pub memory: Arc<Mutex<Memory>>,
    /// How events end is counted.
    pub metrics: Arc<Metrics>,
    /// Where nothing can be sent just now.
    pub pause: Arc<Pause>,
    /// When to look.
    pub wake_up: WakeUp,
    /// To the recorder.
    pub ended: mpsc::UnboundedSender<Ended>,
    /// Whether to stop.
    pub stop: watch::Receiver<bool>,
}

/// What to do after a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// There may be more to claim at once.
    ClaimAgain,
    /// Nothing more can be claimed now.
    Rest(Why),
}

impl Dispatcher {
    /// Claims and sends until it is told to stop, then drains.
    pub async fn run(mut self) {
        let mut tasks = JoinSet::new();
        let mut trouble = Trouble::default();
        while !*self.stop.borrow() {
            let mut stop = self.stop.clone();
            let Some(ready) = unless_stopped(&mut stop, within(PATIENT, self.make_ready())).await else { break };
            // That the database is away is told by whoever writes to it.
            let is_away = matches!(ready, Ok(Err(Obstacle::Connect(_))));
            let error = match ready {
                Ok(Ok(ready)) => match self.claim_until_lost(ready, &mut tasks, &mut trouble).await {
                    Some(error) => error,
                    None => break,
                },
                Ok(Err(obstacle)) => obstacle.to_string(),
                Err(unanswered) => unanswered.to_string(),
            };
            self.heart.opens_by(None);
            if trouble.lasts() && !is_away {
                self.metrics.claims(false);
            }
            let wait = trouble.tell(error);
            self.pause(wait, &mut tasks).await;
        }
        self.drain(tasks).await;
    }

    /// Waits, but not after a stop.
    async fn pause(&mut self, wait: Duration, tasks: &mut JoinSet<()>) {
        tokio::select! {
            _ = self.stop.wait_for(|stop| *stop) => {}
            () = sleep(wait) => {}
        }
        forget_ended(tasks);
    }

    /// The loop of claims on one session. `None`: it is time to stop; else why the session is given up.
    async fn claim_until_lost(
        &mut self,
        mut ready: Ready,
        tasks: &mut JoinSet<()>,
        trouble: &mut Trouble,
    ) -> Option<String> {
        let mut stop = self.stop.clone();
        loop {
            if *self.stop.borrow() {
                return None;
            }
            let is_fresh = tokio::select! {
                () = self.heart.fresh() => true,
                _ = self.stop.wait_for(|stop| *stop) => return None,
                () = sleep(heart::EVERY) => false,
            };
            if !is_fresh {
                // The guard may be what keeps the heart from beating: then that is said.
                match unless_stopped(&mut stop, self.look_out(&mut ready)).await {
                    Some(Ok(())) => continue,
                    None => return None,
                    Some(Err(error)) => return Some(error),
                }
            }
            let claim = within(PATIENT, self.claim(&mut ready, trouble, tasks));
            let next =
                match unless_stopped(&mut stop, claim).await?.map_err(|unanswered| unanswered.to_string()).flatten() {
                    Ok(next) => next,
                    Err(error) => {
                        trouble.doubt();
                        return Some(error);
                    }
                };
            self.metrics.claims(true);
            trouble.is_over();
            let Next::Rest(why) = next else {
                gather_room(&self.flight).await;
                continue;
            };
            ready.is_uncertain = trouble.is_uncertain();
            let patience = if ready.is_uncertain { UNCERTAIN / 12 } else { self.database.poll_interval };
            let rest = self.rest(&mut ready, tasks, why, patience.min(self.database.poll_interval));
            match unless_stopped(&mut stop, rest).await {
                Some(Ok(true)) => {}
                None | Some(Ok(false)) => return None,
                Some(Err(error)) => return Some(error),
            }
        }
    }

    /// Gives claims back that are not begun: those that left unsent, and what an uncertain commit may have left.
    async fn give_back(&mut self, ready: &mut Ready, trouble: &mut Trouble) -> Result<(), store::Error> {
        let own = self.heart.instance_id();
        let unsent = self.flight.take_unsent();
        let claims: Vec<_> = unsent.iter().map(|delivery| (&delivery.place, delivery.delivery_id)).collect();
        if !claims.is_empty() {
            let given_back = outbox::give_back(&mut ready.session, own, &claims).await?;
            if !given_back.is_empty() {
                ready.horizon.recede(claims.iter().map(|(place, _)| place.queued_at).min());
                self.memory.lock().await.forget(&given_back);
                tracing::debug!(events = given_back.len(), "gave claims back that could not be begun");
                // Others may have room for them.
                bell::call(ready.session.shared()).await?;
            }
        }
        if trouble.is_uncertain() {
            let given_back = outbox::release(&mut ready.session, own, &self.flight.held()).await?;
            if given_back > 0 {
                tracing::info!(events = given_back, "gave claims back that were not begun");
                ready.horizon.recede(None);
            }
            trouble.looked();
        }
        Ok(())
    }

    /// Claims once, and says what to do next.
    async fn claim(
        &mut self,
        ready: &mut Ready,
        trouble: &mut Trouble,
        tasks: &mut JoinSet<()>,
    ) -> Result<Next, String> {
        self.look_out(ready).await?;
        self.heart.opens_by(Some(ready.pipeline.keyring()));
        let given_back = self.give_back(ready, trouble).await;
        let explained = |error: store::Error| explain(&error, &self.database.daemon_role);
        given_back.map_err(explained)?;
        if ready.horizon.is_overdue(Instant::now()) {
            self.look(ready).await?;
        }
        if let Some(left) = self.pause.left() {
            return Ok(Next::Rest(Why::Short(left)));
        }
        let max_age_us = self.max_age.and_then(|age| i64::try_from(age.as_micros()).ok());
        let Some(request) = self.flight.request(&ready.cursor, max_age_us, ready.horizon.since()) else {
            return Ok(Next::Rest(Why::Full));
        };
        let claimed_at = Instant::now();
        let silence = ready.bell.as_ref().is_some_and(Bell::is_in_the_way);
        let claimed = ready.claimer.claim(&ready.session, &request, silence).await;
        let claimed = claimed.map_err(|error| match error {
            ClaimError::Leads(error) => error.to_string(),
            ClaimError::MappedAnew(error) => error.to_string(),
            ClaimError::Moved => error.to_string(),
            ClaimError::Database(error) => explained(error),
        })?;
        let found = claimed.picked.len();
        if let Some(bell) = &mut ready.bell {
            if silence {
                bell.silenced();
            }
            if bell.claimed(found > 0) {
                ready.horizon.owe();
            }
        }
        let all_permits_used = i64::try_from(found).unwrap_or(i64::MAX) >= request.permits;
        // What was settled or given back takes no room: there may be more where it was.
        let all_take_room = claimed.settled.is_empty() && claimed.given_back == 0;
        let room_is_short = all_take_room && request.holds_back(&claimed.picked);
        if let Some(last) = request.last_turn(&claimed.picked) {
            ready.cursor = last;
        }
        self.memory.lock().await.note(&claimed.deliveries);
        self.start(ready, claimed, claimed_at, all_permits_used, tasks);
        if !all_permits_used {
            // What was claimed leaves before anything else is asked.
            tokio::task::yield_now().await;
        }
        Ok(match () {
            () if all_permits_used => Next::ClaimAgain,
            () if room_is_short => Next::Rest(Why::HeldBack),
            () if found == 0 => Next::Rest(Why::Empty),
            // What was found may have been waited for by another event of the same lead.
            () if self.look_at_the_gathered(ready).await? => Next::ClaimAgain,
            () => Next::Rest(Why::Empty),
        })
    }

    /// Whether anything is pending by now; while commits do not ring, a moment later.
    async fn look_at_the_gathered(&self, ready: &mut Ready) -> Result<bool, String> {
        if ready.bell.as_ref().is_some_and(|bell| !bell.may_ring()) {
            sleep(GATHERING).await;
        }
        Ok(self.look(ready).await?.is_pending)
    }

    /// What the database answers to `work`, in an operator's words where it fails.
    pub(super) async fn ask<T>(&self, work: impl Future<Output = Result<T, store::Error>>) -> Result<T, String> {
        answer::explained(PATIENT, &self.database.daemon_role, work).await
    }

    /// Steps 5 to 8 for each delivery, in a task of its own.
    fn start(
        &self,
        ready: &mut Ready,
        claimed: Claimed,
        claimed_at: Instant,
        yields_first: bool,
        tasks: &mut JoinSet<()>,
    ) {
        for entry in &claimed.settled {
            log_settled(entry);
            self.metrics.ended(entry.outcome.status, None);
        }
        forget_ended(tasks);
        let pipeline = Arc::clone(&ready.pipeline);
        for delivery in claimed.deliveries {
            let endpoint = ready.claimer.endpoints.open(&pipeline, &delivery);
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
                metrics: Arc::clone(&self.metrics),
                pause: Arc::clone(&self.pause),
                claimed_at,
                yields_first,
                ended: self.ended.clone(),
                stop: self.stop.clone(),
            };
            tasks.spawn(sending.run().instrument(span));
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
            failpoint::reached("dispatcher::drained");
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
            self.metrics.interrupted(1);
            let error = "the daemon was stopped before the answer came: it may have arrived".to_owned();
            let outcome = Outcome::unsent(Status::Interrupted, Some(error), delivery.endpoint.destination());
            // The recorder outlives the dispatcher.
            let _ = self.ended.send(Ended { entry: entry(&delivery, outcome), seat: None });
        }
    }
}
