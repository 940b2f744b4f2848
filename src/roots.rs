//! The certificate authorities that the operating system trusts.

use rustls::{RootCertStore, pki_types::pem};
use rustls_native_certs::{Error, ErrorKind, load_native_certs};

use crate::shortage::Shortage;

/// Those that can be read. Some of a system's certificates may be unreadable or outdated; what counts is that any is left.
///
/// # Errors
/// [`Shortage`]: they could not all be read, for want of descriptors or memory. Trust does not depend on that.
pub fn system() -> Result<RootCertStore, Shortage> {
    let loaded = load_native_certs();
    if let Some(shortage) = loaded.errors.iter().find_map(shortage) {
        return Err(shortage);
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(loaded.certs);
    Ok(roots)
}

fn shortage(error: &Error) -> Option<Shortage> {
    match &error.kind {
        ErrorKind::Io { inner, .. } | ErrorKind::Pem(pem::Error::Io(inner)) => Shortage::of(inner),
        _ => None,
    }
}
