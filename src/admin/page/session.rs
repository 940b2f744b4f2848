//! Signing in by a token, and what the browser keeps of it.

use askama::Template;
use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use jiff::Timestamp;

use super::{Api, Fields, Refused, SIGN_IN, page, path_of, refuse_strangers};
use crate::control::token::Bearer;

const COOKIE: &str = "lead_webhook_session";

#[derive(Template)]
#[template(path = "sign_in.html", config = "src/admin/page/askama.toml")]
struct SignIn<'a> {
    problem: Option<&'a str>,
    signed_in: Option<String>,
}

/// The form.
pub(super) async fn ask(State(api): State<Api>, headers: HeaderMap) -> Response {
    let session = cookie(&headers).and_then(|session| api.access.tokens().of_session(session, Timestamp::now()).ok());
    let signed_in = session.map(|bearer| match bearer {
        Bearer::Operator => "the operator".to_owned(),
        Bearer::Tenant(tenant) => format!("tenant {tenant}"),
    });
    page(StatusCode::OK, &SignIn { problem: None, signed_in })
}

/// Whoever has a token gets in; what the browser keeps is for this page alone.
pub(super) async fn sign_in(State(api): State<Api>, request: Request) -> Result<Response, Refused> {
    let (parts, body) = request.into_parts();
    refuse_strangers(&parts, &api)?;
    let fields =
        <Fields as axum::extract::FromRequest<Api>>::from_request(Request::from_parts(parts, body), &api).await?;
    let token = fields.first("token").trim();
    let bearer = match api.access.of_token(token) {
        Ok(bearer) => bearer,
        Err(problem) => {
            let asked = SignIn { problem: Some(problem.detail()), signed_in: None };
            return Ok(page(problem.status(), &asked));
        }
    };
    let (session, kept) = api.access.tokens().session(token, &bearer, Timestamp::now());
    let to = match &bearer {
        Bearer::Operator => "/admin".to_owned(),
        Bearer::Tenant(tenant) => path_of(tenant),
    };
    let value = format!("{COOKIE}={}; Max-Age={}{}", session.expose(), kept.as_secs(), attributes(&api));
    Ok(with_cookie(&value, &to))
}

/// Takes it away again.
pub(super) async fn sign_out(State(api): State<Api>, request: Request) -> Result<Response, Refused> {
    let (mut parts, _) = request.into_parts();
    super::Signed::from_request_parts(&mut parts, &api).await?;
    Ok(with_cookie(&format!("{COOKIE}=; Max-Age=0{}", attributes(&api)), SIGN_IN))
}

/// No script reads it, no other site sends it, and over TLS it goes over nothing else.
fn attributes(api: &Api) -> String {
    let secure = if api.access.is_over_tls() { "; Secure" } else { "" };
    format!("; Path=/admin; HttpOnly; SameSite=Strict{secure}")
}

fn with_cookie(cookie: &str, to: &str) -> Response {
    let mut response = Redirect::to(to).into_response();
    if let Ok(mut value) = HeaderValue::from_str(cookie) {
        value.set_sensitive(true);
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}

/// The session that a browser sends.
pub(super) fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies.flat_map(|value| value.split(';')).find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}
