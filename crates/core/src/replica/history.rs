//! The history of one node, as far as it is known here: merging, holding back, restating, serving.

use std::collections::BTreeMap;

use thiserror::Error;

use super::delta::{Delta, DeltaError, DeltaRequest, DeltaRow};
use super::extent::Extent;
use super::rows::{Departure, Entry, RowChange, RowKey, RowState, approx_octets};
use super::slot::Slot;
use super::table::Table;
use super::version::Version;
use crate::model::{CheckId, InstanceId, NodeId};

/// The most rows that may be visible above a gap, since they are sent in one piece. Further commits above it are
/// refused.
const MAX_EARLY_ROWS: usize = 20_000;
/// The most rows of a history that may be held back at a time.
const MAX_STAGED_ROWS: usize = 1_000_000;

/// Why a delta was not merged. No visible row was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MergeError {
    /// The delta is malformed; the sender is at fault.
    #[error(transparent)]
    Delta(#[from] DeltaError),
    /// The delta is of this node's own history, which no other node may change.
    #[error("a peer sent rows of this node's own history")]
    OwnHistory,
    /// The delta leaves a gap that this history cannot remember; request what is above the reach.
    #[error("the delta starts at {from}, yet only {reach} is here")]
    Gap {
        /// The version at which the delta starts.
        from: Version,
        /// The version up to which everything is here.
        reach: Version,
    },
    /// More rows would have to be held back than are allowed.
    #[error("more than {MAX_STAGED_ROWS} rows are held back")]
    TooManyStaged,
}

/// A history that is being restated from zero, because tombstones that this node never received are purged.
#[derive(Debug, Clone)]
struct Restatement {
    arrived: Extent,
    floor: Version,
}

#[derive(Debug, Clone, Default)]
pub(super) struct History {
    /// The commits that the visible rows reflect, each as a whole.
    visible: Extent,
    /// The commits that have arrived: the visible ones, and those that are staged.
    arrived: Extent,
    /// Tombstones up to this version are purged.
    floor: Version,
    /// Tombstones up to this version are purged at a peer that sent rows.
    heard_floor: Version,
    /// The visible rows.
    rows: Table,
    /// The rows that are held back until all of `needed` has arrived.
    staged: BTreeMap<RowKey, Entry>,
    /// The commits that the staged rows reflect.
    needed: Extent,
    restatement: Option<Restatement>,
    /// The head of visible rows that are not trusted, while there are any. Only a peer that has got at least
    /// as far can tell what is true.
    distrusted: Option<Version>,
}

impl History {
    /// `extent` is what was stored with the last of the rows. If there are rows of other commits, which are pieces,
    /// nothing is trusted until a peer has sent all of it again.
    pub(super) fn restore(
        extent: Extent,
        floor: Version,
        rows: impl IntoIterator<Item = (RowKey, Entry)>,
    ) -> Self {
        let rows: Table = rows.into_iter().collect();
        let is_whole = rows.iter().all(|row| extent.contains(row.version()));
        let arrived = extent.clone();
        let mut history = Self { floor, arrived, visible: extent, rows, ..Self::default() };
        if !is_whole {
            history.distrust();
        }
        history
    }

    pub(super) fn head(&self) -> Version {
        self.visible.head()
    }

    /// The number of rows that are held back.
    pub(super) fn staged(&self) -> usize {
        self.staged.len()
    }

    /// The commits that are visible as a whole.
    pub(super) fn extent(&self) -> &Extent {
        &self.visible
    }

    /// Whether nothing is known of this history.
    pub(super) fn is_empty(&self) -> bool {
        let Self { visible, arrived, staged, restatement, .. } = self;
        let has_nothing = visible.is_empty() && arrived.is_empty() && staged.is_empty();
        has_nothing && restatement.is_none() && self.rows.len() == 0
    }

