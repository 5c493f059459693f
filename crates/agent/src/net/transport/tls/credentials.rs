//! What an agent shows to peers and which certificates it takes: its certificate with the key, and the authorities.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use dunlin_core::config::ClusterTls;
use dunlin_core::model::{NodeName, ZoneName};
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::TlsError;
use super::certificate::{Certificate, PeerIdentity};
use super::stream::{Acceptor, Connector};
use super::verify::{Authority, Refusal, Role};

/// The three files as they were read, before anything is made of them.
pub(super) struct Contents {
    ca: Vec<u8>,
    cert: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    /// The key's permissions, e.g. `0o600`.
    key_mode: u32,
}

impl Contents {
    pub(super) fn read(files: &ClusterTls) -> Result<Self, TlsError> {
        let (ca, _) = read(&files.ca)?;
        let (cert, _) = read(&files.cert)?;
        let (key, key_mode) = read(&files.key)?;
        Ok(Self { ca, cert, key: Zeroizing::new(key), key_mode })
    }

    /// A digest that tells one state of the files from another, so that the files need not be kept.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [&self.ca, &self.cert, &*self.key] {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        Fingerprint(context.finish().as_ref().to_vec())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fingerprint(Vec<u8>);

fn read(path: &Path) -> Result<(Vec<u8>, u32), TlsError> {
    dunlin_shell::read_file(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

/// A certificate with its key and authorities, checked against each other.
#[derive(Debug)]
pub struct Credentials {
    pub(super) fingerprint: Fingerprint,
    path: PathBuf,
    identity: PeerIdentity,
    certificate: Certificate,
    key_path: PathBuf,
    key_mode: u32,
    acceptor: Acceptor,
    connector: Connector,
}

impl Credentials {
    /// Reads the files and checks that they fit together: the key is the certificate's, one of the authorities signed
    /// the certificate for both ends of a stream, and the certificate names one node. The dates of the certificate are
    /// not judged here ([`Credentials::check_time`]), since an agent starts with an expired one, too.
    ///
    /// # Errors
    /// The first thing that is wrong, with the file at fault.
    pub fn load(files: &ClusterTls) -> Result<Self, TlsError> {
        Self::from_contents(files, &Contents::read(files)?)
    }

    pub(super) fn from_contents(files: &ClusterTls, contents: &Contents) -> Result<Self, TlsError> {
        let provider = Arc::new(provider::default_provider());
        let authority = Arc::new(authority(&files.ca, &contents.ca, &provider)?);
        let chain = certificates(&files.cert, &contents.cert)?;
        let certificate = Certificate::read(&chain[0]).ok_or_else(|| TlsError::Content {
            path: files.cert.clone(),
            problem: "the first certificate in it cannot be read".to_owned(),
        })?;
        let identity = check_chain(&files.cert, &chain, &certificate, &authority)?;
        let key = certified_key(files, chain, &contents.key, &provider)?;
        let failed = |e: rustls::Error| TlsError::Content {
            path: files.cert.clone(),
            problem: e.to_string(),
        };
        Ok(Self {
            fingerprint: contents.fingerprint(),
            path: files.cert.clone(),
            identity,
            certificate,
            key_path: files.key.clone(),
            key_mode: contents.key_mode,
            acceptor: Acceptor::new(&authority, &key, &provider).map_err(failed)?,
            connector: Connector::new(authority, key, provider).map_err(failed)?,
        })
    }

    /// The node that the certificate names.
    #[must_use]
    pub fn identity(&self) -> &PeerIdentity {
        &self.identity
    }

    /// What the certificate says.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The last moment at which the certificate is valid.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.certificate.not_after
    }

    /// Whether the certificate ends within this time, or has ended already.
    #[must_use]
    pub fn expires_within(&self, time: Duration, now: SystemTime) -> bool {
        self.certificate.left(now) <= time
    }

    /// Checks that the certificate is this node's.
    ///
    /// # Errors
    /// When it names another node or zone; the error says both.
    pub fn check_node(&self, node: &NodeName, zone: &ZoneName) -> Result<(), TlsError> {
        let expected = PeerIdentity { node: node.clone(), zone: zone.clone() };
        if self.identity == expected {
            return Ok(());
        }
        let (path, found) = (self.path.clone(), self.identity.clone());
        Err(TlsError::OtherNode { path, found, expected })
    }

    /// Checks the dates of the certificate.
    ///
    /// # Errors
    /// When it is not valid yet, or has expired.
    pub fn check_time(&self, now: SystemTime) -> Result<(), TlsError> {
        self.certificate.check_time(now).map_err(|reason| {
            let refusal = Refusal { certificate: self.certificate.to_string(), reason };
            TlsError::Refused { path: self.path.clone(), refusal }
        })
    }

    /// A warning for people, if every user of this host can read the key.
    #[must_use]
    pub fn exposed_key(&self) -> Option<String> {
        let path = self.key_path.display();
        let mode = self.key_mode;
        (mode & 0o007 != 0)
            .then(|| format!("every user of this host can read {path} (mode {mode:o})"))
    }

    pub(super) fn acceptor(&self) -> Acceptor {
        self.acceptor.clone()
    }

    pub(super) fn connector(&self) -> Connector {
        self.connector.clone()
    }
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content = |problem: String| TlsError::Content { path: path.to_owned(), problem };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates =
        certificates.map_err(|_| content("is not whole, or not in PEM form".to_owned()))?;
    if certificates.is_empty() {
        return Err(content("holds no certificate in PEM form (BEGIN CERTIFICATE)".to_owned()));
    }
    Ok(certificates)
}

fn authority(
    path: &Path,
    pem: &[u8],
    provider: &Arc<CryptoProvider>,
) -> Result<Authority, TlsError> {
    let content = |problem: String| TlsError::Content { path: path.to_owned(), problem };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, pem)? {
        let read = Certificate::read(&certificate);
        if let Some(leaf) = read.filter(|c| !c.is_authority) {
            return Err(content(format!(
                "holds {leaf}, which is not the certificate of an authority; \
                 `dunlin tls ca create` makes one"
            )));
        }
        roots.add(certificate).map_err(|e| content(e.to_string()))?;
    }
    Authority::new(roots, provider).map_err(content)
}

/// Checks the own chain as peers will, at a time when the certificate is valid.
fn check_chain(
    path: &Path,
    chain: &[CertificateDer<'static>],
    certificate: &Certificate,
    authority: &Authority,
) -> Result<PeerIdentity, TlsError> {
    let earliest = certificate.not_before.min(certificate.not_after);
    let now = SystemTime::now().clamp(earliest, certificate.not_after);
    let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
    let inspect = |role| {
        let found = authority.inspect(&chain[0], &chain[1..], role, now, None);
        found.map_err(|r| TlsError::Refused { path: path.to_owned(), refusal: r.refusal })
    };
    inspect(Role::Client)?;
    inspect(Role::Server)
}

fn certified_key(
    files: &ClusterTls,
    chain: Vec<CertificateDer<'static>>,
    pem: &[u8],
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let content = |problem: String| TlsError::Content { path: files.key.clone(), problem };
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        content("holds no whole private key in PEM form (BEGIN PRIVATE KEY)".to_owned())
    })?;
    CertifiedKey::from_der(chain, key, provider).map(Arc::new).map_err(|error| {
        if let rustls::Error::InconsistentKeys(_) = error {
            return TlsError::OtherKey { cert: files.cert.clone(), key: files.key.clone() };
        }
        content(error.to_string())
    })
}
