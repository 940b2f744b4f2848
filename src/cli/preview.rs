//! `lead-webhook preview`: the bodies that a tenant's latest leads would be sent as. Sends nothing, and needs no keys.

use std::io;

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{
    Failure, args,
    context::Context,
    database::failed,
    draft::Changes,
    fields::{aligned, printable_json, quoted},
    output,
};
use crate::{
    delivery::{
        payload::default_body,
        template::{Placeholder, Template},
    },
    egress::Policy,
    event::{Event, EventKind},
    store::{
        endpoints,
        leads::{self, Lead},
        mapping::MappedSql,
    },
};

/// How the command is to go about it.
pub(super) struct Options {
    /// Of the endpoint's only what a body depends on.
    pub(super) draft: args::Draft,
    /// How many leads.
    pub(super) last: u32,
    /// As `lead.re_engaged` instead of `lead.created`.
    pub(super) re_engaged: bool,
    /// One JSON object a line.
    pub(super) json: bool,
}

/// A line of `--json`.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line<'a> {
    Body { lead_id: &'a str, body: Value },
    Placeholder { name: &'static str, empty: usize, leads: usize },
}

/// Shows the bodies, then which placeholders came out empty how often.
pub(super) async fn preview(context: &Context, tenant: &str, options: &Options) -> Result<(), Failure> {
    let policy = Policy::new(context.config.egress.lists.clone());
    let changes = Changes::read(tenant, &options.draft, &policy, &context.config.delivery.header_prefix, io::stdin());
    let mut session = context.session().await.map_err(|failure| changes.or(failure))?;
    let row = endpoints::find(&mut session, tenant).await.map_err(|error| changes.or(failed(context)(error)))?;
    let (template, omit_empty) = changes.body(row.map(|row| row.sealed))?;
    let mapped = MappedSql::resolve(session.client(), &context.config.leads).await.map_err(Failure::operation)?;
    let latest = leads::latest(&mut session, &mapped, tenant, i64::from(options.last)).await;
    let latest = latest.map_err(Failure::operation)?;
    if latest.is_empty() {
        return Err(Failure::Operation(format!("tenant {} has no lead with a contact", quoted(tenant))));
    }
    let kind = if options.re_engaged { EventKind::ReEngaged } else { EventKind::Created };
    let events: Vec<Event> = latest.into_iter().map(|lead| event(tenant, lead, kind)).collect();
    let bodies = events.iter().map(|event| match &template {
        Some(template) => template.render(event, omit_empty),
        None => default_body(event),
    });
    for (event, body) in events.iter().zip(bodies) {
        let lead_id = event.lead_id.as_str();
        if options.json {
            let body = serde_json::from_slice(&body).map_err(Failure::operation)?;
            output::json(&Line::Body { lead_id, body })?;
        } else {
            let body = String::from_utf8_lossy(&body);
            output::data(&format!("lead {}\n{}\n", quoted(lead_id), printable_json(&body)))?;
        }
    }
    let leads = events.len();
    let empty = used(template.as_ref(), kind)
        .into_iter()
        .map(|placeholder| (placeholder.as_str(), empty(placeholder, &events)));
    if options.json {
        return empty.into_iter().try_for_each(|(name, empty)| output::json(&Line::Placeholder { name, empty, leads }));
    }
    let rows: Vec<_> = empty.map(|(name, empty)| (name, format!("empty in {empty} of {leads}"))).collect();
    if rows.is_empty() {
        output::data("no placeholder: all bodies are the same")
    } else {
        output::data(&aligned(&rows))
    }
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

fn empty(placeholder: Placeholder, events: &[Event]) -> usize {
    let is_empty = |event: &&Event| placeholder.value(event).is_none_or(|value| value.trim().is_empty());
    events.iter().filter(is_empty).count()
}
