//! What clients know: what was acknowledged to them, and what may or may not have happened.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use dunlin_core::replica::{Change, RowKey, RowState};

use crate::invariants::{Violation, acknowledged};
use crate::node::OpId;

/// Rows by the stamp that each statement bears.
pub(crate) type Stamped = BTreeMap<RowKey, u64>;

/// A request's effect on one row; none deletes.
type Effect = (RowKey, Option<u64>);

#[derive(Debug, Default)]
struct Truth {
    acknowledged: Stamped,
    /// In the order in which they were sent, which is that in which they take effect.
    pending: VecDeque<(OpId, Vec<Effect>)>,
    /// What requests without an answer may have done before the node crashed.
    doubts: BTreeMap<RowKey, Vec<Option<u64>>>,
    /// The disk was replaced: whatever the node says next is its truth.
    is_forgotten: bool,
}

#[derive(Debug)]
pub(crate) struct Oracle {
    truths: Vec<Truth>,
    owners: BTreeMap<OpId, usize>,
    submitted: OpId,
    pub(crate) answered: u64,
}

impl Oracle {
    pub(crate) fn new(nodes: usize) -> Self {
        let truths = (0..nodes).map(|_| Truth::default()).collect();
        Self { truths, owners: BTreeMap::new(), submitted: 0, answered: 0 }
    }

    pub(crate) fn submit(&mut self, node: usize, changes: &[Change]) -> OpId {
        self.submitted += 1;
        let effects =
            changes.iter().map(|change| (change.key.clone(), stamp_of(&change.state))).collect();
        self.truths[node].pending.push_back((self.submitted, effects));
        self.owners.insert(self.submitted, node);
        self.submitted
    }

    fn take(&mut self, op: OpId) -> Option<(usize, Vec<Effect>)> {
        let node = self.owners.remove(&op)?;
        let pending = &mut self.truths[node].pending;
        let at = pending.iter().position(|(id, _)| *id == op)?;
        self.answered += 1;
        pending.remove(at).map(|(_, effects)| (node, effects))
    }

    pub(crate) fn acknowledge(&mut self, op: OpId) {
        let Some((node, effects)) = self.take(op) else { return };
        for (key, stamp) in effects {
            match stamp {
                Some(stamp) => self.truths[node].acknowledged.insert(key, stamp),
                None => self.truths[node].acknowledged.remove(&key),
            };
        }
    }

    /// A refused request has no effect.
    pub(crate) fn refuse(&mut self, op: OpId) {
        self.take(op);
    }

    /// A process is gone: requests without an answer may have taken effect.
    pub(crate) fn stopped(&mut self, node: usize) {
        let truth = &mut self.truths[node];
        for (op, effects) in std::mem::take(&mut truth.pending) {
            self.owners.remove(&op);
            for (key, stamp) in effects {
                truth.doubts.entry(key).or_default().push(stamp);
            }
        }
    }

    pub(crate) fn forget(&mut self, node: usize) {
        self.truths[node].is_forgotten = true;
    }

    /// A process starts with these rows of its own: they must be what was acknowledged, or in doubt.
    pub(crate) fn started(
        &mut self,
        now: Duration,
        node: usize,
        own: &Stamped,
    ) -> Result<(), Violation> {
        let truth = &mut self.truths[node];
        if !truth.is_forgotten {
            acknowledged::check_restart(now, node, &truth.acknowledged, &truth.doubts, own)?;
        }
        truth.is_forgotten = false;
        truth.acknowledged = own.clone();
        truth.doubts.clear();
        Ok(())
    }

    /// What clients know of a node's rows.
    pub(crate) fn acknowledged(&self, node: usize) -> &Stamped {
        &self.truths[node].acknowledged
    }

    /// Requests that were neither acknowledged nor refused.
    pub(crate) fn unanswered(&self, node: usize) -> usize {
        self.truths[node].pending.len()
    }
}

/// The stamp of a statement; each has another one.
pub(crate) fn stamp_of(state: &RowState) -> Option<u64> {
    let row = state.present()?;
    if let Some(node) = row.node() {
        return node.meta.get("stamp").and_then(|stamp| stamp.parse().ok());
    }
    if let Some(instance) = row.instance() {
        let stamp = instance.profile.meta.iter().find(|(key, _)| key.as_ref() == "stamp");
        return stamp.and_then(|(_, stamp)| stamp.parse().ok());
    }
    row.check().and_then(|check| check.output.parse().ok())
}

/// The stamps of rows that are shown.
pub(crate) fn stamped(rows: Option<&BTreeMap<RowKey, RowState>>) -> Stamped {
    let rows = rows.into_iter().flatten();
    rows.filter_map(|(key, state)| Some((key.clone(), stamp_of(state)?))).collect()
}
