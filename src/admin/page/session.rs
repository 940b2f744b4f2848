//! Signing in by a token, and what the browser keeps of it.

use std::time::Duration;

use askama::Template;
use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use jiff::Timestamp;

use super::{Api, Fields, Refused, SIGN_IN, page, path_of, refuse_strangers};
use crate::control::token::Bearer;

/// Over TLS no other host may set one of this name, and it goes over nothing else (RFC 6265bis, section 4.1.3.2).
const SECURE_COOKIE: &str = "__Host-lead_webhook_session";
const COOKIE: &str = "lead_webhook_session";

/// For a token to arrive: whose it is, is not known before.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Template)]
#[template(path = "sign_in.html", config = "src/admin/page/askama.toml")]
struct SignIn<'a> {
    problem: Option<&'a str>,
    signed_in: Option<Bearer>,
}

/// The form.
pub(super) async fn ask(State(api): State<Api>, headers: HeaderMap) -> Response {
    let session = cookie(&api, &headers);
    let signed_in = session.and_then(|session| api.access.tokens().of_session(session, Timestamp::now()).ok());
    page(StatusCode::OK, &SignIn { problem: None, signed_in })
}

/// Whoever has a token gets in; what the browser keeps is for this page alone.
pub(super) async fn sign_in(State(api): State<Api>, request: Request) -> Result<Response, Refused> {
    let (parts, body) = request.into_parts();
    refuse_strangers(&parts)?;
    let unknown = api.work.unknown()?;
    let fields = Fields::arrived(Request::from_parts(parts, body), &api, PATIENCE).await?;
    drop(unknown);
    let token = fields.first("token").trim();
    let bearer = match api.access.of_token(token) {
        Ok(bearer) => bearer,
        Err(problem) => {
            return Err(Refused::with(&problem, &SignIn { problem: Some(problem.detail()), signed_in: None }));
        }
    };
    api.access.count(&bearer)?;
    let (session, kept) = api.access.tokens().session(token, &bearer, Timestamp::now());
    let to = match &bearer {
        Bearer::Operator => {
            tracing::info!(by = "operator", action = "signed in", "admin");
            "/admin".to_owned()
        }
        Bearer::Tenant(tenant_id) => {
            tracing::info!(by = "tenant", tenant_id, action = "signed in", "admin");
            path_of(tenant_id)
        }
    };
    Ok(with_cookie(&api, session.expose(), kept, &to))
}

/// Takes it away again.
pub(super) async fn sign_out(State(api): State<Api>, request: Request) -> Result<Response, Refused> {
    let (mut parts, _) = request.into_parts();
    super::Signed::from_request_parts(&mut parts, &api).await?;
    Ok(with_cookie(&api, "", Duration::ZERO, SIGN_IN))
}

/// No script reads it, and no other site sends it.
fn with_cookie(api: &Api, session: &str, kept: Duration, to: &str) -> Response {
    let mut response = Redirect::to(to).into_response();
    let (name, place) = if api.access.is_over_tls() { (SECURE_COOKIE, "/; Secure") } else { (COOKIE, "/admin") };
    let cookie = format!("{name}={session}; Max-Age={}; Path={place}; HttpOnly; SameSite=Strict", kept.as_secs());
    if let Ok(mut value) = HeaderValue::from_str(&cookie) {
        value.set_sensitive(true);
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}

/// The session that a browser sends.
pub(super) fn cookie<'a>(api: &Api, headers: &'a HeaderMap) -> Option<&'a str> {
    let name = if api.access.is_over_tls() { SECURE_COOKIE } else { COOKIE };
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies.flat_map(|value| value.split(';')).find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}
