//! `lead-webhook token`: lets one tenant in at the admin listener for a while. Needs no database.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::{Failure, context::Context, draft::vet_tenant, output};
use crate::control::{time::to_the_second, token::Tokens};

/// Mints one, and prints it.
pub(super) fn mint(context: &Context, tenant: &str, ttl: Duration, json: bool) -> Result<(), Failure> {
    vet_tenant(tenant)?;
    let Some(operator) = context.operators_token()? else {
        return Err(Failure::Configuration(
            "admin.token_file: there is none, and tenants' tokens are signed by what stands in it: \
             `openssl rand -base64 32` makes one for the file, which the daemon must have as well"
                .to_owned(),
        ));
    };
    let (token, until) = Tokens::new(&operator).mint(tenant, ttl, Timestamp::now());
    if json {
        return output::json(&json!({ "tenant_id": tenant, "token": token.expose(), "expires_at": until.to_string() }));
    }
    output::data(token.expose())?;
    output::message(&format!(
        "for tenant {tenant} alone, until {} UTC. It cannot be taken back before that, unless by another token in admin.token_file",
        to_the_second(until)
    ));
    Ok(())
}
