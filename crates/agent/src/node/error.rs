//! Why an agent cannot start.

use std::fmt::Display;
use std::io;

use thiserror::Error;

/// Why an agent cannot start.
#[derive(Debug, Error)]
pub enum NodeError {
    /// The data directory cannot be used.
    #[error("data directory: {0}")]
    Store(#[from] crate::store::StoreError),
    /// The driver cannot start.
    #[error(transparent)]
    Driver(#[from] crate::driver::StartError),
    /// A listener cannot be opened.
    #[error("{what} cannot listen on {address}: {source}{}", hint(source))]
    Listen {
        /// The server that would have listened.
        what: &'static str,
        /// The address, or the path of a local socket.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// DNS cannot start.
    #[error("DNS: {0}")]
    Dns(#[from] crate::dns::DnsError),
    /// The domain cannot be served.
    #[error("dns.domain {0:?} is too long to make names in it")]
    Domain(String),
    /// The certificates cannot be used.
    #[error("cluster.tls: {0}")]
    Tls(#[from] crate::net::tls::TlsError),
    /// The file of tokens cannot be used.
    #[error("api.tokens_file: {0}")]
    Tokens(#[from] crate::access::TokensError),
    /// The API's certificate cannot be used.
    #[error("api.tls: {0}")]
    ApiTls(#[from] crate::http::ApiTlsError),
    /// The API would listen where everybody can reach it, without anything that tells callers apart.
    #[error("api.listen {0}")]
    Exposed(String),
    /// The system refused something else.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl NodeError {
    /// Makes the error of a listener from what the system said.
    pub(super) fn listen(what: &'static str, address: impl Display) -> impl Fn(io::Error) -> Self {
        move |source| Self::Listen { what, address: address.to_string(), source }
    }
}

fn hint(source: &io::Error) -> &'static str {
    let kind = source.kind();
    if kind == io::ErrorKind::AddrInUse {
        return "; another program has it: stop that one, or configure another address";
    }
    if kind == io::ErrorKind::PermissionDenied {
        return "; ports below 1024 need privileges";
    }
    ""
}
