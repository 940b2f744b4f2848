//! One claim: pending events become deliveries to send or log rows, in one transaction that is committed before
//! anything is sent. The outbox first, with the leads by id, then the uniqueness keys in key order.
//!
//! What needs no answer travels together. Most leads are new: their claim adds their keys and commits in one go, two round
//! trips in all, and those whose key turns out to be known go back to the queue in the same statement. Where that
//! happens, the next claims lock the keys and decide before they commit. A claim that fails leaves its transaction open:
//! the session must be given up then.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::future::{join, try_join4};
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    event::{Event, EventKind},
    failpoint,
    outcome::{SkipReason, Status},
    store::{
        Client, Error, bell,
        delivery_log::{self, Entry},
        endpoints::SealedEndpoint,
        leads::{self, Lead, Leads, LoadError, Loaded},
        mapped_as::{self, MappedAnew},
        outbox::{self, Decision, Pending, Picked},
        session::Session,
        timeline::Whereabouts,
        uniqueness,
    },
    visitor::{self, UniquenessKey},
};

use super::{
    decide::Verdict,
    endpoints::Endpoints,
    keys::{self, Keys, Present, observed},
    moved,
    settled::{broken, skipped},
    statements::Statements,
};

/// A delivery that is claimed and committed, ready to be sent once.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Its place in the outbox.
    pub place: outbox::Place,
    /// New for this send.
    pub delivery_id: Uuid,
    /// What the body is made of.
    pub event: Event,
    /// Its tenant, visitor and contact.
    pub key: uniqueness::Key,
    /// When the lead was captured, as the lead says; `None` where it does not.
    pub captured_at: Option<Timestamp>,
    /// Where to.
    pub endpoint: Arc<SealedEndpoint>,
}

/// What one claim did.
#[derive(Debug, Default)]
pub struct Claimed {
    /// To be sent.
    pub deliveries: Vec<Delivery>,
    /// Logged already: skipped, or failed without an attempt.
    pub settled: Vec<Entry>,
    /// Of those, what had been decided, went back to the queue and is not sent after all: what its key knows of it did not
    /// happen.
    pub unfired: Vec<Pending>,
    /// The tenant of each event that was picked; fewer than asked for: nothing more was free to pick.
    pub picked: Vec<String>,
    /// So many of these are pending again.
    pub given_back: usize,
}

/// Why a claim came to nothing. Everything it picked is still pending, unless the commit's answer was lost.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The leads cannot be read.
    #[error(transparent)]
    Leads(#[from] LoadError),
    /// What looks gone may be a lead.
    #[error(transparent)]
    MappedAnew(#[from] MappedAnew),
    /// The pooler leads to another server now, which is to be looked at first.
    #[error(
        "the pooler leads to another server, or to one that was promoted: looking at it before anything is claimed"
    )]
    Moved,
    /// The database said no, or the connection is lost.
    #[error("the claim failed")]
    Database(#[from] Error),
}

/// Claims for one daemon.
pub struct Claimer {
    /// The daemon.
    pub instance_id: Uuid,
    /// Makes visitors and contacts comparable.
    pub key: UniquenessKey,
    /// Behind a pooler: where the guard looked and the daemon's memory is of. Each transaction may be elsewhere.
    pub whereabouts: Option<Whereabouts>,
    /// How long a lead must have been silent.
    pub silence: Duration,
    /// What it takes for leads.
    pub spelled: String,
    /// What it asks, of the session that it claims on.
    pub statements: Statements,
    /// The endpoints as they were last seen.
    pub endpoints: Endpoints,
    /// So many claims are still made under their keys' locks, because a key was known of late.
    pub cautious: u32,
}

/// So many claims without a known key, and none is expected any more. A claim that goes by it in vain costs little; that
/// each of a busy daemon's does not, where some leads are repeats, is what this is for.
const CAUTIOUS: u32 = 100;

/// A claim waits no longer than 1 s for a lock.
const BEGIN: &str = "BEGIN; SET LOCAL lock_timeout = '1s'";

