//! Streams between agents, whatever protocol runs on them: TCP, TLS, certificates, admission.
//!
//! One port serves every protocol between agents, since TLS lets both sides agree on one by its name (ALPN,
//! RFC 7301). Each part that speaks a protocol registers what accepts its streams with [`Acceptors`]; from then on
//! [`Transport::serve`] hands every stream to the acceptor of its protocol, and refuses and counts a peer that speaks
//! none of them. [`Transport::dial`] is the other direction. Either side gets a [`Stream`], which says by the peer's
//! certificate which node is at its other end.
//!
//! The transport does not know what a protocol says, nor which node dials which: both are each protocol's own
//! business. What always holds:
//! - A stream that is handed over has a verified identity and an agreed protocol.
//! - Until a stream is open, its connection counts against limits that all protocols share: one for connections that
//!   have shown no certificate, one for each address. Both directions have time limits for each step.
//! - Where a [`Fence`] stands between two agents no stream is opened.

mod accept;
mod acceptors;
mod admission;
mod dial;
pub mod fence;
mod protocol;
mod stream;
#[cfg(test)]
mod tests;
pub mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

pub(crate) use self::acceptors::{Acceptors, OpeningError};
use self::fence::{Fence, Side};
pub use self::protocol::Protocol;
pub(crate) use self::stream::{Stream, StreamError};
use self::tls::SharedCredentials;
use super::fault::{Culprit, Fault, Faults};

/// How long TLS and what a protocol says first may take together, in either direction.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// One agent's end of all streams: what it shows to peers, where it listens, and what peers did wrong.
#[derive(Debug)]
pub(crate) struct Transport {
    listen: SocketAddr,
    advertise: SocketAddr,
    credentials: Arc<SharedCredentials>,
    side: Side,
    faults: Faults,
    is_cut_off: AtomicBool,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Transport {
    /// A transport that neither listens nor dials yet. Peers are told `advertise`, which also stands for this agent in
    /// a fence; connections start from the address of `listen` unless that is unspecified. Cancelling `stop` ends
    /// every task.
    pub(crate) fn new(
        listen: SocketAddr,
        advertise: SocketAddr,
        credentials: Arc<SharedCredentials>,
        fence: Option<Arc<Fence>>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            listen,
            advertise,
            credentials,
            side: Side { fence, here: advertise.ip() },
            faults: Faults::default(),
            is_cut_off: AtomicBool::new(false),
            stop,
            tasks: TaskTracker::new(),
        }
    }

    /// Accepts streams of the registered protocols until the agent stops. The listener must not block.
    ///
    /// # Errors
    /// When the socket cannot be given to the runtime.
    pub(crate) fn serve(
        self: &Arc<Self>,
        listener: std::net::TcpListener,
        acceptors: Acceptors,
    ) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        self.tasks.spawn(accept::accept_all(Arc::clone(self), listener, Arc::new(acceptors)));
        Ok(())
    }

    /// Whether this address is the agent's own.
    pub(crate) fn is_own(&self, address: SocketAddr) -> bool {
        address == self.advertise || address == self.listen
    }

    /// The address that peers are told.
    pub(crate) fn advertise(&self) -> SocketAddr {
        self.advertise
    }

    /// The fence as this agent sees it.
    pub(crate) fn side(&self) -> &Side {
        &self.side
    }

    /// Cancelled when the agent stops.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// The tasks that [`Transport::stopped`] waits for.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Counts a fault, and logs it unless that was done within the last minute.
    pub(crate) fn report(&self, culprit: impl Into<Culprit>, fault: Fault, problem: &str) {
        let culprit = culprit.into();
        if self.faults.note(Instant::now(), culprit, fault) {
            let peer = match culprit {
                Culprit::Node(node) => node.to_string(),
                Culprit::Address(address) => address.to_string(),
            };
            warn!(peer, fault = fault.as_str(), problem, "a peer did not do right");
        }
    }

    /// Counts a fault that is no news for people.
    pub(crate) fn count(&self, culprit: impl Into<Culprit>, fault: Fault) {
        let _ = self.faults.note(Instant::now(), culprit.into(), fault);
    }

    /// How often peers did each thing wrong.
    pub(crate) fn faults(&self) -> impl Iterator<Item = (Fault, u64)> {
        self.faults.counts()
    }

    /// From now on streams end without a goodbye, as they do when a process crashes.
    pub(crate) fn cut_off(&self) {
        self.is_cut_off.store(true, Ordering::Relaxed);
    }

    /// Whether streams end without a goodbye.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.is_cut_off.load(Ordering::Relaxed)
    }

    /// Waits until every task has ended; the stop token must have been cancelled.
    pub(crate) async fn stopped(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}
