//! A tenant's secret: generated after a question, and shown once. What was typed into the settings goes along, and comes back.

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};

use super::{
    Api, Fields, Refused, Visited, page, path_of, readable,
    tenant::{condition, refused},
};
use crate::admin::api::endpoint;

#[derive(Template)]
#[template(path = "secret.html", config = "src/admin/page/askama.toml")]
struct SecretPage {
    is_operator: bool,
    tenant: String,
    path: String,
    secret: String,
    version: String,
    kept: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "generate.html", config = "src/admin/page/askama.toml")]
struct GeneratePage {
    is_operator: bool,
    tenant: String,
    path: String,
    version: String,
    secret_set_at: String,
    kept: Vec<(String, String)>,
}

/// Asks whether the present one is to give way, where there is one, or generates it.
pub(super) async fn submit(
    State(api): State<Api>,
    Visited(tenant): Visited,
    fields: Fields,
) -> Result<Response, Refused> {
    let (path, is_operator) = (path_of(&tenant.id), tenant.is_operator());
    if fields.first("do") == "ask" {
        let row = endpoint::read(&api, &tenant).await?;
        if let Some(time) = row.and_then(|row| row.secret_set_at) {
            let (version, kept) = (fields.first("version").to_owned(), fields.kept());
            let secret_set_at = readable(&time.to_string());
            let asked = GeneratePage { is_operator, tenant: tenant.id, path, version, secret_set_at, kept };
            return Ok(page(StatusCode::OK, &asked));
        }
    }
    // Over what the page showed: who sends the form again generates no other.
    match endpoint::generate(&api, &tenant, Some(condition(&fields))).await {
        Ok((row, new)) => {
            let (version, kept) = (endpoint::version(&row), fields.kept());
            let shown = SecretPage { is_operator, tenant: tenant.id, path, secret: new.secret, version, kept };
            Ok(page(StatusCode::CREATED, &shown))
        }
        Err(problem) => refused(&api, &tenant, &fields, &problem, "No secret was generated").await,
    }
}
