//! `lead-webhook endpoint`: where each tenant's leads are sent.

pub(super) mod in_force;

use std::io;

use comfy_table::{ContentArrangement, Table, presets};

use crate::{
    control::{draft::Stored, endpoint},
    store::endpoints::{self, EndpointRow},
};

use super::{
    Failure,
    args::{self, EndpointCommand},
    context::Context,
    database::{failed, vouch_for_keys},
    draft::Draft,
    fields::{aligned, printable, quoted},
    output,
};
use in_force::{InForce, obstacles};

/// Runs one of the commands.
pub(super) async fn run(context: &Context, command: EndpointCommand) -> Result<(), Failure> {
    match command {
        EndpointCommand::Set { tenant, draft, json } => set(context, &tenant, &draft, json).await,
        EndpointCommand::Show { tenant, json } => show(context, &tenant, json).await,
        EndpointCommand::List { json } => list(context, json).await,
        EndpointCommand::Enable { tenant } => switch(context, &tenant, true).await,
        EndpointCommand::Disable { tenant } => switch(context, &tenant, false).await,
        EndpointCommand::Remove { tenant } => remove(context, &tenant).await,
    }
}

/// Reads the options, lays them over what is stored, and saves all of it or nothing.
async fn set(context: &Context, tenant: &str, options: &args::Draft, json: bool) -> Result<(), Failure> {
    let failed = failed(context);
    let pipeline = context.pipeline()?;
    let (policy, prefix) = (pipeline.resolver().policy(), pipeline.header_prefix());
    let mut changes = Draft::read(tenant, options, policy, prefix, io::stdin());
    if options.is_empty() {
        let show = format!("`lead-webhook endpoint show {}`", quoted(tenant));
        changes.refuse(format!("nothing to change is named: see `endpoint set --help`; {show} shows what is in force"));
    }
    changes.resolve(pipeline.resolver()).await;
    let mut session = context.session().await.map_err(|failure| changes.or(failure))?;
    if changes.is_refused() {
        // Nothing will be saved, so nothing is locked or made; what is stored may add a problem.
        let row = endpoints::find(&mut session, tenant).await.map_err(|error| changes.or(failed(error)))?;
        return changes.apply(pipeline.keyring(), tenant, prefix, Stored::open(&pipeline, row)).map(drop);
    }
    let keyring = vouch_for_keys(context, &mut session, pipeline.keyring()).await?;
    let (warnings, preset) = (changes.warnings().to_vec(), changes.preset());
    let transaction = session.begin().await.map_err(&failed)?;
    let (row, _) = endpoints::lock(&transaction, tenant).await.map_err(&failed)?;
    let (host, names_headers) = (row.sealed.host.clone(), changes.names_headers());
    let sealed = changes.apply(&keyring, tenant, prefix, Stored::open(&pipeline, Some(row)))?;
    let row = endpoints::save(&transaction, tenant, &sealed.endpoint, &sealed.header_names).await.map_err(&failed)?;
    transaction.commit().await.map_err(&failed)?;
    for warning in warnings {
        output::message(&format!("warning: {warning}"));
    }
    show_row(context, &row, json)?;
    if let Some(note) = endpoint::headers_that_follow(host.as_deref(), &row, names_headers) {
        output::message(&format!("note: {note}: `--header` and `--clear-headers` change that"));
    }
    if let Some(preset) = preset {
        for note in endpoint::notes(preset, row.sealed.host.as_deref(), &row.header_names) {
            output::message(&format!("{}: {note}", preset.name));
        }
    }
    Ok(())
}

async fn show(context: &Context, tenant: &str, json: bool) -> Result<(), Failure> {
    let mut session = context.session().await?;
    let row = endpoints::find(&mut session, tenant).await.map_err(failed(context))?;
    show_row(context, &found(row, tenant)?, json)
}

fn show_row(context: &Context, row: &EndpointRow, json: bool) -> Result<(), Failure> {
    let in_force = in_force(context, row);
    if json { output::json(&in_force.json()) } else { output::data(&aligned(&in_force.fields())) }
}

async fn list(context: &Context, json: bool) -> Result<(), Failure> {
    let mut session = context.session().await?;
    let rows = endpoints::list(&mut session).await.map_err(failed(context))?;
    if rows.is_empty() {
        output::message("no endpoints: `lead-webhook endpoint set TENANT --url @FILE` makes one");
    } else if json {
        for row in &rows {
            output::json(&in_force(context, row).json())?;
        }
    } else {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(InForce::COLUMNS);
        for row in &rows {
            table.add_row(in_force(context, row).columns().map(|column| printable(&column)));
        }
        if let Some(first) = table.column_mut(0) {
            first.set_padding((0, 1));
        }
        output::data(&table.trim_fmt())?;
    }
    Ok(())
}

async fn switch(context: &Context, tenant: &str, on: bool) -> Result<(), Failure> {
    let failed = failed(context);
    let mut session = context.session().await?;
    if !endpoints::switch(&mut session, tenant, on).await.map_err(&failed)? {
        return Err(unknown(tenant));
    }
    if !on {
        output::message(&format!(
            "{} is off: its leads are logged as skipped / disabled and are not sent later; everything else is kept",
            tenant
        ));
        return Ok(());
    }
    output::message(&format!("{} is on: what was captured while it was off is not sent", tenant));
    let row = endpoints::find(&mut session, tenant).await.map_err(&failed)?;
    say_obstacles(&found(row, tenant)?);
    Ok(())
}

async fn remove(context: &Context, tenant: &str) -> Result<(), Failure> {
    let mut session = context.session().await?;
    if !endpoints::remove(&mut session, tenant).await.map_err(failed(context))? {
        return Err(unknown(tenant));
    }
    output::message(&format!(
        "{}: URL, secret, headers and template are removed; what is queued is logged as skipped / no_endpoint",
        tenant
    ));
    Ok(())
}

/// Tells what still keeps a tenant's endpoint from taking leads.
pub(super) fn say_obstacles(row: &EndpointRow) {
    for obstacle in obstacles(row) {
        output::message(&format!("it takes no leads yet: {obstacle}"));
    }
}

fn in_force<'a>(context: &Context, row: &'a EndpointRow) -> InForce<'a> {
    InForce { row, default_timeout: context.config.delivery.timeout }
}

fn found(row: Option<EndpointRow>, tenant: &str) -> Result<EndpointRow, Failure> {
    row.ok_or_else(|| unknown(tenant))
}

/// No row of this tenant.
pub(super) fn unknown(tenant: &str) -> Failure {
    let tenant = quoted(tenant);
    Failure::Operation(format!(
        "tenant {tenant} has no endpoint: `lead-webhook endpoint list` names those that there are, \
         `lead-webhook endpoint set {tenant} --url @FILE` makes one"
    ))
}
