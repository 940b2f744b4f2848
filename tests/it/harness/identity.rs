//! [`Identity`]: what a TLS server shows: a certificate, signed by a CA made for it alone.

use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// A server's certificate and key.
pub struct Identity {
    /// The CA's certificate, PEM: what clients are to trust.
    pub ca: String,
    /// The server's certificate.
    pub certificate: Certificate,
    /// The server's key.
    pub key: KeyPair,
}

impl Identity {
    /// Makes a CA, and signs a certificate for `names`.
    pub fn of(names: &[&str]) -> Self {
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &ca).unwrap();
        Self { ca: ca.pem(), certificate, key }
    }
}
