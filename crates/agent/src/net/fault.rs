//! What peers do wrong, in streams and datagrams of any protocol: counted, and logged once per peer and minute.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dunlin_core::model::NodeId;

/// Time between two log lines about the same peer and fault.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Pairs of a peer and a fault that are remembered as logged; nodes and addresses have this limit each. Anybody can
/// send from any number of addresses, which must not keep faults of nodes out of the log.
const MAX_LOGGED: usize = 1024;
/// Time between two searches for pairs that need not be remembered any more: a search costs more than all the rest.
const PRUNE_INTERVAL: Duration = Duration::from_secs(1);

/// The peer at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Culprit {
    /// A node that has proved its identity.
    Node(NodeId),
    /// Any host that sends from this address.
    Address(IpAddr),
}

impl From<NodeId> for Culprit {
    fn from(node: NodeId) -> Self {
        Self::Node(node)
    }
}

impl From<IpAddr> for Culprit {
    fn from(address: IpAddr) -> Self {
        Self::Address(address)
    }
}

/// What a peer did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// A TLS handshake failed, or a certificate was refused.
    Handshake,
    /// The peer speaks no protocol that this agent serves, or not the one that this agent asked for.
    Protocol,
    /// A hello was malformed or cannot be true.
    Hello,
    /// A stream broke, or held what no sound peer writes.
    Stream,
    /// A frame was malformed.
    Frame,
    /// A frame is of a kind that only newer versions know.
    UnknownFrame,
    /// A datagram was not sealed by this cluster, or damaged.
    Seal,
    /// A datagram came again, or much too late.
    Replay,
    /// A datagram's content was malformed.
    Packet,
    /// Rows or versions cannot be what they say.
    Rows,
    /// A host opened more connections than one address is granted.
    Connections,
}

impl Fault {
    /// All kinds of faults.
    pub(crate) const ALL: [Self; 11] = [
        Self::Handshake,
        Self::Protocol,
        Self::Hello,
        Self::Stream,
        Self::Frame,
        Self::UnknownFrame,
        Self::Seal,
        Self::Replay,
        Self::Packet,
        Self::Rows,
        Self::Connections,
    ];

    /// The name of the fault in metrics and logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Protocol => "protocol",
            Self::Hello => "hello",
            Self::Stream => "stream",
            Self::Frame => "frame",
            Self::UnknownFrame => "unknown_frame",
            Self::Seal => "seal",
            Self::Replay => "replay",
            Self::Packet => "packet",
            Self::Rows => "rows",
            Self::Connections => "connections",
        }
    }
}

/// Counts faults and says which are to be logged.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    counts: [AtomicU64; Fault::ALL.len()],
    of_nodes: Mutex<Logged>,
    of_addresses: Mutex<Logged>,
}

/// The pairs of a peer and a fault that were logged, and when.
#[derive(Debug, Default)]
struct Logged {
    at: BTreeMap<(Culprit, Fault), Instant>,
    pruned: Option<Instant>,
}

impl Logged {
    /// Whether this is to be logged, in which case it is remembered as logged.
    fn note(&mut self, now: Instant, culprit: Culprit, fault: Fault) -> bool {
        let is_old = |at: &Instant, limit| now.saturating_duration_since(*at) >= limit;
        if let Some(at) = self.at.get_mut(&(culprit, fault)) {
            let is_due = is_old(at, LOG_INTERVAL);
            if is_due {
                *at = now;
            }
            return is_due;
        }
        if self.at.len() >= MAX_LOGGED && self.pruned.is_none_or(|at| is_old(&at, PRUNE_INTERVAL)) {
            self.pruned = Some(now);
            self.at.retain(|_, at| !is_old(at, LOG_INTERVAL));
        }
        if self.at.len() >= MAX_LOGGED {
            return false;
        }
        self.at.insert((culprit, fault), now);
        true
    }
}

impl Faults {
    /// Counts a fault. True when it is to be logged: the first of this peer and kind within a minute.
    pub(crate) fn note(&self, now: Instant, culprit: Culprit, fault: Fault) -> bool {
        let place = Fault::ALL.iter().position(|f| *f == fault).unwrap_or_default();
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        let logged = match culprit {
            Culprit::Node(_) => &self.of_nodes,
            Culprit::Address(_) => &self.of_addresses,
        };
        // No code panics while holding it; if one did, the map would still be whole.
        logged.lock().unwrap_or_else(PoisonError::into_inner).note(now, culprit, fault)
    }

    /// How often each happened.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (Fault, u64)> {
        Fault::ALL.iter().copied().zip(self.counts.iter().map(|c| c.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_logged_once_per_peer_and_minute_and_always_counted() {
        let (faults, start) = (Faults::default(), Instant::now());
        let peer = Culprit::Node(NodeId::from_bytes([1; 16]));
        let other = Culprit::Address("127.0.0.9".parse().unwrap());
        assert!(faults.note(start, peer, Fault::Frame));
        assert!(!faults.note(start + Duration::from_secs(59), peer, Fault::Frame));
        assert!(faults.note(start, peer, Fault::Rows));
        assert!(faults.note(start, other, Fault::Frame));
        assert!(faults.note(start + Duration::from_secs(60), peer, Fault::Frame));
        let count = |fault| faults.counts().find(|(f, _)| *f == fault).unwrap().1;
        assert_eq!((count(Fault::Frame), count(Fault::Rows), count(Fault::Seal)), (4, 1, 0));
    }

    #[test]
    fn a_flood_of_addresses_neither_fills_memory_nor_the_log() {
        let (faults, now) = (Faults::default(), Instant::now());
        let logged = (0..5000_u32).filter(|n| {
            faults.note(now, Culprit::Address(std::net::Ipv4Addr::from(*n).into()), Fault::Seal)
        });
        assert_eq!(logged.count(), MAX_LOGGED);
        let node = Culprit::Node(NodeId::from_bytes([1; 16]));
        assert!(faults.note(now, node, Fault::Rows), "nodes that are known have room of their own");
    }

    #[test]
    fn a_full_memory_is_searched_once_a_second_and_then_has_room_again() {
        let (faults, start) = (Faults::default(), Instant::now());
        let from = |n: u32| Culprit::Address(std::net::Ipv4Addr::from(n).into());
        for n in 0..5000 {
            faults.note(start, from(n), Fault::Seal);
        }
        let pruned = || faults.of_addresses.lock().unwrap().pruned;
        assert_eq!(pruned(), Some(start));
        assert!(!faults.note(start + PRUNE_INTERVAL / 2, from(6000), Fault::Seal));
        assert_eq!(pruned(), Some(start));
        assert!(!faults.note(start + PRUNE_INTERVAL, from(6000), Fault::Seal));
        assert_eq!(pruned(), Some(start + PRUNE_INTERVAL));
        assert!(faults.note(start + LOG_INTERVAL, from(6000), Fault::Seal));
    }
}
