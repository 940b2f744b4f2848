//! What commands that write have in common: a failed statement as the command's end, the installation, and a look whether
//! the key file is the daemons'.

use crate::{
    dispatch::guard,
    keyring::{KeyRing, OpenError},
    store::{
        Error,
        installation::{self, Installation},
        session::{Session, explain},
    },
};

use super::{Failure, context::Context};

/// Turns a statement's error into a failure with its remedy.
pub(super) fn failed(context: &Context) -> impl Fn(Error) -> Failure {
    |error| Failure::Operation(explain(&error, &context.config.database.daemon_role))
}

/// The installation.
///
/// # Errors
/// [`Failure::Operation`] where there is none, and where the database cannot be asked.
pub(super) async fn installed(
    session: &mut Session,
    failed: impl Fn(Error) -> Failure,
) -> Result<Installation, Failure> {
    let text = "the schema is not installed here: run `lead-webhook migrate`";
    installation::read(session).await.map_err(failed)?.ok_or_else(|| Failure::Operation(text.to_owned()))
}

/// Another key file than the installation's, and what that means.
pub(super) fn other_keys(context: &Context, error: OpenError, then: &str) -> Failure {
    let file = context.config.keys_file.display();
    Failure::Configuration(format!("key file {file}: not the one that this installation was made with ({error}){then}"))
}

/// Refuses a key file that is not the installation's: daemons could not open what it seals.
///
/// # Errors
/// [`Failure::Configuration`] for another key file, [`Failure::Operation`] where the database cannot be asked.
pub(super) async fn vouch_for_keys(context: &Context, session: &mut Session, keyring: &KeyRing) -> Result<(), Failure> {
    // Where there is no installation yet, there is nothing to compare with, and no daemon that claims.
    let Some(installation) = installation::read(session).await.map_err(failed(context))? else { return Ok(()) };
    let then = ": put the installation's own there; nothing is done, because no daemon could open what this one seals";
    guard::open_key(&installation, keyring).map(drop).map_err(|error| other_keys(context, error, then))
}
