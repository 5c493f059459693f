//! One link: what is to be sent on it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::super::Frame;
use crate::model::NodeId;
use crate::replica::{Delta, DeltaRequest, Version};

/// Small frames that may wait; more are only made by a peer that asks without reading.
const MOST_CONTROL: usize = 256;
/// Urgent commits that may wait; what is beyond goes with the rest.
const MOST_URGENT: usize = 1024;
/// Octets of an urgent commit: well below what a receiver takes on its urgent lane.
const MOST_URGENT_OCTETS: usize = 256 * 1024;
/// Nodes whose rows a peer may ask for at a time.
pub(super) const MOST_WANTED: usize = 65_536;

#[derive(Debug)]
pub(super) struct Link {
    pub(super) is_dialed: bool,
    pub(super) since: Instant,
    /// Whether news is pushed along it.
    pub(super) is_in_tree: bool,
    /// When digests of groups were last sent on it.
    pub(super) compared: Option<Instant>,
    /// Commits that leave before all else.
    pub(super) urgent: VecDeque<Arc<Delta>>,
    pub(super) control: VecDeque<Frame>,
    /// Nodes with news for the peer, and from which version on if nothing was sent on this link yet.
    pub(super) news: BTreeMap<NodeId, Version>,
    /// Up to where each node's commits were sent or received on this link.
    pub(super) passed: BTreeMap<NodeId, Version>,
    /// What the peer asked for and has not been sent.
    pub(super) wanted: BTreeMap<NodeId, DeltaRequest>,
    /// When groups or heads were last compared at the peer's wish.
    pub(super) answered: Option<Instant>,
    /// What the peer did wrong so far.
    pub(super) faults: u32,
    /// The node that was served last.
    pub(super) turn: NodeId,
}

impl Link {
    pub(super) fn new(now: Instant, is_dialed: bool) -> Self {
        Self {
            is_dialed,
            since: now,
            is_in_tree: true,
            compared: None,
            urgent: VecDeque::new(),
            control: VecDeque::new(),
            news: BTreeMap::new(),
            passed: BTreeMap::new(),
            wanted: BTreeMap::new(),
            answered: None,
            faults: 0,
            turn: NodeId::from_bytes([0; 16]),
        }
    }

    /// Queues a small frame; false if the queue is full, so that it is lost like a packet.
    pub(super) fn push_control(&mut self, frame: Frame) -> bool {
        let has_room = self.control.len() < MOST_CONTROL;
        if has_room {
            self.control.push_back(frame);
        }
        has_room
    }

    /// Queues a commit for before all else; what does not fit, or is large, goes with the rest.
    pub(super) fn push_urgent(&mut self, delta: &Arc<Delta>) {
        let is_small = delta.approx_octets() <= MOST_URGENT_OCTETS;
        if is_small && self.urgent.len() < MOST_URGENT {
            self.urgent.push_back(Arc::clone(delta));
        }
    }

    /// Notes that a node has news for the peer, which begins above `from`.
    pub(super) fn add_news(&mut self, origin: NodeId, from: Version) {
        self.news.entry(origin).or_insert(from);
    }

    /// Notes that the peer has seen this commit.
    pub(super) fn note_passed(&mut self, origin: NodeId, to: Version) {
        let passed = self.passed.entry(origin).or_insert(to);
        *passed = to.max(*passed);
    }
}
