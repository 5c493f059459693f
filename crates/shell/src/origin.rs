//! Where a connection comes from.

use std::net::SocketAddr;

use crate::Client;

/// The other end of a connection, as the system names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A socket on the network. If the listener asks for client certificates, they were checked before the first
    /// octet was read.
    Remote(SocketAddr),
    /// A process of this host on a Unix socket, by the id of its user.
    Local(u32),
}

impl Origin {
    /// The party that this connection's slots are counted for.
    #[must_use]
    pub fn client(self) -> Client {
        match self {
            Self::Remote(address) => address.ip().into(),
            Self::Local(user) => Client::User(user),
        }
    }
}
