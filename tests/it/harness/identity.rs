//! [`Identity`]: what a TLS server shows: a certificate, signed by a CA made for it alone.

use std::sync::Arc;

use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

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
    /// Makes a CA, and signs a certificate for `names`. The CA has a name of its own: OpenSSL takes a certificate for
    /// self-signed whose issuer is called as itself.
    pub fn of(names: &[&str]) -> Self {
        Self::changed(names, |_| {})
    }

    /// The same with this change to the server's certificate.
    pub fn changed(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name.push(DnType::CommonName, "CA of one server");
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &ca).unwrap();
        Self { ca: ca.pem(), certificate, key }
    }

    /// A server of this identity.
    pub fn acceptor(&self) -> TlsAcceptor {
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der()).into();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}
