//! The admin page: one tenant's settings with Test, preview and deliveries, and the operator's overview of all tenants. Rendered
//! here, over the same code as the API; what stands in it is escaped by its templates.

mod chart;
mod delivery;
mod form;
mod listed;
mod overview;
mod secret;
mod session;
mod tenant;

use std::{borrow::Cow, time::Duration};

use askama::Template;
use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header, request::Parts},
    middleware::{self, Next},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{any, get, post},
};
use jiff::Timestamp;
use url::form_urlencoded;

use self::session::cookie;
use super::{
    api::{Api, Tenant, body},
    problem::Problem,
    work::SLOW,
};
use crate::control::token::Bearer;

const SIGN_IN: &str = "/admin/sign-in";

/// Everything comes from here, and nothing is embedded anywhere.
const GUARDS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // With none at all a browser would not say where its own forms come from, either.
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
];

/// All of it, under `/admin`.
pub(super) fn routes(api: Api) -> Router {
    let to_the_beginning = || async { Redirect::to("/admin") };
    Router::new()
        .route("/", get(to_the_beginning))
        .route("/admin/", get(to_the_beginning))
        .route("/admin", get(overview::show))
        .route("/admin/open", get(overview::open))
        .route(SIGN_IN, get(session::ask).post(session::sign_in))
        .route("/admin/sign-out", post(session::sign_out))
        .route("/admin/tenants/{tenant}", get(tenant::show).post(tenant::submit))
        .route("/admin/tenants/{tenant}/switch", get(leave).post(tenant::switch))
        .route("/admin/tenants/{tenant}/secret", get(leave).post(secret::submit))
        .route("/admin/tenants/{tenant}/preview", get(leave).post(tenant::preview))
        .route("/admin/tenants/{tenant}/deliveries/{delivery}", get(delivery::show))
        .route("/admin/tenants/{tenant}/deliveries/{delivery}/redeliver", get(leave).post(delivery::redeliver))
        .route("/admin/style.css", get(|| async { asset("text/css", include_str!("page/style.css")) }))
        .route("/admin/script.js", get(|| async { asset("text/javascript", include_str!("page/script.js")) }))
        .route("/admin/icon.svg", get(|| async { asset("image/svg+xml", include_str!("page/icon.svg")) }))
        .route("/admin/{*rest}", any(async || Refused::from(Problem::not_found("there is no such page"))))
        .method_not_allowed_fallback(async || Refused::from(Problem::not_allowed("there is a page, and no such form")))
        .layer(middleware::from_fn_with_state(api.clone(), carried_out))
        .layer(DefaultBodyLimit::max(body::MOST))
        .layer(middleware::map_response(guarded))
        .with_state(api)
}

async fn carried_out(State(api): State<Api>, request: Request, next: Next) -> Result<Response, Refused> {
    if !api.access.is_under_our_name(request.uri(), request.headers()) {
        let detail = "this page answers under its own name alone: localhost, or admin.origin where that is set";
        return Err(Problem::elsewhere(detail).into());
    }
    Ok(api.work.carry_out(SLOW, request, next).await?)
}

/// Whoever asks anew for what a form showed.
async fn leave(Visited(tenant): Visited) -> Redirect {
    Redirect::to(&path_of(&tenant.id))
}

fn asset(media_type: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, media_type)], text).into_response()
}

async fn guarded(mut response: Response) -> Response {
    let guards = GUARDS.into_iter().map(|(name, value)| (Some(name), HeaderValue::from_static(value)));
    response.headers_mut().extend(guards);
    response
}

/// A rendered page.
fn page(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => (status, Html(html)).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[derive(Template)]
#[template(path = "problem.html", config = "src/admin/page/askama.toml")]
struct ProblemPage<'a> {
    title: &'a str,
    /// Everything that is wrong with what was asked for, or what happened.
    said: Vec<Cow<'a, str>>,
}

