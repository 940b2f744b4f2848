//! The clone guard: a restored or cloned database must not send to real receivers. `migrate` remembers the server's system
//! identifier, the database's name and a check value of the key file; where others are found, nothing is claimed, sent or
//! written until an operator says by `lead-webhook adopt` what this database is.
//!
//! The sessions of the [`dispatcher`](super::dispatcher), of the [`recorder`](super::recorder) and of the
//! [`sweep`](super::sweep) may lead to different servers, so each looks for itself at every connect, before anything is
//! claimed or written. Behind a pooler the server changes and the session stays: there each looks again at every beat or
//! slice. In a session of a server's own only the installation's row can change, by a command of the operator's: each beat
//! of the recorder's asks for that row's version, and the dispatcher goes by the beat. It reads only.

use std::fmt;

use crate::{
    keyring::{Column, KeyRing, OpenError, Place},
    store::{
        Error,
        installation::{self, Compared, Difference, Installation},
        session::Session,
    },
    visitor::UniquenessKey,
};

/// The two ways on for a database that is another one.
pub const ADOPT: &str = "`lead-webhook adopt --keep-queue` where this is the same installation, upgraded or moved, \
                         `lead-webhook adopt --discard-queue` where it is a copy, or was restored from a backup";

/// The two ways on for another key file.
pub const KEYS: &str = "put the installation's key file back; where it is lost, or a copy is to have one of its own, it is \
                        installed anew: `lead-webhook uninstall --keep-log`, `lead-webhook migrate`, endpoints and secrets, \
                        `lead-webhook seed`";

/// Why nothing may be done in this database. The operator must act; each names the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Guarded {
    /// There is no installation to compare with.
    #[error("the schema is not installed: run `lead-webhook migrate`")]
    NotInstalled,
    /// Not what is remembered.
    #[error(transparent)]
    Other(#[from] Other),
}

/// Database or key file are others than those that the installation remembers.
#[derive(Debug)]
pub struct Other {
    /// Why the key file does not open what was sealed for the installation.
    pub keys: Option<OpenError>,
    /// What is not as it is remembered of the database.
    pub database: Vec<Difference>,
}

impl std::error::Error for Other {}

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.keys.map(|error| format!("the key file is not the one that it was made with ({error})"));
        let found: Vec<_> = keys.into_iter().chain(self.database.iter().map(ToString::to_string)).collect();
        let remedies = [(self.keys.is_some(), KEYS), (!self.database.is_empty(), ADOPT)];
        let remedies: Vec<_> = remedies.iter().filter(|(helps, _)| *helps).map(|(_, remedy)| *remedy).collect();
        write!(
            f,
            "this is not the installation as it is remembered: {}. Nothing is claimed, sent or written here until that is \
             settled: {}",
            found.join("; "),
            remedies.join("; then "),
        )
    }
}

/// What was found where database and key file are those that are remembered.
pub struct Seen {
    /// The installation's uniqueness key.
    pub key: UniquenessKey,
    /// Another one whenever the installation's row was written.
    pub version: String,
    /// What the triggers go by; `None`: not noted.
    pub mapped: Option<String>,
}

/// Looks whether database and key file are those that are remembered.
///
/// # Errors
/// What the database says, or that the connection is lost; within, [`Guarded`].
pub async fn look(session: &mut Session, keyring: &KeyRing) -> Result<Result<Seen, Guarded>, Error> {
    let Some(compared) = installation::compare(session).await? else { return Ok(Err(Guarded::NotInstalled)) };
    let Compared { installation, now, version } = compared;
    let database = installation.identity.differences(&now);
    Ok(match open_key(&installation, keyring) {
        Ok(key) if database.is_empty() => Ok(Seen { key, version, mapped: installation.mapped }),
        opened => Err(Other { keys: opened.err(), database }.into()),
    })
}

/// The uniqueness key, where the key file is the installation's.
///
/// # Errors
/// [`OpenError`]: it is another one.
pub fn open_key(installation: &Installation, keyring: &KeyRing) -> Result<UniquenessKey, OpenError> {
    let tenant = installation.installation_id.to_string();
    keyring.open(&Place { tenant: &tenant, column: Column::KeyCheck }, &installation.key_check_sealed)?;
    let place = Place { tenant: &tenant, column: Column::UniquenessKey };
    keyring.open(&place, &installation.uniqueness_key_sealed).map(UniquenessKey::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_differs_is_named_with_what_helps() {
        let database = vec![
            Difference::Server { remembered: 1, now: 2 },
            Difference::Name { remembered: "app".to_owned(), now: "staging".to_owned() },
        ];
        let text = Other { keys: None, database: database.clone() }.to_string();
        assert!(text.contains("identifier is 2, not 1; the database is called \"staging\", not \"app\"."), "{text}");
        assert!(text.contains("adopt --discard-queue") && !text.contains("uninstall"), "{text}");
        let text = Other { keys: Some(OpenError::Altered), database: Vec::new() }.to_string();
        assert!(text.contains("uninstall") && !text.contains("adopt"), "{text}");
        let text = Other { keys: Some(OpenError::Altered), database }.to_string();
        assert!(text.find("key file back").unwrap() < text.find("adopt").unwrap(), "{text}");
    }
}
