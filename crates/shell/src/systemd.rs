//! The conversation with systemd: inherited sockets, readiness, watchdog. Without systemd every call does nothing.
#![allow(unsafe_code, reason = "inherited descriptors have no owner until somebody takes them")]

use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

use sd_notify::NotifyState;
use socket2::Socket;
use tracing::warn;

/// A socket that systemd has bound (`Sockets=` of the service).
#[derive(Debug)]
pub struct InheritedSocket {
    /// The `FileDescriptorName=` of its unit.
    pub name: String,
    /// The socket, of the type that the unit asks for.
    pub socket: Socket,
}

/// Takes the sockets that systemd hands over. Call it once, before other threads start.
#[must_use]
pub fn inherited_sockets() -> Vec<InheritedSocket> {
    // An error means that the variables are damaged; then there is nothing to take.
    let Ok(descriptors) = sd_notify::listen_fds_with_names() else { return Vec::new() };
    let take = |(descriptor, name)| {
        // SAFETY: systemd passes these descriptors to this process alone, open, and the variables
        // that name them are read once: nobody else owns them.
        let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
        InheritedSocket { name, socket: owned.into() }
    };
    descriptors.map(take).collect()
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "systemd could not be told");
    }
}

/// Says that the process serves, with a line for `systemctl status`.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Says that the configuration is being read again; [`ready`] ends this state.
pub fn reloading() {
    let Ok(since) = NotifyState::monotonic_usec_now() else { return };
    notify(&[NotifyState::Reloading, since]);
}

/// Says that the process is about to stop.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Says that the process is alive, for systemd's watchdog.
pub fn alive() {
    notify(&[NotifyState::Watchdog]);
}

/// How often systemd's watchdog has to be told [`alive`], if it is on: half of its limit.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}
