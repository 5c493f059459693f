//! What a client shows to an agent, and which authorities it trusts.

use std::fmt;
use std::io;
use std::sync::Arc;

use hyper::header::HeaderValue;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// A token, and the settings of TLS; neither unless it is given. Cheap to clone.
#[derive(Clone, Default)]
pub struct Credentials {
    token: Option<HeaderValue>,
    tls: Option<Arc<ClientConfig>>,
}

/// Shows whether there is something, never what it is.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (token, tls) = (self.token.is_some(), self.tls.is_some());
        f.debug_struct("Credentials").field("token", &token).field("tls", &tls).finish()
    }
}

/// Why credentials cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CredentialsError {
    /// A token holds what no header can.
    #[error("the token holds characters that cannot be sent")]
    Token,
    /// A text does not hold certificates.
    #[error("{0} holds no whole certificate in PEM form (BEGIN CERTIFICATE)")]
    Certificate(&'static str),
    /// A text does not hold a key.
    #[error("the key is not whole, or not in PEM form (BEGIN PRIVATE KEY)")]
    Key,
    /// The certificates and the key do not fit together.
    #[error("{0}")]
    Tls(String),
}

impl Credentials {
    /// The same with a token.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn with_token(self, token: &str) -> Result<Self, CredentialsError> {
        let value = HeaderValue::try_from(format!("Bearer {}", token.trim()));
        let mut value = value.map_err(|_| CredentialsError::Token)?;
        value.set_sensitive(true);
        Ok(Self { token: Some(value), ..self })
    }

    /// The same with authorities (PEM) that sign the agent's certificate, and, where the agent asks for one,
    /// a certificate of its own with the key (both PEM).
    ///
    /// # Errors
    /// When something of it is not in PEM form, or does not fit together.
    pub fn with_tls(
        self,
        authorities: &[u8],
        own: Option<(&[u8], &[u8])>,
    ) -> Result<Self, CredentialsError> {
        let tls = |e: tokio_rustls::rustls::Error| CredentialsError::Tls(e.to_string());
        let mut roots = RootCertStore::empty();
        for authority in certificates(authorities, "the authority")? {
            roots.add(authority).map_err(tls)?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(tls)?;
        let builder = builder.with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate, "the own certificate")?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CredentialsError::Key)?;
                builder.with_client_auth_cert(chain, key).map_err(tls)?
            }
        };
        Ok(Self { tls: Some(Arc::new(config)), ..self })
    }

    /// What to send as `Authorization`.
    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        self.token.as_ref()
    }

    /// Speaks TLS with the agent at `host:port`.
    pub(super) async fn connect(&self, authority: &str) -> io::Result<TlsStream<TcpStream>> {
        let config = self.tls.clone().ok_or_else(|| {
            io::Error::other("https needs the authority that signed the agent's certificate")
        })?;
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        let stream = TcpStream::connect(authority).await?;
        TlsConnector::from(config).connect(name, stream).await
    }
}

fn certificates(
    pem: &[u8],
    what: &'static str,
) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    read.ok().filter(|all| !all.is_empty()).ok_or(CredentialsError::Certificate(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_printed() {
        let shown = Credentials::default().with_token("dunlin_secret\n").unwrap();
        assert!(!format!("{shown:?}").contains("secret"));
        assert!(!format!("{:?}", shown.authorization()).contains("secret"));
        assert_eq!(shown.authorization().unwrap().to_str().unwrap(), "Bearer dunlin_secret");
        let error = Credentials::default().with_token("two\nlines").unwrap_err();
        assert_eq!(error, CredentialsError::Token);
    }

    #[test]
    fn what_is_not_pem_is_said_by_its_name() {
        let error = Credentials::default().with_tls(b"", None).unwrap_err();
        assert_eq!(error, CredentialsError::Certificate("the authority"));
    }
}
