//! A tenant's endpoint: read, validated, saved, removed, and its secret generated.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    Api, Page, Tenant, Who,
    body::Body,
    commit,
    draft::{self, Draft, NotApplied},
    views::EndpointView,
};
use crate::{
    admin::{problem::Problem, sessions::Trouble},
    control::{
        endpoint::{GenerateError, headers_that_follow, new_secret, notes},
        keys,
    },
    keyring::KeyRing,
    pipeline::Pipeline,
    store::{
        endpoints::{self, EndpointRow},
        session::Session,
    },
};

/// An endpoint as it was saved, and what to know of it.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct Saved {
    pub(in crate::admin) endpoint: EndpointView,
    /// What may keep deliveries from arriving.
    pub(in crate::admin) warnings: Vec<String>,
    /// What to know of the preset, and of stored headers that go to another host now.
    pub(in crate::admin) notes: Vec<String>,
}

/// A draft without a fault.
#[derive(Serialize, ToSchema)]
pub(super) struct Valid {
    /// What may keep deliveries from arriving.
    warnings: Vec<String>,
}

/// A new secret.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct NewSecret {
    /// Shown once: there is no way to read it back.
    #[schema(example = "whsec_…")]
    pub(in crate::admin) secret: String,
    pub(in crate::admin) endpoint: EndpointView,
}

/// Endpoints, by tenant.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct Endpoints {
    pub(in crate::admin) endpoints: Vec<EndpointView>,
    /// The tenant to give as `after` for the next ones; null: there are no more.
    pub(in crate::admin) next: Option<String>,
}

/// Lists endpoints, by tenant. For the operator.
#[utoipa::path(get, path = "/v1/endpoints", operation_id = "listEndpoints", tag = "endpoint", params(
    ("after" = Option<String>, Query, description = "The tenant behind whose endpoint to begin."),
    ("limit" = Option<u32>, Query, description = "So many at most.", minimum = 1, maximum = 500),
), responses((status = 200, body = Endpoints)))]
pub(in crate::admin) async fn list(
    State(api): State<Api>,
    Who(bearer): Who,
    page: Page,
) -> Result<Json<Endpoints>, Problem> {
    super::operator_only(&bearer)?;
    let (after, limit) = page.read()?;
    let (after, one_more) = (after.as_deref(), i64::from(limit) + 1);
    let rows = api.sessions.within(&bearer, async |session| Ok(endpoints::page(session, after, one_more).await?));
    let mut rows = rows.await?;
    let has_more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let default = api.pipeline().timeout();
    Ok(Json(Endpoints {
        next: rows.last().filter(|_| has_more).map(|row| row.tenant_id.clone()),
        endpoints: rows.iter().map(|row| EndpointView::of(row, default)).collect(),
    }))
}

/// Shows a tenant's endpoint; its version is the entity tag.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/endpoint", operation_id = "readEndpoint", tag = "endpoint", params(super::TenantParam),
    responses((status = 200, body = EndpointView, headers(("ETag" = String)))))]
pub(super) async fn show(State(api): State<Api>, tenant: Tenant) -> Result<Response, Problem> {
    let row = read(&api, &tenant).await?.ok_or_else(none)?;
    Ok(shown(StatusCode::OK, &row, EndpointView::of(&row, api.pipeline().timeout())))
}

/// The tenant's endpoint, where there is one.
pub(in crate::admin) async fn read(api: &Api, tenant: &Tenant) -> Result<Option<EndpointRow>, Problem> {
    api.sessions.within(&tenant.bearer, async |session| Ok(endpoints::find(session, &tenant.id).await?)).await
}

/// Checks a draft as a save would, and saves nothing.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/endpoint/validate", operation_id = "validateEndpoint", tag = "endpoint", params(super::TenantParam),
    request_body = Option<draft::Schema>, responses((status = 200, body = Valid)))]
pub(super) async fn validate(State(api): State<Api>, tenant: Tenant, Body(body): Body) -> Result<Json<Valid>, Problem> {
    let pipeline = api.pipeline();
    let draft = looked_up(&api, &pipeline, &tenant, body).await?;
    let row = read(&api, &tenant).await?;
    let warnings = draft.changes.warnings().to_vec();
    draft.apply(pipeline.keyring(), &pipeline, &tenant.id, row).map_err(not_applied)?;
    Ok(Json(Valid { warnings }))
}

/// A draft whose URL's host is looked up, where it names one.
async fn looked_up(
    api: &Api,
    pipeline: &Pipeline,
    tenant: &Tenant,
    body: Map<String, Value>,
) -> Result<Draft, Problem> {
    let mut draft = Draft::read(pipeline, tenant, &[], body);
    if draft.names_a_url() {
        api.access.count_lookup(&tenant.bearer)?;
        draft.resolve(pipeline.resolver()).await;
    }
    Ok(draft)
}

