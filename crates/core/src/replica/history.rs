//! One node's rows, as far as they are known here.

use std::collections::BTreeMap;

use thiserror::Error;

use super::delta::{Delta, DeltaError, DeltaRow, Request};
use super::row::{Departure, Entry, RowChange, RowKey, RowState, Version, approx_bytes};
use super::table::Table;
use crate::model::{CheckId, InstanceId, NodeId};

/// Ranges of commits that may be known above a gap.
const MAX_EARLY_RANGES: usize = 1024;
/// Rows that may be held back at a time.
const MAX_STAGED_ROWS: usize = 1_000_000;

/// Why a delta was not taken in. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MergeError {
    /// The delta is malformed; the sender is at fault.
    #[error(transparent)]
    Delta(#[from] DeltaError),
    /// The delta is of this node's own history, for which nobody else speaks.
    #[error("a peer sent rows of this node's own history")]
    OwnHistory,
    /// The delta leaves a gap that this history cannot remember; ask for what is above the reach.
    #[error("the delta starts at {from}, yet only {reach} is here")]
    Gap {
        /// Where it starts.
        from: Version,
        /// What is here.
        reach: Version,
    },
    /// More rows are held back than fit.
    #[error("more than {MAX_STAGED_ROWS} rows are held back")]
    TooManyStaged,
}

/// A history that is being stated anew from zero, because tombstones that this node never saw are gone.
#[derive(Debug, Clone)]
struct Restatement {
    reached: Version,
    floor: Version,
}

#[derive(Debug, Clone, Default)]
pub(super) struct History {
    /// Everything up to here is visible, and no commit up to here is half visible.
    head: Version,
    /// Everything up to here has come; what is above `head` is staged.
    reach: Version,
    /// Tombstones up to here are gone.
    floor: Version,
    /// Visible rows; whole commits that came early are among them.
    rows: Table,
    /// The last head at which no commit above it was visible, and the digest of the rows then.
    settled: (Version, u64),
    /// Rows held back until `reach` gets to `settled_at`.
    staged: BTreeMap<RowKey, Entry>,
    settled_at: Version,
    /// Ranges `(from, to]` that came above a gap.
    early: BTreeMap<Version, Version>,
    restatement: Option<Restatement>,
    /// Set while rows are shown that are not believed: the head that they had. Only somebody who has got
    /// at least as far can tell what is true.
    distrusted: Option<Version>,
}

impl History {
    pub(super) fn restore(
        head: Version,
        floor: Version,
        rows: impl IntoIterator<Item = (RowKey, Entry)>,
    ) -> Self {
        let mut history = Self { head, reach: head, floor, ..Self::default() };
        for (key, entry) in rows {
            history.rows.insert(key, entry);
        }
        history.rows.pack();
        history.note_settled();
        history
    }

    pub(super) fn head(&self) -> Version {
        self.head
    }

    /// The last head at which no commit above it was visible, and the digest of the rows then. At one
    /// head every replica has the same digest, or one of them is wrong.
    pub(super) fn settled(&self) -> (Version, u64) {
        self.settled
    }

    fn note_settled(&mut self) {
        if self.rows.newest() <= self.head {
            self.settled = (self.head, self.rows.digest());
        }
    }

    /// Everything up to here has come, be it visible or held back.
    pub(super) fn reach(&self) -> Version {
        self.reach
    }

    /// The newest commit that anything here is of.
    pub(super) fn newest(&self) -> Version {
        let early = self.early.last_key_value().map_or(Version::ZERO, |(_, to)| *to);
        let suspect = self.distrusted.unwrap_or_default();
        let staged = self.staged.values().map(|e| e.version).max().unwrap_or_default();
        self.reach.max(self.settled_at).max(early).max(suspect).max(staged).max(self.rows.newest())
    }

    pub(super) fn request(&self) -> Request {
        match &self.restatement {
            Some(Restatement { reached, floor }) => Request { above: *reached, floor: *floor },
            None => Request { above: self.reach, floor: Version::ZERO },
        }
    }

    pub(super) fn floor(&self) -> Version {
        self.floor
    }

    pub(super) fn entry(&self, key: &RowKey) -> Option<&Entry> {
        self.rows.get(key)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&RowKey, &Entry)> {
        self.rows.iter()
    }

    pub(super) fn checks_of(&self, id: &InstanceId) -> impl Iterator<Item = &CheckId> {
        let first = RowKey::Check(id.clone(), CheckId::least());
        self.rows
            .starting_at(first)
            .map_while(move |(key, entry)| match key {
                RowKey::Check(instance, check) if instance == id => Some((check, entry)),
                RowKey::Check(..) | RowKey::Node | RowKey::Instance(_) | RowKey::Other(_) => None,
            })
            .filter(|(_, entry)| matches!(entry.state, RowState::Present(_)))
            .map(|(check, _)| check)
    }

