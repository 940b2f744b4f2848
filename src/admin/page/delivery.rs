//! One delivery, with everything that is known of it.

use askama::Template;
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use serde_json::Map;

use super::{Api, Fields, Message, Refused, Visited, milliseconds, page, path_of, readable, segment, tone};
use crate::admin::{
    api::{Tenant, body::Body, deliveries, views::DeliveryView},
    problem::Problem,
};

#[derive(Template)]
#[template(path = "delivery.html", config = "src/admin/page/askama.toml")]
struct DeliveryPage {
    is_operator: bool,
    tenant: String,
    messages: Vec<Message>,
    tone: &'static str,
    status: String,
    meaning: &'static str,
    hint: Option<String>,
    facts: Vec<(&'static str, String)>,
    others: Vec<Other>,
    is_test: bool,
    was_sent_again: bool,
    here: String,
    back: String,
}

struct Other {
    link: String,
    finished: String,
    status: String,
}

/// Shows it.
pub(super) async fn show(
    State(api): State<Api>,
    Visited(tenant): Visited,
    Path((name, id)): Path<(String, String)>,
) -> Result<Response, Refused> {
    shown(api, tenant, name, id, None).await
}

/// Sends its event again, and shows what became of that.
pub(super) async fn redeliver(
    State(api): State<Api>,
    Visited(tenant): Visited,
    Path((name, id)): Path<(String, String)>,
    fields: Fields,
) -> Result<Response, Refused> {
    let path = Path((name.clone(), id.clone()));
    // Whoever saw that it was sent again means it.
    let body = Body(Map::from_iter([("again".to_owned(), (fields.first("again") == "yes").into())]));
    match deliveries::redeliver(State(api.clone()), tenant.clone(), path, body).await {
        Ok((_, sent)) => Ok(Redirect::to(&link(&tenant.id, &sent.0.delivery_id)).into_response()),
        Err(problem) => shown(api, tenant, name, id, Some(problem)).await,
    }
}

async fn shown(
    api: Api,
    tenant: Tenant,
    name: String,
    id: String,
    unsent: Option<Problem>,
) -> Result<Response, Refused> {
    let status = unsent.as_ref().map_or(StatusCode::OK, Problem::status);
    let messages = unsent.map(|problem| Message::bad(format!("Nothing was sent: {}", problem.detail())));
    let (tenant_id, is_operator) = (tenant.id.clone(), tenant.is_operator());
    let explained = deliveries::show(State(api), tenant, Path((name, id.clone()))).await?.0;
    let other = |other: &DeliveryView| Other {
        link: link(&tenant_id, &other.delivery_id),
        finished: readable(&other.finished_at),
        status: other.status.clone(),
    };
    let shown = DeliveryPage {
        is_operator,
        messages: messages.into_iter().collect(),
        tone: tone(&explained.delivery.status),
        status: explained.delivery.status.clone(),
        meaning: explained.meaning.unwrap_or_default(),
        hint: explained.hint,
        facts: facts(&explained.delivery),
        others: explained.same_event.iter().map(other).collect(),
        is_test: explained.delivery.is_test,
        was_sent_again: explained.delivery.redelivery_of.is_some()
            || explained.same_event.iter().any(|other| other.redelivery_of.is_some()),
        here: link(&tenant_id, &id),
        back: path_of(&tenant_id),
        tenant: tenant_id,
    };
    Ok(page(status, &shown))
}

/// A delivery's page.
pub(super) fn link(tenant: &str, id: &str) -> String {
    format!("{}/deliveries/{}", path_of(tenant), segment(id))
}

/// What is known, each with its name.
pub(super) fn facts(delivery: &DeliveryView) -> Vec<(&'static str, String)> {
    let text = |value: &Option<String>| value.clone();
    let place = delivery.host.as_ref().map(|host| {
        let port = delivery.port.map_or_else(String::new, |port| format!(" port {port}"));
        let address = delivery.address.as_ref().map_or_else(String::new, |address| format!(", at {address}"));
        format!("{host}{port}{address}")
    });
    let facts = [
        ("Failure", text(&delivery.failure)),
        ("Reason", text(&delivery.reason)),
        ("Error", text(&delivery.error)),
        ("Status code", delivery.http_status.map(|status| status.to_string())),
        ("Answer", text(&delivery.response_content_type)),
        ("Error code", text(&delivery.response_error_code)),
        ("Excerpt", text(&delivery.response_excerpt)),
        ("Destination", place),
        ("DNS", delivery.dns_us.map(milliseconds)),
        ("Connect and TLS", delivery.connect_us.map(milliseconds)),
        ("First byte after", delivery.first_byte_us.map(milliseconds)),
        ("Total", delivery.total_us.map(milliseconds)),
        ("Event", Some(delivery.event.clone())),
        ("Lead", Some(delivery.lead_id.clone())),
        ("Queued (UTC)", Some(readable(&delivery.queued_at))),
        ("Sent (UTC)", delivery.sent_at.as_deref().map(readable)),
        ("Finished (UTC)", Some(readable(&delivery.finished_at))),
        ("Event id", Some(delivery.event_id.clone())),
        ("Delivery id", Some(delivery.delivery_id.clone())),
        ("Sent again of", text(&delivery.redelivery_of)),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}
