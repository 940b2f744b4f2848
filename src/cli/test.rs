//! `lead-webhook test`: one real request with a synthetic lead, on the draft as it stands.

use std::{io, time::Duration};

use serde_json::{Value, json};

use crate::{
    control::{
        draft::Stored,
        time::whole_seconds,
        trial::{self, Needed, Obstacle},
    },
    delivery::{payload::format_time, request::Endpoint},
    event::EventKind,
    outcome::{Answer, Status, Timing},
    pipeline::{Pipeline, Unusable},
    store::{
        delivery_log::Entry,
        endpoints::{self, SealedEndpoint},
        session::explain,
        test_limit,
    },
};

use super::{
    Failure, args,
    context::Context,
    database::{failed, vouch_for_keys},
    draft::Draft,
    fields::{aligned, quoted, yes_or_no},
    output,
};

/// How the command is to go about it.
pub(super) struct Options {
    /// What the draft changes.
    pub(super) draft: args::Draft,
    /// `lead.re_engaged` instead of `lead.created`.
    pub(super) re_engaged: bool,
    /// One JSON object instead of lines.
    pub(super) json: bool,
}

/// Sends, shows and logs. Well ended only if the request was delivered.
pub(super) async fn run(context: &Context, tenant: &str, options: &Options) -> Result<(), Failure> {
    let pipeline = context.pipeline()?;
    let (policy, prefix) = (pipeline.resolver().policy(), pipeline.header_prefix());
    // The draft's host is not resolved here: the attempt does that itself, and its outcome tells.
    let changes = Draft::read(tenant, &options.draft, policy, prefix, io::stdin());
    let mut session = context.session().await.map_err(|failure| changes.or(failure))?;
    let row = endpoints::find(&mut session, tenant).await.map_err(|error| changes.or(failed(context)(error)))?;
    if !changes.is_refused() {
        vouch_for_keys(context, &mut session, pipeline.keyring()).await?;
    }
    let draft = changes.apply(pipeline.keyring(), tenant, prefix, Stored::open(&pipeline, row))?;
    let endpoint = open(&pipeline, tenant, &draft.endpoint)?;

    let kind = if options.re_engaged { EventKind::ReEngaged } else { EventKind::Created };
    let begun = trial::begin(&mut session, tenant, kind).await.map_err(failed(context))?;
    let entry = begun.map_err(|wait| limited(tenant, wait))?.send(&pipeline, &endpoint).await;
    let logged = trial::record(&mut session, &entry).await;
    if let Err(error) = &logged {
        let why = explain(error, &context.config.database.daemon_role);
        output::message(&format!(
            "warning: the outcome is not in the log, where the test stands as interrupted: {why}"
        ));
    }
    if options.json {
        output::json(&shown_as_json(&entry, logged.is_ok()))?;
    } else {
        output::data(&shown(&entry, logged.is_ok()))?;
    }
    if entry.outcome.status == Status::Delivered { Ok(()) } else { Err(Failure::Said) }
}

/// Too many Tests of this tenant's endpoint, by whomever.
fn limited(tenant: &str, wait: Duration) -> Failure {
    let (name, most, period) = (quoted(tenant), test_limit::MOST, humantime::format_duration(test_limit::PERIOD));
    let wait = humantime::format_duration(whole_seconds(wait));
    Failure::Operation(format!(
        "tenant {name} was tested {most} times in the last {period}, which is the limit; nothing was sent: try again in {wait}"
    ))
}

