//! Replicated rows: what every node says of itself, merged without conflicts.
//!
//! A node numbers its commits 1, 2, 3 … ([`Version`]); every row carries the version that last wrote
//! it, and the higher version wins. So a node's whole state is `key → (version, row)`, and one number, its head,
//! says what a peer lacks, together with the commits that arrived early ([`Extent`]). A [`Delta`] holds "the rows of
//! node X above version V"; overwritten versions no longer exist, so nothing needs compaction (Scuttlebutt
//! reconciliation: van Renesse, Dumitriu, Gough, Thomas, LADIS 2008).
//!
//! A node that lost its disk, or was restored from an old copy, restates its history in one commit above
//! every version that its peers know ([`Replica::prepare_restatement`]). Digests of contents
//! ([`Replica::summary`]) let two replicas notice that they differ, and [`Replica::distrust`] repairs it.
//!
//! What a row holds is in `rows.rs`, with a file for each kind of row. This module knows the kinds only where it
//! concerns the order of keys and the checks of an instance.
//!
//! What always holds:
//! - [`Replica::merge`] is commutative, associative and idempotent over any order, duplication and
//!   partition of deliveries.
//! - Rows that were committed together become visible together. A delta that cannot show a whole
//!   commit is held back ("staged") until the missing rows have arrived.
//! - A row of node X comes from X's own history alone; see [`MergeError::OwnHistory`].
//! - Replicas with the same commits of a history ([`Extent`]) have the same digest of it.
//! - The caller persists before it acknowledges; this module only computes.
//!
//! Rows have one writer, their node. What several nodes may write (the cells of tables) does not become rows; it has
//! logs of its own.

mod clock;
mod delta;
mod digest;
mod encoding;
mod extent;
mod history;
mod rows;
mod slot;
mod table;
#[cfg(test)]
mod tests;
mod unstored;
mod version;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use clock::{ClockError, HybridClock, HybridTime, MAX_AHEAD};
pub use delta::{Delta, DeltaError, DeltaRequest, DeltaRow};
use digest::Summaries;
pub use digest::{BUCKETS, bucket_of};
pub use encoding::DecodeError;
pub use extent::Extent;
use history::History;
pub use history::MergeError;
use imbl::OrdMap;
pub use rows::{
    Departure, Entry, NewerRow, Problem, Row, RowChange, RowDecoder, RowError, RowKey, RowState,
};
pub use unstored::{Piece, Unstored};
pub use version::Version;

use crate::model::{CheckId, InstanceId, NodeId};

/// The most rows of all histories together that may be held back at a time. Further rows are refused and requested
/// again later.
const MAX_STAGED_TOTAL: usize = 2_000_000;

/// All nodes' rows, as one node has them.
#[derive(Debug, Clone)]
pub struct Replica {
    own: NodeId,
    /// Shared between copies of a replica until one of them changes.
    histories: OrdMap<NodeId, Arc<History>>,
    summaries: Summaries,
    /// How many rows of all histories are held back.
    staged: usize,
    /// Nodes that were forgotten for good, with the version up to which their history is ignored.
    forgotten: BTreeMap<NodeId, Version>,
}

/// A row that a node wants to write or delete in its own history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key of the row.
    pub key: RowKey,
    /// What the row becomes.
    pub state: RowState,
}

impl Replica {
    /// An empty replica of the node with this id.
    #[must_use]
    pub fn new(own: NodeId) -> Self {
        let summaries = Summaries::new();
        Self { own, histories: OrdMap::new(), summaries, staged: 0, forgotten: BTreeMap::new() }
    }

    /// A replica of another node with the same rows, which takes no memory of its own for what neither changes.
    #[must_use]
    pub fn copy_for(&self, own: NodeId) -> Self {
        Self { own, ..self.clone() }
    }

    /// The node that this replica speaks for.
    #[must_use]
    pub fn own(&self) -> NodeId {
        self.own
    }

    /// Restores one node's stored rows; `extent` and `floor` are those stored with the last of them. Rows of commits
    /// outside of the extent are pieces of something that was not stored whole: then the history is visible, but
    /// requested again from the beginning, see [`Replica::distrust`].
    pub fn restore(
        &mut self,
        origin: NodeId,
        extent: Extent,
        floor: Version,
        rows: impl IntoIterator<Item = (RowKey, Entry)>,
    ) {
        let restored = History::restore(extent, floor, rows);
        self.change(origin, |history| *history = restored);
    }

