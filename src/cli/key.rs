//! `lead-webhook key`: the file that seals everything.

pub(super) mod rotate;

mod reseal;

use std::path::Path;

use crate::keyring::KeyRing;

use super::{Failure, output};

/// Prints a new key file, or creates `out` with mode 0600.
pub(super) fn generate(out: Option<&Path>) -> Result<(), Failure> {
    let Some(path) = out else {
        let text = KeyRing::generate().map_err(Failure::operation)?;
        return output::data(text.expose().trim_end());
    };
    KeyRing::write_new(path).map_err(Failure::operation)?;
    output::message(&format!(
        "{} created. Keep a copy in a safe place: what it seals cannot be opened without it.",
        path.display()
    ));
    Ok(())
}