    /// What to tell others: the commits that are visible here, and the digest of the rows. Replicas with the same
    /// commits have the same digest, or one of them is wrong. `None` while the rows are not trusted.
    pub(super) fn told(&self) -> Option<(&Extent, u64)> {
        let is_told = self.distrusted.is_none() && !self.visible.is_empty();
        is_told.then(|| (&self.visible, self.rows.digest()))
    }

    /// Whether everything in a delta is visible.
    pub(super) fn has(&self, delta: &Delta) -> bool {
        let brings_range_alone = !delta.is_last() || delta.is_one_whole_commit();
        self.visible.covers_range(delta.from, delta.to)
            && (brings_range_alone || self.visible.covers(&delta.extent))
    }

    /// Whether something of this extent is not visible.
    pub(super) fn lacks(&self, extent: &Extent) -> bool {
        !self.visible.covers(extent)
    }

    /// The newest commit of which anything is known.
    pub(super) fn newest(&self) -> Version {
        let extents = [self.arrived.newest(), self.needed.newest(), self.visible.newest()];
        let known = extents.into_iter().max().unwrap_or_default();
        known.max(self.distrusted.unwrap_or_default()).max(self.rows.newest())
    }

    pub(super) fn request(&self) -> DeltaRequest {
        match &self.restatement {
            Some(Restatement { arrived, floor }) => {
                DeltaRequest { above: arrived.head(), floor: *floor }
            }
            None => DeltaRequest { above: self.arrived.head(), floor: Version::ZERO },
        }
    }

    pub(super) fn floor(&self) -> Version {
        self.floor
    }

