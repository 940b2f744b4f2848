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

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRequestParts, RawPathParams, Request},
    http::{HeaderValue, header, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};
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
};
use crate::{
    config::Leads,
    control::{draft::tenant_fault, token::Bearer},
    pipeline::Pipeline,
    store::Error,
};

/// For a request that asks the database alone.
const QUICK: Duration = Duration::from_secs(30);

/// For one that waits for a receiver: an attempt takes a minute at most.
pub(super) const SLOW: Duration = Duration::from_secs(90);

/// Requests at once that wait for a receiver, and those of one tenant among them.
const WAITING: usize = 16;
const WAITING_OF_ONE: usize = 3;

/// What every request needs.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) sessions: Sessions,
    pub(super) pipeline: watch::Receiver<Arc<Pipeline>>,
    pub(super) leads: Arc<Leads>,
    pub(super) access: Arc<Access>,
    waiting: Arc<Semaphore>,
    waiting_of: Arc<Mutex<HashMap<String, usize>>>,
}

/// Room for a request that waits for a receiver.
struct Slot {
    tenant: String,
    waiting_of: Arc<Mutex<HashMap<String, usize>>>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut waiting_of = self.waiting_of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = waiting_of.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                waiting_of.remove(&self.tenant);
            }
        }
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "lead-webhook",
        description = "Tenants' endpoints and deliveries. Every answer that is no 2xx is `application/problem+json` (RFC 9457), \
                       with every fault of what was given in `errors`.",
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
    ) -> Self {
        Self {
            sessions,
            pipeline,
            leads,
            access: Arc::new(access),
            waiting: Arc::new(Semaphore::new(WAITING)),
            waiting_of: Arc::default(),
        }
    }

    /// All of it, under `/v1`.
    pub(super) fn routes(self) -> Router {
        let let_in = middleware::from_fn_with_state(Arc::clone(&self.access), access::let_in);
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
            .layer(middleware::from_fn(|request, next| within(QUICK, request, next)));
        let slow = OpenApiRouter::new()
            .routes(routes!(trial::test))
            .routes(routes!(deliveries::redeliver))
            .layer(middleware::from_fn(|request, next| within(SLOW, request, next)));
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
    }

    /// What opens, checks and sends just now.
    pub(super) fn pipeline(&self) -> Arc<Pipeline> {
        Arc::clone(&self.pipeline.borrow())
    }

    /// Room for a request of `tenant`'s that waits for a receiver. One whose receiver hangs leaves room for the others.
    fn slot(&self, tenant: &str) -> Result<Slot, Problem> {
        let busy = || Problem::unavailable("too many requests wait for receivers").wait(Duration::from_secs(5));
        let permit = self.waiting.clone().try_acquire_owned().map_err(|_| busy())?;
        let mut waiting_of = self.waiting_of.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting_of.entry(tenant.to_owned()).or_default();
        if *count >= WAITING_OF_ONE {
            return Err(busy());
        }
        *count += 1;
        Ok(Slot { tenant: tenant.to_owned(), waiting_of: Arc::clone(&self.waiting_of), _permit: permit })
    }

    /// A statement failed.
    fn failed(&self, error: &Error) -> Problem {
        Problem::database(error, &self.sessions.database().daemon_role)
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

/// Ends a request that takes too long.
pub(super) async fn within(limit: Duration, request: Request, next: Next) -> Response {
    timeout(limit, next.run(request)).await.unwrap_or_else(|_| {
        Problem::slow("it was ended; a change may have been made all the same: read what is in force").into_response()
    })
}

/// Does it whether or not whoever asked is still there: what was sent is to have its outcome in the log.
#[expect(
    clippy::disallowed_methods,
    reason = "its end is awaited by whoever asked, and where nobody does, it ends by itself"
)]
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    let gone = |_| Problem::internal("it ended unexpectedly: the log stands for what became of it");
    tokio::spawn(work).await.map_err(gone)?
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
        if self.0.iter().any(|(name, _)| !known.contains(&name.as_str())) {
            faults.push(FieldFault::of("", format!("an unknown parameter: known are {}", known.join(", "))));
        }
        for name in known {
            if self.0.iter().filter(|(given, _)| given == name).count() > 1 {
                faults.push(FieldFault::of(name, "is given more than once"));
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

/// A line in the log for each change: who, what, and never a value.
fn audit(bearer: &Bearer, tenant_id: &str, action: &'static str, changed: &str) {
    let by = match bearer {
        Bearer::Operator => "operator",
        Bearer::Tenant(_) => "tenant",
    };
    tracing::info!(by, tenant_id, action, changed, "admin");
}
