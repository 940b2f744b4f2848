//! The admin API: tenants' endpoints and deliveries over HTTP, over the same code as the command line.

pub(super) mod body;
pub(super) mod deliveries;
mod draft;
pub(super) mod endpoint;
mod presets;
pub(super) mod stats;
mod token;
pub(super) mod trial;
pub(super) mod views;
mod words;

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRequestParts, RawPathParams, Request, State},
    http::{HeaderValue, header, request::Parts},
    middleware::{self, Next},
    response::Response,
    routing::get,
};
use tokio::sync::watch;
use url::form_urlencoded;
use utoipa::{
    IntoParams, OpenApi,
    openapi::{
        Components, ContentBuilder, Ref, RefOr, Response as Described,
        path::Operation,
        response::ResponseBuilder,
        security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    access::{self, Access},
    problem::{Details, FieldFault, Problem},
    sessions::Sessions,
    work::{QUICK, SLOW, Work},
};
use crate::{
    config::Leads,
    control::{draft::tenant_fault, token::Bearer},
    pipeline::Pipeline,
    store::{Error, client::Transaction},
};

/// What every request needs.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) sessions: Sessions,
    pub(super) pipeline: watch::Receiver<Arc<Pipeline>>,
    pub(super) leads: Arc<Leads>,
    pub(super) access: Arc<Access>,
    pub(super) work: Work,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "lead-webhook",
        description = "Tenants' endpoints and deliveries. Every answer that is no 2xx is `application/problem+json` (RFC 9457), \
                       with every fault of what was given in `errors`; but for a request whose line or headers are too long to be read.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    components(schemas(Details)),
    tags(
        (name = "endpoint", description = "Where a tenant's leads are sent"),
        (name = "deliveries", description = "How that went"),
        (name = "token", description = "Who may ask"),
    ),
)]
struct Description;

impl Api {
    pub(super) fn new(
        sessions: Sessions,
        pipeline: watch::Receiver<Arc<Pipeline>>,
        leads: Arc<Leads>,
        access: Access,
        work: Work,
    ) -> Self {
        Self { sessions, pipeline, leads, access: Arc::new(access), work }
    }

    /// All of it, under `/v1`.
    pub(super) fn routes(self) -> Router {
        let let_in = middleware::from_fn_with_state(Arc::clone(&self.access), access::let_in);
        let under_our_name = middleware::from_fn_with_state(Arc::clone(&self.access), access::under_our_name);
        let quick = OpenApiRouter::new()
            .routes(routes!(endpoint::list))
            .routes(routes!(endpoint::show, endpoint::save, endpoint::remove))
            .routes(routes!(endpoint::validate))
            .routes(routes!(endpoint::generate_secret))
            .routes(routes!(trial::preview))
            .routes(routes!(presets::list))
            .routes(routes!(deliveries::list_all))
            .routes(routes!(deliveries::list))
            .routes(routes!(deliveries::show))
            .routes(routes!(stats::all))
            .routes(routes!(stats::of_tenant))
            .routes(routes!(token::mint))
            .layer(middleware::from_fn_with_state(self.work.clone(), quickly));
        let slow = OpenApiRouter::new()
            .routes(routes!(trial::test))
            .routes(routes!(deliveries::redeliver))
            .layer(middleware::from_fn_with_state(self.work.clone(), slowly));
        let (router, mut description) =
            OpenApiRouter::with_openapi(Description::openapi()).merge(quick).merge(slow).split_for_parts();
        complete(&mut description);
        let description = description.to_json().unwrap_or_default();
        let described = get(move || async move { ([(header::CONTENT_TYPE, "application/json")], description) });
        router
            .fallback(|| async { Problem::not_found("no such path: /v1/openapi.json tells those that there are") })
            .method_not_allowed_fallback(|| async {
                Problem::not_allowed("/v1/openapi.json tells the methods of each path")
            })
            .layer(let_in)
            .with_state(self)
            .layer(DefaultBodyLimit::max(body::MOST))
            .route("/v1/openapi.json", described)
            .layer(middleware::map_response(never_kept))
            .layer(under_our_name)
    }

    /// What opens, checks and sends just now.
    pub(super) fn pipeline(&self) -> Arc<Pipeline> {
        Arc::clone(&self.pipeline.borrow())
    }
}

/// What is true of every path: who may ask, and what answers look like that are no 2xx.
fn complete(description: &mut utoipa::openapi::OpenApi) {
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    description.components.get_or_insert_with(Components::new).add_security_scheme("token", bearer);
    description.security = Some(vec![SecurityRequirement::new("token", [""; 0])]);
    let problem = || -> RefOr<Described> {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        ResponseBuilder::new().description("A problem").content("application/problem+json", content).build().into()
    };
    let operations = description.paths.paths.values_mut().flat_map(|path| {
        let all: [&mut Option<Operation>; 5] =
            [&mut path.get, &mut path.post, &mut path.put, &mut path.patch, &mut path.delete];
        all.into_iter().flatten()
    });
    for operation in operations {
        operation.responses.responses.insert("4XX".to_owned(), problem());
        operation.responses.responses.insert("5XX".to_owned(), problem());
    }
}

async fn quickly(State(work): State<Work>, request: Request, next: Next) -> Result<Response, Problem> {
    work.carry_out(QUICK, request, next).await
}

async fn slowly(State(work): State<Work>, request: Request, next: Next) -> Result<Response, Problem> {
    work.carry_out(SLOW, request, next).await
}

