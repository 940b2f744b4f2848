//! Tenants' tokens, minted by the operator.

use std::time::Duration;

use axum::{Json, extract::State, http::StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Api, Tenant, audit,
    body::{Body, Members},
    operator_only,
};
use crate::{admin::problem::Problem, control::token::LONGEST};

/// For how long a token is to be good.
#[derive(Deserialize, ToSchema)]
#[schema(as = TokenFor)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes: what comes is read member by member, for every fault to be found")]
pub(super) struct Schema {
    /// Seconds; 3600 without it.
    #[schema(nullable = false, minimum = 1, maximum = 86400)]
    ttl_s: Option<u32>,
}

/// A tenant's token.
#[derive(Serialize, ToSchema)]
pub(super) struct Minted {
    tenant_id: String,
    /// Opens this tenant's endpoint and deliveries, nobody else's.
    token: String,
    #[schema(format = DateTime)]
    expires_at: String,
}

/// Mints a token for a tenant. For the operator.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/token", operation_id = "mintToken", tag = "token", params(super::TenantParam),
    request_body = Option<Schema>, responses((status = 201, body = Minted)))]
pub(super) async fn mint(
    State(api): State<Api>,
    tenant: Tenant,
    Body(body): Body,
) -> Result<(StatusCode, Json<Minted>), Problem> {
    operator_only(&tenant.bearer)?;
    let mut members = Members::new(&[], body);
    let longest = u32::try_from(LONGEST.as_secs()).unwrap_or(u32::MAX);
    let ttl = Duration::from_secs(members.count("ttl_s", longest).unwrap_or(3_600).into());
    let faults = members.end();
    if !faults.is_empty() {
        return Err(Problem::invalid(faults));
    }
    let (token, until) = api.access.tokens().mint(&tenant.id, ttl, Timestamp::now());
    audit(&tenant, "token minted", "");
    let (token, expires_at) = (token.expose().clone(), until.to_string());
    Ok((StatusCode::CREATED, Json(Minted { tenant_id: tenant.id, token, expires_at })))
}
