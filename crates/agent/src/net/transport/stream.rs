//! A stream to another agent whose handshake is done, and why there is none.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::protocol::Protocol;
use super::tls::{HandshakeError, PeerIdentity};
use crate::net::Fault;

/// The kernel gives a stream up when what was sent stays unacknowledged for this long.
const USER_TIMEOUT: Duration = Duration::from_secs(8);
/// When the kernel asks a silent peer's host whether it is still there, how often it repeats that, and how many
/// questions in a row may stay without an answer.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(3);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const MAX_KEEPALIVE_RETRIES: u32 = 3;
/// Octets that the kernel holds for a slow peer: few, so that urgent data does not wait behind much other data.
const MAX_SEND_BUFFER: usize = 256 * 1024;

/// A stream to another agent.
#[derive(Debug)]
pub(crate) struct Stream {
    /// The node at the other end, by its verified certificate.
    pub(crate) peer: PeerIdentity,
    /// The address at the other end.
    pub(crate) remote: SocketAddr,
    /// The protocol that both sides agreed on.
    pub(crate) protocol: Protocol,
    /// What is written to and read from.
    pub(crate) tls: TlsStream<TcpStream>,
}

/// Why no stream came about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    /// The host is there and nothing listens on the port.
    #[error("connection refused: no agent listens there")]
    Refused,
    /// The network or this host's kernel failed.
    #[error("{0}")]
    Io(io::Error),
    /// The peer did not do its part in time.
    #[error("no answer in time; is it an agent's cluster port?")]
    Late,
    /// The peer connected and did not begin to speak in time.
    #[error("nothing was said in time")]
    Silent,
    /// TLS failed, or one side does not take the other.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
}

impl StreamError {
    /// What it means that a connection could not be opened.
    pub(crate) fn not_connected(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::ConnectionRefused {
            Self::Refused
        } else {
            Self::Io(error)
        }
    }

    /// Whether the peer answered, and one of both sides does not take the other: a person must act.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::Handshake(_) => true,
            Self::Refused | Self::Io(_) | Self::Late | Self::Silent => false,
        }
    }

    /// As what it is counted.
    pub(crate) fn fault(&self) -> Fault {
        match self {
            Self::Handshake(error) if error.is_about_protocol() => Fault::Protocol,
            Self::Handshake(_) | Self::Silent => Fault::Handshake,
            Self::Refused | Self::Io(_) | Self::Late => Fault::Stream,
        }
    }
}

/// Sets the options of a connection. A connection on which the kernel refuses them works, only worse.
pub(super) fn tune(tcp: &TcpStream) {
    let socket = SockRef::from(tcp);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(MAX_KEEPALIVE_RETRIES);
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
    let _ = socket.set_send_buffer_size(MAX_SEND_BUFFER);
    let _ = tcp.set_nodelay(true);
}
