//! The certification authority of `receive`: made once, kept in two files, and good for this host's own names alone, so that
//! whoever finds its key can pretend to be nobody else.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    net::Ipv6Addr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CidrSubnet, DnType, GeneralSubtree, IsCa, KeyPair,
    KeyUsagePurpose, NameConstraints,
};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

/// Why there is no authority, or no server of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuthorityError {
    #[error("{place}: {1}", place = .0.display())]
    File(PathBuf, io::Error),
    #[error("{place}: not a private key that `receive` has made ({1}): remove it, or give another --ca-file", place = .0.display())]
    Key(PathBuf, rcgen::Error),
    #[error("{place}: is there, and its private key, {key}, is not: remove it, or give another --ca-file",
        place = .0.display(), key = .1.display())]
    NoKey(PathBuf, PathBuf),
    #[error("{place}: is where the private key would be: give another --ca-file", place = .0.display())]
    SameFile(PathBuf),
    #[error("no certificate can be made: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("no TLS server can be made: {0}")]
    Tls(#[from] rustls::Error),
}

/// The authority.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Whether it was made just now.
    pub(super) is_new: bool,
}

impl Authority {
    /// The one of `certificate` and the private key beside it; what is missing is made.
    pub(super) fn at(certificate: &Path) -> Result<Self, AuthorityError> {
        let file = certificate.with_extension("key");
        if file == certificate {
            return Err(AuthorityError::SameFile(file));
        }
        let (key, is_new) = match fs::read_to_string(&file).map(Zeroizing::new) {
            Ok(text) => (KeyPair::from_pem(&text).map_err(|error| AuthorityError::Key(file.clone(), error))?, false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Somebody else's, perhaps.
                if certificate.exists() {
                    return Err(AuthorityError::NoKey(certificate.to_owned(), file));
                }
                let key = KeyPair::generate()?;
                let text = Zeroizing::new(key.serialize_pem());
                write(&file, 0o600, &text).map_err(|error| AuthorityError::File(file, error))?;
                (key, true)
            }
            Err(error) => return Err(AuthorityError::File(file, error)),
        };
        let issuer = CertifiedIssuer::self_signed(params(), key)?;
        if !certificate.exists() {
            let write = write(certificate, 0o644, &issuer.pem());
            write.map_err(|error| AuthorityError::File(certificate.to_owned(), error))?;
        }
        Ok(Self { issuer, is_new })
    }

    /// A TLS server with a certificate of this authority's for `localhost` and its addresses.
    pub(super) fn server(&self) -> Result<TlsAcceptor, AuthorityError> {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(names)?.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(certificate)], key)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// What its certificate says, the same at each start.
fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "lead-webhook receive, this host only");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![
            GeneralSubtree::DnsName("localhost".to_owned()),
            GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([127, 0, 0, 0], 8)),
            GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix(Ipv6Addr::LOCALHOST.octets(), 128)),
        ],
        excluded_subtrees: Vec::new(),
    });
    params
}

/// Never over what is there.
fn write(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rustls::{
        RootCertStore,
        client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
        pki_types::{ServerName, UnixTime},
    };

    use super::*;

    #[test]
    fn whoever_has_its_key_can_pretend_to_be_this_host_alone() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::at(&folder.path().join("ca.pem")).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(authority.issuer.der().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let is_taken = |name: &str| {
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            let certificate = params.signed_by(&KeyPair::generate().unwrap(), &authority.issuer).unwrap();
            let name = ServerName::try_from(name.to_owned()).unwrap();
            verifier.verify_server_cert(certificate.der(), &[], &name, &[], UnixTime::now()).is_ok()
        };
        assert!(["localhost", "127.0.0.1", "::1"].into_iter().all(is_taken));
        assert!(!["example.com", "10.0.0.1", "fe80::1"].into_iter().any(is_taken));
    }

    #[test]
    fn it_is_made_once_with_a_private_key_that_nobody_else_reads() {
        let folder = tempfile::tempdir().unwrap();
        let certificate = folder.path().join("ca.pem");
        assert!(Authority::at(&certificate).unwrap().is_new);
        let made = fs::read_to_string(&certificate).unwrap();
        let key = folder.path().join("ca.key");
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!Authority::at(&certificate).unwrap().is_new);
        assert_eq!(fs::read_to_string(&certificate).unwrap(), made);
        // Its certificate is made anew, by the same key, which daemons trust already.
        fs::remove_file(&certificate).unwrap();
        assert!(!Authority::at(&certificate).unwrap().is_new);
        fs::remove_file(&key).unwrap();
        let error = Authority::at(&certificate).err().unwrap().to_string();
        assert!(error.contains("ca.key, is not: remove it") && certificate.exists(), "{error}");
        let same = Authority::at(&key).err().unwrap().to_string();
        assert!(same.contains("--ca-file"), "{same}");
        fs::write(&key, "no key").unwrap();
        let error = Authority::at(&certificate).err().unwrap().to_string();
        assert!(error.contains("ca.key") && error.contains("remove it"), "{error}");
    }
}
