//! The explicit second send: a new delivery of the same event, made from the lead as it is now, to the endpoint as it is now.
//! In three steps, so that no session waits for a receiver: [`prepare`], [`Prepared::send`], [`record`].

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    delivery::request::Endpoint,
    event::{Event, EventKind},
    pipeline::Pipeline,
    store::{
        Error,
        delivery_list::{self, Delivery},
        delivery_log::{self, Entry},
        endpoints,
        leads::{self, Lead, Leads, LoadError, LoadStatements, Loaded},
        mapping::MappedSql,
        outbox::{self, Place},
        redelivery::{self, Begun},
        session::Session,
    },
    visitor::{self, UniquenessKey},
};

/// Why nothing is sent again.
#[derive(Debug, thiserror::Error)]
pub enum Unsent {
    /// Its row is gone from the leads table, or is another tenant's now.
    #[error("the lead is gone")]
    LeadGone,
    /// There is nobody left to send: it may have been taken away for a request for erasure.
    #[error("the lead has no contact any more")]
    NoContact,
    /// One of its values.
    #[error("it cannot be read: {0}")]
    LeadUnreadable(String),
    /// It was removed.
    #[error("the tenant has no endpoint")]
    NoEndpoint,
    /// It was switched off.
    #[error("the tenant's endpoint is off")]
    Off,
    /// What its deliveries fail with.
    #[error("{0}")]
    Unusable(String),
    /// Since it was looked up.
    #[error("somebody else has sent it again, or its log row is gone")]
    Overtaken,
}

/// What is in the way of more than the one lead.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// What the database says, or that the connection is lost.
    #[error(transparent)]
    Database(#[from] Error),
    /// The leads table cannot be read.
    #[error(transparent)]
    Leads(#[from] LoadError),
}

/// How long an outcome may be kept from being written: then it is given up, and its delivery stands as interrupted.
pub const WRITTEN_WITHIN: Duration = Duration::from_secs(30);

/// What is ready to be sent again.
pub struct Prepared {
    endpoint: Endpoint,
    event: Event,
    delivery_id: Uuid,
    queued_at: Timestamp,
    captured_at: Option<Timestamp>,
}

/// A tenant's endpoint as it is now, opened.
async fn endpoint(session: &mut Session, pipeline: &Pipeline, tenant: &str) -> Result<Result<Endpoint, Unsent>, Error> {
    Ok(match endpoints::find(session, tenant).await? {
        None => Err(Unsent::NoEndpoint),
        Some(row) if !row.sealed.enabled => Err(Unsent::Off),
        Some(row) => pipeline.open(tenant, &row.sealed).map_err(|unusable| Unsent::Unusable(unusable.error)),
    })
}

/// Opens the endpoint, loads the lead of `first`, and writes down that it is sent again, and that its visitor is known, by the
/// installation's `key`. `insisted`: also where it was before.
///
/// # Errors
/// [`Failed`]. Then nothing may be sent.
pub async fn prepare(
    session: &mut Session,
    pipeline: &Pipeline,
    key: &UniquenessKey,
    mapped: &MappedSql,
    first: &Delivery,
    insisted: bool,
) -> Result<Result<Prepared, Unsent>, Failed> {
    let endpoint = match endpoint(session, pipeline, &first.tenant_id).await? {
        Ok(endpoint) => endpoint,
        Err(unsent) => return Ok(Err(unsent)),
    };
    let lead = match lead(session, mapped, first).await? {
        Ok(lead) => lead,
        Err(unsent) => return Ok(Err(unsent)),
    };
    let Some(contact) = visitor::contact(lead.email.as_deref(), lead.phone.as_deref()) else {
        return Ok(Err(Unsent::NoContact));
    };
    let key = key.of(&first.tenant_id, lead.visitor_id.as_deref(), &first.lead_id, &contact);
    let (event, delivery_id) = (event(first, lead), Uuid::new_v4());
    Ok(match redelivery::begin(session, delivery_id, first.delivery_id, &key, insisted).await? {
        Begun::At(queued_at) => {
            Ok(Prepared { endpoint, event, delivery_id, queued_at, captured_at: first.captured_at })
        }
        Begun::No => Err(Unsent::Overtaken),
    })
}

async fn lead(session: &mut Session, mapped: &MappedSql, first: &Delivery) -> Result<Result<Lead, Unsent>, Failed> {
    let statement = LoadStatements::prepare(session, mapped).await?;
    let client = session.shared();
    client.begin("BEGIN").await?;
    let wanted = [(first.lead_id.as_str(), Some(first.tenant_id.as_str()))];
    let loaded = leads::load(client, &statement, &wanted).await;
    // Of one that has failed it is a rollback.
    client.commit().await?;
    let loaded: Leads = loaded?;
    Ok(match loaded.of(&first.tenant_id, &first.lead_id) {
        Loaded::Found(lead) => Ok(lead.clone()),
        Loaded::Broken(why) => Err(Unsent::LeadUnreadable(why.to_string())),
        Loaded::Gone => Err(Unsent::LeadGone),
    })
}

impl Prepared {
    /// The one attempt.
    pub async fn send(self, pipeline: &Pipeline) -> Entry {
        let Self { endpoint, event, delivery_id, queued_at, captured_at } = self;
        let outcome = pipeline.send_now(&endpoint, &event, delivery_id).await;
        let Event { kind, tenant_id, event_id, lead_id, last_conversation_at, .. } = event;
        let place = Place { tenant_id, queued_at, event_id, row: outbox::RowAt::default() };
        Entry { place, delivery_id, lead_id, event: kind, captured_at, last_conversation_at, outcome }
    }
}

/// Writes the outcome, and reads its row; `None`: that is gone.
///
/// # Errors
/// What the database says, or that the connection is lost. Then it stands in the log as interrupted.
pub async fn record(session: &mut Session, entry: &Entry, first: &Delivery) -> Result<Option<Delivery>, Error> {
    delivery_log::record_redelivery(session, entry, first.delivery_id).await?;
    let all = delivery_list::of_event(session, first).await?;
    Ok(all.into_iter().find(|delivery| delivery.delivery_id == entry.delivery_id))
}

/// The same event, with the lead's values as they are now.
fn event(first: &Delivery, lead: Lead) -> Event {
    Event {
        event_id: first.event_id,
        kind: first.event.parse().unwrap_or(EventKind::Created),
        tenant_id: first.tenant_id.clone(),
        lead_id: first.lead_id.clone(),
        email: lead.email,
        phone: lead.phone,
        first_name: lead.first_name,
        conversation_id: lead.conversation_id,
        captured_at: lead.captured_at.unwrap_or(first.queued_at),
        last_conversation_at: first.last_conversation_at,
    }
}
