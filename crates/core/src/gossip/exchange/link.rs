//! One link, with what is yet to be sent on it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::super::Frame;
use crate::model::NodeId;
use crate::replica::{Delta, DeltaRequest, Version};

/// The limit of waiting control frames. Only a peer that asks without reading the answers reaches it.
const MAX_CONTROL: usize = 256;
/// The limit of waiting urgent commits; those beyond it are sent with the other rows.
const MAX_URGENT: usize = 1024;
/// The limit of an urgent commit in octets, well below what a receiver accepts on the urgent lane.
const MAX_URGENT_OCTETS: usize = 256 * 1024;
/// The limit of nodes whose rows a peer may ask for at a time.
pub(super) const MAX_WANTED: usize = 65_536;

#[derive(Debug)]
pub(super) struct Link {
    pub(super) is_dialed: bool,
    pub(super) since: Instant,
    /// Whether commits are pushed along the link.
    pub(super) is_in_tree: bool,
    /// When digests of groups were last sent on the link.
    pub(super) compared: Option<Instant>,
    /// Commits that leave before everything else.
    pub(super) urgent: VecDeque<Arc<Delta>>,
    pub(super) control: VecDeque<Frame>,
    /// Nodes with commits for the peer. The version above which they begin counts only for nodes that `passed` does not
    /// hold.
    pub(super) news: BTreeMap<NodeId, Version>,
    /// The version up to which each node's commits were sent or received on this link.
    pub(super) passed: BTreeMap<NodeId, Version>,
    /// Requests of the peer that have not been answered completely.
    pub(super) wanted: BTreeMap<NodeId, DeltaRequest>,
    /// When groups or heads were last compared at the peer's request.
    pub(super) answered: Option<Instant>,
    /// The number of the peer's faults so far.
    pub(super) faults: u32,
    /// The node whose rows were sent last; the nodes take turns.
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

    /// Queues a control frame. Returns false if the queue is full; the frame is then dropped, as a packet may be.
    pub(super) fn push_control(&mut self, frame: Frame) -> bool {
        let has_room = self.control.len() < MAX_CONTROL;
        if has_room {
            self.control.push_back(frame);
        }
        has_room
    }

    /// Queues a commit on the urgent lane. A large commit, or one beyond the limit, is sent with the other rows instead.
    pub(super) fn push_urgent(&mut self, delta: &Arc<Delta>) {
        let is_small = delta.approx_octets() <= MAX_URGENT_OCTETS;
        if is_small && self.urgent.len() < MAX_URGENT {
            self.urgent.push_back(Arc::clone(delta));
        }
    }

    /// Records that there are commits of a node above `from` for the peer.
    pub(super) fn add_news(&mut self, origin: NodeId, from: Version) {
        self.news.entry(origin).or_insert(from);
    }

    /// Records that the peer has a node's commits up to this version.
    pub(super) fn note_passed(&mut self, origin: NodeId, to: Version) {
        let passed = self.passed.entry(origin).or_insert(to);
        *passed = to.max(*passed);
    }
}
