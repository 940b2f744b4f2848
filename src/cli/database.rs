//! What commands that write have in common: a failed statement as the command's end, and a look whether the key file is
//! the daemons'.

use crate::{
    keyring::{Column, KeyRing, Place},
    store::{
        Error, installation,
        session::{Session, explain},
    },
};

use super::{Failure, context::Context};

/// Turns a statement's error into a failure with its remedy.
pub(super) fn failed(context: &Context) -> impl Fn(Error) -> Failure {
    |error| Failure::Operation(explain(&error, &context.config.database.daemon_role))
}

/// Refuses a key file that is not the installation's: daemons could not open what it seals.
///
/// # Errors
/// [`Failure::Configuration`] for another key file, [`Failure::Operation`] where the database cannot be asked.
pub(super) async fn vouch_for_keys(context: &Context, session: &mut Session, keyring: &KeyRing) -> Result<(), Failure> {
    // Where there is no installation yet, there is nothing to compare with, and no daemon that claims.
    let Some(installation) = installation::read(session).await.map_err(failed(context))? else { return Ok(()) };
    let place = Place { tenant: &installation.installation_id.to_string(), column: Column::UniquenessKey };
    keyring.open(&place, &installation.uniqueness_key_sealed).map(drop).map_err(|error| {
        let file = context.config.keys_file.display();
        Failure::Configuration(format!(
            "key file {file}: not the one that this installation was made with ({error}): put the \
             installation's own there; nothing is done, because no daemon could open what this one seals"
        ))
    })
}
