//! `lead-webhook secret`: what signs a tenant's deliveries.

use std::io::{self, Write};

use crate::{control::endpoint::new_secret, secret::SigningSecret, store::endpoints};

use super::{
    Failure,
    args::SecretCommand,
    context::Context,
    database::{failed, vouch_for_keys},
    draft::vet_tenant,
    endpoint, output,
};

/// Runs one of the commands.
pub(super) async fn run(context: &Context, command: SecretCommand) -> Result<(), Failure> {
    match command {
        SecretCommand::Generate { tenant } => generate(context, &tenant).await,
    }
}

/// Generates, seals and saves a secret, and prints it once it is in force.
async fn generate(context: &Context, tenant: &str) -> Result<(), Failure> {
    let failed = failed(context);
    let keyring = context.keyring()?;
    vet_tenant(tenant)?;
    let mut session = context.session().await?;
    let keyring = vouch_for_keys(context, &mut session, &keyring).await?;
    let (secret, sealed) = new_secret(&keyring, tenant).map_err(Failure::operation)?;
    let transaction = session.begin().await.map_err(&failed)?;
    let row = endpoints::set_secret(&transaction, tenant, &sealed).await.map_err(&failed)?;
    transaction.commit().await.map_err(&failed)?;

    print(&secret).map_err(|error| {
        Failure::Operation(format!(
            "the secret is in force, but stdout did not take it ({error}): generate another, nobody can read this one"
        ))
    })?;
    output::message(&format!(
        "{}: this is shown once, there is no way to read it back. Every delivery that is claimed from now on is signed \
         with it; the secret before it, if there was one, is gone.",
        tenant
    ));
    endpoint::say_obstacles(&row);
    Ok(())
}

/// Unlike other data the secret cannot be asked for again, so a full disk or a closed pipe is told.
fn print(secret: &SigningSecret) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", secret.text().expose())?;
    stdout.flush()
}