    pub(super) fn entry(&self, key: &RowKey) -> Option<Entry> {
        self.rows.get(key).map(Slot::entry)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (RowKey, Entry)> {
        self.rows.iter().map(|row| (row.key(), row.entry()))
    }

    pub(super) fn checks_of(&self, id: &InstanceId) -> impl Iterator<Item = CheckId> {
        let rows = self.rows.starting_at(RowKey::Check(id.clone(), CheckId::least()));
        let checks = rows.map_while(move |row| {
            let RowKey::Check(instance, check) = row.key() else { return None };
            (instance == *id).then_some((row, check))
        });
        checks.filter(|(row, _)| row.is_present()).map(|(_, check)| check)
    }

    /// Whether writing this would make a difference. Deleting a row that does not exist makes none.
    pub(super) fn would_change(&self, key: &RowKey, state: &RowState) -> bool {
        let old = self.rows.get(key).filter(|row| row.is_present()).map(Slot::state);
        match (old, state) {
            (None, RowState::Gone(_)) => false,
            (old, new) => old.as_ref() != Some(new),
        }
    }

    /// The version of a row or tombstone, if there is one.
    fn version(&self, key: &RowKey) -> Option<Version> {
        self.rows.get(key).map(Slot::version)
    }

    /// Merges a valid delta of this history.
    ///
    /// A whole commit becomes visible at once, whether or not earlier ones have arrived or are held back: news must
    /// not wait.
    pub(super) fn merge(&mut self, delta: &Delta) -> Result<Vec<RowChange>, MergeError> {
        self.heard_floor = self.heard_floor.max(delta.floor);
        if delta.is_one_whole_commit() {
            return self.merge_commit(delta);
        }
        if delta.floor > self.arrived.head() || self.restatement.is_some() {
            self.merge_restatement(delta)
        } else {
            self.merge_continuation(delta)
        }
    }

    fn merge_commit(&mut self, delta: &Delta) -> Result<Vec<RowChange>, MergeError> {
        let mut changes = Vec::new();
        // Among rows that are not trusted, only a commit that is newer than all of them can be shown.
        let doubted = self.distrusted.map_or(Version::ZERO, |_| self.rows.newest());
        if delta.to > self.head().max(doubted) {
            if !self.has_room_for(delta) {
                let reach = self.arrived.head();
                return Err(MergeError::Gap { from: delta.from, reach });
            }
            changes = self.show(delta.rows.iter().map(|r| (r.key.clone(), entry_of(r))));
            self.visible.insert(delta.from, delta.to);
            self.arrived.insert(delta.from, delta.to);
        }
        let Some(begun) = &self.restatement else {
            changes.extend(self.settle());
            return Ok(changes);
        };
        if delta.from > begun.arrived.head() || !self.could_complete(&begun.arrived, delta) {
            return Ok(changes);
        }
        // The commit is visible already, whether or not it fits into the restatement.
        changes.extend(self.merge_restatement(delta).unwrap_or_default());
        Ok(changes)
    }

    /// Whether a commit may be shown: the next one always, one above a gap while there are few of those.
    fn has_room_for(&self, delta: &Delta) -> bool {
        let early_rows = || self.rows.count_above(self.head(), MAX_EARLY_ROWS);
        delta.from <= self.head()
            || (self.arrived.early().len() < Extent::MAX_RANGES && early_rows() < MAX_EARLY_ROWS)
    }

    fn merge_continuation(&mut self, delta: &Delta) -> Result<Vec<RowChange>, MergeError> {
        if self.arrived.covers(&joined(&self.arrived, delta)) {
            return Ok(Vec::new());
        }
        let gap = |reach| Err(MergeError::Gap { from: delta.from, reach });
        if !self.could_complete(&self.arrived, delta) {
            if delta.from > self.head() {
                return gap(self.arrived.head());
            }
            self.unstage();
            if delta.floor > self.arrived.head() {
                return self.merge_restatement(delta);
            }
        }
        let reach = self.arrived.head();
        let arrived = joined(&self.arrived, delta);
        if delta.from > reach || arrived.early().len() > Extent::MAX_RANGES {
            return gap(reach);
        }
        self.stage(delta)?;
        self.arrived = arrived;
        Ok(self.settle())
    }

    /// Whether the sender of a delta has all that is missing of what another peer began to send.
    fn could_complete(&self, arrived: &Extent, delta: &Delta) -> bool {
        let mut known = arrived.clone();
        known.join(&delta.extent);
        known.covers(&self.needed)
    }

    /// Gives up the rows that are held back. They are requested again, from any peer.
    pub(super) fn unstage(&mut self) {
        self.staged.clear();
        self.needed = Extent::default();
        self.arrived = self.visible.clone();
        let from_zero = Restatement { arrived: Extent::default(), floor: Version::ZERO };
        self.restatement = self.distrusted.map(|_| from_zero);
    }

    fn stage(&mut self, delta: &Delta) -> Result<(), MergeError> {
        if self.staged.len() + delta.rows.len() > MAX_STAGED_ROWS {
            return Err(MergeError::TooManyStaged);
        }
        for row in &delta.rows {
            let newer = self.staged.get(&row.key).is_none_or(|old| old.version < row.version);
            if newer {
                self.staged.insert(row.key.clone(), entry_of(row));
            }
        }
        self.needed.join(&delta.extent);
        Ok(())
    }

    /// Makes rows visible that were held back, once they are complete.
    fn settle(&mut self) -> Vec<RowChange> {
        if !self.arrived.covers(&self.needed) {
            return Vec::new();
        }
        self.needed = Extent::default();
        let shown = std::mem::replace(&mut self.visible, self.arrived.clone());
        let mut staged = std::mem::take(&mut self.staged);
        // Commits that arrived by themselves meanwhile are visible already. Rows of theirs have been overwritten since,
        // possibly by tombstones that are purged.
        staged.retain(|_, entry| !shown.contains(entry.version));
        let is_most = staged.len() > self.rows.len() / 2;
        let changes = self.show(staged);
        if is_most {
            self.rows.pack();
        }
        changes
    }

    /// Makes rows visible where they are newer than the visible ones.
    fn show(&mut self, rows: impl IntoIterator<Item = (RowKey, Entry)>) -> Vec<RowChange> {
        let mut changes = Vec::new();
        for (key, entry) in rows {
            if self.version(&key).is_none_or(|old| old < entry.version) {
                changes.push(self.place(key, entry));
            }
        }
        changes
    }

    fn place(&mut self, key: RowKey, entry: Entry) -> RowChange {
        let change = RowChange { key: key.clone(), state: entry.state.clone() };
        self.rows.insert(key, entry);
        change
    }

    /// Merges a piece of a restatement. The sender purged tombstones that this node never received, so only a history
    /// that is stated from zero tells which rows are gone: those that it does not mention.
    fn merge_restatement(&mut self, delta: &Delta) -> Result<Vec<RowChange>, MergeError> {
        let empty = || Restatement { arrived: Extent::default(), floor: delta.floor };
        let begun = self.restatement.clone().unwrap_or_else(empty);
        let gap = |reach| Err(MergeError::Gap { from: delta.from, reach });
        // Rows of a sender that was behind the floor may have been deleted since, and the tombstones purged.
        if delta.extent.head() < begun.floor.max(self.distrusted.unwrap_or_default()) {
            return gap(begun.arrived.head());
        }
        // A sender that has purged more since may lack tombstones of rows that were deleted meanwhile, and one that
        // cannot complete what another peer began lacks commits: then the restatement starts again.
        let goes_on = delta.floor <= begun.floor.max(begun.arrived.head())
            && self.could_complete(&begun.arrived, delta);
        let floor = if goes_on { begun.floor } else { begun.floor.max(delta.floor) };
        let begun = if goes_on { begun.arrived } else { Extent::default() };
        let reach = begun.head();
        let arrived = joined(&begun, delta);
        if delta.from > reach || arrived.early().len() > Extent::MAX_RANGES {
            return gap(reach);
        }
        if reach == Version::ZERO {
            self.unstage();
        }
        self.stage(delta)?;
        if !arrived.covers(&self.needed) {
            self.restatement = Some(Restatement { arrived, floor });
            return Ok(Vec::new());
        }
        Ok(self.finish_restatement(arrived, floor))
    }

    /// Everything has arrived: rows that were not mentioned are gone.
    fn finish_restatement(&mut self, arrived: Extent, floor: Version) -> Vec<RowChange> {
        self.restatement = None;
        self.distrusted = None;
        self.needed = Extent::default();
        self.floor = self.floor.max(floor);
        let reached = arrived.head();
        let mut changes = self.drop_unmentioned(reached);
        for (key, entry) in std::mem::take(&mut self.staged) {
            // Also at the same version: the restatement may say something else than the row that was here.
            let is_news = |old| old < entry.version || !self.is_kept(old, reached);
            if self.version(&key).is_none_or(is_news) {
                changes.push(self.place(key, entry));
            }
        }
        let shown = std::mem::replace(&mut self.visible, arrived);
        self.visible.join(&shown);
        self.arrived = self.visible.clone();
        if !self.visible.is_sound() {
            self.distrust();
        }
        changes
    }

    /// Whether a visible row is trusted beside a restatement: it is of a whole commit above it.
    fn is_kept(&self, version: Version, reached: Version) -> bool {
        version > reached && self.visible.contains(version)
    }

    fn drop_unmentioned(&mut self, reached: Version) -> Vec<RowChange> {
        let unkept = self.rows.iter().filter(|row| !self.is_kept(row.version(), reached));
        let keys = unkept.map(Slot::key);
        let gone: Vec<RowKey> = keys.filter(|key| !self.staged.contains_key(key)).collect();
        for key in &gone {
            self.rows.remove(key);
        }
        let dropped = |key| RowChange { key, state: RowState::Gone(Departure::Dropped) };
        gone.into_iter().map(dropped).collect()
    }

    /// The present rows with some changes made, as one commit that restates the history, with a floor
    /// above every version that a receiver may have reached.
    pub(super) fn restated(
        &self,
        origin: NodeId,
        above: Version,
        changes: impl IntoIterator<Item = (RowKey, RowState)>,
    ) -> Delta {
        let floor = above.max(self.newest()).next();
        let to = floor.next();
        let mut states: BTreeMap<RowKey, RowState> =
            self.rows.iter().map(|row| (row.key(), row.state())).collect();
        states.extend(changes);
        let present = |state: &RowState| matches!(state, RowState::Present(_));
        let rows = states
            .into_iter()
            .filter(|(_, state)| present(state))
            .map(|(key, state)| DeltaRow { version: to, key, state })
            .collect();
        Delta { origin, from: Version::ZERO, to, extent: Extent::up_to(to), floor, rows }
    }

    /// Keeps the rows visible, but requests all of them again and serves them to no peer meanwhile.
    pub(super) fn distrust(&mut self) {
        let head = self.distrusted.unwrap_or_default().max(self.head());
        let rows = std::mem::take(&mut self.rows);
        let restatement = Restatement { arrived: Extent::default(), floor: Version::ZERO };
        *self = Self {
            rows,
            distrusted: Some(head),
            restatement: Some(restatement),
            ..Self::default()
        };
    }

    pub(super) fn delta(
        &self,
        origin: NodeId,
        request: DeltaRequest,
        max_bytes: usize,
    ) -> Option<Delta> {
        let (extent, _) = self.told()?;
        let head = extent.head();
        if request.above >= head && extent.early().is_empty() {
            return None;
        }
        let has_tombstones = self.floor <= request.above.max(request.floor);
        let from = if has_tombstones { request.above.min(head) } else { Version::ZERO };
        let mut rows = Vec::new();
        let (mut bytes, mut to) = (0, head);
        for row in self.rows.above(from) {
            let version = row.version();
            let last: Option<&DeltaRow> = rows.last();
            let is_new_commit = last.is_some_and(|row| row.version < version);
            // Commits above the head may have overwritten rows of any other commit, so they go with the last of these.
            let is_early = version > head;
            if is_new_commit && bytes >= max_bytes && !is_early {
                to = rows.last().map_or(to, |row| row.version);
                break;
            }
            let row = DeltaRow { version, key: row.key(), state: row.state() };
            bytes += approx_octets(&row.key, &row.state);
            rows.push(row);
        }
        Some(Delta { origin, from, to, extent: extent.clone(), floor: self.floor, rows })
    }

    /// The version up to which others have purged tombstones that are still here; `None` before everything up to it is
    /// here.
    pub(super) fn purged_by_others(&self) -> Option<Version> {
        let is_due = self.floor < self.heard_floor && self.heard_floor <= self.head();
        is_due.then_some(self.heard_floor)
    }

    pub(super) fn purge_tombstones(&mut self, up_to: Version) -> Vec<RowKey> {
        let up_to = up_to.min(self.head());
        let old = self.rows.above(Version::ZERO).take_while(|row| row.version() <= up_to);
        let gone: Vec<(Version, RowKey)> =
            old.filter(|row| !row.is_present()).map(|row| (row.version(), row.key())).collect();
        if let Some((newest, _)) = gone.last() {
            self.floor = self.floor.max(*newest);
        }
        for (_, key) in &gone {
            self.rows.remove(key);
        }
        gone.into_iter().map(|(_, key)| key).collect()
    }

    pub(super) fn into_removals(self) -> Vec<RowChange> {
        let keys = self.rows.iter().filter(|row| row.is_present()).map(Slot::key);
        keys.map(|key| RowChange { key, state: RowState::Gone(Departure::Dropped) }).collect()
    }
}

/// The commits that have arrived together with those of a delta.
fn joined(arrived: &Extent, delta: &Delta) -> Extent {
    let mut arrived = arrived.clone();
    arrived.insert(delta.from, delta.to);
    if delta.is_last() {
        arrived.join(&delta.extent);
    }
    arrived
}

fn entry_of(row: &DeltaRow) -> Entry {
    Entry { version: row.version, state: row.state.clone() }
}
