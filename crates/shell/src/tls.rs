//! TLS for a server whose clients may be any programs: a certificate with its key, and what is asked of clients,
//! read from files and replaced as a whole when these change.
//!
//! TLS 1.2 is accepted too, and a client shows a certificate only if the settings ask for one. Streams between agents
//! are stricter and judge certificates by rules of their own, but read their files by [`Reloadable`], [`certificates`]
//! and [`private_key`] too.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{FileContents, Reloadable, Source};

/// Why a file of certificates or keys cannot be used.
#[derive(Debug, Error)]
#[error("{}: {problem}", path.display())]
pub struct TlsFileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, and what would be right.
    pub problem: String,
}

impl TlsFileError {
    /// An error about this file.
    #[must_use]
    pub fn new(path: &Path, problem: impl ToString) -> Self {
        Self { path: path.to_owned(), problem: problem.to_string() }
    }
}

/// The files of a server's certificate, and the protocols it speaks.
#[derive(Debug, Clone)]
pub struct ServerFiles {
    /// The chain in PEM form, the server's own certificate first.
    pub cert: PathBuf,
    /// The private key in PEM form.
    pub key: PathBuf,
    /// The authorities in PEM form, one of which has to have signed a client's certificate; without this file, no
    /// client is asked for one.
    pub client_ca: Option<PathBuf>,
    /// The application protocols on offer, the preferred one first (RFC 7301).
    pub alpn: &'static [&'static [u8]],
}

/// A server's TLS, kept up to date.
pub type ServerCredentials = Reloadable<ServerFiles>;

/// What a server's files hold.
#[derive(Debug)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    /// The end of the certificate's validity; `None` if it could not be read.
    pub not_after: Option<SystemTime>,
    /// The permissions of the key's file.
    pub key_mode: u32,
}

impl ServerTls {
    /// Accepts connections with this certificate.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }
}

impl Source for ServerFiles {
    type Value = ServerTls;
    type Error = TlsFileError;

    fn paths(&self) -> Vec<PathBuf> {
        let Self { cert, key, client_ca, .. } = self;
        [Some(cert), Some(key), client_ca.as_ref()].into_iter().flatten().cloned().collect()
    }

    fn unreadable(&self, path: &Path, error: io::Error) -> TlsFileError {
        TlsFileError::new(path, error)
    }

    fn parse(&self, files: &[FileContents]) -> Result<ServerTls, TlsFileError> {
        let [cert, key, client_ca @ ..] = files else {
            unreachable!("the files are those of `paths`: a certificate and a key at least")
        };
        let chain = certificates(cert)?;
        let not_after = not_after(&chain[0]);
        let private = private_key(key)?;
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| TlsFileError::new(&cert.path, e))?;
        let builder = match client_ca {
            [] => builder.with_no_client_auth(),
            [ca, ..] => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(ca)? {
                    roots.add(authority).map_err(|e| TlsFileError::new(&ca.path, e))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(
                    verifier.map_err(|e| TlsFileError::new(&ca.path, e))?,
                )
            }
        };
        let mut config = builder.with_single_cert(chain, private).map_err(|error| {
            if let rustls::Error::InconsistentKeys(_) = error {
                return TlsFileError::new(
                    &key.path,
                    format!("is not the key of {}", cert.path.display()),
                );
            }
            TlsFileError::new(&cert.path, error)
        })?;
        config.alpn_protocols = self.alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(ServerTls { config: Arc::new(config), not_after, key_mode: key.mode })
    }
}

/// The certificates of a file in PEM form, at least one.
///
/// # Errors
/// When there is none, or something in the file is cut short.
pub fn certificates(file: &FileContents) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&file.octets).collect();
    let read =
        read.map_err(|_| TlsFileError::new(&file.path, "is not whole, or not in PEM form"))?;
    if read.is_empty() {
        let problem = "holds no certificate in PEM form (BEGIN CERTIFICATE)";
        return Err(TlsFileError::new(&file.path, problem));
    }
    Ok(read)
}

/// The private key of a file in PEM form.
///
/// # Errors
/// When there is none.
pub fn private_key(file: &FileContents) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    PrivateKeyDer::from_pem_slice(&file.octets).map_err(|_| {
        TlsFileError::new(&file.path, "holds no whole private key in PEM form (BEGIN PRIVATE KEY)")
    })
}

fn not_after(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}
