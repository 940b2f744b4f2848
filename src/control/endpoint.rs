//! What both surfaces tell of an endpoint, and the secret that they generate.

use std::{net::Ipv6Addr, time::Duration};

use crate::{
    delivery::presets::Preset,
    keyring::{Column, KeyRing, Place, SealError},
    outcome::Destination,
    secret::SigningSecret,
    store::endpoints::{EndpointRow, SealedEndpoint},
};

/// What keeps an endpoint from taking leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// It is off.
    Off,
    /// It has no URL.
    Url,
    /// It has no secret.
    Secret,
}

/// Everything that keeps an endpoint from taking leads; empty: it takes them.
pub fn lacks(endpoint: &SealedEndpoint) -> Vec<Lack> {
    let lacks = [
        (Lack::Off, endpoint.enabled),
        (Lack::Url, endpoint.url_sealed.is_some()),
        (Lack::Secret, endpoint.secret_sealed.is_some()),
    ];
    lacks.into_iter().filter(|(_, is_there)| !is_there).map(|(lack, _)| lack).collect()
}

/// Host and port as a URL has them, and a mask for the rest: what follows is a credential.
pub fn masked_url(endpoint: &SealedEndpoint) -> Option<String> {
    endpoint.destination().map(|destination| format!("https://{}/…", authority(&destination)))
}

/// Host and port as a URL has them.
pub fn authority(Destination { host, port }: &Destination) -> String {
    if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// An endpoint's limit of time; where it has none of its own, the configuration's.
pub fn timeout(endpoint: &SealedEndpoint, default: Duration) -> Duration {
    endpoint.timeout_ms.and_then(|ms| u64::try_from(ms).ok()).map_or(default, Duration::from_millis)
}

/// What to know of a preset that is laid over an endpoint with this host and these headers.
pub fn notes(preset: &Preset, host: Option<&str>, header_names: &[String]) -> Vec<String> {
    let mut notes = Vec::new();
    if !host.is_some_and(|host| preset.is_at(host)) {
        notes.push(format!("its URL is {}", preset.url));
    }
    let has = |name: &str| header_names.iter().any(|there| there.eq_ignore_ascii_case(name));
    let missing = preset.headers.iter().filter(|(name, _)| !has(name));
    notes.extend(missing.map(|(name, value)| format!("it needs the header `{name}: {value}`")));
    notes.extend(preset.notes.iter().map(|note| (*note).to_owned()));
    notes
}

/// That stored headers go to another host than the one `before`, where the change did not name any (`names_headers`): most often
/// they are credentials.
pub fn headers_that_follow(before: Option<&str>, now: &EndpointRow, names_headers: bool) -> Option<String> {
    let is_another = before.is_some() && before != now.sealed.host.as_deref();
    (is_another && !names_headers && !now.header_names.is_empty()).then(|| {
        let names = now.header_names.join(", ");
        format!("the host is another one, and the headers stored for the one before go there too ({names})")
    })
}

/// Why there is no new secret. The operator must act.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// No bytes for it.
    #[error("the operating system gives no randomness: {0}")]
    NoRandomness(#[from] getrandom::Error),
    /// It cannot be kept.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// A new secret for `tenant`, and the same sealed.
///
/// # Errors
/// [`GenerateError`], by cause.
pub fn new_secret(keyring: &KeyRing, tenant: &str) -> Result<(SigningSecret, Vec<u8>), GenerateError> {
    let secret = SigningSecret::generate()?;
    let place = Place { tenant, column: Column::EndpointSecret };
    let sealed = keyring.seal(&place, secret.text().expose().as_bytes())?;
    Ok((secret, sealed))
}
