//! Whether a peer's certificate is taken, for both ends of a stream.
//!
//! webpki judges the chain, its dates and its uses; this module adds that the certificate names exactly one node, and
//! the expected one. A refusal stops the handshake with an alert of its kind, and the words about it are kept for the
//! caller, since rustls's errors do not say which certificate was refused.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dunlin_core::model::NodeName;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use thiserror::Error as ThisError;

use super::certificate::{Certificate, PeerIdentity, Reason, SERVER_NAME};

/// A certificate that is not taken, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
#[error("the certificate {certificate} is refused: {reason}")]
pub struct Refusal {
    /// The subject of the certificate and, if it names one, the node.
    pub certificate: String,
    /// Why it is not taken.
    pub reason: Reason,
}

/// At which end of the stream the certificate's owner is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Client,
    Server,
}

/// The authorities of the cluster.
pub(super) struct Authority {
    clients: Arc<dyn ClientCertVerifier>,
    servers: Arc<WebPkiServerVerifier>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    pub(super) fn new(
        roots: RootCertStore,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let roots = Arc::new(roots);
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider));
        let servers = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider));
        Ok(Self {
            clients: clients.build().map_err(|e| e.to_string())?,
            servers: servers.build().map_err(|e| e.to_string())?,
        })
    }

    /// The node that a certificate stands for, or why it is refused.
    pub(super) fn inspect(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        role: Role,
        now: UnixTime,
        expected: Option<&NodeName>,
    ) -> Result<PeerIdentity, Refused> {
        let Some(certificate) = Certificate::read(end_entity) else {
            let refusal = Refusal { certificate: "(?)".to_owned(), reason: Reason::Unreadable };
            return Err(Refused { refusal, error: CertificateError::BadEncoding.into() });
        };
        let refused = |reason, error| {
            let refusal = Refusal { certificate: certificate.to_string(), reason };
            Err(Refused { refusal, error })
        };
        // Sends the alert access_denied: the chain is good, but not for this.
        let denied = CertificateError::ApplicationVerificationFailure;
        let chain = match role {
            Role::Client => {
                self.clients.verify_client_cert(end_entity, intermediates, now).map(|_| ())
            }
            Role::Server => {
                let name = ServerName::try_from(SERVER_NAME).expect("a DNS name");
                let servers = &self.servers;
                servers.verify_server_cert(end_entity, intermediates, &name, &[], now).map(|_| ())
            }
        };
        if let Err(error) = chain {
            let reason = reason(&error, &certificate, now);
            let error = if reason == Reason::NoName {
                denied.into()
            } else if let Reason::OtherAuthority { .. } = reason {
                // Two authorities may bear one name; to the peer it is all the same.
                CertificateError::UnknownIssuer.into()
            } else {
                error
            };
            return refused(reason, error);
        }
        match &certificate.identity {
            Err(reason) => refused(reason.clone(), denied.into()),
            Ok(identity) => match expected {
                Some(expected) if *expected != identity.node => {
                    refused(Reason::OtherNode { expected: expected.clone() }, denied.into())
                }
                Some(_) | None => Ok(identity.clone()),
            },
        }
    }
}

/// A refusal, and the error by which rustls chooses the alert for the peer.
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    error: Error,
}

fn reason(error: &Error, certificate: &Certificate, now: UnixTime) -> Reason {
    // The dates of the certificate itself; those of one in between are told in the library's words.
    let now: SystemTime = UNIX_EPOCH + Duration::from_secs(now.as_secs());
    if let Err(reason) = certificate.check_time(now) {
        return reason;
    }
    let Error::InvalidCertificate(problem) = error else { return Reason::Other(error.to_string()) };
    let is_name = matches!(
        problem,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
    );
    if *problem == CertificateError::UnknownIssuer || *problem == CertificateError::BadSignature {
        return Reason::OtherAuthority { issuer: certificate.issuer.clone() };
    }
    if is_name { Reason::NoName } else { Reason::Other(problem.to_string()) }
}

/// Judges the peer of one stream, and keeps the verdict.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) authority: Arc<Authority>,
    /// The node that must be at the other end; any node may be there if none is given.
    pub(super) expected: Option<NodeName>,
    pub(super) verdict: Arc<OnceLock<Result<PeerIdentity, Refusal>>>,
}

impl Verifier {
    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        role: Role,
        now: UnixTime,
    ) -> Result<(), Error> {
        let expected = self.expected.as_ref();
        let found = self.authority.inspect(end_entity, intermediates, role, now, expected);
        let (verdict, result) = match found {
            Ok(identity) => (Ok(identity), Ok(())),
            Err(Refused { refusal, error }) => (Err(refusal), Err(error)),
        };
        // One stream, one handshake: there is no verdict yet.
        let _ = self.verdict.set(verdict);
        result
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(end_entity, intermediates, Role::Server, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authority.servers.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authority.servers.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authority.servers.supported_verify_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.authority.clients.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(end_entity, intermediates, Role::Client, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authority.clients.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authority.clients.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authority.clients.supported_verify_schemes()
    }
}
