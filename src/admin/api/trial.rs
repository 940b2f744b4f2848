//! A draft tried: one real request with a synthetic lead, or the bodies of the latest leads.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    Api, Tenant, audit,
    body::{Body, Members},
    deliveries::recorded,
    draft::{self, Draft},
    endpoint::{not_applied, vouch},
    views::{DeliveryView, UNUSABLE},
    words::EventWord,
};
use crate::{
    admin::problem::{FieldFault, Problem},
    control::{
        preview,
        trial::{self, Needed, Obstacle},
    },
    delivery::template::Template,
    event::EventKind,
    store::{endpoints, leads, mapping::MappedSql, session::Session},
};

/// Leads at most.
const MOST_LEADS: u32 = 20;

/// Bytes of all the bodies together, beyond which no further one is made.
const MOST_BYTES: usize = 1024 * 1024;

/// What is to be tried.
#[derive(Deserialize, ToSchema)]
#[schema(as = Trial)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes: what comes is read member by member, for every fault to be found")]
pub(super) struct TrialSchema {
    /// Laid over what is stored, and not saved.
    #[schema(nullable = false)]
    draft: Option<draft::Schema>,
    /// `lead.created`, which is what goes without saying, or `lead.re_engaged`.
    #[schema(nullable = false)]
    event: Option<EventWord>,
}

/// Which bodies are to be shown.
#[derive(Deserialize, ToSchema)]
#[schema(as = PreviewOf)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes: what comes is read member by member, for every fault to be found")]
pub(super) struct PreviewSchema {
    /// Laid over what is stored, and not saved.
    #[schema(nullable = false)]
    draft: Option<draft::Schema>,
    /// `lead.created`, which is what goes without saying, or `lead.re_engaged`.
    #[schema(nullable = false)]
    event: Option<EventWord>,
    /// Of so many leads, the latest first, as far as 1 MiB goes; 3 without it.
    #[schema(nullable = false, minimum = 1, maximum = 20)]
    last: Option<u32>,
}

/// How a Test ended.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct Tried {
    pub(in crate::admin) delivery: DeliveryView,
}

/// The bodies of the latest leads.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct Previewed {
    /// The latest lead first.
    pub(in crate::admin) bodies: Vec<PreviewedBody>,
    /// Placeholders in use that came out empty somewhere or nowhere.
    pub(in crate::admin) placeholders: Vec<Emptiness>,
}

/// What a lead would be sent as.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct PreviewedBody {
    pub(in crate::admin) lead_id: String,
    /// The JSON as it would be sent; null: it would not be, and `problem` says why.
    #[schema(value_type = Option<serde_json::Value>)]
    pub(in crate::admin) body: Option<Box<RawValue>>,
    pub(in crate::admin) problem: Option<String>,
}

/// How often a placeholder came out empty.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct Emptiness {
    pub(in crate::admin) name: &'static str,
    /// In so many of the bodies.
    pub(in crate::admin) empty: usize,
}

/// Tests a draft: one real request with a synthetic lead, logged as a Test. Ten a minute. Whether it was delivered says the
/// delivery's `status`.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/endpoint/test", operation_id = "testEndpoint", tag = "endpoint", params(super::TenantParam),
    request_body = Option<TrialSchema>, responses((status = 200, body = Tried)))]
pub(in crate::admin) async fn test(
    State(api): State<Api>,
    tenant: Tenant,
    Body(body): Body,
) -> Result<Json<Tried>, Problem> {
    let (draft, mut members) = read(body);
    let kind = kind(&mut members);
    let pipeline = api.pipeline();
    let draft = Draft::read(&pipeline, &tenant, &["draft"], draft);
    refuse(members, &draft)?;
    let _slot = api.work.slot(&tenant.bearer)?;
    let begin = async |session: &mut Session| {
        let row = endpoints::find(session, &tenant.id).await?;
        let keyring = vouch(session, &pipeline).await?;
        let sealed = draft.apply(&keyring, &pipeline, &tenant.id, row).map_err(not_applied)?;
        let endpoint = trial::open(&pipeline, &tenant.id, &sealed.endpoint);
        let endpoint = endpoint.map_err(|obstacles| untried(&obstacles, tenant.is_operator()))?;
        let refused = |wait| Problem::too_many("the endpoint was tested too often just now").wait(wait);
        let begun = trial::begin(session, &tenant.id, kind).await?.map_err(refused)?;
        audit(&tenant, "endpoint tested", &begun.delivery_id().to_string());
        Ok((endpoint, begun))
    };
    let (endpoint, begun) = api.sessions.within(&tenant.bearer, begin).await?;
    let entry = begun.send(&pipeline, &endpoint).await;
    Ok(Json(Tried { delivery: recorded(&api, &tenant, &entry, None).await? }))
}

