//! The log: deliveries listed, shown and sent again.

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    Api, Query, Tenant, Who, audit,
    body::{Body, Members},
    endpoint::vouch,
    operator_only,
    trial::unreadable,
    views::{DeliveryView, OF_A_NETWORK, UNUSABLE, up_to_the_second, whole_second},
    words::{EventWord, FailureWord, StatusWord},
};
use crate::{
    admin::{
        problem::{FieldFault, Problem},
        sessions::Trouble,
    },
    control::{
        again::{self, Failed, Unsent},
        filter::{self, Words},
        hint::hint,
        token::Bearer,
        trial,
    },
    dispatch::guard,
    outcome::Failure,
    store::{
        Error,
        delivery_list::{self, Delivery, Filter},
        delivery_log::Entry,
        endpoints,
        mapping::MappedSql,
        session::Session,
    },
};

/// Rows of a page.
const MOST: u32 = 500;

/// Why it is not sent again by itself.
const SENT_AGAIN: &str = "it was sent again before: send `{\"again\": true}` to do so once more";

/// Deliveries, the newest first.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct Deliveries {
    pub(in crate::admin) deliveries: Vec<DeliveryView>,
    /// What to give as `after` for the next ones; null: there are no more.
    #[schema(format = Uuid)]
    pub(in crate::admin) next: Option<String>,
}

/// One delivery, and what to know of it.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct Explained {
    pub(in crate::admin) delivery: DeliveryView,
    /// What its status, failure or reason means.
    pub(in crate::admin) meaning: Option<&'static str>,
    /// What helps, where there is more to say than the error does.
    pub(in crate::admin) hint: Option<String>,
    /// Others of the same event: what it was sent again by, or the first.
    pub(in crate::admin) same_event: Vec<DeliveryView>,
}

/// The words of the filter, as parameters of a query.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes: what comes is read word by word, for every fault to be found")]
pub(super) struct FilterParams {
    status: Option<StatusWord>,
    failure: Option<FailureWord>,
    event: Option<EventWord>,
    /// A lead's id.
    lead: Option<String>,
    /// Ended then or later: RFC 3339, a date, or a duration before now such as `24h`.
    #[param(min_length = 1)]
    since: Option<String>,
    /// Ended before.
    #[param(min_length = 1)]
    until: Option<String>,
    /// The delivery behind which to begin.
    #[param(format = Uuid)]
    after: Option<String>,
    /// So many at most.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// How it is to be sent again.
#[derive(Deserialize, ToSchema)]
#[schema(as = Redelivery)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes: what comes is read member by member, for every fault to be found")]
pub(super) struct AgainSchema {
    /// Also where it was sent again before.
    #[schema(nullable = false)]
    again: Option<bool>,
}

/// Lists all tenants' deliveries, the newest first. For the operator.
#[utoipa::path(get, path = "/v1/deliveries", operation_id = "listAllDeliveries", tag = "deliveries", params(
    ("tenant" = Option<String>, Query, description = "Of this tenant."), FilterParams),
    responses((status = 200, body = Deliveries)))]
pub(super) async fn list_all(
    State(api): State<Api>,
    Who(bearer): Who,
    query: Query,
) -> Result<Json<Deliveries>, Problem> {
    operator_only(&bearer)?;
    let tenant = query.first("tenant").map(str::to_owned);
    listed(&api, &query, tenant, &bearer).await
}

/// Lists a tenant's deliveries, the newest first.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/deliveries", operation_id = "listDeliveries", tag = "deliveries", params(super::TenantParam, FilterParams),
    responses((status = 200, body = Deliveries)))]
pub(in crate::admin) async fn list(
    State(api): State<Api>,
    tenant: Tenant,
    query: Query,
) -> Result<Json<Deliveries>, Problem> {
    listed(&api, &query, Some(tenant.id), &tenant.bearer).await
}