impl Claimer {
    /// Makes one claim; with `silence` no commit rings the doorbell from here on.
    ///
    /// # Errors
    /// [`ClaimError`]; nothing is claimed then, as far as the database answered. The session's transaction stays open.
    pub async fn claim(
        &mut self,
        session: &Session,
        request: &outbox::Request,
        silence: bool,
    ) -> Result<Claimed, ClaimError> {
        let client = session.shared();
        let silenced = async { if silence { bell::silence(client).await } else { Ok(()) } };
        let (silenced, picked) = join(silenced, self.pick(client, request)).await;
        silenced?;
        let Picked { events, endpoints, leads } = picked?;
        if events.is_empty() {
            client.roll_back().await?;
            return Ok(Claimed::default());
        }
        if let Some(whereabouts) = &self.whereabouts
            && !whereabouts.is_here(client).await?
        {
            client.roll_back().await?;
            return Err(ClaimError::Moved);
        }
        let tenants = events.iter().map(|event| event.place.tenant_id.clone()).collect();
        let mut claimed = Claimed { picked: tenants, ..Claimed::default() };
        let statements = &self.statements;
        let loaded = async {
            match leads {
                Some(leads) => Ok(leads),
                None => load(client, statements, &events).await,
            }
        };
        let (endpoints, loaded) = join(self.endpoints.load(client, &statements.endpoints, &endpoints), loaded).await;
        let (endpoints, loaded) = (endpoints?, loaded?);
        let events = moved::tell_apart(client, &statements.known, events, &loaded).await?;
        let present = self.present(&loaded, events, &endpoints, &mut claimed);
        let is_gone = |entry: &Entry| entry.outcome.status == Status::Skipped(SkipReason::Gone);
        // The triggers may have been made anew since the last look.
        if claimed.settled.iter().any(is_gone)
            && !mapped_as::is_noted(client, &statements.is_mapped_so, &self.spelled).await?
        {
            client.roll_back().await?;
            return Err(MappedAnew.into());
        }
        if self.cautious == 0 && present.iter().all(Present::looks_new) {
            self.fire_new(client, present, &mut claimed).await?;
        } else {
            let decisions = self.settle(client, present, &mut claimed).await?;
            let decide = async {
                if decisions.is_empty() {
                    return Ok(HashMap::new());
                }
                outbox::decide(client, &self.statements.decide, &decisions).await
            };
            let mut rows = self.write(client, &claimed, decide).await?;
            for Delivery { place, .. } in &mut claimed.deliveries {
                place.row = rows.remove(&place.event_id).unwrap_or(place.row);
            }
        }
        Ok(claimed)
    }