/// Shows the bodies that a draft makes of the tenant's latest leads. Sends nothing.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/endpoint/preview", operation_id = "previewBodies", tag = "endpoint", params(super::TenantParam),
    request_body = Option<PreviewSchema>, responses((status = 200, body = Previewed)))]
pub(in crate::admin) async fn preview(
    State(api): State<Api>,
    tenant: Tenant,
    Body(body): Body,
) -> Result<Json<Previewed>, Problem> {
    let (draft, mut members) = read(body);
    let kind = kind(&mut members);
    let last = members.count("last", MOST_LEADS).unwrap_or(3);
    let pipeline = api.pipeline();
    let draft = Draft::read(&pipeline, &tenant, &["draft"], draft);
    refuse(members, &draft)?;
    let read = async |session: &mut Session| {
        let row = endpoints::find(session, &tenant.id).await?;
        let body = draft.changes.body(row.map(|row| row.sealed));
        let body = body.map_err(|error| Problem::conflict(format!("the stored {error}")))?;
        let mapped = MappedSql::resolve(session.client(), &api.leads).await.map_err(|error| unreadable(&error))?;
        let leads = leads::latest(session, &mapped, &tenant.id, i64::from(last)).await;
        Ok((body, leads.map_err(|error| unreadable(&error))?))
    };
    let ((template, omit_empty), leads): ((Option<Template>, bool), _) =
        api.sessions.within(&tenant.bearer, read).await?;
    let made = preview::of(&tenant.id, leads, kind, (template.as_ref(), omit_empty), MOST_BYTES);
    let body = |(lead_id, body): (String, Result<Vec<u8>, String>)| {
        let problem = body.as_ref().err().cloned();
        let text = body.ok().and_then(|body| String::from_utf8(body).ok());
        PreviewedBody { lead_id, body: text.and_then(|text| RawValue::from_string(text).ok()), problem }
    };
    let bodies = made.bodies.into_iter().map(body).collect();
    let placeholders = made.empty.into_iter().map(|(one, empty)| Emptiness { name: one.as_str(), empty }).collect();
    Ok(Json(Previewed { bodies, placeholders }))
}

/// What is tried goes as that event.
fn kind(members: &mut Members<'_>) -> EventKind {
    let words = EventKind::ALL.map(|kind| (kind.as_str(), kind));
    members.word("event", &words).unwrap_or(EventKind::Created)
}

fn read(
    body: serde_json::Map<String, serde_json::Value>,
) -> (serde_json::Map<String, serde_json::Value>, Members<'static>) {
    let mut members = Members::new(&[], body);
    (members.object("draft"), members)
}

fn refuse(members: Members<'_>, draft: &Draft) -> Result<(), Problem> {
    let faults: Vec<FieldFault> = members.end().into_iter().chain(draft.faults()).collect();
    if faults.is_empty() { Ok(()) } else { Err(Problem::invalid(faults)) }
}

/// Why a draft cannot be tried, as faults of its parts.
fn untried(obstacles: &[Obstacle], is_operator: bool) -> Problem {
    let at = |needed: &Needed, text: &str| match needed {
        Needed::Url => FieldFault::at(&["draft", "url"], text),
        Needed::Secret => FieldFault::at(&["draft"], text),
    };
    let fault = |obstacle: &Obstacle| match obstacle {
        Obstacle::Missing(Needed::Url) => at(&Needed::Url, "a URL is needed: there is none, neither here nor stored"),
        Obstacle::Missing(Needed::Secret) => at(&Needed::Secret, "a secret is needed: generate one first"),
        Obstacle::Unopened(needed, _) => {
            at(needed, "what is stored cannot be opened: set it anew (a secret: generate one), or ask the operator")
        }
        Obstacle::Unusable(_) if !is_operator => FieldFault::at(&["draft"], UNUSABLE),
        Obstacle::Unusable(unusable) => FieldFault::at(&["draft"], format!("cannot be used: {}", unusable.error)),
    };
    Problem::invalid(obstacles.iter().map(fault).collect())
}

pub(super) fn unreadable(error: &dyn std::error::Error) -> Problem {
    tracing::warn!(error = %error, "the admin listener cannot read the leads");
    Problem::unavailable("the leads table cannot be read; the daemon's log says why")
}