/// The draft, opened just as a delivery would; every part that stands in the way at once.
fn open(pipeline: &Pipeline, tenant: &str, draft: &SealedEndpoint) -> Result<Endpoint, Failure> {
    let name = quoted(tenant);
    let part = |needed| match needed {
        Needed::Url => ("URL", format!("run `lead-webhook endpoint set {name} --url @FILE`, or give --url")),
        Needed::Secret => ("secret", format!("run `lead-webhook secret generate {name}`")),
    };
    trial::open(pipeline, tenant, draft).map_err(|obstacles| {
        let said = obstacles.into_iter().map(|obstacle| match obstacle {
            Obstacle::Missing(needed) => {
                let (part, remedy) = part(needed);
                format!("tenant {name} has no {part}: {remedy}")
            }
            Obstacle::Unopened(needed, error) => {
                let (part, remedy) = part(needed);
                format!("the stored {part} of tenant {name} cannot be opened: {error}; or {remedy}")
            }
            Obstacle::Unusable(Unusable { failure, error }) => {
                format!("what is stored for tenant {name} cannot be used ({failure}): {error}")
            }
        });
        Failure::Operation(said.collect::<Vec<_>>().join("\n"))
    })
}

/// Lines for the operator: how it ended, then where it went and how long each phase took.
fn shown(entry: &Entry, logged: bool) -> String {
    let Entry { outcome, .. } = entry;
    let Timing { dns, connect, first_byte, total } = outcome.timing;
    let answer = outcome.answer.as_ref();
    let destination = outcome.destination.as_ref();
    let fields = [
        ("outcome", Some(outcome.status.to_string())),
        ("error", outcome.error.clone()),
        ("status code", Some(answer.map_or_else(|| "none".to_owned(), |answer| answer.http_status.to_string()))),
        ("answer", answer.map(answer_summary).filter(|summary| !summary.is_empty())),
        ("error code", answer.and_then(|answer| answer.error_code.clone())),
        ("excerpt", answer.and_then(|answer| answer.excerpt.clone())),
        ("destination", destination.map(|to| format!("{} port {}", to.host, to.port))),
        ("address", outcome.address.map(|address| address.to_string())),
        ("dns", dns.map(milliseconds)),
        ("connect + tls", connect.map(milliseconds)),
        ("first byte", first_byte.map(|after| format!("after {}", milliseconds(after)))),
        ("total", total.map(milliseconds)),
        ("event", Some(format!("{} {}", entry.event, entry.place.event_id))),
        ("delivery", Some(entry.delivery_id.to_string())),
        ("lead", Some(entry.lead_id.clone())),
        ("logged", Some(yes_or_no(logged).to_owned())),
    ];
    let fields: Vec<_> = fields.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    aligned(&fields)
}

fn answer_summary(answer: &Answer) -> String {
    let length = answer.length.map(|length| format!("{length} bytes"));
    answer.content_type.clone().into_iter().chain(length).collect::<Vec<_>>().join(", ")
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1_000.0)
}

/// One object; keys are the log table's columns.
fn shown_as_json(entry: &Entry, logged: bool) -> Value {
    let Entry { outcome, .. } = entry;
    let micros = |duration: Option<Duration>| duration.and_then(|duration| u64::try_from(duration.as_micros()).ok());
    let answer = outcome.answer.as_ref();
    let destination = outcome.destination.as_ref();
    json!({
        "delivery_id": entry.delivery_id,
        "event_id": entry.place.event_id,
        "tenant_id": entry.place.tenant_id,
        "lead_id": entry.lead_id,
        "event": entry.event.as_str(),
        "status": outcome.status.as_str(),
        "failure": outcome.status.failure(),
        "http_status": answer.map(|answer| answer.http_status),
        "error": outcome.error,
        "response_content_type": answer.and_then(|answer| answer.content_type.as_deref()),
        "response_length": answer.and_then(|answer| answer.length),
        "response_error_code": answer.and_then(|answer| answer.error_code.as_deref()),
        "response_excerpt": answer.and_then(|answer| answer.excerpt.as_deref()),
        "host": destination.map(|destination| destination.host.as_str()),
        "port": destination.map(|destination| destination.port),
        "address": outcome.address,
        "sent_at": outcome.sent_at.map(format_time),
        "finished_at": format_time(outcome.finished_at),
        "dns_us": micros(outcome.timing.dns),
        "connect_us": micros(outcome.timing.connect),
        "first_byte_us": micros(outcome.timing.first_byte),
        "total_us": micros(outcome.timing.total),
        "is_test": true,
        "logged": logged,
    })
}
