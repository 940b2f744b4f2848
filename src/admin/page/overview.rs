//! All tenants, and how each does: the operator's beginning.

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};

use super::{Api, Fields, Refused, Signed, page, path_of, segment};
use crate::{
    admin::api::{Page, Query, Who, endpoint, stats, views::EndpointView},
    control::token::Bearer,
    store::delivery_stats::Counts,
};

#[derive(Template)]
#[template(path = "overview.html", config = "src/admin/page/askama.toml")]
struct Overview {
    is_operator: bool,
    all: Counts,
    rows: Vec<Row>,
    next: Option<String>,
}

struct Row {
    tenant: String,
    link: String,
    health: &'static str,
    tone: &'static str,
    destination: String,
    delivered: i64,
    failed: i64,
    success: String,
}

/// The overview; a tenant has one page alone.
pub(super) async fn show(
    State(api): State<Api>,
    Signed(bearer): Signed,
    RawQuery(query): RawQuery,
) -> Result<Response, Refused> {
    if let Bearer::Tenant(tenant) = &bearer {
        return Ok(Redirect::to(&path_of(tenant)).into_response());
    }
    let words = Fields::of_query(query.as_deref()).0;
    let listed = endpoint::list(State(api.clone()), Who(bearer), Page(Query(words))).await?.0;
    let tenants = listed.endpoints.iter().map(|endpoint| endpoint.tenant_id.clone()).collect();
    let (all, each) = stats::of_tenants(&api, tenants).await?;
    let counts = |endpoint: &EndpointView| each.get(&endpoint.tenant_id).copied().unwrap_or_default();
    let rows = listed.endpoints.iter().map(|endpoint| row(endpoint, counts(endpoint))).collect();
    let next = listed.next.map(|tenant| format!("/admin?after={}", segment(&tenant)));
    Ok(page(StatusCode::OK, &Overview { is_operator: true, all, rows, next }))
}

/// A tenant that has no endpoint yet is in no list.
pub(super) async fn open(_: Signed, RawQuery(query): RawQuery) -> Redirect {
    let fields = Fields::of_query(query.as_deref());
    Redirect::to(&path_of(fields.first("tenant")))
}

fn row(endpoint: &EndpointView, counts: Counts) -> Row {
    let (delivered, failed) = (counts.delivered, counts.failed + counts.interrupted);
    let (health, tone) = match (endpoint.takes_leads, endpoint.enabled, delivered, failed) {
        (false, false, ..) => ("off", "muted"),
        (false, true, ..) => ("not set up", "muted"),
        (true, _, 0, 0) => ("nothing yet", "muted"),
        (true, _, _, 0) => ("well", "good"),
        (true, _, 0, _) => ("failing", "bad"),
        (true, ..) => ("some fail", "bad"),
    };
    Row {
        link: path_of(&endpoint.tenant_id),
        tenant: endpoint.tenant_id.clone(),
        health,
        tone,
        destination: endpoint.host.clone().unwrap_or_else(|| "none".to_owned()),
        delivered,
        failed,
        success: counts.success().map_or_else(|| "–".to_owned(), |part| format!("{:.1} %", part * 100.0)),
    }
}