/// Why there is no page.
struct Refused(Box<Response>);

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        let faults: Vec<_> = problem.errors().iter().map(|fault| Cow::from(fault.sentence())).collect();
        let said = if faults.is_empty() { vec![Cow::from(problem.detail())] } else { faults };
        Self::with(&problem, &ProblemPage { title: problem.title(), said })
    }
}

impl Refused {
    /// A page of the problem.
    fn with(problem: &Problem, template: &impl Template) -> Self {
        let mut response = page(problem.status(), template);
        response.headers_mut().extend(problem.header().map(|(name, value)| (Some(name), value)));
        Self(Box::new(response))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        *self.0
    }
}

/// Who is signed in.
struct Signed(Bearer);

impl FromRequestParts<Api> for Signed {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refused> {
        refuse_strangers(parts)?;
        let session = cookie(api, &parts.headers).unwrap_or_default();
        match api.access.tokens().of_session(session, Timestamp::now()) {
            Ok(bearer) => {
                api.access.count(&bearer)?;
                Ok(Self(bearer))
            }
            Err(_) => Err(Refused(Box::new(Redirect::to(SIGN_IN).into_response()))),
        }
    }
}

/// A page of somebody else's changes nothing here, whatever cookies go with it: a browser says where a form comes from, and it
/// is from here ([`carried_out`]).
fn refuse_strangers(parts: &Parts) -> Result<(), Problem> {
    if parts.method.is_safe() || parts.headers.contains_key(header::ORIGIN) {
        return Ok(());
    }
    Err(Problem::elsewhere("a form of this page says where it comes from (Origin), and this one does not"))
}

/// The path's tenant, which whoever is signed in may see.
struct Visited(Tenant);

impl FromRequestParts<Api> for Visited {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refused> {
        let Signed(bearer) = Signed::from_request_parts(parts, api).await?;
        Ok(Self(Tenant::of(bearer, parts, api).await?))
    }
}

/// What a form sends.
struct Fields(Vec<(String, String)>);

impl FromRequest<Api> for Fields {
    type Rejection = Refused;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Refused> {
        Ok(Self::arrived(request, api, body::PATIENCE).await?)
    }
}

impl Fields {
    /// Of a form that has so long to arrive.
    async fn arrived(request: Request, api: &Api, patience: Duration) -> Result<Self, Problem> {
        let bytes = body::arrived(request, api, patience).await?;
        Ok(Self(form_urlencoded::parse(&bytes).into_owned().collect()))
    }

    /// The words of an address, without what PostgreSQL's texts cannot hold.
    fn of_query(query: Option<&str>) -> Self {
        let words = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Self(words.map(|(name, value)| (name.into_owned(), value.replace('\0', ""))).collect())
    }

    fn first(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
    }

    /// What was typed into the settings, to be carried along: not which button was pressed, and over which version.
    fn kept(&self) -> Vec<(String, String)> {
        let of_buttons = ["do", "version", "enabled"];
        self.0.iter().filter(|(name, _)| !of_buttons.contains(&name.as_str())).cloned().collect()
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A line above a page.
struct Message {
    /// `good` or `bad`, which the words say as well.
    tone: &'static str,
    text: String,
}

impl Message {
    fn good(text: impl Into<String>) -> Self {
        Self { tone: "good", text: text.into() }
    }

    fn bad(text: impl Into<String>) -> Self {
        Self { tone: "bad", text: text.into() }
    }
}

/// A tenant's page.
fn path_of(tenant: &str) -> String {
    format!("/admin/tenants/{}", segment(tenant))
}

/// `text` as a part of a path.
fn segment(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

/// How a status looks; its word stands in it.
fn tone(status: &str) -> &'static str {
    match status {
        "delivered" => "good",
        "failed" | "interrupted" => "bad",
        _ => "muted",
    }
}

/// Microseconds as milliseconds.
fn milliseconds(us: i32) -> String {
    format!("{:.1} ms", f64::from(us) / 1_000.0)
}

/// RFC 3339 to the second, as people read it; UTC.
fn readable(time: &str) -> String {
    time.get(..19).unwrap_or(time).replace('T', " ")
}
