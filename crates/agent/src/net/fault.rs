//! What peers do wrong: counted, and told once per peer and minute.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dunlin_core::model::NodeId;

/// Time between two log lines about the same peer and fault.
const PERIOD: Duration = Duration::from_secs(60);
/// Peers and faults that are remembered to have been told: so many of nodes, and so many of addresses. Anybody can
/// send from any number of addresses, which must not keep faults of nodes out of the log.
const MOST_TOLD: usize = 1024;
/// Time between two searches for what need not be remembered any more: they cost more than all the rest.
const PRUNE_PERIOD: Duration = Duration::from_secs(1);

/// Whose fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Culprit {
    /// A node that has proved who it is.
    Node(NodeId),
    /// Whoever sends from this address.
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

/// What was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// A TLS handshake failed, or a certificate was refused.
    Handshake,
    /// What was said first on a link cannot be.
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
    /// Rows or versions that cannot be.
    Rows,
    /// More connections than one address is granted.
    Connections,
}

impl Fault {
    /// All of them.
    pub(crate) const ALL: [Self; 10] = [
        Self::Handshake,
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

    /// Its name in metrics and logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
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
    of_nodes: Mutex<Told>,
    of_addresses: Mutex<Told>,
}

/// What was logged, and when.
#[derive(Debug, Default)]
struct Told {
    at: BTreeMap<(Culprit, Fault), Instant>,
    pruned: Option<Instant>,
}

impl Told {
    /// Whether this is to be logged, which is then remembered.
    fn note(&mut self, now: Instant, culprit: Culprit, fault: Fault) -> bool {
        let is_old = |at: &Instant, limit| now.saturating_duration_since(*at) >= limit;
        if let Some(at) = self.at.get_mut(&(culprit, fault)) {
            let is_due = is_old(at, PERIOD);
            if is_due {
                *at = now;
            }
            return is_due;
        }
        if self.at.len() >= MOST_TOLD && self.pruned.is_none_or(|at| is_old(&at, PRUNE_PERIOD)) {
            self.pruned = Some(now);
            self.at.retain(|_, at| !is_old(at, PERIOD));
        }
        if self.at.len() >= MOST_TOLD {
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
        let told = match culprit {
            Culprit::Node(_) => &self.of_nodes,
            Culprit::Address(_) => &self.of_addresses,
        };
        // No code panics while holding it; if one did, the map would still be whole.
        told.lock().unwrap_or_else(PoisonError::into_inner).note(now, culprit, fault)
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
    fn a_fault_is_told_once_per_peer_and_minute_and_always_counted() {
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
        let told = (0..5000_u32).filter(|n| {
            faults.note(now, Culprit::Address(std::net::Ipv4Addr::from(*n).into()), Fault::Seal)
        });
        assert_eq!(told.count(), MOST_TOLD);
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
        assert!(!faults.note(start + PRUNE_PERIOD / 2, from(6000), Fault::Seal));
        assert_eq!(pruned(), Some(start));
        assert!(!faults.note(start + PRUNE_PERIOD, from(6000), Fault::Seal));
        assert_eq!(pruned(), Some(start + PRUNE_PERIOD));
        assert!(faults.note(start + PERIOD, from(6000), Fault::Seal));
    }
}
