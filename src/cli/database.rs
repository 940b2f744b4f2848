//! What commands that write have in common: a failed statement as the command's end, the installation, and a look whether
//! the key file is the daemons'.

use crate::{
    dispatch::guard,
    keyring::{KeyId, KeyRing, OpenError},
    store::{
        Error,
        installation::{self, Installation},
        lacks_privilege, said,
        session::{Session, explain},
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
        if lacks_privilege(&error) {
            let role = &context.config.database.owner_role;
            let text = format!("the login of database.owner_url has to be a member of {role}, or a superuser");
            return Failure::Operation(format!("{text}. The database said: {}", said(&error)));
        }
        failed(context)(error)
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

/// Refuses a key file that is not the installation's: daemons could not open what it seals. And one whose first key is
/// not the one that the installation is sealed by: a copy that a rotation has passed by would go on sealing by a key that
/// is to be dropped.
///
/// # Errors
/// [`Failure::Configuration`] for another key file, [`Failure::Operation`] where the database cannot be asked.
pub(super) async fn vouch_for_keys(context: &Context, session: &mut Session, keyring: &KeyRing) -> Result<(), Failure> {
    // Where there is no installation yet, there is nothing to compare with, and no daemon that claims.
    let Some(installation) = installation::read(session).await.map_err(failed(context))? else { return Ok(()) };
    let then = ": put the installation's own there; nothing is done, because no daemon could open what this one seals";
    guard::open_key(&installation, keyring).map_err(|error| other_keys(context, error, then))?;
    match HalfRotated::find(&installation, keyring) {
        None => Ok(()),
        Some(half) => Err(Failure::Configuration(format!(
            "key file {}: {}; nothing is done. {}",
            context.config.keys_file.display(),
            half.finding(),
            half.remedy(),
        ))),
    }
}

/// A key file that begins with another key than the one that the installation is sealed by.
pub(super) struct HalfRotated {
    first: KeyId,
    sealing: KeyId,
}

impl HalfRotated {
    /// `None`: the first key is the one.
    pub(super) fn find(installation: &Installation, keyring: &KeyRing) -> Option<Self> {
        let first = keyring.sealing_id();
        let sealing = KeyId::of(&installation.uniqueness_key_sealed).filter(|sealing| *sealing != first)?;
        Some(Self { first, sealing })
    }

    pub(super) fn finding(&self) -> String {
        format!("begins with key {}, but this installation is sealed by key {}", self.first, self.sealing)
    }

    /// Nobody but the operator knows which key is the newer one.
    pub(super) fn remedy(&self) -> String {
        let Self { first, sealing } = self;
        format!(
            "Where {sealing} is the newer one: `lead-webhook key rotate --reseal {sealing}` here, or copy the file from the \
             host where that was run. Where a rotation to {first} was interrupted: `lead-webhook key rotate --reseal {first}`"
        )
    }
}
