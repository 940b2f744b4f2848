//! TLS to receivers: whom we trust, and a failed handshake in our own words: the library's quote names that a receiver's
//! certificate chose.

use std::{error::Error as StdError, path::Path, sync::Arc};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, Error,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use crate::{roots, shortage::Shortage};

/// Why the HTTP client cannot be made. The operator must act.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A CA file cannot be used.
    #[error("egress.ca_file: {0} holds no usable PEM certificate")]
    CaFile(String),
    /// The authorities cannot be read just now.
    #[error("the trusted certificate authorities cannot be read: {0}")]
    Short(#[from] Shortage),
    /// There is nothing to verify certificates by.
    #[error("no trusted certificate authority: install the package ca-certificates, or set egress.ca_file")]
    NoRoots,
    /// The TLS or HTTP library refuses its settings.
    #[error("the HTTP client cannot be made")]
    Library(#[source] Box<dyn StdError + Send + Sync>),
}

/// The client's side of TLS: it trusts the system's authorities and those of `ca_file`.
///
/// # Errors
/// [`ClientError`].
pub(super) fn config(ca_file: Option<&Path>) -> Result<ClientConfig, ClientError> {
    let mut roots = roots::system()?;
    if let Some(path) = ca_file {
        let unusable = || ClientError::CaFile(path.display().to_string());
        let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|_| unusable())?;
        if certificates.is_empty() {
            return Err(unusable());
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|_| unusable())?;
        }
    }
    if roots.is_empty() {
        return Err(ClientError::NoRoots);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ClientError::Library(error.into()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// What went wrong, and who mends it.
pub(super) fn words(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(certificate) => {
            format!("the receiver's certificate {}", certificate_words(certificate))
        }
        Error::NoCertificatesPresented => "the receiver shows no certificate".to_owned(),
        Error::InvalidMessage(_) => "what answers at this port does not speak TLS, or not as it should".to_owned(),
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the receiver wants a certificate of its client's, and we have none".to_owned()
        }
        Error::AlertReceived(AlertDescription::NoApplicationProtocol) | Error::NoApplicationProtocol => {
            "the receiver does not speak HTTP/1.1 at this port, perhaps HTTP/2 alone".to_owned()
        }
        Error::AlertReceived(alert) => {
            format!(
                "the receiver broke the handshake off with the alert {}: it may want other versions or ciphers",
                u8::from(*alert)
            )
        }
        Error::PeerIncompatible(_) => {
            "the receiver and we have no TLS version or cipher in common: TLS 1.2 or newer is needed".to_owned()
        }
        Error::PeerMisbehaved(_) => "the receiver does not keep to the TLS protocol".to_owned(),
        _ => "the TLS handshake failed".to_owned(),
    }
}

fn certificate_words(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "is not for the URL's host name"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "has expired: the receiver must renew it"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet: compare the clocks of both sides"
        }
        CertificateError::UnknownIssuer => {
            "is signed by an authority that is not trusted, or a certificate in between is missing; \
             `egress.ca_file` can add an authority"
        }
        CertificateError::Revoked => "was revoked",
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => "is not made for a server",
        _ => {
            "cannot be verified: it may be too weak, too old, or an authority's own. A server's that a public authority has \
             signed, or one in `egress.ca_file`, can"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_certificate_chose_are_not_quoted() {
        let expected = rustls::pki_types::ServerName::try_from("crm.example.com").unwrap();
        let presented = vec!["ann.example.org".to_owned()];
        let error = CertificateError::NotValidForNameContext { expected, presented };
        let said = words(&Error::InvalidCertificate(error));
        assert_eq!(said, "the receiver's certificate is not for the URL's host name");
    }
}
