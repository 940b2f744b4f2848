//! What commands that write have in common: a failed statement as the command's end, the installation, and a look whether
//! the key file is the daemons'.

use crate::{
    control::keys,
    keyring::{KeyRing, OpenError},
    store::{
        Error,
        installation::{self, Installation},
        lacks_privilege, said,
        session::{Session, explain, explain_at},
    },
};

use super::{Failure, context::Context};

/// Turns a statement's error into a failure with its remedy.
pub(super) fn failed(context: &Context) -> impl Fn(Error) -> Failure {
    |error| Failure::Operation(explain(&error, &context.config.database.daemon_role))
}

/// As [`failed`], for what only the owner of our schema may do.
pub(super) fn failed_as_owner(context: &Context) -> impl Fn(Error) -> Failure {
    |error| {
        let database = &context.config.database;
        if lacks_privilege(&error) {
            let role = &database.owner_role;
            let text = format!("the login of database.owner_url has to be a member of {role}, or a superuser");
            return Failure::Operation(format!("{text}. The database said: {}", said(&error)));
        }
        Failure::Operation(explain_at("database.owner_url", &error, &database.daemon_role))
    }
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

/// Refuses a key file that is not the installation's; what is to be sealed by, else.
///
/// # Errors
/// [`Failure::Configuration`] for such a key file, [`Failure::Operation`] where the database cannot be asked.
pub(super) async fn vouch_for_keys(
    context: &Context,
    session: &mut Session,
    keyring: &KeyRing,
) -> Result<KeyRing, Failure> {
    let then = ": put the installation's own there; nothing is done, because no daemon could open what this one seals";
    let vouched = keys::vouch(session, keyring).await.map_err(failed(context))?;
    vouched.map_err(|error| other_keys(context, error, then))
}
