//! The log in figures.

use std::{cmp::Reverse, collections::HashMap};

use axum::{Json, extract::State};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Api, Query, Tenant, Who, operator_only,
    views::{OF_A_NETWORK, up_to_the_second, whole_second},
};
use crate::{
    admin::problem::{FieldFault, Problem},
    control::{time, token::Bearer},
    outcome::Failure,
    store::{
        delivery_stats::{self, Alike, Counts, OfTenant, Span, Stretch},
        session::Session,
    },
};

/// Busiest tenants that are named.
const TENANTS: i64 = 100;

/// Kinds of failures that are named.
const KINDS: i64 = 20;

/// What is looked at at most.
const LONGEST: SignedDuration = SignedDuration::from_hours(366 * 24);

/// What is looked at where nothing else is asked for.
const USUAL: SignedDuration = SignedDuration::from_hours(24);

/// Seconds of a day.
const DAY: f64 = 86_400.0;

/// Stretches that a span is cut into at most.
const STRETCHES: i64 = 60;

/// What a stretch may be.
const SECONDS: [i64; 7] = [60, 300, 3_600, 6 * 3_600, 86_400, 7 * 86_400, 30 * 86_400];

/// Deliveries in figures. Tests are not counted.
#[derive(Serialize, ToSchema)]
pub(super) struct Stats {
    #[schema(format = DateTime)]
    since: String,
    #[schema(format = DateTime)]
    until: String,
    all: Figures,
    /// The busiest first; for the operator.
    tenants: Vec<Figures>,
    /// The most frequent first.
    failures: Vec<Alikes>,
    /// Seconds of each of `over_time`.
    stretch_s: i64,
    over_time: Vec<Point>,
}

/// How many deliveries ended how.
#[derive(Serialize, ToSchema)]
pub(super) struct Figures {
    /// null: of all.
    tenant_id: Option<String>,
    #[serde(flatten)]
    counts: Ended,
    /// The part of what was to be sent that arrived, 0 to 1; null: nothing was.
    success: Option<f64>,
    /// 50th, 95th and 99th percentile of the whole attempt, in microseconds; to a tenant of those that came to an HTTP status.
    latency_us: Option<Vec<i32>>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Ended {
    delivered: i64,
    failed: i64,
    interrupted: i64,
    skipped: i64,
}

/// Deliveries that failed alike.
#[derive(Serialize, ToSchema)]
pub(super) struct Alikes {
    failure: String,
    http_status: Option<i16>,
    response_error_code: Option<String>,
    host: Option<String>,
    deliveries: i64,
    /// Of so many tenants.
    tenants: i64,
    #[schema(format = DateTime)]
    latest: String,
}

/// One stretch of time.
#[derive(Serialize, ToSchema)]
pub(super) struct Point {
    #[schema(format = DateTime)]
    since: String,
    #[serde(flatten)]
    counts: Ended,
}

/// Tells all tenants' deliveries in figures. For the operator.
#[utoipa::path(get, path = "/v1/stats", operation_id = "summariseAll", tag = "deliveries", params(
    ("since" = Option<String>, Query, min_length = 1, description = "RFC 3339, a date, or a duration before now; `24h` without it."),
    ("until" = Option<String>, Query, min_length = 1, description = "The same; now without it."),
), responses((status = 200, body = Stats)))]
pub(super) async fn all(State(api): State<Api>, Who(bearer): Who, query: Query) -> Result<Json<Stats>, Problem> {
    operator_only(&bearer)?;
    told(&api, &query, None, &bearer).await
}

/// Tells a tenant's deliveries in figures.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/stats", operation_id = "summarise", tag = "deliveries", params(
    super::TenantParam,
    ("since" = Option<String>, Query, min_length = 1, description = "RFC 3339, a date, or a duration before now; `24h` without it."),
    ("until" = Option<String>, Query, min_length = 1, description = "The same; now without it."),
), responses((status = 200, body = Stats)))]
pub(super) async fn of_tenant(State(api): State<Api>, tenant: Tenant, query: Query) -> Result<Json<Stats>, Problem> {
    told(&api, &query, Some(tenant.id), &tenant.bearer).await
}

