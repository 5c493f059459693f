//! What an agent shows to peers and which certificates it takes: its certificate with the key, and the authorities.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dunlin_core::config::ClusterTls;
use dunlin_core::model::{NodeName, ZoneName};
use dunlin_shell::tls::{TlsFileError, certificates, private_key};
use dunlin_shell::{FileContents, Reloadable, Source, open_to_all};
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::sign::CertifiedKey;

use super::TlsError;
use super::certificate::{Certificate, PeerIdentity};
use super::stream::{Acceptor, Connector};
use super::verify::{Authority, Refusal, Role};

/// The files that hold an agent's credentials.
#[derive(Debug)]
pub(super) struct CredentialFiles {
    pub(super) files: ClusterTls,
    /// The node that the certificate has to name; without one, it may name any node.
    pub(super) owner: Option<PeerIdentity>,
}

impl Source for CredentialFiles {
    type Value = Credentials;
    type Error = TlsError;

    fn paths(&self) -> Vec<PathBuf> {
        let ClusterTls { ca, cert, key } = self.files.clone();
        vec![ca, cert, key]
    }

    fn unreadable(&self, path: &Path, source: io::Error) -> TlsError {
        TlsError::Read { path: path.to_owned(), source }
    }

    fn parse(&self, files: &[FileContents]) -> Result<Credentials, TlsError> {
        let [ca, cert, key] = files else { unreachable!("`paths` names three files") };
        let credentials = Credentials::parse(ca, cert, key)?;
        if let Some(PeerIdentity { node, zone }) = &self.owner {
            credentials.check_node(node, zone)?;
        }
        Ok(credentials)
    }

    fn check_replacement(&self, new: &Credentials) -> Result<(), TlsError> {
        new.check_time(SystemTime::now())
    }
}

/// A certificate with its key and authorities, checked against each other.
#[derive(Debug)]
pub struct Credentials {
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
    pub fn load(files: &ClusterTls) -> Result<Arc<Self>, TlsError> {
        let source = CredentialFiles { files: files.clone(), owner: None };
        Reloadable::load(source).map(|loaded| loaded.current())
    }

    fn parse(ca: &FileContents, cert: &FileContents, key: &FileContents) -> Result<Self, TlsError> {
        let provider = Arc::new(provider::default_provider());
        let authority = Arc::new(authority(ca, &provider)?);
        let chain = certificates(cert)?;
        let certificate = Certificate::read(&chain[0]).ok_or_else(|| {
            TlsFileError::new(&cert.path, "the first certificate in it cannot be read")
        })?;
        let identity = check_chain(&cert.path, &chain, &certificate, &authority)?;
        let certified = certified_key(cert, key, chain, &provider)?;
        let failed = |e: rustls::Error| TlsFileError::new(&cert.path, e);
        Ok(Self {
            path: cert.path.clone(),
            identity,
            certificate,
            key_path: key.path.clone(),
            key_mode: key.mode,
            acceptor: Acceptor::new(&authority, &certified, &provider).map_err(failed)?,
            connector: Connector::new(authority, certified, provider).map_err(failed)?,
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
        open_to_all(&self.key_path, self.key_mode, 0o007)
    }

    pub(super) fn acceptor(&self) -> Acceptor {
        self.acceptor.clone()
    }

    pub(super) fn connector(&self) -> Connector {
        self.connector.clone()
    }
}

fn authority(
    file: &FileContents,
    provider: &Arc<CryptoProvider>,
) -> Result<Authority, TlsFileError> {
    let wrong = |problem: String| TlsFileError::new(&file.path, problem);
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        let read = Certificate::read(&certificate);
        if let Some(leaf) = read.filter(|c| !c.is_authority) {
            return Err(wrong(format!(
                "holds {leaf}, which is not the certificate of an authority; \
                 `dunlin tls ca create` makes one"
            )));
        }
        roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
    }
    Authority::new(roots, provider).map_err(wrong)
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
    cert: &FileContents,
    key: &FileContents,
    chain: Vec<CertificateDer<'static>>,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let certified = CertifiedKey::from_der(chain, private_key(key)?, provider);
    certified.map(Arc::new).map_err(|error| {
        if let rustls::Error::InconsistentKeys(_) = error {
            return TlsError::OtherKey { cert: cert.path.clone(), key: key.path.clone() };
        }
        TlsFileError::new(&key.path, error).into()
    })
}
