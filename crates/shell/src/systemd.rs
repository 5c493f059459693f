//! What systemd hands over and wants to hear: sockets, readiness, watchdog. Without systemd, nothing.
#![allow(unsafe_code, reason = "inherited descriptors have no owner until somebody takes them")]

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use sd_notify::NotifyState;
use socket2::{Socket, Type};
use tracing::warn;

/// Sockets that systemd has bound (`Sockets=` of the service).
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
    /// Takes what systemd hands over. Call it once, before other threads start.
    #[must_use]
    pub fn take() -> Self {
        let mut inherited = Self::default();
        // An error means that the variables are damaged; then there is nothing to take.
        let Ok(descriptors) = sd_notify::listen_fds_with_names() else { return inherited };
        for (descriptor, name) in descriptors {
            // SAFETY: systemd passes these descriptors to this process alone, open, and the variables
            // that name them are read once: nobody else owns them.
            let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
            inherited.sort(Socket::from(owned), &name);
        }
        inherited
    }

    fn sort(&mut self, socket: Socket, name: &str) {
        let is_unix = socket.local_addr().is_ok_and(|a| a.is_unix());
        match socket.r#type() {
            Ok(Type::DGRAM) if !is_unix => self.dns_udp.push(socket.into()),
            Ok(Type::STREAM) if is_unix => self.local = Some(OwnedFd::from(socket).into()),
            Ok(Type::STREAM) if name.starts_with("dns") => self.dns_tcp.push(socket.into()),
            Ok(Type::STREAM) => self.api.push(socket.into()),
            _ => warn!(name, "systemd handed over a socket that is of no use here"),
        }
    }

    /// Where the API listens by systemd's word.
    #[must_use]
    pub fn api_address(&self) -> Option<SocketAddr> {
        self.api.first().and_then(|listener| listener.local_addr().ok())
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "systemd could not be told");
    }
}

/// Says that the agent answers.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Says that the configuration is being read again; [`ready`] ends it.
pub fn reloading() {
    let Ok(since) = NotifyState::monotonic_usec_now() else { return };
    notify(&[NotifyState::Reloading, since]);
}

/// Says that the agent is about to stop.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Says that the agent is alive.
pub fn alive() {
    notify(&[NotifyState::Watchdog]);
}

/// How often systemd wants to hear that the agent is alive, if it does: half its limit.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}
