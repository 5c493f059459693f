//! Both ends of a TLS stream, each with the verdict about the other end's certificate.

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
use super::handshake::HandshakeError;
use super::verify::{Authority, Refusal, Verifier};
use crate::net::transport::protocol::Protocol;

type Verdict = Arc<OnceLock<Result<PeerIdentity, Refusal>>>;

fn verifier(authority: &Arc<Authority>, expected: Option<NodeName>) -> (Arc<Verifier>, Verdict) {
    let verdict = Verdict::default();
    let authority = Arc::clone(authority);
    (Arc::new(Verifier { authority, expected, verdict: Arc::clone(&verdict) }), verdict)
}

/// One handshake: with which address, about which protocols, and what the verifier found.
struct Handshake<'a> {
    peer: SocketAddr,
    protocols: &'a [Protocol],
    verdict: Verdict,
}

impl Handshake<'_> {
    /// The node at the other end and the protocol that it speaks, once TLS is done.
    fn conclude(&self, state: &CommonState) -> Result<(PeerIdentity, Protocol), HandshakeError> {
        let peer = self.peer;
        let agreed = state.alpn_protocol();
        // A peer that offers no protocol at all gets this far.
        let Some(protocol) = self.protocols.iter().find(|ours| Some(ours.as_bytes()) == agreed)
        else {
            return Err(HandshakeError::no_protocol(peer, self.protocols));
        };
        match self.verdict.get() {
            Some(Ok(identity)) => Ok((identity.clone(), *protocol)),
            Some(Err(refusal)) => Err(HandshakeError::Refused { peer, refusal: refusal.clone() }),
            None => {
                let source = io::Error::other("the peer showed no certificate");
                Err(HandshakeError::Failed { peer, source })
            }
        }
    }

    /// Why TLS failed; the verifier's own words come first.
    fn failure(&self, source: io::Error) -> HandshakeError {
        match self.verdict.get() {
            Some(Err(refusal)) => {
                HandshakeError::Refused { peer: self.peer, refusal: refusal.clone() }
            }
            Some(Ok(_)) | None => HandshakeError::from_io(self.peer, self.protocols, source),
        }
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
        // Whatever could go wrong for one stream goes wrong here first.
        acceptor.config(&[]).map(|_| acceptor)
    }

    fn config(&self, protocols: &[Protocol]) -> Result<(ServerConfig, Verdict), rustls::Error> {
        let (verifier, verdict) = verifier(&self.authority, None);
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::<SingleCertAndKey>::clone(&self.key));
        config.alpn_protocols = octets_of(protocols);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok((config, verdict))
    }

    /// Accepts a stream of one of these protocols, and says which node is at its other end and which protocol both
    /// sides agreed on. The caller sets the time limit.
    ///
    /// # Errors
    /// When either side does not take the other's certificate, or the peer speaks none of the protocols.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        peer: SocketAddr,
        protocols: &[Protocol],
    ) -> Result<(server::TlsStream<S>, PeerIdentity, Protocol), HandshakeError> {
        let (config, verdict) = self.config(protocols).map_err(|error| {
            let source = io::Error::new(io::ErrorKind::InvalidData, error);
            HandshakeError::Failed { peer, source }
        })?;
        let handshake = Handshake { peer, protocols, verdict };
        match TlsAcceptor::from(Arc::new(config)).accept(stream).await {
            Ok(stream) => {
                let (identity, protocol) = handshake.conclude(stream.get_ref().1)?;
                Ok((stream, identity, protocol))
            }
            Err(error) => Err(handshake.failure(error)),
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
        config.resumption = Resumption::disabled();
        Ok(Self { authority, config: Arc::new(config) })
    }

    /// Opens a stream of this protocol to another agent: to `expected`, or to the agent of any node. The caller sets
    /// the time limit. In TLS 1.3 the other side judges our certificate only after this has returned: its refusal is
    /// the error of the first read, which [`explain`](super::explain()) puts into words.
    ///
    /// # Errors
    /// When the peer's certificate is not taken, or the peer does not speak the protocol.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        peer: SocketAddr,
        protocol: Protocol,
        expected: Option<&NodeName>,
    ) -> Result<(client::TlsStream<S>, PeerIdentity), HandshakeError> {
        let (verifier, verdict) = verifier(&self.authority, expected.cloned());
        let protocols = [protocol];
        let mut config = ClientConfig::clone(&self.config);
        config.dangerous().set_certificate_verifier(verifier);
        config.alpn_protocols = octets_of(&protocols);
        let handshake = Handshake { peer, protocols: &protocols, verdict };
        let name = ServerName::try_from(SERVER_NAME).expect("a DNS name");
        match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
            Ok(stream) => {
                let (identity, _) = handshake.conclude(stream.get_ref().1)?;
                Ok((stream, identity))
            }
            Err(error) => Err(handshake.failure(error)),
        }
    }
}

fn octets_of(protocols: &[Protocol]) -> Vec<Vec<u8>> {
    protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect()
}
