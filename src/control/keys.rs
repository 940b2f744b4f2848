//! Whether the key file is the installation's, and which of its keys seals: nothing may be sealed by another.

use std::fmt;

use crate::{
    dispatch::guard,
    keyring::{KeyId, KeyRing, OpenError},
    store::{
        Error,
        installation::{self, Installation},
        session::Session,
    },
};

/// The keys of `keyring`, that one first which the installation is sealed by: a file that a rotation has passed by, or a
/// daemon that has read it before, would go on sealing by a key that is to be dropped. Where there is no installation yet,
/// there is nothing to compare with, and no daemon that claims.
///
/// # Errors
/// What the database says, or that the connection is lost; within, that it is not the key file that the installation was
/// made with: no daemon could open what it seals. The operator must act.
pub async fn vouch(session: &mut Session, keyring: &KeyRing) -> Result<Result<KeyRing, OpenError>, Error> {
    let Some(installation) = installation::read(session).await? else { return Ok(Ok(keyring.clone())) };
    let half = HalfRotated::find(&installation, keyring);
    Ok(guard::open_key(&installation, keyring)
        .map(|_| half.map_or_else(|| keyring.clone(), |half| keyring.with_first(half.sealing))))
}

/// A key file that begins with another key than the one that the installation is sealed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HalfRotated {
    first: KeyId,
    sealing: KeyId,
}

impl HalfRotated {
    /// `None`: the first key is the one.
    pub fn find(installation: &Installation, keyring: &KeyRing) -> Option<Self> {
        let first = keyring.sealing_id();
        let sealing = KeyId::of(&installation.uniqueness_key_sealed).filter(|sealing| *sealing != first)?;
        Some(Self { first, sealing })
    }

    /// Nobody but the operator knows which key is the newer one.
    pub fn remedy(&self) -> String {
        let Self { first, sealing } = self;
        format!(
            "Where {sealing} is the newer one: `lead-webhook key rotate --reseal {sealing}` here, or copy the file from the \
             host where that was run. Where a rotation to {first} was interrupted: `lead-webhook key rotate --reseal {first}`"
        )
    }
}

impl fmt::Display for HalfRotated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "begins with key {}, but this installation is sealed by key {}", self.first, self.sealing)
    }
}
