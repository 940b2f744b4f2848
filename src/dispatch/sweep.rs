//! The sweep mends what a failing trigger left out: at the start, and whenever the mark has moved that such a trigger
//! leaves, it looks for leads of the last 24 hours of which nothing is known, and queues them.
//!
//! It hears of the mark from the heartbeat, and looks on a session of its own, opened for it, so that a slow look delays
//! neither claims nor outcomes nor the heartbeat. The same task prunes the log, so that there is never more than one such
//! session.
//!
//! **The fence.** The mark moves at once, but the lead is seen only when its transaction is committed. So a sweep ends
//! the matter only where every transaction that was under way when the mark was read had ended before it; until then it
//! is swept again, ever more seldom, and at once when they have ended.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::{
    config::{Database, Leads, Retention},
    metrics::Metrics,
    pipeline::Pipeline,
    store::{
        Error,
        capture_index::{self, CaptureIndex},
        connect,
        instances::Mark,
        lead_slices::{self, Pieces, SliceError, Slices},
        mapping::{MappedSql, MappedTime, MappingError},
        session::{Session, explain},
        sweep::{self, Begin},
    },
};

use super::{
    answer::{PATIENT, Unanswered, within},
    guard::{self, Guarded},
    heart::Heart,
    reconcile, retention,
    wake_up::WakeUp,
};

/// The first wait for another sweep; the mark is read so often.
const FIRST_WAIT: Duration = Duration::from_secs(5);

/// Sweeps that are to be repeated are no further apart.
const LAST_WAIT: Duration = Duration::from_secs(5 * 60);

/// Of the time, at most one part in so many goes into sweeps, however often the mark moves.
const SHARE: u32 = 10;

/// How many leads that cannot be looked at are named.
const NAMED: usize = 10;

/// What the sweep works with.
pub struct Sweeper {
    /// How to reach the database.
    pub database: Arc<Database>,
    /// The leads table.
    pub leads: Leads,
    /// How long the log keeps its rows.
    pub retention: Retention,
    /// Tells of the mark.
    pub heart: Arc<Heart>,
    /// To the dispatcher, when something was queued.
    pub wake_up: WakeUp,
    /// What was recovered is counted.
    pub metrics: Arc<Metrics>,
    /// Whether somebody may ask for metrics.
    pub is_watched: bool,
    /// The key file, for the guard.
    pub pipeline: watch::Receiver<Arc<Pipeline>>,
    /// Whether to stop.
    pub stop: watch::Receiver<bool>,
}