/// What is told here is for whoever asked, just now.
async fn never_kept(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Who asks.
pub(super) struct Who(pub(super) Bearer);

impl FromRequestParts<Api> for Who {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Problem> {
        let bearer = parts.extensions.get::<Bearer>().cloned();
        bearer.map(Self).ok_or_else(|| Problem::challenge("send `Authorization: Bearer TOKEN`"))
    }
}

/// Refuses everybody but the operator.
fn operator_only(bearer: &Bearer) -> Result<(), Problem> {
    match bearer {
        Bearer::Operator => Ok(()),
        Bearer::Tenant(_) => Err(Problem::forbidden("this is for the operator alone")),
    }
}

/// The path's tenant, which the bearer may ask of: no handler has it otherwise.
#[derive(Clone)]
pub(super) struct Tenant {
    pub(super) id: String,
    pub(super) bearer: Bearer,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it describes what `Tenant` reads")]
struct TenantParam {
    /// The tenant, as the leads table has it.
    #[param(min_length = 1, max_length = 255)]
    tenant: String,
}

impl Tenant {
    /// The path's tenant, where the bearer may ask of it.
    pub(super) async fn of(bearer: Bearer, parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let params = RawPathParams::from_request_parts(parts, api).await;
        let params = params.map_err(|_| Problem::malformed("the path is no UTF-8"))?;
        let tenant = params.iter().find(|(name, _)| *name == "tenant").map(|(_, value)| value.to_owned());
        let id = tenant.unwrap_or_default();
        if matches!(&bearer, Bearer::Tenant(own) if *own != id) {
            return Err(Problem::forbidden("the token is another tenant's"));
        }
        match tenant_fault(&id) {
            Some(fault) => Err(Problem::path(vec![FieldFault::of("tenant", fault)])),
            None => Ok(Self { id, bearer }),
        }
    }

    pub(super) fn is_operator(&self) -> bool {
        self.bearer == Bearer::Operator
    }

    /// Whoever asks, in the log's words.
    fn by(&self) -> &'static str {
        if self.is_operator() { "operator" } else { "tenant" }
    }
}

impl FromRequestParts<Api> for Tenant {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let Who(bearer) = Who::from_request_parts(parts, api).await?;
        Self::of(bearer, parts, api).await
    }
}

/// The query's words.
pub(super) struct Query(pub(super) Vec<(String, String)>);

impl FromRequestParts<Api> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Problem> {
        let words: Vec<_> =
            form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        if words.iter().any(|(_, value)| value.contains('\0')) {
            return Err(Problem::malformed("the query has a NUL"));
        }
        Ok(Self(words))
    }
}

impl Query {
    fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Parameters that nobody knows, and those that are given twice.
    fn unknown(&self, known: &[&'static str]) -> Vec<FieldFault> {
        let mut faults = Vec::new();
        let given: BTreeSet<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        for name in given.into_iter().filter(|name| !known.contains(name)) {
            faults.push(FieldFault::of(name.to_owned(), format!("is not known here: known are {}", known.join(", "))));
        }
        for name in known {
            if self.0.iter().filter(|(given, _)| given == name).count() > 1 {
                faults.push(FieldFault::of(*name, "is given more than once"));
            }
        }
        faults
    }

    /// `limit`, or `usual`.
    fn limit(&self, usual: u32, most: u32, faults: &mut Vec<FieldFault>) -> u32 {
        let Some(text) = self.first("limit") else { return usual };
        let limit = text.parse().ok().filter(|limit| (1..=most).contains(limit));
        limit.unwrap_or_else(|| {
            faults.push(FieldFault::of("limit", format!("must be a whole number from 1 to {most}")));
            usual
        })
    }
}

/// `after` and `limit`.
pub(super) struct Page(pub(super) Query);

impl FromRequestParts<Api> for Page {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        Query::from_request_parts(parts, api).await.map(Self)
    }
}

impl Page {
    fn read(&self) -> Result<(Option<String>, u32), Problem> {
        let mut faults = self.0.unknown(&["after", "limit"]);
        let limit = self.0.limit(100, 500, &mut faults);
        if faults.is_empty() {
            Ok((self.0.first("after").map(str::to_owned), limit))
        } else {
            Err(Problem::query(faults))
        }
    }
}

/// A line in the log for each change: who, what (names of settings, a delivery's id), and never a value.
fn audit(tenant: &Tenant, action: &'static str, subject: &str) {
    tracing::info!(by = tenant.by(), tenant_id = tenant.id, action, subject, "admin");
}

/// Commits a change, with its line in the log: also where the answer is lost or nobody waits for it any more, which leaves open
/// what is in force.
async fn commit(
    transaction: Transaction<'_>,
    tenant: &Tenant,
    action: &'static str,
    subject: &str,
) -> Result<(), Error> {
    let mut doubt = Doubt { tenant, action, subject, is_over: false };
    transaction.commit().await?;
    doubt.is_over = true;
    audit(tenant, action, subject);
    Ok(())
}

/// A change that is not known to be in force.
struct Doubt<'a> {
    tenant: &'a Tenant,
    action: &'static str,
    subject: &'a str,
    is_over: bool,
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            let Self { tenant, action, subject, .. } = *self;
            tracing::warn!(by = tenant.by(), tenant_id = tenant.id, action, subject, "admin, and not confirmed");
        }
    }
}
