//! From an address to a stream of one protocol.

use std::net::SocketAddr;
use std::time::Duration;

use dunlin_core::model::NodeName;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsStream;

use super::protocol::Protocol;
use super::stream::{Stream, StreamError, tune};
use super::{HANDSHAKE_TIMEOUT, Transport};

/// How long the kernels may take to open a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

impl Transport {
    /// Opens a stream to the agent at an address, on which `opening` says what its protocol says first. With
    /// `expected`, an agent of any other node is refused. TLS and the opening share the time of one handshake.
    ///
    /// # Errors
    /// When no stream comes about, or as `opening` says.
    pub(crate) async fn dial<T, E, Fut>(
        &self,
        address: SocketAddr,
        protocol: Protocol,
        expected: Option<&NodeName>,
        opening: impl FnOnce(Stream) -> Fut,
    ) -> Result<T, E>
    where
        E: From<StreamError>,
        Fut: Future<Output = Result<T, E>>,
    {
        let tcp = self.connect(address).await?;
        let opened = async {
            let stream = self.secure(tcp, address, protocol, expected).await?;
            opening(stream).await
        };
        timeout(HANDSHAKE_TIMEOUT, opened).await.map_err(|_| StreamError::Late)?
    }

    /// Opens a connection, from the agent's own address, and says nothing on it.
    ///
    /// # Errors
    /// When that fails or takes too long, or when a fence stands between.
    pub(crate) async fn connect(&self, address: SocketAddr) -> Result<TcpStream, StreamError> {
        if self.side.is_mute_to(address.ip()) {
            return Err(StreamError::Late);
        }
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let socket = socket.map_err(StreamError::Io)?;
        // Where several agents share a host, each speaks from its own address.
        let own = self.listen.ip();
        if !own.is_unspecified() && own.is_ipv4() == address.is_ipv4() {
            socket.bind(SocketAddr::new(own, 0)).map_err(StreamError::Io)?;
        }
        match timeout(CONNECT_TIMEOUT, socket.connect(address)).await {
            Ok(Ok(tcp)) => {
                tune(&tcp);
                Ok(tcp)
            }
            Ok(Err(error)) => Err(StreamError::not_connected(error)),
            Err(_) => Err(StreamError::Late),
        }
    }

    async fn secure(
        &self,
        tcp: TcpStream,
        remote: SocketAddr,
        protocol: Protocol,
        expected: Option<&NodeName>,
    ) -> Result<Stream, StreamError> {
        let connector = self.credentials.connector();
        let (tls, peer) = connector.connect(tcp, remote, protocol, expected).await?;
        Ok(Stream { peer, remote, protocol, tls: TlsStream::Client(tls) })
    }
}
