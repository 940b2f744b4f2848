//! `lead-webhook adopt`: the operator's word on a database that is not the one that was installed in.

use jiff::Timestamp;

use super::{
    Failure,
    args::Queue,
    context::Context,
    database::{failed_as_owner as failed, installed, other_keys},
    output,
};
use crate::{
    dispatch::guard::{KEYS, open_key},
    store::{
        adoption::{self, Discarded},
        capture_clock,
        check::{self as server, Daemon},
        installation::{self, Identity, Installation},
        outbox,
        session::Session,
    },
};

/// Writes the present identifiers, and discards the queue of a copy. Where nothing differs, nothing is changed, unless the
/// operator says that the database was `restored`.
pub(super) async fn adopt(context: &Context, queue: &Queue, restored: bool) -> Result<(), Failure> {
    let keyring = context.keyring()?;
    let mut session = context.owner_session().await?;
    let installation = installed(&mut session, failed(context)).await?;
    let then = format!(", and no endpoint opens without it; nothing is changed: {KEYS}");
    open_key(&installation, &keyring).map_err(|error| other_keys(context, error, &then))?;
    let now = installation::identity(session.shared()).await.map_err(failed(context))?;
    let differences = installation.identity.differences(&now);
    if restored {
        no_daemon_runs(context, &mut session).await?;
    } else if differences.is_empty() {
        output::message(&format!("nothing differs, and nothing is changed: this is {}", named(&now)));
        return Ok(());
    }
    differences.iter().for_each(|difference| output::message(&format!("differs: {difference}")));
    settle(context, &mut session, &installation, &now, queue).await
}

/// Nothing holds one off where nothing differs: it would be sending what is discarded.
async fn no_daemon_runs(context: &Context, session: &mut Session) -> Result<(), Failure> {
    let daemons = server::daemons(session).await.map_err(failed(context))?;
    let Some(daemon) = daemons.iter().find(|daemon| daemon.unseen_s < server::DEAD) else { return Ok(()) };
    let Daemon { host, process_id, .. } = daemon;
    Err(Failure::Operation(format!(
        "a daemon runs on {host}, process {process_id}, and nothing is changed: stop all of them first. One that is stopped \
         already is taken for dead {} s after it, and after the server's start: try again then",
        server::DEAD
    )))
}

async fn settle(
    context: &Context,
    session: &mut Session,
    installation: &Installation,
    now: &Identity,
    queue: &Queue,
) -> Result<(), Failure> {
    let discards = queue.discard_queue;
    let queue = match discards {
        true => adoption::Queue::Discard { newest: newest(context).await },
        false => adoption::Queue::Keep,
    };
    let adopted = adoption::adopt(session, installation, now, queue).await.map_err(failed(context))?;
    let Some(discarded) = adopted else {
        let text = "another adopt came first; this one has changed nothing: run `lead-webhook check`";
        return Err(Failure::Operation(text.to_owned()));
    };
    output::message(&format!("done: the installation is now {}", named(now)));
    if discards {
        let Discarded { pending, in_flight } = discarded;
        let all = pending + in_flight;
        output::message(&format!(
            "done: {all} events logged as skipped / discarded ({pending} pending, {in_flight} in flight in the original)"
        ));
    } else {
        let kept = outbox::backlog(session).await.map_err(failed(context))?;
        output::message(&format!("kept: the queue, {} pending, {} in flight", kept.pending, kept.in_flight));
    }
    output::message("daemons that run go on by themselves within seconds");
    Ok(())
}

/// The newest captured time, where that is ahead of the clock. That it cannot be had is no reason to adopt nothing.
async fn newest(context: &Context) -> Option<Timestamp> {
    capture_clock::newest_by_the_daemon(&context.config).await.unwrap_or_else(|error| {
        output::message(&format!(
            "note: leads that are captured ahead of the server's clock cannot be looked for, and the sweep may take them \
             for new ones: {error}"
        ));
        None
    })
}

fn named(identity: &Identity) -> String {
    let Identity { system_identifier, database_name, .. } = identity;
    match system_identifier {
        Some(identifier) => format!("database {database_name:?} on the server with system identifier {identifier}"),
        None => format!("database {database_name:?}; the server refuses to tell its system identifier"),
    }
}
