//! Files that the configuration names: they are read once, here, so that a missing one is told with its key.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use zeroize::Zeroizing;

use super::{TokenProblem, reader::Setting};
use crate::secret::Secret;

/// A path; empty: none.
pub(super) fn optional_path(setting: &Setting) -> Result<Option<PathBuf>, String> {
    Ok(Some(setting.text()?).filter(|text| !text.is_empty()).map(PathBuf::from))
}

/// A path that must be there.
pub(super) fn path(setting: &Setting) -> Result<PathBuf, String> {
    optional_path(setting)?.ok_or_else(|| "must not be empty: name a file".to_owned())
}

/// The secret that stands in a file, without the newline at its end, which editors put there.
///
/// The problems do not quote the path: somebody may have set the secret itself in its place.
pub(super) fn secret_in_file(setting: &Setting) -> Result<Option<Secret<String>>, String> {
    optional_path(setting)?.map(|path| secret(&path)).transpose()
}

fn secret(path: &Path) -> Result<Secret<String>, String> {
    let content = Zeroizing::new(fs::read_to_string(path).map_err(|error| unreadable("the file", &error))?);
    let secret = content.strip_suffix('\n').unwrap_or(&content);
    let secret = secret.strip_suffix('\r').unwrap_or(secret);
    if secret.is_empty() {
        return Err("the file is empty: put the secret into it".to_owned());
    }
    Ok(Secret::new(secret.to_owned()))
}

/// Characters of a token at least: what `openssl rand -base64 32` prints has more.
const TOKEN: usize = 32;

/// The token that stands in a file which nobody else may read.
pub(super) fn token(path: &Path) -> Result<Secret<String>, TokenProblem> {
    let problem =
        |text| if fs::File::open(path).is_ok() { TokenProblem::Unfit(text) } else { TokenProblem::Unread(text) };
    let token = secret(path).map_err(problem)?;
    let mode = fs::metadata(path).ok().map(|file| file.permissions().mode());
    if let Some(mode) = mode.filter(|mode| mode & 0o007 != 0) {
        let mode = mode & 0o7777;
        let text = format!("the file has mode {mode:04o}, and everybody on this host gets at it: make it 0600");
        return Err(TokenProblem::Unfit(text));
    }
    let text = token.expose();
    if text.len() < TOKEN || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(TokenProblem::Unfit(format!(
            "the file must hold one token of at least {TOKEN} characters and no blanks: \
             `openssl rand -base64 32` makes one"
        )));
    }
    Ok(token)
}

/// A PEM file with at least one certificate.
pub(super) fn certificates(setting: &Setting) -> Result<Option<PathBuf>, String> {
    let Some(path) = optional_path(setting)? else { return Ok(None) };
    let pem = fs::read(&path).map_err(|error| unreadable(&path.display().to_string(), &error))?;
    match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if certificates.is_empty() => {
            Err(format!("{} holds no certificate: it must be PEM, -----BEGIN CERTIFICATE-----", path.display()))
        }
        Ok(_) => Ok(Some(path)),
        Err(_) => Err(format!("{} is not valid PEM: write the CA's certificates to it anew", path.display())),
    }
}

fn unreadable(file: &str, error: &io::Error) -> String {
    format!("{file} cannot be read ({error}): name a file that the daemon's user may read")
}
