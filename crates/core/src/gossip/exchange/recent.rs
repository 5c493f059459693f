//! The latest whole commits of all nodes, kept to be passed on one by one.
//!
//! A receiver can show a whole commit at once. Rows that are read from the replica later may be a mixture of commits,
//! which the receiver has to hold back until all of it has come.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::model::NodeId;
use crate::replica::{Delta, Version};

/// The limit of all kept commits in octets; rows of older ones are read from the replica.
const MAX_OCTETS: usize = 8 * 1024 * 1024;
/// The limit of kept commits.
const MAX_COMMITS: usize = 16_384;

/// How a commit came to this agent. It is the first way, unless a link of the tree brings a commit after a packet has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    /// The commit is this agent's own.
    Own,
    /// The commit came on the link to this node.
    Link(NodeId),
    /// The commit came in a packet.
    Packet,
}

#[derive(Debug)]
struct Kept {
    delta: Arc<Delta>,
    via: Via,
    octets: usize,
}

#[derive(Debug, Default)]
pub(super) struct Recent {
    commits: BTreeMap<(NodeId, Version), Kept>,
    order: VecDeque<(NodeId, Version)>,
    octets: usize,
}

impl Recent {
    pub(super) fn octets(&self) -> usize {
        self.octets
    }

    /// How a commit came, if it is kept.
    pub(super) fn via(&self, origin: NodeId, version: Version) -> Option<Via> {
        self.commits.get(&(origin, version)).map(|kept| kept.via)
    }

    /// A commit that is kept, and how it came.
    pub(super) fn get(&self, origin: NodeId, version: Version) -> Option<(Via, Arc<Delta>)> {
        self.commits.get(&(origin, version)).map(|kept| (kept.via, Arc::clone(&kept.delta)))
    }

    /// Records another way for a kept commit, and returns the commit.
    pub(super) fn comes_by(
        &mut self,
        origin: NodeId,
        version: Version,
        via: Via,
    ) -> Option<Arc<Delta>> {
        let kept = self.commits.get_mut(&(origin, version))?;
        kept.via = via;
        Some(Arc::clone(&kept.delta))
    }

    /// Keeps a whole commit, unless it takes more than a quarter of the limit.
    pub(super) fn keep(&mut self, delta: &Arc<Delta>, via: Via) {
        let octets = delta.approx_octets();
        let key = (delta.origin, delta.to);
        if octets > MAX_OCTETS / 4 || self.commits.contains_key(&key) {
            return;
        }
        self.octets += octets;
        self.commits.insert(key, Kept { delta: Arc::clone(delta), via, octets });
        self.order.push_back(key);
        while self.octets > MAX_OCTETS || self.order.len() > MAX_COMMITS {
            let Some(oldest) = self.order.pop_front() else { break };
            self.octets -= self.commits.remove(&oldest).map_or(0, |kept| kept.octets);
        }
    }

    /// The kept commits of a node that follow a version without a gap.
    pub(super) fn after(
        &self,
        origin: NodeId,
        version: Version,
    ) -> impl Iterator<Item = &Arc<Delta>> {
        let mut next = version;
        let first = (origin, version.next());
        self.commits
            .range(first..=(origin, Version::new(u64::MAX)))
            .map(|(_, kept)| &kept.delta)
            .take_while(move |delta| {
                let follows = delta.from == next;
                next = delta.to;
                follows
            })
    }
}
