//! The sockets that systemd has bound for the agent.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use dunlin_shell::systemd::{InheritedSocket, inherited_sockets};
use socket2::Type;
use tracing::warn;

/// The sockets that systemd has bound (`Sockets=` of the service), by the server they are for.
#[derive(Debug, Default)]
pub struct Inherited {
    /// TCP listeners for the API: those whose `FileDescriptorName=` does not begin with `dns`.
    pub api: Vec<TcpListener>,
    /// The local socket.
    pub local: Option<UnixListener>,
    /// UDP sockets for DNS.
    pub dns_udp: Vec<UdpSocket>,
    /// TCP listeners for DNS: those whose `FileDescriptorName=` begins with `dns`.
    pub dns_tcp: Vec<TcpListener>,
}

impl Inherited {
    /// Takes the sockets that systemd hands over. Call it once, before other threads start.
    #[must_use]
    pub fn take() -> Self {
        let mut inherited = Self::default();
        inherited_sockets().into_iter().for_each(|socket| inherited.sort(socket));
        inherited
    }

    fn sort(&mut self, InheritedSocket { name, socket }: InheritedSocket) {
        let is_unix = socket.local_addr().is_ok_and(|a| a.is_unix());
        match socket.r#type() {
            Ok(Type::DGRAM) if !is_unix => self.dns_udp.push(socket.into()),
            Ok(Type::STREAM) if is_unix => self.local = Some(OwnedFd::from(socket).into()),
            Ok(Type::STREAM) if name.starts_with("dns") => self.dns_tcp.push(socket.into()),
            Ok(Type::STREAM) => self.api.push(socket.into()),
            _ => warn!(name, "systemd handed over a socket that is of no use here"),
        }
    }

    /// The address of the API, if systemd has bound it.
    #[must_use]
    pub fn api_address(&self) -> Option<SocketAddr> {
        self.api.first().and_then(|listener| listener.local_addr().ok())
    }
}
