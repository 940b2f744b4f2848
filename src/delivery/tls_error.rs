//! A failed TLS handshake in our own words: the library's quote names that a receiver's certificate chose.

use rustls::{CertificateError, Error};

/// What went wrong, and who mends it.
pub(super) fn words(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(certificate) => {
            format!("the receiver's certificate {}", certificate_words(certificate))
        }
        Error::NoCertificatesPresented => "the receiver shows no certificate".to_owned(),
        Error::InvalidMessage(_) => "what answers at this port does not speak TLS, or not as it should".to_owned(),
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
            "cannot be verified: a certificate of a public authority, or one whose authority stands in `egress.ca_file`, can"
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