    /// Changes a history, and updates the summaries.
    fn change<R>(&mut self, origin: NodeId, change: impl FnOnce(&mut History) -> R) -> R {
        let history = Arc::make_mut(self.histories.entry(origin).or_default());
        let before = summand(origin, history);
        self.staged -= history.staged();
        let result = change(history);
        self.staged += history.staged();
        self.summaries.replace(origin, before, summand(origin, history));
        result
    }

    /// Makes the next commit of the own history out of changes, without applying it: persist it, then
    /// [`Replica::commit`] it. Changes that change nothing are left out; `None` if none is left.
    /// Of several changes to one key the last counts.
    #[must_use]
    pub fn prepare(&self, changes: impl IntoIterator<Item = Change>) -> Option<Delta> {
        let empty = Arc::default();
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
            extent: Extent::up_to(to),
            floor: history.floor(),
            rows,
        })
    }

    /// Makes a commit that restates the own history: every present own row, with the changes made, at
    /// one version above `above` and above the own head. Its floor makes every receiver that has got no
    /// further than `above` drop the rows that it does not mention. For a node whose disk was lost or is an old
    /// copy: `above` is then the newest version of its history that is known to any peer
    /// ([`Replica::newest`]). The commit is not applied: persist it, then [`Replica::commit`] it.
    #[must_use]
    pub fn prepare_restatement(
        &self,
        above: Version,
        changes: impl IntoIterator<Item = Change>,
    ) -> Delta {
        let empty = Arc::default();
        let history = self.histories.get(&self.own).unwrap_or(&empty);
        history.restated(self.own, above, changes.into_iter().map(|c| (c.key, c.state)))
    }

    /// Applies a commit that [`Replica::prepare`] or [`Replica::prepare_restatement`] made. Returns what
    /// became visible or vanished.
    ///
    /// # Panics
    /// When the commit is not the next of the own history: the caller lost or repeated one.
    pub fn commit(&mut self, delta: &Delta) -> Vec<RowChange> {
        let head = self.head(self.own);
        let is_next = delta.from == head || (delta.from == Version::ZERO && delta.floor > head);
        assert!(
            delta.origin == self.own && is_next,
            "commits are applied once and in the order they were prepared"
        );
        self.change(self.own, |history| history.merge(delta))
            .expect("a commit that was just prepared is well-formed and the next one")
    }

    /// Merges what a peer sent of another node's history. Returns what became visible; empty if the
    /// delta was known, or is held back until the rest has arrived.
    ///
    /// # Errors
    /// When the delta is malformed, is of the own history, or a limit is reached. No visible row was changed.
    /// A delta of a forgotten node from before it was forgotten is ignored without an error.
    pub fn merge(&mut self, delta: &Delta) -> Result<Vec<RowChange>, MergeError> {
        delta.validate()?;
        if delta.origin == self.own {
            return Err(MergeError::OwnHistory);
        }
        if delta.extent.newest() <= self.forgotten_up_to(delta.origin) {
            return Ok(Vec::new());
        }
        if !delta.is_one_whole_commit() && self.staged + delta.rows.len() > MAX_STAGED_TOTAL {
            return Err(MergeError::Gap { from: delta.from, reach: self.head(delta.origin) });
        }
        let result = self.change(delta.origin, |history| history.merge(delta));
        if result.is_err() && self.histories.get(&delta.origin).is_some_and(|h| h.is_empty()) {
            self.histories.remove(&delta.origin);
        }
        result
    }

    /// The last version of a node's history up to which everything is here and visible.
    #[must_use]
    pub fn head(&self, origin: NodeId) -> Version {
        self.histories.get(&origin).map_or(Version::ZERO, |h| h.head())
    }

    /// The commits of a node that are visible here as a whole; other visible rows are not trusted.
    #[must_use]
    pub fn extent(&self, origin: NodeId) -> Extent {
        self.histories.get(&origin).map(|h| h.extent().clone()).unwrap_or_default()
    }

    /// What to request from a peer to get further.
    #[must_use]
    pub fn request(&self, origin: NodeId) -> DeltaRequest {
        let nothing = DeltaRequest { above: Version::ZERO, floor: Version::ZERO };
        self.histories.get(&origin).map_or(nothing, |h| h.request())
    }

    /// Whether anything is known of a node's history.
    #[must_use]
    pub fn knows(&self, origin: NodeId) -> bool {
        self.histories.contains_key(&origin)
    }

    /// The number of nodes of which something is known.
    #[must_use]
    pub fn known(&self) -> usize {
        self.histories.len()
    }

    /// Every known node's head.
    pub fn heads(&self) -> impl Iterator<Item = (NodeId, Version)> {
        self.histories.iter().map(|(id, h)| (*id, h.head()))
    }

    /// The version up to which a node's tombstones were purged here.
    #[must_use]
    pub fn floor(&self, origin: NodeId) -> Version {
        self.histories.get(&origin).map_or(Version::ZERO, |h| h.floor())
    }

    /// The rows of a node that a peer requests, in order, of about `max_bytes` at most, but never less
    /// than one commit. `None` if there are none. When tombstones that the peer lacks were purged, the
    /// delta starts from zero.
    #[must_use]
    pub fn delta(&self, origin: NodeId, request: DeltaRequest, max_bytes: usize) -> Option<Delta> {
        self.histories.get(&origin)?.delta(origin, request, max_bytes)
    }

    /// One visible row, as far as this version knows it.
    #[must_use]
    pub fn row(&self, origin: NodeId, key: &RowKey) -> Option<Row> {
        self.histories.get(&origin)?.entry(key)?.state.present().cloned()
    }

    /// All visible rows of a node, tombstones included, by key.
    pub fn rows(&self, origin: NodeId) -> impl Iterator<Item = (RowKey, Entry)> {
        self.histories.get(&origin).into_iter().flat_map(|h| h.entries())
    }

    /// One visible row or tombstone, with its version.
    #[must_use]
    pub fn entry(&self, origin: NodeId, key: &RowKey) -> Option<Entry> {
        self.histories.get(&origin)?.entry(key)
    }

    /// The checks of an instance that have visible rows.
    pub fn checks_of(&self, origin: NodeId, id: &InstanceId) -> impl Iterator<Item = CheckId> {
        let history = self.histories.get(&origin);
        history.into_iter().flat_map(move |h| h.checks_of(id))
    }

    /// Drops a node's tombstones up to a version. Peers that are further behind will be sent the whole
    /// history. Returns the keys that were dropped.
    pub fn purge_tombstones(&mut self, origin: NodeId, up_to: Version) -> Vec<RowKey> {
        let history = self.histories.get_mut(&origin);
        history.map(|h| Arc::make_mut(h).purge_tombstones(up_to)).unwrap_or_default()
    }

    /// What to tell peers of a node, and to compare with what they tell: which of its commits are visible here,
    /// and the digest of its present rows; tombstones do not count, since peers purge them at different times. Replicas
    /// with equal extents have equal digests, or one of them is wrong. `None` if nothing can be told. O(1).
    #[must_use]
    pub fn told(&self, origin: NodeId) -> Option<(&Extent, u64)> {
        self.histories.get(&origin)?.told()
    }

    /// The digest that [`Replica::told`] tells; 0 if it tells nothing.
    #[must_use]
    pub fn digest(&self, origin: NodeId) -> u64 {
        self.told(origin).map_or(0, |(_, digest)| digest)
    }

    /// The digest of everything: of each node's id and what [`Replica::told`] tells of it. Zero when empty. O(1).
    #[must_use]
    pub fn summary(&self) -> u64 {
        self.summaries.all()
    }

    /// [`Replica::summary`] of the nodes of one bucket, see [`bucket_of`]. O(1).
    #[must_use]
    pub fn bucket_summary(&self, bucket: usize) -> u64 {
        self.summaries.bucket(bucket)
    }

    /// [`Replica::told`] of each node of some buckets, given as bits.
    pub fn told_in(&self, buckets: u64) -> impl Iterator<Item = (NodeId, &Extent, u64)> {
        let is_of = move |id: &NodeId| buckets >> bucket_of(*id) & 1 == 1;
        let chosen = self.histories.iter().filter(move |(id, _)| is_of(id));
        chosen.filter_map(|(id, history)| {
            let (extent, digest) = history.told()?;
            Some((*id, extent, digest))
        })
    }

    /// Whether everything in a delta is visible here.
    #[must_use]
    pub fn has(&self, delta: &Delta) -> bool {
        self.histories.get(&delta.origin).is_some_and(|history| history.has(delta))
    }

    /// Drops tombstones of other nodes that have been purged by a peer that sent rows of them, once everything up to
    /// that version is here. Returns the keys that were dropped.
    pub fn purge_as_others_did(&mut self) -> Vec<(NodeId, Vec<RowKey>)> {
        let due = self.histories.iter().filter_map(|(origin, history)| {
            let up_to = history.purged_by_others()?;
            Some((*origin, up_to))
        });
        let due: Vec<(NodeId, Version)> = due.collect();
        let purged =
            due.into_iter().map(|(node, up_to)| (node, self.purge_tombstones(node, up_to)));
        purged.filter(|(_, keys)| !keys.is_empty()).collect()
    }

    /// Gives up rows that are held back until others arrive: all of them are requested again. For when no peer is left
    /// that could send the others.
    pub fn unstage(&mut self, origin: NodeId) {
        if self.knows(origin) {
            self.change(origin, History::unstage);
        }
    }

    /// Whether a node was forgotten, so that its history so far is ignored.
    #[must_use]
    pub fn is_forgotten(&self, origin: NodeId) -> bool {
        self.forgotten_up_to(origin) > Version::ZERO && !self.knows(origin)
    }

    /// The newest version of a node's history that is known here, whether its rows are visible, held back or
    /// only remembered. A node that restates its history has to go above what its peers return here.
    #[must_use]
    pub fn newest(&self, origin: NodeId) -> Version {
        let newest = self.histories.get(&origin).map_or(Version::ZERO, |h| h.newest());
        newest.max(self.forgotten_up_to(origin))
    }

    /// Whether a peer has something of a node that is news here: the node is another one and not forgotten, and not all
    /// of the extent is visible.
    #[must_use]
    pub fn lacks(&self, origin: NodeId, extent: &Extent) -> bool {
        let is_new = self.histories.get(&origin).is_none_or(|history| history.lacks(extent));
        is_new && origin != self.own && extent.newest() > self.forgotten_up_to(origin)
    }

    /// Discards what is known of another node's history but keeps its rows visible. The next request
    /// starts from zero, and the answer of a peer that has got at least as far replaces everything.
    /// Until then the head is zero, and nothing of that node is served to others. For a digest that
    /// differs at equal heads.
    pub fn distrust(&mut self, origin: NodeId) {
        if origin != self.own && self.knows(origin) {
            self.change(origin, History::distrust);
        }
    }

    /// Forgets another node for good. Its history so far is ignored from now on; if it returns, it
    /// has to restate its history above. Returns the rows that vanish.
    pub fn forget(&mut self, origin: NodeId) -> Vec<RowChange> {
        if origin == self.own {
            return Vec::new();
        }
        let up_to = self.newest(origin);
        self.restore_forgotten(origin, up_to);
        let Some(history) = self.histories.remove(&origin) else { return Vec::new() };
        self.summaries.replace(origin, summand(origin, &history), 0);
        self.staged -= history.staged();
        Arc::unwrap_or_clone(history).into_removals()
    }

    /// The nodes that were forgotten, with the version up to which their history is ignored.
    pub fn forgotten(&self) -> impl Iterator<Item = (NodeId, Version)> {
        self.forgotten.iter().map(|(id, up_to)| (*id, *up_to))
    }

    /// Restores a stored marker of a forgotten node.
    pub fn restore_forgotten(&mut self, origin: NodeId, up_to: Version) {
        let marker = self.forgotten.entry(origin).or_default();
        *marker = up_to.max(*marker);
    }

    fn forgotten_up_to(&self, origin: NodeId) -> Version {
        self.forgotten.get(&origin).copied().unwrap_or_default()
    }
}

/// What a node's history adds to the summaries.
fn summand(origin: NodeId, history: &History) -> u64 {
    history.told().map_or(0, |(extent, digest)| digest::of_node(origin, extent, digest))
}
