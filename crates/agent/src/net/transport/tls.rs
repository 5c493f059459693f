//! Streams between agents: TLS 1.3 alone, with certificates on both sides, and no way around them.
//!
//! An agent's certificate is signed by an authority of the cluster ([`issue`] makes both) and names its node in one
//! URI, `dunlin://ZONE/NODE`. A peer that shows such a certificate is that node; nothing else on the wire says which
//! node speaks. Sessions are never resumed, so each stream is judged by the certificates of its day. Which protocol
//! runs on a stream is agreed on by its name (ALPN, RFC 7301), and a stream without an agreed protocol is refused.
//!
//! [`SharedCredentials`] is what an agent holds: [`SharedCredentials::acceptor`] and
//! [`SharedCredentials::connector`] always use the newest certificate, and [`watch()`] keeps it up to date.

mod certificate;
mod credentials;
mod explain;
mod handshake;
pub mod issue;
mod shared;
mod stream;
mod verify;

use std::io;
use std::path::PathBuf;

use dunlin_shell::tls::TlsFileError;
use thiserror::Error;

pub(crate) use certificate::ending;
pub use certificate::{Certificate, PeerIdentity, Reason, SERVER_NAME};
pub use credentials::Credentials;
pub use explain::explain;
pub use handshake::HandshakeError;
pub use shared::{SharedCredentials, watch};
pub use stream::{Acceptor, Connector};
pub use verify::Refusal;

/// Why certificates cannot be used. The files are at fault; the certificates in use stay in use.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error(transparent)]
    Content(#[from] TlsFileError),
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
        /// The certificate's file.
        path: PathBuf,
        /// What other agents would say.
        refusal: Refusal,
    },
    /// The certificate is another node's.
    #[error(
        "{path} is the certificate of {found}, but this is {expected}; set node.name and node.zone, \
         or make a certificate with `dunlin tls cert create --node {} --zone {}`",
        expected.node, expected.zone, path = path.display()
    )]
    OtherNode {
        /// The certificate's file.
        path: PathBuf,
        /// The node that it names.
        found: PeerIdentity,
        /// The node that has the file.
        expected: PeerIdentity,
    },
}

#[cfg(test)]
pub(super) mod pki;
#[cfg(test)]
mod tests;
