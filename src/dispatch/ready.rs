//! A session that can claim: how it is made ready, and how it is seen that it still leads to the installation.

use std::{sync::Arc, time::Instant};

use crate::{
    config::Notify,
    pipeline::Pipeline,
    store::{
        self, bell, connect, instances,
        mapped_as::{MappedAnew, spelled},
        mapping::{MappedSql, MappingError},
        session::{Session, explain},
        timeline::Whereabouts,
    },
};

use super::{
    bell::Bell,
    claim::{ClaimError, Claimer},
    dispatcher::Dispatcher,
    endpoints::Endpoints,
    guard::{self, Guarded},
    heart,
    horizon::Horizon,
    statements::Statements,
};

/// A session that can claim, and what is known as long as it lasts.
pub(super) struct Ready {
    pub(super) session: Session,
    pub(super) claimer: Claimer,
    /// Its key file is the installation's.
    pub(super) pipeline: Arc<Pipeline>,
    /// When the guard last looked.
    pub(super) guarded_at: Instant,
    /// The version of the installation's row that it saw.
    pub(super) installation: String,
    /// Tenants up to and including this one had their turn.
    pub(super) cursor: String,
    /// `None`: nobody notifies.
    pub(super) bell: Option<Bell>,
    /// No event was found that has not rung, as where the triggers are those of `notify = "off"`.
    pub(super) all_ring: bool,
    /// A claim of ours may stand that is not begun: it is not pending, and has to be looked for at every poll.
    pub(super) is_uncertain: bool,
    /// How far back a claim looks.
    pub(super) horizon: Horizon,
}

/// What keeps the dispatcher from claiming; each names its remedy.
#[derive(Debug, thiserror::Error)]
pub(super) enum Obstacle {
    #[error("{0}")]
    Connect(#[from] connect::ConnectError),
    #[error("{0}")]
    Database(String),
    #[error("{0}")]
    Mapping(#[from] MappingError),
    #[error(transparent)]
    MappedAnew(#[from] MappedAnew),
    #[error("{0}")]
    Guarded(#[from] Guarded),
}

impl Dispatcher {
    /// Connects, sees that this is the installation's database, and looks at the leads table.
    pub(super) async fn make_ready(&mut self) -> Result<Ready, Obstacle> {
        let explained = |error: store::Error| Obstacle::Database(explain(&error, &self.database.daemon_role));
        let connected = connect::connect(&self.database.url, &self.database).await?;
        let mut session = Session::new(connected);
        session.probe().await.map_err(explained)?;
        let (guarded_at, pipeline) = (Instant::now(), Arc::clone(&self.pipeline.borrow_and_update()));
        // First: what is found afterwards is there or elsewhere, and a claim elsewhere is none.
        let whereabouts = match session.shared().is_pooled() {
            true => Some(Whereabouts::look(&mut session).await.map_err(explained)?),
            false => None,
        };
        let seen = guard::look(&mut session, pipeline.keyring()).await.map_err(explained)??;
        let unsettled = self.flight.unsettled();
        let own = self.heart.instance_id();
        let mut memory = self.memory.lock().await;
        let interrupted = memory.meet(&mut session, own, &unsettled).await.map_err(explained)?;
        self.metrics.interrupted(interrupted);
        let grace = memory.grace();
        drop(memory);
        if !grace.is_zero() && instances::has_others(&mut session, own).await.map_err(explained)? {
            tokio::time::sleep(grace).await;
        }
        self.agrees(seen.mapped.as_deref())?;
        let mapped = MappedSql::resolve(session.client(), &self.leads).await?;
        let statements = Statements::prepare(&mut session, &mapped).await.map_err(explained)?;
        let claimer = Claimer {
            instance_id: own,
            key: seen.key,
            whereabouts,
            silence: self.leads.silence,
            spelled: spelled(&self.leads),
            statements,
            endpoints: Endpoints::default(),
            cautious: 0,
        };
        let notifies = match self.database.notify {
            Notify::Off => false,
            Notify::On => true,
            Notify::Auto => bell::can_notify(&mut session).await.map_err(explained)?,
        };
        let (cursor, bell) = (String::new(), notifies.then(Bell::default));
        let (is_uncertain, horizon) = (false, Horizon::default());
        let installation = seen.version;
        Ok(Ready {
            session,
            claimer,
            pipeline,
            guarded_at,
            installation,
            cursor,
            bell,
            all_ring: true,
            is_uncertain,
            horizon,
        })
    }

    /// Whether this is still the installation's database, after a beat or a reload.
    pub(super) async fn look_out(&mut self, ready: &mut Ready) -> Result<(), String> {
        // In a session of a server's own only the installation's row can change, which each beat looks at.
        let is_looked_after =
            !ready.session.shared().is_pooled() && self.heart.beats() && self.heart.saw(&ready.installation);
        let is_guarded = is_looked_after || ready.guarded_at.elapsed() < heart::EVERY;
        if is_guarded && !self.pipeline.has_changed().unwrap_or(false) {
            return Ok(());
        }
        let (guarded_at, pipeline) = (Instant::now(), Arc::clone(&self.pipeline.borrow_and_update()));
        let looked = self.ask(guard::look(&mut ready.session, pipeline.keyring())).await?;
        let seen = looked.map_err(|guarded| guarded.to_string())?;
        self.agrees(seen.mapped.as_deref()).map_err(|anew| anew.to_string())?;
        // Also where nothing is to be claimed: what a standby that took over does not know of is for us to tell it.
        if let Some(whereabouts) = &ready.claimer.whereabouts
            && !self.ask(whereabouts.is_here(ready.session.shared())).await?
        {
            return Err(ClaimError::Moved.to_string());
        }
        (ready.guarded_at, ready.pipeline, ready.installation) = (guarded_at, pipeline, seen.version);
        Ok(())
    }

    /// Whether the triggers go by what this daemon was started with.
    fn agrees(&self, mapped: Option<&str>) -> Result<(), MappedAnew> {
        if mapped.is_none_or(|mapped| mapped == spelled(&self.leads)) { Ok(()) } else { Err(MappedAnew) }
    }
}
