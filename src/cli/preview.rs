//! `lead-webhook preview`: the bodies that a tenant's latest leads would be sent as. Sends nothing, and needs no keys.

use std::io;

use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    Failure, args,
    context::Context,
    database::failed,
    draft::Draft,
    fields::{aligned, printable_json, quoted},
    output,
};
use crate::{
    control::preview,
    egress::Policy,
    event::EventKind,
    store::{endpoints, leads, mapping::MappedSql},
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
    Body {
        lead_id: &'a str,
        /// `None`: it is not sent, and `problem` says why.
        body: Option<&'a RawValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        problem: Option<String>,
    },
    Placeholder {
        name: &'static str,
        empty: usize,
        leads: usize,
    },
}

/// Shows the bodies, then which placeholders came out empty how often.
pub(super) async fn run(context: &Context, tenant: &str, options: &Options) -> Result<(), Failure> {
    let policy = Policy::new(context.config.egress.lists.clone());
    let changes = Draft::read(tenant, &options.draft, &policy, &context.config.delivery.header_prefix, io::stdin());
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
    let preview = preview::of(tenant, latest, kind, (template.as_ref(), omit_empty), usize::MAX);
    for (lead_id, body) in &preview.bodies {
        let problem = body.as_ref().err().cloned();
        let body = body.as_deref().ok();
        if options.json {
            let body = body.map(serde_json::from_slice).transpose().map_err(Failure::operation)?;
            output::json(&Line::Body { lead_id, body, problem })?;
        } else {
            let body = body.map(|body| printable_json(&String::from_utf8_lossy(body)));
            output::data(&format!("lead {}\n{}\n", quoted(lead_id), body.or(problem).unwrap_or_default()))?;
        }
    }
    let leads = preview.bodies.len();
    let empty = preview.empty.into_iter().map(|(placeholder, empty)| (placeholder.as_str(), empty));
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