/// Lays a draft over a tenant's endpoint and saves it: all of it, or nothing. With `If-Match` what is there is changed, with
/// `If-None-Match: *` it is made.
#[utoipa::path(patch, path = "/v1/tenants/{tenant}/endpoint", operation_id = "saveEndpoint", tag = "endpoint", params(
    super::TenantParam,
    ("If-Match" = Option<String>, Header, description = "The ETag of what is to be changed, or `*`."),
    ("If-None-Match" = Option<String>, Header, description = "`*`: there must be none yet."),
), request_body(content = draft::Schema, content_type = "application/merge-patch+json"), responses(
    (status = 200, body = Saved, headers(("ETag" = String))),
    (status = 201, body = Saved, headers(("ETag" = String))),
))]
pub(super) async fn save(
    State(api): State<Api>,
    tenant: Tenant,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    let (is_new, row, saved) = lay(&api, &tenant, &Condition::read(&headers)?.ok_or_else(unconditional)?, body).await?;
    Ok(shown(if is_new { StatusCode::CREATED } else { StatusCode::OK }, &row, saved))
}

/// Lays a draft over the tenant's endpoint and saves it; whether the endpoint is new, and what it is now.
pub(in crate::admin) async fn lay(
    api: &Api,
    tenant: &Tenant,
    condition: &Condition,
    body: Map<String, Value>,
) -> Result<(bool, EndpointRow, Saved), Problem> {
    let pipeline = api.pipeline();
    let draft = looked_up(api, &pipeline, tenant, body).await?;
    if draft.is_refused() {
        // Nothing will be saved, so nothing is locked or made; what is stored may add a fault.
        let row = read(api, tenant).await?;
        let faults = draft.faults();
        let applied = draft.apply(pipeline.keyring(), &pipeline, &tenant.id, row);
        return Err(applied.map_or_else(not_applied, |_| Problem::invalid(faults)));
    }
    let (warnings, preset, changed) =
        (draft.changes.warnings().to_vec(), draft.changes.preset(), draft.changes.named());
    let save = async |session: &mut Session| {
        let keyring = vouch(session, &pipeline).await?;
        let transaction = session.begin().await?;
        let (row, is_new) = endpoints::lock(&transaction, &tenant.id).await?;
        condition.holds((!is_new).then_some(&row))?;
        let host = row.sealed.host.clone();
        let sealed = draft.apply(&keyring, &pipeline, &tenant.id, Some(row)).map_err(not_applied)?;
        let row = endpoints::save(&transaction, &tenant.id, &sealed.endpoint, &sealed.header_names).await?;
        commit(transaction, tenant, "endpoint saved", &changed.join(", ")).await?;
        Ok((is_new, host, row))
    };
    let (is_new, host, row) = api.sessions.within(&tenant.bearer, save).await?;
    let endpoint = EndpointView::of(&row, pipeline.timeout());
    let of_preset = preset.map(|preset| notes(preset, row.sealed.host.as_deref(), &row.header_names));
    let mut notes = of_preset.unwrap_or_default();
    notes.extend(headers_that_follow(host.as_deref(), &row, changed.contains(&"headers")));
    Ok((is_new, row, Saved { endpoint, warnings, notes }))
}

/// Removes a tenant's endpoint with its secret. What is queued is logged as skipped; the log stays.
#[utoipa::path(delete, path = "/v1/tenants/{tenant}/endpoint", operation_id = "removeEndpoint", tag = "endpoint", params(
    super::TenantParam,
    ("If-Match" = Option<String>, Header, description = "The ETag of what is to be removed, or `*`."),
), responses((status = 204)))]
pub(super) async fn remove(State(api): State<Api>, tenant: Tenant, headers: HeaderMap) -> Result<StatusCode, Problem> {
    let condition = Condition::read(&headers)?.ok_or_else(unconditional)?;
    let remove = async |session: &mut Session| {
        let transaction = session.begin().await?;
        let row = endpoints::lock_present(&transaction, &tenant.id).await?.ok_or_else(none)?;
        condition.holds(Some(&row))?;
        endpoints::remove_locked(&transaction, &tenant.id).await?;
        Ok(commit(transaction, &tenant, "endpoint removed", "").await?)
    };
    api.sessions.within(&tenant.bearer, remove).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Generates a secret and shows it, once. It is in force at once, and the one before is gone. With `If-Match` only over what was
/// read.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/endpoint/secret", operation_id = "generateSecret", tag = "endpoint", params(
    super::TenantParam,
    ("If-Match" = Option<String>, Header, description = "The ETag of what is to have it."),
    ("If-None-Match" = Option<String>, Header, description = "`*`: there must be no endpoint yet."),
), responses((status = 201, body = NewSecret, headers(("ETag" = String)))))]
pub(super) async fn generate_secret(
    State(api): State<Api>,
    tenant: Tenant,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (row, new) = generate(&api, &tenant, Condition::read(&headers)?).await?;
    Ok(shown(StatusCode::CREATED, &row, new))
}

