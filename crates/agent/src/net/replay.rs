//! No datagram counts twice: each carries its sender and a number that grows, and the receiver remembers the last
//! numbers of each peer (the window of RFC 4303 §3.4.3, with 1,024 places).
//!
//! The numbers begin at the time of the process's start in nanoseconds, so they grow across restarts
//! without being stored. Should a peer's clock have gone back, its numbers would look old: it tells its
//! next number over its stream ([`ReplayGuard::announce`]).

use std::sync::atomic::{AtomicU64, Ordering};

use dunlin_core::model::NodeId;
use rustc_hash::FxHashMap;

/// Peers that are remembered. With more, the one not heard from for longest is forgotten; an old
/// datagram of it would then count once more.
pub const MAX_PEERS: usize = 16_384;
/// How far behind the highest number a number may come and still be told from a repetition.
pub const WINDOW: u64 = 1024;

const WORDS: usize = 16;
/// Datagrams by which a stream may be overtaken. As nanoseconds, this is less than any restart takes.
const MAX_OVERTAKING: u64 = 1 << 20;

/// What stands in front of every sealed message: its sender, and its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The sender.
    pub node: NodeId,
    /// The number, which grows with each datagram of this sender.
    pub number: u64,
}

impl Stamp {
    /// Octets of a stamp.
    pub const OCTETS: usize = 24;

    /// Sixteen octets of the id, eight of the number, the highest first.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::OCTETS] {
        let mut octets = [0; Self::OCTETS];
        octets[..16].copy_from_slice(self.node.as_bytes());
        octets[16..].copy_from_slice(&self.number.to_be_bytes());
        octets
    }

    /// Splits an opened message into its stamp and the rest; `None` if it is too short.
    #[must_use]
    pub fn split(message: &[u8]) -> Option<(Self, &[u8])> {
        let (node, rest) = message.split_first_chunk::<16>()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let stamp = Self { node: NodeId::from_bytes(*node), number: u64::from_be_bytes(*number) };
        Some((stamp, rest))
    }
}

/// Gives this agent's datagrams their stamps.
#[derive(Debug)]
pub struct Stamper {
    node: NodeId,
    next: AtomicU64,
}

impl Stamper {
    /// Numbers from `first` on: nanoseconds since 1970 at the start of the process.
    #[must_use]
    pub fn new(node: NodeId, first: u64) -> Self {
        Self { node, next: AtomicU64::new(first) }
    }

    /// The number of the next stamp, for [`ReplayGuard::announce`] at a peer.
    pub fn next_number(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// The next stamp.
    pub fn stamp(&self) -> Stamp {
        // Only the number itself is shared between threads.
        Stamp { node: self.node, number: self.next.fetch_add(1, Ordering::Relaxed) }
    }
}

/// Whether a datagram may count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// The datagram has not been seen.
    Fresh,
    /// The datagram has been seen.
    Replayed,
    /// The datagram is too far behind to tell.
    TooOld,
}

/// The numbers seen of one peer.
#[derive(Debug, Clone)]
struct Window {
    highest: u64,
    /// A bit for each of the last numbers, at the number modulo the window.
    seen: [u64; WORDS],
    used: u64,
}

impl Window {
    fn bit(number: u64) -> (usize, u64) {
        let at = number % WINDOW;
        (usize::try_from(at / 64).expect("below 16"), 1 << (at % 64))
    }

    fn check(&mut self, number: u64) -> Freshness {
        if number > self.highest {
            self.advance(number);
        } else if self.highest - number >= WINDOW {
            return Freshness::TooOld;
        }
        let (word, bit) = Self::bit(number);
        if self.seen[word] & bit != 0 {
            return Freshness::Replayed;
        }
        self.seen[word] |= bit;
        Freshness::Fresh
    }

    fn advance(&mut self, number: u64) {
        if number - self.highest >= WINDOW {
            self.seen = [0; WORDS];
        } else {
            for passed in self.highest + 1..=number {
                let (word, bit) = Self::bit(passed);
                self.seen[word] &= !bit;
            }
        }
        self.highest = number;
    }
}

/// The numbers seen of all peers. Ask it only about datagrams that were opened: their sender is true.
#[derive(Debug)]
pub struct ReplayGuard {
    peers: FxHashMap<NodeId, Window>,
    most: usize,
    clock: u64,
}

impl Default for ReplayGuard {
    fn default() -> Self {
        Self::with_limit(MAX_PEERS)
    }
}

impl ReplayGuard {
    /// A guard that remembers at most this many peers.
    #[must_use]
    pub fn with_limit(most: usize) -> Self {
        Self { peers: FxHashMap::default(), most, clock: 0 }
    }

    /// Notes a datagram, and says whether it may count. The first of a peer always does.
    pub fn check(&mut self, stamp: Stamp) -> Freshness {
        self.clock += 1;
        if let Some(window) = self.peers.get_mut(&stamp.node) {
            window.used = self.clock;
            return window.check(stamp.number);
        }
        let fresh = Window { highest: stamp.number, seen: [0; WORDS], used: self.clock };
        self.insert(stamp.node, fresh).check(stamp.number)
    }

