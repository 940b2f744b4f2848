//! The log is pruned between two sweeps, on the same further connection: what is older than the retention, quietly.

use std::time::{Duration, Instant};

use crate::store::retention::{self, Pruning};

use super::{
    answer::{PATIENT, within},
    sweep::{Obstacle, Sweeper},
};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(3600);

/// No longer at a time: leads that a trigger has missed go first.
const AT_A_TIME: Duration = Duration::from_secs(5);

/// When to prune, and how far it came.
#[derive(Debug)]
pub(super) struct Plan {
    due_at: Instant,
    latest: Option<Pruning>,
    pruned: u64,
    told: String,
}

impl Plan {
    /// The first look is due at once.
    pub(super) fn new() -> Self {
        Self { due_at: Instant::now(), latest: None, pruned: 0, told: String::new() }
    }

    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.due_at
    }
}

impl Sweeper {
    /// Prunes for a while. What is left then is due at once.
    pub(super) async fn prune(&self, plan: &mut Plan) {
        let ended = self.prune_for_a_while(plan).await;
        if !matches!(ended, Ok(false)) {
            plan.due_at = Instant::now() + EVERY;
        }
        match ended {
            Ok(false) => {}
            Ok(true) => {
                plan.told.clear();
                if plan.pruned > 0 {
                    tracing::info!(deliveries = plan.pruned, "pruned the log: older than the retention");
                    plan.pruned = 0;
                }
            }
            Err(obstacle) => {
                let error = obstacle.to_string();
                if error != plan.told {
                    tracing::warn!(error, "cannot prune the log, trying again in an hour");
                    plan.told = error;
                }
            }
        }
    }

    /// Whether nothing is left.
    async fn prune_for_a_while(&self, plan: &mut Plan) -> Result<bool, Obstacle> {
        let began = Instant::now();
        let mut session = self.open().await?;
        let explained = |error| self.explained(&error);
        let begun = async {
            session.probe().await?;
            let edges = retention::edges(&mut session, &self.retention).await?;
            Pruning::begin(&mut session, edges, plan.latest.as_ref()).await
        };
        let mut pruning = within(PATIENT, begun).await?.map_err(explained)?;
        while began.elapsed() < AT_A_TIME {
            let began = Instant::now();
            let pruned = within(PATIENT, pruning.step(&mut session)).await?.map_err(explained)?;
            plan.latest = Some(pruning.clone());
            plan.pruned += pruned;
            if pruned == 0 {
                return Ok(true);
            }
            // The server has others to serve: as long as we have kept it busy.
            tokio::time::sleep(began.elapsed()).await;
        }
        Ok(false)
    }
}