    /// Whether writing this would make a difference; deleting what is not there does not.
    pub(super) fn would_change(&self, key: &RowKey, state: &RowState) -> bool {
        match (self.rows.get(key).map(|e| &e.state), state) {
            (None | Some(RowState::Gone(_)), RowState::Gone(_)) => false,
            (old, new) => old != Some(new),
        }
    }

    /// Takes in a valid delta of this history.
    ///
    /// A whole commit is shown at once, whatever came before it or is held back: news must not wait.
    pub(super) fn merge(&mut self, delta: &Delta) -> Result<Vec<RowChange>, MergeError> {
        let changes = self.take_in(delta);
        self.note_settled();
        changes
    }

    fn take_in(&mut self, delta: &Delta) -> Result<Vec<RowChange>, MergeError> {
        let is_whole = delta.is_one_whole_commit();
        let mut changes = Vec::new();
        if is_whole && delta.to > self.head.max(self.distrusted.unwrap_or_default()) {
            changes = self.show(delta.rows.iter().map(|r| (r.key.clone(), entry_of(r))));
        }
        let more = if delta.floor > self.reach || self.restatement.is_some() {
            self.merge_restatement(delta)
        } else {
            self.merge_continuation(delta)
        };
        match more {
            Ok(more) => changes.extend(more),
            // It was shown; that it is there is not remembered, so it will be sent again.
            Err(MergeError::Gap { .. } | MergeError::TooManyStaged) if is_whole => {}
            Err(error) => return Err(error),
        }
        Ok(changes)
    }

    fn merge_continuation(&mut self, delta: &Delta) -> Result<Vec<RowChange>, MergeError> {
        if delta.to <= self.reach || self.covers_early(delta) {
            return Ok(Vec::new());
        }
        if delta.from > self.reach && self.early.len() >= MAX_EARLY_RANGES {
            return Err(MergeError::Gap { from: delta.from, reach: self.reach });
        }
        if !delta.is_one_whole_commit() {
            self.stage(delta)?;
        }
        self.cover(delta.from, delta.to);
        Ok(self.settle())
    }

    fn covers_early(&self, delta: &Delta) -> bool {
        let before = self.early.range(..=delta.from).next_back();
        before.is_some_and(|(_, to)| *to >= delta.to)
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
        self.settled_at = self.settled_at.max(delta.settled_at);
        Ok(())
    }

    /// Notes that `(from, to]` has come, and moves the reach over what is now gapless.
    fn cover(&mut self, from: Version, to: Version) {
        let end = self.early.get(&from).map_or(to, |known| to.max(*known));
        self.early.insert(from, end);
        while let Some((&from, &to)) = self.early.first_key_value()
            && from <= self.reach
        {
            self.early.pop_first();
            self.reach = self.reach.max(to);
        }
    }

    /// Shows what was held back once it is whole.
    fn settle(&mut self) -> Vec<RowChange> {
        if self.reach < self.settled_at {
            return Vec::new();
        }
        self.head = self.reach;
        let staged = std::mem::take(&mut self.staged);
        let is_most = staged.len() > self.rows.len() / 2;
        let changes = self.show(staged);
        if is_most {
            self.rows.pack();
        }
        changes
    }

