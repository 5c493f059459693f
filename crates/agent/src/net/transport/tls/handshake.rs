//! Why a TLS handshake failed.

use std::io;
use std::net::SocketAddr;

use rustls::AlertDescription;
use thiserror::Error;

use super::explain::{explain, tls_cause};
use super::verify::Refusal;
use crate::net::transport::protocol::Protocol;

/// Why a stream did not come about.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// We do not take the peer's certificate.
    #[error("{peer}: {refusal}")]
    Refused {
        /// The peer's address.
        peer: SocketAddr,
        /// Which certificate is refused, and why.
        refusal: Refusal,
    },
    /// The peer speaks none of our protocols.
    #[error("{peer}: the peer does not speak {ours}")]
    OtherProtocol {
        /// The peer's address.
        peer: SocketAddr,
        /// The names of our protocols.
        ours: String,
    },
    /// The peer names no protocol at all.
    #[error("{peer}: the peer does not say that it speaks {ours}")]
    NoProtocol {
        /// The peer's address.
        peer: SocketAddr,
        /// The names of our protocols.
        ours: String,
    },
    /// Anything else, for example that the peer does not take our certificate.
    #[error("{peer}: {}", explain(source))]
    Failed {
        /// The peer's address.
        peer: SocketAddr,
        /// What happened.
        source: io::Error,
    },
}

impl HandshakeError {
    /// What it means that TLS failed in this way while these protocols were offered.
    pub(super) fn from_io(peer: SocketAddr, protocols: &[Protocol], source: io::Error) -> Self {
        const ALERT: rustls::Error =
            rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol);
        let ours = || Protocol::either(protocols);
        match tls_cause(&source) {
            Some(rustls::Error::NoApplicationProtocol) => {
                Self::OtherProtocol { peer, ours: ours() }
            }
            Some(alert) if *alert == ALERT => {
                Self::OtherProtocol { peer, ours: format!("{} on this port", ours()) }
            }
            Some(_) | None => Self::Failed { peer, source },
        }
    }

    pub(super) fn no_protocol(peer: SocketAddr, protocols: &[Protocol]) -> Self {
        Self::NoProtocol { peer, ours: Protocol::either(protocols) }
    }

    /// Whether both sides have no protocol in common.
    #[must_use]
    pub fn is_about_protocol(&self) -> bool {
        match self {
            Self::OtherProtocol { .. } | Self::NoProtocol { .. } => true,
            Self::Refused { .. } | Self::Failed { .. } => false,
        }
    }
}
