//! TLS on the API's TCP listener: the certificate in use, replaced as a whole when its files change.
//!
//! Unlike streams between agents, clients are anybody's programs: TLS 1.2 is taken too, and a client shows
//! a certificate only if the settings ask for one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use dunlin_core::config::ApiTls;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

use crate::net::tls::{Certificate, ending};
use crate::watched::{self, Reload};

/// Why certificates cannot be used. What was in use stays so.
#[derive(Debug, Error)]
#[error("{}: {problem}", path.display())]
pub struct ApiTlsError {
    path: PathBuf,
    problem: String,
}

fn wrong(path: &Path, problem: impl ToString) -> ApiTlsError {
    ApiTlsError { path: path.to_owned(), problem: problem.to_string() }
}

/// The API's certificate and what is asked of clients.
#[derive(Debug)]
pub struct ApiCredentials {
    files: ApiTls,
    current: ArcSwap<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    sum: Vec<u8>,
    key_mode: u32,
    not_after: Option<SystemTime>,
    config: Arc<ServerConfig>,
}

impl ApiCredentials {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read, does not hold what it should, or they do not fit together.
    pub fn load(files: ApiTls) -> Result<Self, ApiTlsError> {
        let current = ArcSwap::from_pointee(Loaded::read(&files)?);
        Ok(Self { files, current })
    }

    /// What accepts connections now.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.load().config))
    }

    /// What to say when every user of this host can read the key.
    #[must_use]
    pub fn exposed_key(&self) -> Option<String> {
        let (path, mode) = (self.files.key.display(), self.current.load().key_mode);
        (mode & 0o007 != 0)
            .then(|| format!("every user of this host can read {path} (mode {mode:o})"))
    }
}

impl Loaded {
    fn read(files: &ApiTls) -> Result<Self, ApiTlsError> {
        let read = |path: &Path| watched::read(path).map_err(|e| wrong(path, e));
        let (cert, _) = read(&files.cert)?;
        let (key, key_mode) = read(&files.key)?;
        let key = Zeroizing::new(key);
        let client_ca =
            files.client_ca.as_deref().map(|path| read(path).map(|(pem, _)| (path, pem)));
        let client_ca = client_ca.transpose()?;
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [&cert, &*key].into_iter().chain(client_ca.as_ref().map(|(_, pem)| pem)) {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        let chain = certificates(&files.cert, &cert)?;
        let not_after = Certificate::read(&chain[0]).map(|c| c.not_after);
        let private = PrivateKeyDer::from_pem_slice(&key).map_err(|_| {
            wrong(&files.key, "holds no whole private key in PEM form (BEGIN PRIVATE KEY)")
        })?;
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| wrong(&files.cert, e))?;
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some((path, pem)) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(path, &pem)? {
                    roots.add(authority).map_err(|e| wrong(path, e))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|e| wrong(path, e))?)
            }
        };
        let mut config = builder.with_single_cert(chain, private).map_err(|error| {
            if let rustls::Error::InconsistentKeys(_) = error {
                return wrong(&files.key, format!("is not the key of {}", files.cert.display()));
            }
            wrong(&files.cert, error)
        })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let sum = context.finish().as_ref().to_vec();
        Ok(Self { sum, key_mode, not_after, config: Arc::new(config) })
    }
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ApiTlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|_| wrong(path, "is not whole, or not in PEM form"))?;
    if read.is_empty() {
        return Err(wrong(path, "holds no certificate in PEM form (BEGIN CERTIFICATE)"));
    }
    Ok(read)
}

impl Reload for ApiCredentials {
    const WHAT: &str = "certificate of the API";

    fn files(&self) -> Vec<PathBuf> {
        let ApiTls { cert, key, client_ca } = &self.files;
        [Some(cert), Some(key), client_ca.as_ref()].into_iter().flatten().cloned().collect()
    }

    fn reload(&self) -> Result<bool, String> {
        let new = Loaded::read(&self.files).map_err(|e| e.to_string())?;
        if new.sum == self.current.load().sum {
            return Ok(false);
        }
        self.current.store(Arc::new(new));
        Ok(true)
    }

    fn doubt(&self) -> Option<String> {
        let not_after = self.current.load().not_after?;
        ending(&not_after, SystemTime::now())
    }
}