async fn told(api: &Api, query: &Query, tenant_id: Option<String>, bearer: &Bearer) -> Result<Json<Stats>, Problem> {
    let is_operator = *bearer == Bearer::Operator;
    let mut span = read(query, tenant_id)?;
    if !is_operator {
        (span.since, span.until) = (whole_second(span.since), up_to_the_second(span.until));
    }
    let length = span.until.duration_since(span.since).as_secs();
    let stretch_s = SECONDS.into_iter().find(|seconds| length / seconds < STRETCHES).unwrap_or(30 * 86_400);
    #[expect(clippy::cast_precision_loss, reason = "at most 30 days in seconds")]
    let seconds = stretch_s as f64;
    let read = async |session: &mut Session| {
        let (all, tenants) = delivery_stats::by_tenant(session, &span, TENANTS, is_operator).await?;
        let failures = delivery_stats::failures(session, &span, KINDS).await?;
        Ok((all, tenants, failures, delivery_stats::over_time(session, &span, seconds).await?))
    };
    let (all, tenants, failures, over_time) = api.sessions.within(bearer, read).await?;
    let point = |stretch: Stretch| Point {
        since: (span.since + SignedDuration::from_secs(stretch.number * stretch_s)).to_string(),
        counts: stretch.counts.into(),
    };
    let failures = if is_operator { failures } else { veiled(failures) };
    Ok(Json(Stats {
        since: span.since.to_string(),
        until: span.until.to_string(),
        all: all.into(),
        tenants: if span.tenants.is_none() { tenants.into_iter().map(Figures::from).collect() } else { Vec::new() },
        failures: failures.into_iter().map(Alikes::from).collect(),
        stretch_s,
        over_time: over_time.into_iter().map(point).collect(),
    }))
}

/// How a tenant's deliveries ended since a midnight, by day; days without one are left out. For the page's chart.
pub(in crate::admin) async fn by_day(api: &Api, tenant: &Tenant, since: Timestamp) -> Result<Vec<Stretch>, Problem> {
    let span = Span { tenants: Some(vec![tenant.id.clone()]), since, until: just_now() };
    api.sessions.within(&tenant.bearer, async |session| Ok(delivery_stats::over_time(session, &span, DAY).await?)).await
}

/// How everybody's deliveries of the usual span ended, and those of `tenants`. For the page's overview.
pub(in crate::admin) async fn of_tenants(
    api: &Api,
    tenants: Vec<String>,
) -> Result<(Counts, HashMap<String, Counts>), Problem> {
    let everybody = Span { tenants: None, since: Timestamp::now() - USUAL, until: just_now() };
    let most = i64::try_from(tenants.len()).unwrap_or(i64::MAX - 1);
    let theirs = Span { tenants: Some(tenants), ..everybody.clone() };
    let read = async |session: &mut Session| {
        let (all, _) = delivery_stats::by_tenant(session, &everybody, 0, false).await?;
        let (_, each) = delivery_stats::by_tenant(session, &theirs, most, false).await?;
        Ok((all.counts, each.into_iter().filter_map(|one| Some((one.tenant_id?, one.counts))).collect()))
    };
    api.sessions.within(&Bearer::Operator, read).await
}

/// Up to the second, so that what has just ended counts.
fn just_now() -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(1)
}

fn read(query: &Query, tenant_id: Option<String>) -> Result<Span, Problem> {
    let now = Timestamp::now();
    let mut faults = query.unknown(&["since", "until"]);
    let mut at = |name, usual| match query.first(name) {
        None => usual,
        Some(text) => time::parse(text, now).unwrap_or_else(|text| {
            faults.push(FieldFault::of(name, text));
            usual
        }),
    };
    let since = at("since", now - USUAL);
    let until = at("until", just_now());
    if faults.is_empty() && until.duration_since(since) > LONGEST {
        faults.push(FieldFault::of("since", "is more than a year before until"));
    }
    if faults.is_empty() && since >= until {
        faults.push(FieldFault::of("since", format!("{since} is not before until {until}")));
    }
    if faults.is_empty() {
        Ok(Span { tenants: tenant_id.map(|tenant| vec![tenant]), since, until })
    } else {
        Err(Problem::query(faults))
    }
}

/// To a tenant one kind, for each host, of all that tells of a network.
fn veiled(failures: Vec<Alike>) -> Vec<Alike> {
    let mut told: Vec<Alike> = Vec::new();
    for mut one in failures {
        let is_of_a_network = OF_A_NETWORK.iter().any(|failure| failure.as_str() == one.failure);
        if is_of_a_network && one.http_status.is_none() {
            Failure::Connect.as_str().clone_into(&mut one.failure);
            one.latest = whole_second(one.latest);
            let same = told
                .iter_mut()
                .find(|known| (&known.failure, known.http_status, &known.host) == (&one.failure, None, &one.host));
            if let Some(same) = same {
                same.deliveries += one.deliveries;
                same.latest = same.latest.max(one.latest);
                continue;
            }
        }
        told.push(one);
    }
    // Those that came together may be more than others now.
    told.sort_by_key(|one| Reverse(one.deliveries));
    told
}

impl From<OfTenant> for Figures {
    fn from(OfTenant { tenant_id, counts, latency_us }: OfTenant) -> Self {
        Self { tenant_id, success: counts.success(), counts: counts.into(), latency_us }
    }
}

impl From<Counts> for Ended {
    fn from(Counts { delivered, failed, interrupted, skipped }: Counts) -> Self {
        Self { delivered, failed, interrupted, skipped }
    }
}

impl From<Alike> for Alikes {
    fn from(alike: Alike) -> Self {
        let Alike { failure, http_status, response_error_code, host, deliveries, tenants, latest } = alike;
        Self { failure, http_status, response_error_code, host, deliveries, tenants, latest: latest.to_string() }
    }
}