/// Puts a new secret in force.
pub(in crate::admin) async fn generate(
    api: &Api,
    tenant: &Tenant,
    condition: Option<Condition>,
) -> Result<(EndpointRow, NewSecret), Problem> {
    let pipeline = api.pipeline();
    let put = async |session: &mut Session| {
        let keyring = vouch(session, &pipeline).await?;
        let (secret, sealed) = new_secret(&keyring, &tenant.id).map_err(|error: GenerateError| {
            tracing::error!(%error, "no secret could be generated");
            Problem::internal("no secret could be generated; the daemon's log says why")
        })?;
        let transaction = session.begin().await?;
        if let Some(condition) = condition {
            let (row, is_new) = endpoints::lock(&transaction, &tenant.id).await?;
            condition.holds((!is_new).then_some(&row))?;
        }
        let row = endpoints::set_secret(&transaction, &tenant.id, &sealed).await?;
        commit(transaction, tenant, "secret generated", "secret").await?;
        Ok((row, secret))
    };
    let (row, secret) = api.sessions.within(&tenant.bearer, put).await?;
    let endpoint = EndpointView::of(&row, pipeline.timeout());
    Ok((row, NewSecret { secret: secret.text().expose().clone(), endpoint }))
}

/// Refuses to seal by another key file than the installation's; what is to be sealed by, else.
pub(super) async fn vouch(session: &mut Session, pipeline: &Pipeline) -> Result<KeyRing, Trouble> {
    let refused = "the daemon's key file is not the installation's: `lead-webhook check` tells the remedy";
    keys::vouch(session, pipeline.keyring()).await?.map_err(|_| Problem::unavailable(refused).into())
}

/// That there is none.
pub(super) fn none() -> Problem {
    Problem::not_found("the tenant has no endpoint: PATCH it with `If-None-Match: *`, or generate a secret for it")
}

/// What a draft comes to nothing by.
pub(super) fn not_applied(error: NotApplied) -> Problem {
    match error {
        NotApplied::Faults(faults) => Problem::invalid(faults),
        NotApplied::Unsealed(error) => {
            tracing::error!(error, "nothing can be sealed");
            Problem::internal("nothing can be sealed; the daemon's log says why")
        }
    }
}

/// Another one whenever the endpoint was changed.
pub(in crate::admin) fn version(row: &EndpointRow) -> String {
    format!("\"{:x}\"", row.updated_at.as_microsecond())
}

fn shown(status: StatusCode, row: &EndpointRow, body: impl Serialize) -> Response {
    let version = HeaderValue::from_str(&version(row)).unwrap_or(HeaderValue::from_static("\"\""));
    (status, [(header::ETAG, version)], Json(body)).into_response()
}

fn unconditional() -> Problem {
    Problem::unconditional("send `If-Match` with the ETag that GET told, or `If-None-Match: *` where there is none yet")
}

/// What a change is under: nobody overwrites what they have not seen (RFC 9110, section 13.1).
pub(in crate::admin) enum Condition {
    /// One of these versions; empty: any.
    Present(Vec<String>),
    /// None yet.
    Absent,
}

impl Condition {
    /// `None`: whatever there is.
    fn read(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        // Lines of one name are one list (RFC 9110, section 5.3).
        let text = |name| {
            let lines: Vec<_> = headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default()).collect();
            (!lines.is_empty()).then(|| lines.join(",").trim().to_owned())
        };
        match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
            (Some(versions), None) if versions == "*" => Ok(Some(Self::Present(Vec::new()))),
            (Some(versions), None) => {
                // A proxy that compresses makes tags weak, and the body of ours is no other by that.
                let tag = |one: &str| {
                    let tag = one.trim().trim_start_matches("W/");
                    let is_quoted = tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"');
                    is_quoted.then(|| tag.to_owned())
                };
                let tags: Option<_> = versions.split(',').map(tag).collect();
                let malformed = "`If-Match` takes the ETag as GET told it, with its quotation marks";
                tags.map(Self::Present).map(Some).ok_or_else(|| Problem::malformed(malformed))
            }
            (None, Some(versions)) if versions == "*" => Ok(Some(Self::Absent)),
            (None, None) => Ok(None),
            _ => Err(Problem::malformed("send either `If-Match`, or `If-None-Match: *`")),
        }
    }

    fn holds(&self, row: Option<&EndpointRow>) -> Result<(), Problem> {
        match (self, row) {
            (Self::Absent, None) => Ok(()),
            (Self::Absent, Some(_)) => {
                Err(Problem::changed("the tenant has an endpoint already: read it, and send `If-Match`"))
            }
            (Self::Present(_), None) => {
                Err(Problem::changed("the tenant has no endpoint: send `If-None-Match: *` to make one"))
            }
            (Self::Present(versions), Some(row)) if versions.is_empty() || versions.contains(&version(row)) => Ok(()),
            (Self::Present(_), Some(_)) => {
                Err(Problem::changed("it was changed since it was read: read it again, and lay your change over that"))
            }
        }
    }
}
