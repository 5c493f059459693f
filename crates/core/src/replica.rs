//! Replicated rows: what every node says of itself, merged without conflicts.
//!
//! A node numbers its commits 1, 2, 3 … ([`Version`]); every row carries the version that last wrote
//! it, and the higher version wins. So a node's whole state is `key → (version, row)`, and what a peer
//! lacks is said by one number, its head. A [`Delta`] holds "the rows of node X above version V";
//! overwritten versions no longer exist, so nothing needs compaction (Scuttlebutt reconciliation:
//! van Renesse, Dumitriu, Gough, Thomas, LADIS 2008).
//!
//! What always holds:
//! - [`Replica::merge`] is commutative, associative and idempotent over any order, duplication and
//!   partition of deliveries.
//! - Rows that were committed together become visible together. A delta that cannot show a whole
//!   commit is held back ("staged") until what is missing has come.
//! - A row of node X comes from X's own history alone; see [`MergeError::OwnHistory`].
//! - The caller persists before it acknowledges; this module only computes.
//!
//! Shared rows (cells that any node may write, last writer wins) will ride on the same versions and
//! heads as one more kind of [`RowKey`]; nothing of them is here yet.

mod delta;
mod history;
mod row;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use delta::{Delta, DeltaError, DeltaRow, Request};
use history::History;
pub use history::MergeError;
pub use row::{Departure, Entry, Row, RowChange, RowKey, RowState, Version};

use crate::model::{CheckId, InstanceId, NodeId};

/// All nodes' rows, as one node has them.
#[derive(Debug, Clone)]
pub struct Replica {
    own: NodeId,
    histories: BTreeMap<NodeId, History>,
}

/// A row that a node wants to write or delete in its own history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which row.
    pub key: RowKey,
    /// What it becomes.
    pub state: RowState,
}

impl Replica {
    /// An empty replica of the node with this id.
    #[must_use]
    pub fn new(own: NodeId) -> Self {
        Self { own, histories: BTreeMap::new() }
    }

    /// The node that this replica speaks for.
    #[must_use]
    pub fn own(&self) -> NodeId {
        self.own
    }

    /// Puts back one node's stored rows; `head` and `floor` are those stored with them.
    pub fn restore(
        &mut self,
        origin: NodeId,
        head: Version,
        floor: Version,
        rows: impl IntoIterator<Item = (RowKey, Entry)>,
    ) {
        self.histories.insert(origin, History::restore(head, floor, rows));
    }

    /// Makes the next commit of the own history out of changes, without applying it: persist it, then
    /// [`Replica::commit`] it. Changes that change nothing are left out; `None` if none is left.
    /// Of several changes to one key the last counts.
    #[must_use]
    pub fn prepare(&self, changes: impl IntoIterator<Item = Change>) -> Option<Delta> {
        let empty = History::default();
        let history = self.histories.get(&self.own).unwrap_or(&empty);
        let wanted: BTreeMap<RowKey, RowState> =
            changes.into_iter().map(|c| (c.key, c.state)).collect();
        let to = history.head().next();
        let rows: Vec<DeltaRow> = wanted
            .into_iter()
            .filter(|(key, state)| history.would_change(key, state))
            .map(|(key, state)| DeltaRow { version: to, key, state })
            .collect();
        (!rows.is_empty()).then(|| Delta {
            origin: self.own,
            from: history.head(),
            to,
            head: to,
            settled_at: to,
            floor: history.floor(),
            rows,
        })
    }

    /// Applies a commit that [`Replica::prepare`] made. Returns what became visible.
    ///
    /// # Panics
    /// When the commit is not the next of the own history: the caller lost or repeated one.
    pub fn commit(&mut self, delta: &Delta) -> Vec<RowChange> {
        let history = self.histories.entry(self.own).or_default();
        assert!(
            delta.origin == self.own && delta.from == history.head(),
            "commits are applied once and in the order they were prepared"
        );
        history
            .merge(delta)
            .expect("a commit that was just prepared is well-formed and the next one")
    }

    /// Takes in what a peer sent of another node's history. Returns what became visible; empty if the
    /// delta was known, or is held back until the rest has come.
    ///
    /// # Errors
    /// When the delta is malformed, is of the own history, or a limit is reached. Nothing was changed.
    pub fn merge(&mut self, delta: &Delta) -> Result<Vec<RowChange>, MergeError> {
        delta.validate()?;
        if delta.origin == self.own {
            return Err(MergeError::OwnHistory);
        }
        self.histories.entry(delta.origin).or_default().merge(delta)
    }

    /// The last version of a node's history up to which everything is here and visible.
    #[must_use]
    pub fn head(&self, origin: NodeId) -> Version {
        self.histories.get(&origin).map_or(Version::ZERO, History::head)
    }

    /// What to ask a peer for, to get further.
    #[must_use]
    pub fn request(&self, origin: NodeId) -> Request {
        let nothing = Request { above: Version::ZERO, floor: Version::ZERO };
        self.histories.get(&origin).map_or(nothing, History::request)
    }

    /// Every known node's head.
    pub fn heads(&self) -> impl Iterator<Item = (NodeId, Version)> {
        self.histories.iter().map(|(id, h)| (*id, h.head()))
    }

    /// The version up to which a node's tombstones were purged here.
    #[must_use]
    pub fn floor(&self, origin: NodeId) -> Version {
        self.histories.get(&origin).map_or(Version::ZERO, History::floor)
    }

    /// The rows of a node that a peer requests, in order, of about `max_bytes` at most, yet never less
    /// than one commit. `None` if there are none. When tombstones that the peer lacks were purged, the
    /// delta starts over from zero.
    #[must_use]
    pub fn delta(&self, origin: NodeId, request: Request, max_bytes: usize) -> Option<Delta> {
        self.histories.get(&origin)?.delta(origin, request, max_bytes)
    }

    /// One visible row.
    #[must_use]
    pub fn row(&self, origin: NodeId, key: &RowKey) -> Option<&Row> {
        match &self.histories.get(&origin)?.entry(key)?.state {
            RowState::Present(row) => Some(row),
            RowState::Gone(_) => None,
        }
    }

    /// All visible rows of a node, tombstones included, by key.
    pub fn rows(&self, origin: NodeId) -> impl Iterator<Item = (&RowKey, &Entry)> {
        self.histories.get(&origin).into_iter().flat_map(History::entries)
    }

    /// The checks of an instance that have visible rows.
    pub fn checks_of(&self, origin: NodeId, id: &InstanceId) -> impl Iterator<Item = &CheckId> {
        let history = self.histories.get(&origin);
        history.into_iter().flat_map(move |h| h.checks_of(id))
    }

    /// Drops a node's tombstones up to a version. Peers that are further behind will be sent the whole
    /// history anew. Returns the keys that were dropped.
    pub fn purge_tombstones(&mut self, origin: NodeId, up_to: Version) -> Vec<RowKey> {
        self.histories.get_mut(&origin).map(|h| h.purge_tombstones(up_to)).unwrap_or_default()
    }

    /// Forgets a node altogether. Returns the rows that vanish.
    pub fn forget(&mut self, origin: NodeId) -> Vec<RowChange> {
        let history = self.histories.remove(&origin);
        history.map(|h| h.into_removals()).unwrap_or_default()
    }
}
