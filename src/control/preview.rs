//! The bodies that a tenant's latest leads would be sent as. Sends nothing, and needs no keys.

use uuid::Uuid;

use crate::{
    delivery::{
        body,
        template::{Placeholder, Template},
    },
    event::{Event, EventKind},
    store::leads::Lead,
};

/// What a template makes of leads.
pub struct Preview {
    /// The leads' ids and their bodies, or why there is none, in the order of the leads.
    pub bodies: Vec<(String, Result<Vec<u8>, String>)>,
    /// Each placeholder in use, and in how many of the leads that could be read it came out empty.
    pub empty: Vec<(Placeholder, usize)>,
}

/// Makes the bodies of leads, each its id and its values, or why they cannot be read; `template` is `None` for the default
/// one. None is made any more where they have `most` bytes together.
pub fn of(
    tenant: &str,
    leads: Vec<(String, Result<Lead, String>)>,
    kind: EventKind,
    (template, omit_empty): (Option<&Template>, bool),
    most: usize,
) -> Preview {
    let leads: Vec<_> = leads.into_iter().map(|(id, lead)| (id, lead.map(|lead| event(tenant, lead, kind)))).collect();
    let mut left = most;
    let body = |(id, event): &(String, Result<Event, String>)| {
        if left == 0 {
            return None;
        }
        let body = event.as_ref().map_err(String::clone).and_then(|event| {
            let body = body::of(event, template, omit_empty);
            left = left.saturating_sub(body.as_ref().map_or(body::MAX_BYTES, Vec::len));
            body.map_err(|too_long| too_long.to_string())
        });
        Some((id.clone(), body))
    };
    let bodies = leads.iter().map_while(body).collect();
    let events: Vec<_> = leads.iter().filter_map(|(_, event)| event.as_ref().ok()).collect();
    let empty =
        used(template, kind).into_iter().map(|placeholder| (placeholder, empty(placeholder, &events))).collect();
    Preview { bodies, empty }
}

/// The lead as a claim would send it now.
fn event(tenant: &str, lead: Lead, kind: EventKind) -> Event {
    Event {
        event_id: Uuid::nil(),
        kind,
        tenant_id: tenant.to_owned(),
        lead_id: lead.lead_id,
        email: lead.email,
        phone: lead.phone,
        first_name: lead.first_name,
        conversation_id: lead.conversation_id,
        captured_at: lead.captured_at.unwrap_or_else(jiff::Timestamp::now),
        last_conversation_at: lead.last_conversation_at.filter(|_| kind == EventKind::ReEngaged),
    }
}

/// What a body is made of; the default one has everything but the first name.
fn used(template: Option<&Template>, kind: EventKind) -> Vec<Placeholder> {
    let of_default = |placeholder: &Placeholder| match placeholder {
        Placeholder::FirstName => false,
        Placeholder::LastConversationAt => kind == EventKind::ReEngaged,
        _ => true,
    };
    template.map_or_else(|| Placeholder::ALL.into_iter().filter(of_default).collect(), Template::placeholders)
}

fn empty(placeholder: Placeholder, events: &[&Event]) -> usize {
    let is_empty = |event: &&&Event| placeholder.value(event).is_none_or(|value| value.trim().is_empty());
    events.iter().filter(is_empty).count()
}