    /// Takes the number that a peer will use next, as it says over its authenticated stream. If the peer is not known
    /// yet, lower numbers are refused from now on. If the numbers of the peer were far higher, its clock went back, and
    /// its numbers count from this one on.
    pub fn announce(&mut self, node: NodeId, next: u64) {
        self.clock += 1;
        let is_behind = |w: &Window| w.highest.saturating_sub(next) > MAX_OVERTAKING;
        if self.peers.get(&node).is_none_or(is_behind) {
            let (highest, seen) = (next.saturating_sub(1), [u64::MAX; WORDS]);
            self.insert(node, Window { highest, seen, used: self.clock });
        }
    }

    /// How many peers are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether no peer is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    fn insert(&mut self, node: NodeId, window: Window) -> &mut Window {
        if self.peers.len() >= self.most && !self.peers.contains_key(&node) {
            // This is rare: it happens only for a newcomer among as many peers as fit.
            let oldest = self.peers.iter().min_by_key(|(_, w)| w.used).map(|(node, _)| *node);
            oldest.map(|node| self.peers.remove(&node));
        }
        let entry = self.peers.entry(node).insert_entry(window);
        entry.into_mut()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn node(n: u64) -> NodeId {
        let mut octets = [0; 16];
        octets[..8].copy_from_slice(&n.to_be_bytes());
        NodeId::from_bytes(octets)
    }

    fn stamp(n: u64, number: u64) -> Stamp {
        Stamp { node: node(n), number }
    }

    #[test]
    fn a_stamp_reads_back_and_a_short_message_has_none() {
        let stamper = Stamper::new(node(7), 1 << 60);
        let first = stamper.stamp();
        assert_eq!(stamper.next_number(), first.number + 1);
        let mut message = first.to_bytes().to_vec();
        message.extend(b"hello");
        assert_eq!(Stamp::split(&message), Some((first, &b"hello"[..])));
        assert_eq!(Stamp::split(&message[..23]), None);
    }

    #[test]
    fn a_repetition_does_not_count_nor_does_what_is_too_old_to_tell() {
        let mut guard = ReplayGuard::default();
        assert_eq!(guard.check(stamp(1, 5000)), Freshness::Fresh);
        assert_eq!(guard.check(stamp(1, 5000)), Freshness::Replayed);
        assert_eq!(guard.check(stamp(1, 5000 - WINDOW)), Freshness::TooOld);
        assert_eq!(guard.check(stamp(1, 5001 - WINDOW)), Freshness::Fresh);
        assert_eq!(guard.check(stamp(2, 5000)), Freshness::Fresh, "another peer");
        assert_eq!(guard.check(stamp(1, u64::MAX)), Freshness::Fresh);
        assert_eq!(guard.check(stamp(1, 5002)), Freshness::TooOld);
    }

    #[test]
    fn a_peer_whose_clock_went_back_is_heard_again_when_it_says_so() {
        let mut guard = ReplayGuard::default();
        let hour = 3_600_000_000_000;
        guard.check(stamp(1, 2 * hour));
        assert_eq!(guard.check(stamp(1, hour)), Freshness::TooOld);
        guard.announce(node(1), hour);
        assert_eq!(guard.check(stamp(1, hour - 1)), Freshness::Replayed);
        assert_eq!(guard.check(stamp(1, hour)), Freshness::Fresh);
    }

    #[test]
    fn a_stream_that_was_overtaken_forgets_nothing() {
        let mut guard = ReplayGuard::default();
        guard.announce(node(1), 100);
        assert_eq!(guard.check(stamp(1, 99)), Freshness::Replayed, "from before");
        assert_eq!(guard.check(stamp(1, 110)), Freshness::Fresh);
        guard.announce(node(1), 105);
        assert_eq!(guard.check(stamp(1, 110)), Freshness::Replayed);
        assert_eq!(guard.check(stamp(1, 105)), Freshness::Fresh);
    }

    #[test]
    fn the_peer_that_was_silent_longest_is_forgotten_first() {
        let mut guard = ReplayGuard::with_limit(3);
        for n in [1, 2, 3, 1, 4] {
            guard.check(stamp(n, n + 10));
            guard.check(stamp(n, n + 11));
        }
        assert_eq!(guard.len(), 3);
        assert_eq!(guard.check(stamp(1, 11)), Freshness::Replayed, "was used lately");
        assert_eq!(guard.check(stamp(2, 12)), Freshness::Fresh, "was forgotten");
        assert_eq!(ReplayGuard::default().most, MAX_PEERS);
    }

    proptest! {
        #[test]
        fn every_number_counts_at_most_once_and_near_ones_exactly_once(
            numbers in prop::collection::vec(0_u64..5000, 1..400)
        ) {
            let mut guard = ReplayGuard::default();
            let (mut seen, mut highest) = (BTreeSet::new(), numbers[0]);
            for number in numbers {
                highest = highest.max(number);
                let expected = if highest - number >= WINDOW {
                    Freshness::TooOld
                } else if seen.insert(number) {
                    Freshness::Fresh
                } else {
                    Freshness::Replayed
                };
                prop_assert_eq!(guard.check(stamp(1, number)), expected);
            }
        }
    }
}
