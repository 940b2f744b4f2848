//! The leads of the last day are counted from time to time, on the sweep's connection, where somebody asks for metrics: what
//! `lead-webhook reconcile` would find unaccounted is a gauge that alerts go by.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use crate::store::{
    clocks,
    reconcile::{ReconcileError, Reconciliation, Way},
};

use super::{
    answer::{PATIENT, within},
    sweep::{Obstacle, Sweeper},
};

/// Between the ends of two counts.
const EVERY: Duration = Duration::from_secs(3600);

/// Leads captured so long ago are looked at.
const SPAN: SignedDuration = SignedDuration::from_hours(24);

/// No longer at a time: leads that a trigger has missed go first.
const AT_A_TIME: Duration = Duration::from_secs(5);

/// When to count, and how far it came.
pub(super) struct Plan {
    due_at: Instant,
    under_way: Option<Reconciliation>,
    told: String,
}

impl Plan {
    /// The first count is due at once.
    pub(super) fn new() -> Self {
        Self { due_at: Instant::now(), under_way: None, told: String::new() }
    }

    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.due_at
    }
}

impl Sweeper {
    /// Counts for a while. What is left then is due at once.
    pub(super) async fn reconcile(&self, plan: &mut Plan) {
        match self.reconcile_for_a_while(plan).await {
            Ok(None) => return,
            Ok(Some(unaccounted)) => {
                plan.told.clear();
                self.metrics.reconciled(Some((unaccounted, Timestamp::now())));
                if unaccounted > 0 {
                    tracing::warn!(
                        unaccounted,
                        "leads of the last 24 hours of which nothing became: `lead-webhook reconcile --since 24h` names them"
                    );
                }
            }
            Err(obstacle) => {
                plan.under_way = None;
                self.metrics.reconciled(None);
                let error = obstacle.to_string();
                if error != plan.told {
                    tracing::warn!(error, "cannot reconcile, trying again in an hour");
                    plan.told = error;
                }
            }
        }
        plan.due_at = Instant::now() + EVERY;
    }

    /// How many leads are unaccounted, where the count has come to its end.
    async fn reconcile_for_a_while(&self, plan: &mut Plan) -> Result<Option<u64>, Obstacle> {
        let began = Instant::now();
        let mut session = self.open_for_leads().await?;
        let refused = |error| match error {
            ReconcileError::Database(error) => self.explained(&error),
            error => Obstacle::Database(error.to_string()),
        };
        let mut under_way = match plan.under_way.take() {
            Some(under_way) => {
                within(PATIENT, under_way.go_on(&mut session)).await?.map_err(refused)?;
                under_way
            }
            None => {
                let mapped = self.mapped(&mut session).await?;
                let begun = async {
                    let since = clocks::now(session.client()).await?.checked_sub(SPAN).ok();
                    Reconciliation::begin(&mut session, mapped, since).await
                };
                within(PATIENT, begun).await?.map_err(refused)?
            }
        };
        if under_way.way != Way::ByCapture {
            return Err(Obstacle::NoIndex);
        }
        while began.elapsed() < AT_A_TIME {
            let began = Instant::now();
            if !within(PATIENT, under_way.step(&mut session)).await?.map_err(refused)? {
                return Ok(Some(under_way.found().counts.unaccounted));
            }
            // The server has others to serve: as long as we have kept it busy.
            tokio::time::sleep(began.elapsed()).await;
        }
        plan.under_way = Some(under_way);
        Ok(None)
    }
}
