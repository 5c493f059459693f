//! What the members' thread counts.

use std::sync::atomic::AtomicU64;

/// Counters of datagrams, and the health score, for metrics.
#[derive(Debug, Default)]
pub(crate) struct MembersStats {
    /// Datagrams sent.
    pub(crate) sent: AtomicU64,
    /// Datagrams received.
    pub(crate) received: AtomicU64,
    /// Octets of the datagrams sent, without headers.
    pub(crate) sent_octets: AtomicU64,
    /// Octets of the datagrams received, without headers.
    pub(crate) received_octets: AtomicU64,
    /// Packets of membership that were sent on links.
    pub(crate) tunnelled: AtomicU64,
    /// The local health score.
    pub(crate) health: AtomicU64,
}