    /// Makes rows visible where they are newer than what is there.
    fn show(&mut self, rows: impl IntoIterator<Item = (RowKey, Entry)>) -> Vec<RowChange> {
        let mut changes = Vec::new();
        for (key, entry) in rows {
            if self.rows.get(&key).is_none_or(|old| old.version < entry.version) {
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

    /// The sender purged tombstones that this node never saw, so only a history stated from zero tells
    /// what is gone: rows it does not mention are.
    fn merge_restatement(&mut self, delta: &Delta) -> Result<Vec<RowChange>, MergeError> {
        // Who purged more since may miss what was deleted meanwhile: only a new start tells.
        let under_way = self.restatement.clone().filter(|r| delta.floor <= r.floor.max(r.reached));
        let start = Restatement { reached: Version::ZERO, floor: delta.floor };
        let Restatement { reached, floor } = under_way.unwrap_or(start);
        // Rows of a sender that was behind the floor may have been deleted without a trace since.
        if delta.from > reached || delta.head < floor.max(self.distrusted.unwrap_or_default()) {
            return Err(MergeError::Gap { from: delta.from, reach: reached });
        }
        if reached == Version::ZERO {
            self.staged.clear();
            self.settled_at = Version::ZERO;
            self.early.clear();
            self.reach = self.head;
        }
        self.stage(delta)?;
        let reached = reached.max(delta.to);
        if reached < self.settled_at {
            self.restatement = Some(Restatement { reached, floor });
            return Ok(Vec::new());
        }
        self.restatement = None;
        self.distrusted = None;
        self.floor = self.floor.max(floor);
        let mut changes = self.drop_unmentioned(reached);
        self.reach = self.reach.max(reached);
        self.head = self.reach;
        // At one version, too: what is stated anew may be of another mind than what was here.
        for (key, entry) in std::mem::take(&mut self.staged) {
            if self.rows.get(&key).is_none_or(|old| old.version <= reached) {
                changes.push(self.place(key, entry));
            }
        }
        Ok(changes)
    }

    fn drop_unmentioned(&mut self, up_to: Version) -> Vec<RowChange> {
        let unmentioned =
            |key: &RowKey, entry: &Entry| entry.version <= up_to && !self.staged.contains_key(key);
        let gone: Vec<RowKey> = self
            .rows
            .iter()
            .filter(|(key, entry)| unmentioned(key, entry))
            .map(|(key, _)| key.clone())
            .collect();
        for key in &gone {
            self.rows.remove(key);
        }
        let dropped = |key| RowChange { key, state: RowState::Gone(Departure::Dropped) };
        gone.into_iter().map(dropped).collect()
    }

    /// The present rows with some changes made, as one commit that states the history anew: with a floor
    /// above everything that a receiver may have reached.
    pub(super) fn restated(
        &self,
        origin: NodeId,
        above: Version,
        changes: impl IntoIterator<Item = (RowKey, RowState)>,
    ) -> Delta {
        let floor = above.max(self.newest()).next();
        let to = floor.next();
        let mut states: BTreeMap<RowKey, RowState> =
            self.rows.iter().map(|(key, entry)| (key.clone(), entry.state.clone())).collect();
        states.extend(changes);
        let present = |state: &RowState| matches!(state, RowState::Present(_));
        let rows = states
            .into_iter()
            .filter(|(_, state)| present(state))
            .map(|(key, state)| DeltaRow { version: to, key, state })
            .collect();
        Delta { origin, from: Version::ZERO, to, head: to, settled_at: to, floor, rows }
    }

    /// Goes on showing the rows, but asks for all of them anew and serves them to nobody meanwhile.
    pub(super) fn distrust(&mut self) {
        let head = self.distrusted.unwrap_or_default().max(self.head);
        let rows = std::mem::take(&mut self.rows);
        let restatement = Restatement { reached: Version::ZERO, floor: Version::ZERO };
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
        request: Request,
        max_bytes: usize,
    ) -> Option<Delta> {
        if request.above >= self.head {
            return None;
        }
        let has_tombstones = self.floor <= request.above.max(request.floor);
        let from = if has_tombstones { request.above } else { Version::ZERO };
        let mut rows = Vec::new();
        let (mut bytes, mut to) = (0, self.head);
        for (key, entry) in self.rows.above(from) {
            let last: Option<&DeltaRow> = rows.last();
            let is_new_commit = last.is_some_and(|row| row.version < entry.version);
            if entry.version > self.head {
                break;
            }
            if is_new_commit && bytes >= max_bytes {
                to = rows.last().map_or(to, |row| row.version);
                break;
            }
            bytes += approx_bytes(key, &entry.state);
            let (version, state) = (entry.version, entry.state.clone());
            rows.push(DeltaRow { version, key: key.clone(), state });
        }
        // A commit that came early may have overwritten rows of commits up to the head.
        let settled_at = self.rows.newest().max(self.head);
        Some(Delta { origin, from, to, head: self.head, settled_at, floor: self.floor, rows })
    }

    pub(super) fn purge_tombstones(&mut self, up_to: Version) -> Vec<RowKey> {
        let up_to = up_to.min(self.head);
        let gone: Vec<(Version, RowKey)> = self
            .rows
            .above(Version::ZERO)
            .take_while(|(_, entry)| entry.version <= up_to)
            .filter(|(_, entry)| matches!(entry.state, RowState::Gone(_)))
            .map(|(key, entry)| (entry.version, key.clone()))
            .collect();
        if let Some((newest, _)) = gone.last() {
            self.floor = self.floor.max(*newest);
        }
        for (_, key) in &gone {
            self.rows.remove(key);
        }
        gone.into_iter().map(|(_, key)| key).collect()
    }

    pub(super) fn into_removals(self) -> Vec<RowChange> {
        let present = |e: &Entry| matches!(e.state, RowState::Present(_));
        let keys = self.rows.iter().filter(|(_, entry)| present(entry)).map(|(key, _)| key.clone());
        keys.map(|key| RowChange { key, state: RowState::Gone(Departure::Dropped) }).collect()
    }
}

fn entry_of(row: &DeltaRow) -> Entry {
    Entry { version: row.version, state: row.state.clone() }
}
