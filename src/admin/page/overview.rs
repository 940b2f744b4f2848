//! All tenants, and how each does: the operator's beginning.

use std::collections::HashMap;

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
};

#[derive(Template)]
#[template(path = "overview.html", config = "src/admin/page/askama.toml")]
struct Overview {
    is_operator: bool,
    all: stats::Ended,
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
    let listed = endpoint::list(State(api.clone()), Who(bearer.clone()), Page(Query(words))).await?.0;
    let told = stats::all(State(api), Who(bearer), Query(Vec::new())).await?.0;
    let is_cut = told.tenants.len() >= stats::TENANTS as usize;
    let figures: HashMap<_, _> =
        told.tenants.into_iter().filter_map(|one| Some((one.tenant_id.clone()?, one))).collect();
    let rows =
        listed.endpoints.iter().map(|endpoint| row(endpoint, figures.get(&endpoint.tenant_id), is_cut)).collect();
    let next = listed.next.map(|tenant| format!("/admin?after={}", segment(&tenant)));
    Ok(page(StatusCode::OK, &Overview { is_operator: true, all: told.all.counts, rows, next }))
}

/// A tenant that has no endpoint yet is in no list.
pub(super) async fn open(_: Signed, RawQuery(query): RawQuery) -> Redirect {
    let fields = Fields::of_query(query.as_deref());
    Redirect::to(&path_of(fields.first("tenant")))
}

fn row(endpoint: &EndpointView, figures: Option<&stats::Figures>, is_cut: bool) -> Row {
    let counts = figures.map(|figures| (figures.counts.delivered, figures.counts.failed + figures.counts.interrupted));
    let (delivered, failed) = counts.unwrap_or_default();
    let (health, tone) = match (endpoint.takes_leads, endpoint.enabled, delivered, failed) {
        (false, false, ..) => ("off", "muted"),
        (false, true, ..) => ("not set up", "muted"),
        (true, _, 0, 0) if is_cut && figures.is_none() => ("not among the busiest", "muted"),
        (true, _, 0, 0) => ("nothing yet", "muted"),
        (true, _, _, 0) => ("well", "good"),
        (true, _, 0, _) => ("failing", "bad"),
        (true, ..) => ("some fail", "bad"),
    };
    let success = figures.and_then(|figures| figures.success);
    Row {
        link: path_of(&endpoint.tenant_id),
        tenant: endpoint.tenant_id.clone(),
        health,
        tone,
        destination: endpoint.host.clone().unwrap_or_else(|| "none".to_owned()),
        delivered,
        failed,
        success: success.map_or_else(|| "–".to_owned(), |part| format!("{:.1} %", part * 100.0)),
    }
}
