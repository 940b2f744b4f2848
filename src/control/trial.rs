//! Test: one real request with a synthetic lead, on a draft as it stands. In three steps, so that no session waits for a
//! receiver: [`begin`], [`Begun::send`], [`record`].

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    delivery::{payload::synthetic_event, request::Endpoint},
    event::{Event, EventKind},
    keyring::{Column, OpenError, Place},
    pipeline::{Pipeline, Unusable},
    store::{
        Error,
        delivery_log::{self, Entry},
        endpoints::SealedEndpoint,
        outbox,
        session::Session,
        test_limit,
    },
};

/// What a request cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needed {
    /// Where it goes.
    Url,
    /// What signs it.
    Secret,
}

/// Why a draft cannot be tried.
#[derive(Debug)]
pub enum Obstacle {
    /// It has none.
    Missing(Needed),
    /// What is stored does not open; the operator must act.
    Unopened(Needed, OpenError),
    /// It cannot be used.
    Unusable(Unusable),
}

/// Opens a draft just as a delivery would.
///
/// # Errors
/// Every part that stands in the way.
pub fn open(pipeline: &Pipeline, tenant: &str, draft: &SealedEndpoint) -> Result<Endpoint, Vec<Obstacle>> {
    let parts = [
        (Column::EndpointUrl, &draft.url_sealed, Needed::Url),
        (Column::EndpointSecret, &draft.secret_sealed, Needed::Secret),
    ];
    let obstacles: Vec<Obstacle> = parts
        .into_iter()
        .filter_map(|(column, sealed, needed)| {
            let Some(sealed) = sealed else { return Some(Obstacle::Missing(needed)) };
            let error = pipeline.keyring().open(&Place { tenant, column }, sealed).err()?;
            Some(Obstacle::Unopened(needed, error))
        })
        .collect();
    if !obstacles.is_empty() {
        return Err(obstacles);
    }
    pipeline.open(tenant, draft).map_err(|unusable| vec![Obstacle::Unusable(unusable)])
}

/// A Test that is written down, and not sent yet.
pub struct Begun {
    event: Event,
    delivery_id: Uuid,
    queued_at: Timestamp,
}

/// Writes down that a Test begins. `Err` within: too many of this tenant's endpoint, by whomever; not before so long.
///
/// # Errors
/// What the database says, or that the connection is lost. Then nothing may be sent: it would not be counted.
pub async fn begin(session: &mut Session, tenant: &str, kind: EventKind) -> Result<Result<Begun, Duration>, Error> {
    let (event, delivery_id) = (synthetic_event(tenant, kind), Uuid::new_v4());
    Ok(match test_limit::begin(session, &event, delivery_id).await? {
        test_limit::Begun::At(queued_at) => Ok(Begun { event, delivery_id, queued_at }),
        test_limit::Begun::Refused(wait) => Err(wait),
    })
}

impl Begun {
    /// Its id in the log.
    pub fn delivery_id(&self) -> Uuid {
        self.delivery_id
    }

    /// The one attempt.
    pub async fn send(self, pipeline: &Pipeline, endpoint: &Endpoint) -> Entry {
        let Self { event, delivery_id, queued_at } = self;
        let outcome = pipeline.send_now(endpoint, &event, delivery_id).await;
        let Event { kind, tenant_id, event_id, lead_id, captured_at, last_conversation_at, .. } = event;
        Entry {
            place: outbox::Place { tenant_id, queued_at, event_id, row: outbox::RowAt::default() },
            delivery_id,
            lead_id,
            event: kind,
            captured_at: Some(captured_at),
            last_conversation_at,
            outcome,
        }
    }
}

/// Writes the outcome. Where that fails, the Test stands in the log as interrupted.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn record(session: &mut Session, entry: &Entry) -> Result<(), Error> {
    delivery_log::record_test(session, entry).await
}
