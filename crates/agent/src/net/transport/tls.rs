//! Streams between agents: TLS 1.3 alone, with certificates on both sides, and no way around them.
//!
//! An agent's certificate is signed by an authority of the cluster ([`issue`] makes both) and names its
//! node in one URI, `dunlin://ZONE/NODE`. Whoever shows such a certificate is that node; nothing else
//! on the wire says who speaks. Sessions are never resumed, so each stream is judged by the
//! certificates of its day.
//!
//! [`SharedCredentials`] is what an agent holds: [`SharedCredentials::acceptor`] and
//! [`SharedCredentials::connector`] always use the newest certificate, and [`watch()`] keeps it so.

mod certificate;
mod credentials;
mod explain;
pub mod issue;
mod shared;
mod stream;
mod verify;
mod watch;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

pub use certificate::{Certificate, PeerIdentity, SERVER_NAME};
pub use credentials::Credentials;
pub use explain::explain;
pub use shared::SharedCredentials;
pub use stream::{Acceptor, Connector};
pub use verify::{Reason, Refusal};
pub(crate) use watch::ending;
pub use watch::watch;

/// The application protocol that both sides must name (RFC 7301).
pub const ALPN: &[u8] = b"dunlin/1";

/// Why certificates cannot be used. Whoever wrote the files is at fault; what was in use stays so.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path}: {problem}", path = path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// The certificate and the key do not belong together.
    #[error(
        "{key} is not the key of {cert}; `dunlin tls cert create` writes both",
        key = key.display(), cert = cert.display()
    )]
    OtherKey {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// Other agents would refuse the certificate.
    #[error("{path}: {refusal}", path = path.display())]
    Refused {
        /// Its file.
        path: PathBuf,
        /// What they would say.
        refusal: Refusal,
    },
    /// It is another node's certificate.
    #[error(
        "{path} is the certificate of {found}, but this is {expected}; set node.name and node.zone, \
         or make a certificate with `dunlin tls cert create --node {} --zone {}`",
        expected.node, expected.zone, path = path.display()
    )]
    OtherNode {
        /// Its file.
        path: PathBuf,
        /// Whom it names.
        found: PeerIdentity,
        /// Who this is.
        expected: PeerIdentity,
    },
}

/// Why a stream did not come about.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// We do not take the peer's certificate.
    #[error("{peer}: {refusal}")]
    Refused {
        /// The peer's address.
        peer: SocketAddr,
        /// Which certificate, and why.
        refusal: Refusal,
    },
    /// Anything else, such as the peer not taking ours.
    #[error("{peer}: {}", explain(source))]
    Failed {
        /// The peer's address.
        peer: SocketAddr,
        /// What happened.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests;
