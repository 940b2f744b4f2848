//! The uniqueness keys of one claim: added or locked in key order, decided on, and written back.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    outcome::SkipReason,
    store::{
        Client, Error,
        endpoints::SealedEndpoint,
        leads::{self, Lead, LoadError, LoadStatements, Loaded},
        outbox::{Kind, Pending},
        uniqueness::{self, Key, Known},
    },
};

use super::decide::{self, Observed, Verdict};

/// An event whose lead is there, with its uniqueness key.
pub(super) struct Present {
    /// The event.
    pub(super) event: Pending,
    /// Its lead's values.
    pub(super) lead: Lead,
    /// Its tenant, visitor and contact.
    pub(super) key: Key,
    /// Its tenant's; `None`: there is none any more.
    pub(super) endpoint: Option<Arc<SealedEndpoint>>,
    /// What keeps it from being sent, whatever its key says; it moves the key on all the same.
    pub(super) obstacle: Option<SkipReason>,
}

impl Present {
    /// Whether its key is probably new: that of a lead that is sent, and was not there before.
    pub(super) fn looks_new(&self) -> bool {
        let Pending { kind, decided, is_moved_row, .. } = &self.event;
        self.obstacle.is_none() && decided.is_none() && !is_moved_row && *kind != Kind::CameBack
    }
}

/// Adds the keys of events that all look new. Those whose key is known already, or is added by an earlier one of them,
/// go back to the queue; which have added theirs, and fire.
pub(super) async fn add_or_give_back(
    client: &Client,
    statements: &uniqueness::Statements,
    present: &[Present],
) -> Result<HashSet<Uuid>, Error> {
    if present.is_empty() {
        return Ok(HashSet::new());
    }
    let rows: Vec<(Key, Known)> =
        present.iter().map(|p| (p.key, decide::first(&observed(&p.event, &p.lead)).1)).collect();
    uniqueness::add_or_give_back(client, statements, &rows).await
}

/// The uniqueness keys of one claim, locked.
pub(super) struct Keys {
    /// New in this claim, by the event that made them.
    fresh: HashMap<Key, Uuid>,
    known: HashMap<Key, Known>,
    changed: HashSet<Key>,
}

impl Keys {
    /// Adds what is new, locks what is known. Moved rows and what is not sent add nothing. What was decided before has its
    /// key already, unless its lead has another contact now: that is the one that is sent.
    pub(super) async fn lock(
        client: &Client,
        statements: &uniqueness::Statements,
        present: &[Present],
    ) -> Result<Self, Error> {
        let mut firsts: HashMap<Key, (Uuid, Known)> = HashMap::new();
        let mut keys: HashSet<Key> = HashSet::new();
        for p in present {
            let is_decided = p.event.decided.is_some();
            if !is_decided {
                keys.insert(p.key);
            }
            if (is_decided || !p.event.is_moved_row) && p.obstacle.is_none() {
                let observed = observed(&p.event, &p.lead);
                firsts.entry(p.key).or_insert_with(|| (p.event.place.event_id, decide::first(&observed).1));
            }
        }
        let rows: Vec<(Key, Known)> = firsts.iter().map(|(key, (_, known))| (*key, known.clone())).collect();
        let added = if rows.is_empty() { Vec::new() } else { uniqueness::add(client, statements, &rows).await? };
        let mut fresh = HashMap::with_capacity(added.len());
        let mut known = HashMap::with_capacity(keys.len());
        for key in added {
            if let Some((event_id, first)) = firsts.remove(&key) {
                fresh.insert(key, event_id);
                known.insert(key, first);
            }
        }
        let rest: Vec<Key> = keys.into_iter().filter(|key| !fresh.contains_key(key)).collect();
        if !rest.is_empty() {
            known.extend(uniqueness::lock(client, statements, &rest).await?);
        }
        Ok(Self { fresh, known, changed: HashSet::new() })
    }

    /// Whether none was known before this claim.
    pub(super) fn are_new(&self) -> bool {
        self.known_before().next().is_none()
    }

    /// The last conversations of the leads that known keys name.
    pub(super) async fn named_conversations(
        &self,
        client: &Client,
        load: &LoadStatements,
    ) -> Result<HashMap<Key, Timestamp>, LoadError> {
        if self.are_new() {
            return Ok(HashMap::new());
        }
        let named: Vec<(Key, &Known)> = self.known_before().collect();
        let wanted: Vec<_> =
            named.iter().map(|(_, known)| (known.lead_id.as_str(), Some(known.tenant_id.as_str()))).collect();
        let loaded = leads::load(client, load, &wanted).await?;
        let conversation = |known: &Known| match loaded.of(&known.tenant_id, &known.lead_id) {
            Loaded::Found(lead) => lead.last_conversation_at,
            Loaded::Broken(_) | Loaded::Gone => None,
        };
        Ok(named.into_iter().filter_map(|(key, known)| conversation(known).map(|at| (key, at))).collect())
    }

    fn known_before(&self) -> impl Iterator<Item = (Key, &Known)> {
        self.known.iter().filter(|(key, _)| !self.fresh.contains_key(*key)).map(|(key, known)| (*key, known))
    }

    /// What the event is; moves its key on.
    pub(super) fn decide(
        &mut self,
        key: &Key,
        observed: &Observed<'_>,
        named: &HashMap<Key, Timestamp>,
        silence: Duration,
    ) -> Verdict {
        if self.fresh.get(key) == Some(&observed.event_id) {
            return decide::first(observed).0;
        }
        let Some(known) = self.known.get_mut(key) else { return Verdict::Duplicate };
        let (verdict, next) = decide::repeat(observed, known, named.get(key).copied(), silence);
        *known = next;
        self.changed.insert(*key);
        verdict
    }

    /// Moves the key on, where it is known, for an event that is not sent.
    pub(super) fn see(&mut self, key: &Key, observed: &Observed<'_>) {
        if let Some(known) = self.known.get_mut(key) {
            *known = decide::seen(observed, known);
            self.changed.insert(*key);
        }
    }

    /// The keys that are to be written back.
    pub(super) fn changed(&self) -> Vec<(Key, Known)> {
        self.changed.iter().filter_map(|key| self.known.get(key).map(|known| (*key, known.clone()))).collect()
    }
}

/// The event as the decision sees it.
pub(super) fn observed<'a>(event: &'a Pending, lead: &Lead) -> Observed<'a> {
    Observed {
        tenant_id: &event.place.tenant_id,
        lead_id: &event.lead_id,
        event_id: event.place.event_id,
        kind: event.kind,
        queued_at: event.place.queued_at,
        transaction_id: event.transaction_id,
        previous_conversation_at: event.previous_conversation_at,
        captured_at: lead.captured_at,
        last_conversation_at: event.conversation_at.or(lead.last_conversation_at),
        is_moved_row: event.is_moved_row,
    }
}