/// What keeps it from sweeping; each names its remedy.
#[derive(Debug, thiserror::Error)]
pub(super) enum Obstacle {
    #[error("{0}")]
    Connect(#[from] connect::ConnectError),
    #[error("{0}")]
    Database(String),
    #[error("{0}")]
    Mapping(#[from] MappingError),
    #[error("the leads cannot be read: {0}")]
    Leads(#[from] SliceError),
    #[error(transparent)]
    Guarded(#[from] Guarded),
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    #[error("the captured time is not mapped, or has no index: `lead-webhook check` tells the remedy")]
    NoIndex,
}

/// What one sweep did.
struct Swept {
    session: Session,
    begin: Begin,
    recovered: u64,
}

impl Sweeper {
    /// Sweeps whenever it is due, until it is told to stop.
    pub async fn run(self) {
        let mut stop = self.stop.clone();
        tokio::select! {
            // The sender outlives us; if it did not, that were a stop too.
            _ = stop.wait_for(|stop| *stop) => {}
            () = self.sweep_when_due() => {}
        }
    }

    async fn sweep_when_due(&self) {
        let mut marks = self.heart.marks();
        let mut plan = Plan::default();
        let mut told = String::new();
        let mut pruning = retention::Plan::new();
        let mut reconciling = reconcile::Plan::new();
        while marks.changed().await.is_ok() {
            let Some(mark) = *marks.borrow_and_update() else { continue };
            self.tell_of_triggers(mark.fire);
            if plan.is_due(mark, Instant::now()) {
                self.sweep_for(mark, &mut plan, &mut told).await;
            }
            self.metrics.unswept(plan.unswept(mark), plan.is_stuck);
            if pruning.is_due() {
                self.prune(&mut pruning).await;
            }
            if self.is_watched && reconciling.is_due() {
                self.reconcile(&mut reconciling).await;
            }
        }
    }

    /// Says when nothing is queued any more, and when it is again. What came meanwhile is not looked for at once: whoever
    /// switches triggers off for an import does not want it sent.
    fn tell_of_triggers(&self, fire: bool) {
        match (self.metrics.is_queueing(), fire) {
            (true, false) => tracing::error!(
                "a trigger is missing or switched off: new leads are not queued; `lead-webhook check` tells which and the remedy"
            ),
            (false, true) => tracing::warn!(
                "the triggers fire again; `lead-webhook reconcile` counts the leads that came meanwhile: the next start of a \
                 daemon queues those of the last 24 hours"
            ),
            _ => {}
        }
        self.metrics.triggers(fire);
    }

    async fn sweep_for(&self, mark: Mark, plan: &mut Plan, told: &mut String) {
        let began = Instant::now();
        match self.sweep().await {
            Ok(Swept { mut session, begin, recovered }) => {
                if !told.is_empty() {
                    tracing::info!("sweeping again");
                    told.clear();
                }
                plan.swept(mark, begin, began, Instant::now());
                if recovered > 0 {
                    self.metrics.recovered(recovered);
                    tracing::warn!(recovered, "swept: leads were queued that triggers had missed");
                    self.wake_up.ring();
                } else {
                    tracing::debug!(recovered, "swept");
                }
                if plan.is_settled()
                    && let Err(obstacle) = self.settle(&mut session, mark).await
                {
                    failed(&obstacle, plan, told);
                }
            }
            Err(obstacle) => failed(&obstacle, plan, told),
        }
    }

    async fn settle(&self, session: &mut Session, mark: Mark) -> Result<(), Obstacle> {
        let settled = within(PATIENT, sweep::settle(session, mark.missed)).await?;
        settled.map_err(|error| self.explained(&error))
    }

    pub(super) fn explained(&self, error: &Error) -> Obstacle {
        Obstacle::Database(explain(error, &self.database.daemon_role))
    }

    /// Nothing is written where the guard is up: looked at before each slice.
    pub(super) async fn look_out(&self, session: &mut Session) -> Result<(), Obstacle> {
        let keys = Arc::clone(&self.pipeline.borrow());
        let looked = within(PATIENT, guard::look(session, keys.keyring())).await?;
        looked.map_err(|error| self.explained(&error))??;
        Ok(())
    }

    /// A session that the guard lets work.
    pub(super) async fn open(&self) -> Result<Session, Obstacle> {
        let connected = connect::connect(&self.database.url, &self.database).await?;
        let mut session = Session::new(connected);
        self.look_out(&mut session).await?;
        Ok(session)
    }

    /// The same to look at leads.
    pub(super) async fn open_for_leads(&self) -> Result<Session, Obstacle> {
        let mut session = self.open().await?;
        let patient = within(PATIENT, lead_slices::be_patient(session.client())).await?;
        patient.map_err(|error| self.explained(&error))?;
        Ok(session)
    }

    /// The mapping as it is now.
    pub(super) async fn mapped(&self, session: &mut Session) -> Result<MappedSql, Obstacle> {
        Ok(within(PATIENT, MappedSql::resolve(session.client(), &self.leads)).await??)
    }

    async fn sweep(&self) -> Result<Swept, Obstacle> {
        let mut session = self.open_for_leads().await?;
        let mapped = self.mapped(&mut session).await?;
        let began = async {
            let index = capture_index::look(session.client(), &mapped).await?;
            let begin = sweep::begin(&mut session).await?;
            lead_slices::plan(session.client()).await?;
            Ok((index, begin))
        };
        let (index, begin) = within(PATIENT, began).await?.map_err(|error| self.explained(&error))?;
        let (CaptureIndex::Usable, Some(captured)) = (index, &mapped.captured_at) else {
            return Err(Obstacle::NoIndex);
        };
        let since = begin.since.ok_or(Guarded::NotInstalled)?;
        let mut slices = Slices::by_capture(&mapped, captured, since);
        let (mut recovered, mut broken) = (0, Vec::new());
        loop {
            let began = Instant::now();
            let Some(mut pieces) = within(PATIENT, slices.next(session.client())).await?? else { break };
            recovered += queue(&mut session, &mapped, captured, &mut pieces).await?;
            broken.extend(pieces.broken());
            // The server has others to serve: as long as we have kept it busy.
            tokio::time::sleep(began.elapsed()).await;
            self.look_out(&mut session).await?;
        }
        tell(&broken);
        Ok(Swept { session, begin, recovered })
    }
}

/// It is to be repeated, and is said once.
fn failed(obstacle: &Obstacle, plan: &mut Plan, told: &mut String) {
    // Without an index it is known to be off.
    plan.failed(Instant::now(), !matches!(obstacle, Obstacle::NoIndex));
    let error = obstacle.to_string();
    if error != *told {
        tracing::warn!(error, "cannot sweep; leads that a trigger misses are not looked for");
        *told = error;
    }
}

/// Queues what was missed of one slice; how many.
async fn queue(
    session: &mut Session,
    mapped: &MappedSql,
    captured: &MappedTime,
    pieces: &mut Pieces,
) -> Result<u64, Obstacle> {
    let mut recovered = 0;
    while let Some(piece) = within(PATIENT, pieces.next(session.client())).await?? {
        loop {
            let began = Instant::now();
            match within(PATIENT, sweep::queue(session, mapped, captured, &piece.condition)).await? {
                Ok((events, may_be_more)) => {
                    for event in &events {
                        recovered += 1;
                        tracing::info!(
                            event.id = %event.event_id, tenant.id = %event.tenant_id,
                            "recovered: a trigger had not queued this lead",
                        );
                    }
                    if !may_be_more {
                        break;
                    }
                    tokio::time::sleep(began.elapsed()).await;
                }
                Err(error) => {
                    pieces.failed(piece, error)?;
                    break;
                }
            }
        }
    }
    Ok(recovered)
}

/// The triggers fail at them as well, so that nobody knows whether they have a contact.
fn tell(broken: &[(String, String)]) {
    if broken.is_empty() {
        return;
    }
    let named: Vec<String> = broken.iter().take(NAMED).map(|(id, why)| format!("lead {id}: {why}")).collect();
    tracing::warn!(
        leads = broken.len(),
        first = named.join("; "),
        "leads cannot be looked at; correct them, or the expression in [leads.columns]"
    );
}

/// When to sweep.
#[derive(Debug, Default)]
struct Plan {
    /// How far the mark was when it was last swept; `None`: never.
    missed: Option<i64>,
    /// The transactions that have to end before the matter is.
    fence: Option<i64>,
    /// Not before: what it costs, or why it failed.
    rests_until: Option<Instant>,
    /// To be repeated then.
    again_at: Option<Instant>,
    /// Repetitions in a row.
    tries: u32,
    /// Whether the latest sweep failed, though it should not.
    is_stuck: bool,
}

impl Plan {
    fn is_due(&self, mark: Mark, now: Instant) -> bool {
        if self.rests_until.is_some_and(|until| now < until) {
            return false;
        }
        self.missed != Some(mark.missed)
            || self.fence.is_some_and(|fence| mark.oldest > fence)
            || self.again_at.is_some_and(|at| now >= at)
    }

    /// How often the mark has moved since it was last swept, as far as is known.
    fn unswept(&self, mark: Mark) -> i64 {
        self.missed.map_or(0, |swept| (mark.missed - swept).max(0))
    }

    /// It was swept for `mark`, which was read before the sweep began.
    fn swept(&mut self, mark: Mark, begin: Begin, began: Instant, now: Instant) {
        if self.missed != Some(mark.missed) {
            *self = Self { missed: Some(mark.missed), fence: Some(begin.fence), ..Self::default() };
        }
        self.is_stuck = false;
        // A number that was drawn later would never be passed where transactions overlap all the time.
        self.fence = self.fence.filter(|fence| begin.oldest <= *fence);
        self.again_at = self.fence.map(|_| now + self.next_wait());
        self.rests_until = Some(now + (now - began) * SHARE);
    }

    /// Whether nobody can come any more whom the latest sweep should have seen.
    fn is_settled(&self) -> bool {
        self.missed.is_some() && self.fence.is_none()
    }

    fn failed(&mut self, now: Instant, is_stuck: bool) {
        self.is_stuck = is_stuck;
        let wait = self.next_wait();
        self.rests_until = Some(now + wait);
        // Whatever the mark says then.
        self.again_at = self.rests_until;
    }

    fn next_wait(&mut self) -> Duration {
        let wait = FIRST_WAIT.saturating_mul(1 << self.tries.min(16)).min(LAST_WAIT);
        self.tries = self.tries.saturating_add(1);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: fn() -> Instant = Instant::now;

    fn begin(fence: i64, oldest: i64) -> Begin {
        Begin { fence, oldest, since: None }
    }

    fn mark(missed: i64, oldest: i64) -> Mark {
        Mark { fire: true, missed, oldest }
    }

    #[test]
    fn it_is_swept_at_the_start_and_when_the_mark_moves() {
        let (mut plan, now) = (Plan::default(), NOW());
        assert!(plan.is_due(mark(7, 10), now));
        plan.swept(mark(7, 10), begin(10, 11), now, now);
        assert!(!plan.is_due(mark(7, 99), now + LAST_WAIT));
        assert!(plan.is_due(mark(8, 99), now));
    }

    #[test]
    fn it_is_swept_again_until_the_transactions_of_the_mark_have_ended() {
        let (mut plan, now) = (Plan::default(), NOW());
        plan.swept(mark(1, 5), begin(10, 5), now, now);
        assert!(!plan.is_due(mark(1, 10), now), "10 itself is under way");
        assert!(plan.is_due(mark(1, 5), now + FIRST_WAIT), "some of them may have ended");
        plan.swept(mark(1, 5), begin(30, 5), now, now);
        assert!(!plan.is_due(mark(1, 5), now + FIRST_WAIT), "ever more seldom");
        assert!(plan.is_due(mark(1, 11), now), "30 came later");
        plan.swept(mark(1, 11), begin(40, 11), now, now);
        assert!(!plan.is_due(mark(1, 12), now + LAST_WAIT));
    }

    #[test]
    fn a_mark_that_moves_all_the_time_costs_no_more_than_its_share() {
        let (mut plan, now) = (Plan::default(), NOW());
        let second = Duration::from_secs(1);
        plan.swept(mark(1, 5), begin(10, 11), now, now + second);
        assert!(!plan.is_due(mark(2, 20), now + second * SHARE));
        assert!(plan.is_due(mark(2, 20), now + second * (SHARE + 1)));
    }

    #[test]
    fn what_failed_is_tried_again_ever_more_seldom() {
        let (mut plan, now) = (Plan::default(), NOW());
        plan.failed(now, true);
        assert!(!plan.is_due(mark(1, 5), now));
        assert!(plan.is_due(mark(1, 5), now + FIRST_WAIT));
        plan.swept(mark(1, 5), begin(10, 11), now, now);
        (0..20).for_each(|_| plan.failed(now, true));
        assert!(!plan.is_due(mark(2, 5), now + LAST_WAIT - FIRST_WAIT));
        assert!(plan.is_due(mark(1, 5), now + LAST_WAIT), "also where the mark stands");
    }
}
