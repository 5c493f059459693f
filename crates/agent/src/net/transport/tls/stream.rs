//! Both ends of a stream: who connects and who accepts, each with the verdict about the other.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use dunlin_core::model::NodeName;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, CommonState, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::certificate::{PeerIdentity, SERVER_NAME};
use super::verify::{Authority, Refusal, Verifier};
use super::{ALPN, HandshakeError};

type Verdict = Arc<OnceLock<Result<PeerIdentity, Refusal>>>;

fn verifier(authority: &Arc<Authority>, expected: Option<NodeName>) -> (Arc<Verifier>, Verdict) {
    let verdict = Verdict::default();
    let authority = Arc::clone(authority);
    (Arc::new(Verifier { authority, expected, verdict: Arc::clone(&verdict) }), verdict)
}

/// Who is at the other end of a stream whose handshake is done.
fn conclude(
    peer: SocketAddr,
    verdict: &Verdict,
    state: &CommonState,
) -> Result<PeerIdentity, HandshakeError> {
    let failed = |what| HandshakeError::Failed { peer, source: io::Error::other(what) };
    // A peer that offers no protocol at all gets this far.
    if state.alpn_protocol() != Some(ALPN) {
        return Err(failed("the peer does not say that it speaks dunlin/1"));
    }
    match verdict.get() {
        Some(Ok(identity)) => Ok(identity.clone()),
        Some(Err(refusal)) => Err(HandshakeError::Refused { peer, refusal: refusal.clone() }),
        None => Err(failed("the peer showed no certificate")),
    }
}

/// Accepts streams from other agents. Cheap to clone; take a new one for each stream.
#[derive(Debug, Clone)]
pub struct Acceptor {
    authority: Arc<Authority>,
    key: Arc<SingleCertAndKey>,
    provider: Arc<CryptoProvider>,
}

impl Acceptor {
    pub(super) fn new(
        authority: &Arc<Authority>,
        key: &Arc<CertifiedKey>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, rustls::Error> {
        let key = Arc::new(SingleCertAndKey::from(Arc::clone(key)));
        let acceptor =
            Self { authority: Arc::clone(authority), key, provider: Arc::clone(provider) };
        // What could go wrong for one stream goes wrong here first.
        acceptor.config().map(|_| acceptor)
    }

    fn config(&self) -> Result<(ServerConfig, Verdict), rustls::Error> {
        let (verifier, verdict) = verifier(&self.authority, None);
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::<SingleCertAndKey>::clone(&self.key));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok((config, verdict))
    }

    /// Accepts a stream and says which node is at its other end. The caller sets the time limit.
    ///
    /// # Errors
    /// When either side does not take the other's certificate, or the peer does not speak our protocol.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        peer: SocketAddr,
    ) -> Result<(server::TlsStream<S>, PeerIdentity), HandshakeError> {
        let (config, verdict) = self.config().map_err(|e| failed(peer, e))?;
        match TlsAcceptor::from(Arc::new(config)).accept(stream).await {
            Ok(stream) => {
                let identity = conclude(peer, &verdict, stream.get_ref().1)?;
                Ok((stream, identity))
            }
            Err(error) => Err(refused(peer, &verdict, error)),
        }
    }
}

/// Opens streams to other agents. Cheap to clone; take a new one for each stream.
#[derive(Debug, Clone)]
pub struct Connector {
    authority: Arc<Authority>,
    config: Arc<ClientConfig>,
}

impl Connector {
    pub(super) fn new(
        authority: Arc<Authority>,
        key: Arc<CertifiedKey>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, rustls::Error> {
        let (verifier, _) = verifier(&authority, None);
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self { authority, config: Arc::new(config) })
    }

    /// Makes a stream to another agent: to `expected`, or to whatever node is there. The caller sets the
    /// time limit. In TLS 1.3 the other side judges our certificate only after this has returned: its
    /// refusal is the error of the first read, which [`explain`](super::explain()) puts into words.
    ///
    /// # Errors
    /// When the peer's certificate is not taken, or it does not speak our protocol.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        peer: SocketAddr,
        expected: Option<&NodeName>,
    ) -> Result<(client::TlsStream<S>, PeerIdentity), HandshakeError> {
        let (verifier, verdict) = verifier(&self.authority, expected.cloned());
        let mut config = ClientConfig::clone(&self.config);
        config.dangerous().set_certificate_verifier(verifier);
        let name = ServerName::try_from(SERVER_NAME).expect("a DNS name");
        match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
            Ok(stream) => {
                let identity = conclude(peer, &verdict, stream.get_ref().1)?;
                Ok((stream, identity))
            }
            Err(error) => Err(refused(peer, &verdict, error)),
        }
    }
}

fn failed(peer: SocketAddr, error: rustls::Error) -> HandshakeError {
    HandshakeError::Failed { peer, source: io::Error::new(io::ErrorKind::InvalidData, error) }
}

fn refused(peer: SocketAddr, verdict: &Verdict, source: io::Error) -> HandshakeError {
    match verdict.get() {
        Some(Err(refusal)) => HandshakeError::Refused { peer, refusal: refusal.clone() },
        Some(Ok(_)) | None => HandshakeError::Failed { peer, source },
    }
}
