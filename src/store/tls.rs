//! TLS of the database's connections, with libpq's meanings of `database.tls`.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem, pem::PemObject as _},
};

use crate::{
    config::{Database, Tls},
    roots,
    shortage::Shortage,
};

/// Why there is no TLS configuration. The operator must act.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The CA file cannot be read, or is no PEM.
    #[error("database.tls_ca_file {path}: cannot be read as PEM certificates: make it readable for this user")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What the file system or the parser said.
        #[source]
        source: pem::Error,
    },
    /// The CA file has no certificate that could sign another.
    #[error("database.tls_ca_file {0}: holds no usable certificate: put the CA's certificate there")]
    EmptyCaFile(PathBuf),
    /// Its roots cannot be read just now.
    #[error("database.tls = verify-full: the system's trusted roots cannot be read: {0}")]
    Short(#[from] Shortage),
    /// The operating system trusts nobody.
    #[error(
        "database.tls = verify-full: the system has no trusted roots: install its CA certificates, or set database.tls_ca_file"
    )]
    NoRoots,
    /// rustls refused the settings.
    #[error("database.tls: cannot be set up")]
    Setup(#[from] rustls::Error),
}

/// The client's side of TLS as `database` wants it.
///
/// # Errors
/// [`TlsError`], when certificates are to be verified and there is nothing to verify them by.
pub(super) fn client_config(database: &Database) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match database.tls {
        Tls::VerifyFull => builder.with_root_certificates(roots(database)?),
        Tls::Disable | Tls::Prefer | Tls::Require => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        }
    };
    Ok(builder.with_no_client_auth())
}

fn roots(database: &Database) -> Result<RootCertStore, TlsError> {
    let Some(path) = &database.tls_ca_file else {
        let roots = roots::system()?;
        return if roots.is_empty() { Err(TlsError::NoRoots) } else { Ok(roots) };
    };
    let mut roots = RootCertStore::empty();
    let unreadable = |source| TlsError::CaFile { path: path.clone(), source };
    for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
        roots.add(certificate.map_err(unreadable)?).map_err(|_| TlsError::EmptyCaFile(path.clone()))?;
    }
    if roots.is_empty() { Err(TlsError::EmptyCaFile(path.clone())) } else { Ok(roots) }
}

/// Accepts whatever certificate the server shows, as libpq does for `prefer` and `require`.
///
/// The handshake's signature is verified all the same: channel binding of SCRAM then still proves that the server
/// holds the key of the certificate that it shows.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