async fn listed(
    api: &Api,
    query: &Query,
    tenant: Option<String>,
    bearer: &Bearer,
) -> Result<Json<Deliveries>, Problem> {
    let is_operator = *bearer == Bearer::Operator;
    let allowed = ["status", "failure", "event", "lead", "since", "until", "after", "limit"];
    let mut faults = query.unknown(&[&allowed[..], if is_operator { &["tenant"] } else { &[] }].concat());
    let limit = query.limit(50, MOST, &mut faults);
    let after = query.first("after").and_then(|text| {
        let id = text.parse::<Uuid>().ok();
        if id.is_none() {
            faults.push(FieldFault::of("after", "must be a delivery's id, a UUID"));
        }
        id
    });
    let words = Words {
        tenant: tenant.as_deref(),
        lead: query.first("lead"),
        status: query.first("status"),
        failure: query.first("failure"),
        event: query.first("event"),
        since: query.first("since"),
        until: query.first("until"),
        // One more, to tell whether there are more.
        limit: limit + 1,
    };
    let filter = filter::read(&words, Timestamp::now());
    let mut filter = match filter {
        Ok(filter) if faults.is_empty() => filter,
        other => {
            faults.extend(other.err().into_iter().flatten().map(|problem| FieldFault::of(problem.word, problem.text)));
            return Err(Problem::query(faults));
        }
    };
    if !is_operator {
        as_told(&mut filter)?;
    }
    let list = async |session: &mut Session| {
        if let Some(id) = after {
            let one = find(session, tenant.as_deref(), id).await?;
            let gone = || Problem::query(vec![FieldFault::of("after", "there is no such delivery any more")]);
            let one = one.ok_or_else(gone)?;
            filter.after = Some((one.finished_at, one.delivery_id));
        }
        Ok(delivery_list::list(session, &filter).await?)
    };
    let rows = api.sessions.within(bearer, list).await?;
    let has_more = rows.len() > limit as usize;
    let deliveries: Vec<_> =
        rows.into_iter().take(limit as usize).map(|row| DeliveryView::of(row, is_operator)).collect();
    let next = deliveries.last().filter(|_| has_more).map(|last| last.delivery_id.clone());
    Ok(Json(Deliveries { deliveries, next }))
}

/// Tenants are told one word for all that tells of a network, and find all of it by that one.
fn as_told(filter: &mut Filter) -> Result<(), Problem> {
    // They are told no time of a network's to the microsecond, and find none out by asking.
    filter.since = filter.since.map(whole_second);
    filter.until = filter.until.map(up_to_the_second);
    let of_a_network = OF_A_NETWORK.map(Failure::as_str);
    match filter.failures.as_deref() {
        Some([word]) if *word == Failure::Connect.as_str() => filter.failures = Some(of_a_network.to_vec()),
        Some([word]) if of_a_network.contains(word) => {
            let told = Failure::Connect.as_str();
            let text = format!("{word:?} is told as {told:?} to a tenant: ask for that");
            return Err(Problem::query(vec![FieldFault::of("failure", text)]));
        }
        _ => {}
    }
    Ok(())
}

/// Shows a delivery, and what it means.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/deliveries/{delivery}", operation_id = "readDelivery", tag = "deliveries", params(
    super::TenantParam, ("delivery" = String, Path, format = Uuid, description = "Its id.")),
    responses((status = 200, body = Explained)))]
pub(in crate::admin) async fn show(
    State(api): State<Api>,
    tenant: Tenant,
    Path((_, id)): Path<(String, String)>,
) -> Result<Json<Explained>, Problem> {
    let id = read_id(&id)?;
    let read = async |session: &mut Session| {
        let one = found(session, &tenant.id, id).await?;
        let all = delivery_list::of_event(session, &one).await?;
        let endpoint = endpoints::find(session, &tenant.id).await?;
        Ok((one, all, endpoint.and_then(|row| row.secret_set_at)))
    };
    let (one, all, secret_set_at) = api.sessions.within(&tenant.bearer, read).await?;
    let is_operator = tenant.is_operator();
    let same_event = all.into_iter().filter(|other| other.delivery_id != id);
    let same_event = same_event.map(|other| DeliveryView::of(other, is_operator)).collect();
    // Without a status a hint would tell of a network, as the error would.
    let may_be_told = is_operator || one.http_status.is_some();
    let hint = if may_be_told { hint(&one, secret_set_at) } else { None };
    let delivery = DeliveryView::of(one, is_operator);
    Ok(Json(Explained { meaning: delivery.meaning, hint, delivery, same_event }))
}

/// Sends a delivery's event again: a new delivery, made from the lead as it is now, to the endpoint as it is now. Where it was sent
/// again before and not refused, only with `again`. A tenant may do so ten times a minute.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/deliveries/{delivery}/redeliver", operation_id = "redeliver", tag = "deliveries", params(
    super::TenantParam, ("delivery" = String, Path, format = Uuid, description = "Any delivery of the event.")),
    request_body = Option<AgainSchema>,
    responses((status = 201, body = DeliveryView)))]