    /// Begins the transaction and picks, the leads with their events where all of them can be read.
    async fn pick(&self, client: &Client, request: &outbox::Request) -> Result<Picked, ClaimError> {
        let statement = &self.statements.pick;
        let pick = async |with_leads| {
            let picked = outbox::pick(client, statement, self.instance_id, request, with_leads);
            // Without a transaction the pick has committed by itself: its claims are in doubt.
            let (begun, picked) = join(client.begin(BEGIN), picked).await;
            begun.map(|()| picked)
        };
        match pick(statement.reads_leads()).await? {
            Ok(picked) => Ok(picked),
            Err(error) if leads::is_locked(&error) => Err(LoadError::Locked(error).into()),
            // Which lead it is, or whether it is a lead at all, is found out where they are read by themselves.
            Err(error) if error.code().is_some() => {
                client.roll_back().await?;
                Ok(pick(false).await??)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Step 4: the leads' values; events without any are settled.
    fn present(
        &self,
        loaded: &Leads,
        events: Vec<Pending>,
        endpoints: &HashMap<String, Arc<SealedEndpoint>>,
        claimed: &mut Claimed,
    ) -> Vec<Present> {
        let mut present = Vec::with_capacity(events.len());
        for event in events {
            let endpoint = endpoints.get(&event.place.tenant_id).cloned();
            let obstacle = obstacle(&event, endpoint.as_deref());
            let lead = match loaded.of(&event.place.tenant_id, &event.lead_id) {
                Loaded::Found(lead) => Some(lead),
                Loaded::Broken(error) if obstacle.is_none() => {
                    claimed.settled.push(broken(&event, error, endpoint.as_deref()));
                    continue;
                }
                Loaded::Broken(_) | Loaded::Gone => None,
            };
            // A lead whose contact was taken away again is gone as well: there is nobody left to send.
            let contact = lead.and_then(|lead| visitor::contact(lead.email.as_deref(), lead.phone.as_deref()));
            if let (Some(lead), Some(contact)) = (lead, contact) {
                let key = self.key.of(&event.place.tenant_id, lead.visitor_id.as_deref(), &event.lead_id, &contact);
                present.push(Present { event, lead: lead.clone(), key, endpoint, obstacle });
            } else {
                let captured_at = lead.and_then(|lead| lead.captured_at);
                let reason = obstacle.unwrap_or(SkipReason::Gone);
                claimed.settled.push(skipped(&event, captured_at, reason, endpoint.as_deref()));
                if event.decided.is_some() {
                    claimed.unfired.push(event);
                }
            }
        }
        present
    }

    /// Commits what looks new as created; whatever was not goes back to the queue.
    async fn fire_new(
        &mut self,
        client: &Client,
        present: Vec<Present>,
        claimed: &mut Claimed,
    ) -> Result<(), ClaimError> {
        let add = keys::add_or_give_back(client, &self.statements.uniqueness, &present);
        let added = self.write(client, claimed, add).await?;
        claimed.given_back = present.len() - added.len();
        if claimed.given_back > 0 {
            self.cautious = CAUTIOUS;
        }
        for Present { event, lead, key, endpoint, .. } in present {
            if let Some(endpoint) = endpoint
                && added.contains(&event.place.event_id)
            {
                claimed.deliveries.push(delivery(event, lead, key, EventKind::Created, None, endpoint));
            }
        }
        Ok(())
    }

    /// Created, re-engaged or duplicate, under the keys' locks. What turned out to be something else than it was presumed
    /// to be.
    async fn settle(
        &mut self,
        client: &Client,
        present: Vec<Present>,
        claimed: &mut Claimed,
    ) -> Result<Vec<Decision>, ClaimError> {
        let statements = &self.statements;
        let mut decisions = Vec::new();
        let mut keys = Keys::lock(client, &statements.uniqueness, &present).await?;
        self.cautious = if keys.are_new() { self.cautious.saturating_sub(1) } else { CAUTIOUS };
        let named = keys.named_conversations(client, &statements.load).await?;
        for Present { event, lead, key, endpoint, obstacle } in present {
            let observed = observed(&event, &lead);
            let verdict = match (obstacle, event.decided) {
                (Some(reason), _) => {
                    keys.see(&key, &observed);
                    Err(reason)
                }
                (None, Some((event, last_conversation_at))) => Ok((event, last_conversation_at)),
                (None, None) => match keys.decide(&key, &observed, &named, self.silence) {
                    Verdict::Fire { event, last_conversation_at } => Ok((event, last_conversation_at)),
                    Verdict::Duplicate => Err(SkipReason::Duplicate),
                },
            };
            match (verdict, endpoint) {
                (Ok((kind, last_conversation_at)), Some(endpoint)) => {
                    decisions.extend(decision(&event, kind, last_conversation_at));
                    claimed.deliveries.push(delivery(event, lead, key, kind, last_conversation_at, endpoint));
                }
                (Ok(_), None) => claimed.settled.push(skipped(&event, lead.captured_at, SkipReason::NoEndpoint, None)),
                (Err(reason), endpoint) => {
                    claimed.settled.push(skipped(&event, lead.captured_at, reason, endpoint.as_deref()));
                    if event.decided.is_some() {
                        claimed.unfired.push(event);
                    }
                }
            }
        }
        let changed = keys.changed();
        if !changed.is_empty() {
            uniqueness::store(client, &statements.uniqueness, &changed).await?;
        }
        Ok(decisions)
    }

    /// Writes what was settled, does the `rest` and commits, all in one go; what the rest gives.
    async fn write<T>(
        &self,
        client: &Client,
        claimed: &Claimed,
        rest: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, ClaimError> {
        let settled = async {
            if claimed.settled.is_empty() {
                return Ok(());
            }
            let entries: Vec<&Entry> = claimed.settled.iter().collect();
            delivery_log::record_within(client, &self.statements.record, self.instance_id, &entries).await
        };
        let taken_back = async {
            if claimed.unfired.is_empty() {
                return Ok(());
            }
            uniqueness::take_back(client, &self.statements.uniqueness, &claimed.unfired).await
        };
        failpoint::reached("claim::decided");
        // What fails aborts the transaction, which COMMIT then rolls back.
        let ((), (), rest, ()) = try_join4(settled, Box::pin(taken_back), rest, client.commit()).await?;
        failpoint::reached("claim::committed");
        Ok(rest)
    }
}

/// The events' leads, where they could not all be read with their events.
async fn load(client: &Client, statements: &Statements, events: &[Pending]) -> Result<Leads, LoadError> {
    let mut wanted: Vec<_> =
        events.iter().map(|event| (event.lead_id.as_str(), Some(event.place.tenant_id.as_str()))).collect();
    wanted.sort_unstable();
    wanted.dedup();
    leads::load(client, &statements.load, &wanted).await
}

/// What is to be noted of an event that the pick has marked as what it is presumed to be.
fn decision(event: &Pending, kind: EventKind, last_conversation_at: Option<Timestamp>) -> Option<Decision> {
    let is_as_marked = event.marked() == (kind, last_conversation_at);
    (!is_as_marked).then(|| Decision { place: event.place.clone(), event: kind, last_conversation_at })
}

/// What keeps an event from being sent, whatever its lead says.
fn obstacle(event: &Pending, endpoint: Option<&SealedEndpoint>) -> Option<SkipReason> {
    match endpoint {
        None => Some(SkipReason::NoEndpoint),
        Some(endpoint) if !endpoint.enabled || !event.was_enabled => Some(SkipReason::Disabled),
        Some(_) if event.expired => Some(SkipReason::Expired),
        Some(_) => None,
    }
}

fn delivery(
    event: Pending,
    lead: Lead,
    key: uniqueness::Key,
    kind: EventKind,
    last_conversation_at: Option<Timestamp>,
    endpoint: Arc<SealedEndpoint>,
) -> Delivery {
    Delivery {
        delivery_id: event.delivery_id,
        key,
        captured_at: lead.captured_at,
        event: Event {
            event_id: event.place.event_id,
            kind,
            tenant_id: event.place.tenant_id.clone(),
            lead_id: event.lead_id,
            email: lead.email,
            phone: lead.phone,
            first_name: lead.first_name,
            conversation_id: lead.conversation_id,
            captured_at: lead.captured_at.unwrap_or(event.place.queued_at),
            last_conversation_at,
        },
        place: event.place,
        endpoint,
    }
}
