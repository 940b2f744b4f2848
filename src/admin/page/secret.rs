//! A tenant's secret: generated after a question, and shown once.

use askama::Template;
use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};

use super::{
    Api, Fields, Refused, Visited, page, path_of, readable,
    tenant::{self, condition},
};
use crate::admin::api::endpoint;

#[derive(Template)]
#[template(path = "secret.html", config = "src/admin/page/askama.toml")]
struct SecretPage {
    is_operator: bool,
    tenant: String,
    secret: String,
    back: String,
}

#[derive(Template)]
#[template(path = "generate.html", config = "src/admin/page/askama.toml")]
struct GeneratePage {
    is_operator: bool,
    tenant: String,
    path: String,
    version: String,
    secret_set_at: String,
}

/// Asks whether the secret is to give way to a new one.
pub(super) async fn ask(State(api): State<Api>, Visited(tenant): Visited) -> Result<Response, Refused> {
    let (path, is_operator) = (path_of(&tenant.id), tenant.is_operator());
    let row = endpoint::read(&api, &tenant).await?;
    let present = row.and_then(|row| Some((endpoint::version(&row), row.secret_set_at?)));
    let Some((version, secret_set_at)) = present else { return Ok(Redirect::to(&path).into_response()) };
    let secret_set_at = readable(&secret_set_at.to_string());
    Ok(page(StatusCode::OK, &GeneratePage { is_operator, tenant: tenant.id, path, version, secret_set_at }))
}

/// Generates a secret, and shows it this once. Over what the page showed: who sends the form again generates no other.
pub(super) async fn generate(
    State(api): State<Api>,
    Visited(tenant): Visited,
    fields: Fields,
) -> Result<Response, Refused> {
    let new = match endpoint::generate(&api, &tenant, Some(condition(&fields))).await {
        Ok((_, new)) => new,
        Err(problem) => return tenant::with(&api, &tenant, &problem, "No secret was generated").await,
    };
    let back = path_of(&tenant.id);
    let shown = SecretPage { is_operator: tenant.is_operator(), tenant: tenant.id, secret: new.secret, back };
    Ok(page(StatusCode::CREATED, &shown))
}