pub(in crate::admin) async fn redeliver(
    State(api): State<Api>,
    tenant: Tenant,
    Path((_, id)): Path<(String, String)>,
    Body(body): Body,
) -> Result<(StatusCode, Json<DeliveryView>), Problem> {
    let id = read_id(&id)?;
    let mut members = Members::new(&[], body);
    let insisted = members.boolean("again").unwrap_or(false);
    let faults = members.end();
    if !faults.is_empty() {
        return Err(Problem::invalid(faults));
    }
    let pipeline = api.pipeline();
    let _slot = api.work.slot(&tenant.bearer)?;
    api.access.count_send(&tenant.bearer)?;
    let prepare = async |session: &mut Session| {
        let one = found(session, &tenant.id, id).await?;
        if one.is_test {
            return Err(Problem::conflict("it is a Test, of no lead: test the endpoint again").into());
        }
        vouch(session, &pipeline).await?;
        let seen = guard::look(session, pipeline.keyring()).await?.map_err(|_| {
            Problem::unavailable("this database is not the installation's: `lead-webhook check` tells more")
        })?;
        let all = delivery_list::of_event(session, &one).await?;
        let first = all.into_iter().find(|delivery| delivery.redelivery_of.is_none()).ok_or_else(gone)?;
        let mapped = MappedSql::resolve(session.client(), &api.leads).await.map_err(|error| unreadable(&error))?;
        let prepared = again::prepare(session, &pipeline, &seen.key, &mapped, &first, insisted).await;
        let prepared = prepared.map_err(|error| match error {
            Failed::Database(error) => Trouble::from(error),
            Failed::Leads(error) => unreadable(&error).into(),
        })?;
        let prepared = prepared.map_err(|unsent| match unsent {
            Unsent::Overtaken if !insisted => Problem::conflict(SENT_AGAIN),
            Unsent::Unusable(_) if !tenant.is_operator() => Problem::conflict(UNUSABLE),
            unsent => Problem::conflict(unsent.to_string()),
        })?;
        audit(&tenant, "delivery sent again", &first.delivery_id.to_string());
        Ok((first, prepared))
    };
    let (first, prepared) = api.sessions.within(&tenant.bearer, prepare).await?;
    let entry = prepared.send(&pipeline).await;
    Ok((StatusCode::CREATED, Json(recorded(&api, &tenant, &entry, Some(&first)).await?)))
}

/// Writes how an attempt of theirs ended, a Test or the second send of `first`; what is told of it then. While the database is
/// away it is tried again: without its outcome the delivery stands as interrupted.
pub(super) async fn recorded(
    api: &Api,
    tenant: &Tenant,
    entry: &Entry,
    first: Option<&Delivery>,
) -> Result<DeliveryView, Problem> {
    let until = Instant::now() + again::WRITTEN_WITHIN;
    loop {
        let record = async |session: &mut Session| match first {
            None => {
                trial::record(session, entry).await?;
                found(session, &tenant.id, entry.delivery_id).await
            }
            Some(first) => Ok(again::record(session, entry, first).await?.ok_or_else(gone)?),
        };
        match api.sessions.within(&tenant.bearer, record).await {
            Err(problem) if problem.status().is_server_error() && Instant::now() < until => {
                sleep(Duration::from_secs(1)).await;
            }
            recorded => return Ok(DeliveryView::of(recorded?, tenant.is_operator())),
        }
    }
}

/// The tenant's delivery of this id.
async fn found(session: &mut Session, tenant: &str, id: Uuid) -> Result<Delivery, Trouble> {
    Ok(find(session, Some(tenant), id).await?.ok_or_else(gone)?)
}

/// The delivery of this id, of the tenant's or of anybody's.
async fn find(session: &mut Session, tenant: Option<&str>, id: Uuid) -> Result<Option<Delivery>, Error> {
    let is_meant = |row: &Delivery| tenant.is_none_or(|tenant| tenant == row.tenant_id);
    Ok(delivery_list::one(session, id).await?.filter(is_meant))
}

fn read_id(text: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| gone())
}

fn gone() -> Problem {
    Problem::not_found("the tenant has no delivery of this id in the log")
}
