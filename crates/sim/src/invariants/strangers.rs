//! A row of a node that is seen anywhere was once stated by that node.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use dunlin_core::host::Batch;
use dunlin_core::model::NodeId;
use dunlin_core::replica::{RowChange, RowKey, RowState};

use super::Violation;
use crate::node::SimNode;

#[derive(Debug, Default)]
pub(super) struct Strangers {
    /// All rows that a node has had in its batches, each by a hash of its octets.
    stated: BTreeSet<(NodeId, RowKey, u64)>,
}

impl Strangers {
    /// A batch of a node goes to its disk; its own rows may be seen from now on.
    pub(super) fn prepared(&mut self, node: NodeId, batch: &Batch) {
        let own = batch.histories.iter().filter(|write| write.origin == node);
        let restated = own.flat_map(|write| &write.rows).map(|(key, entry)| (key, &entry.state));
        let rows = batch.deltas.iter().flat_map(|delta| &delta.rows);
        let rows = rows.map(|row| (&row.key, &row.state));
        self.stated
            .extend(rows.chain(restated).map(|(key, state)| (node, key.clone(), hash(state))));
    }

    pub(super) fn visible(
        &self,
        now: Duration,
        node: &SimNode,
        origin: NodeId,
        rows: &[RowChange],
    ) -> Result<(), Violation> {
        // What checks observe is shown on the own node before it is in a batch.
        if origin == node.identity.id {
            return Ok(());
        }
        for row in rows.iter().filter(|row| matches!(row.state, RowState::Present(_))) {
            if !self.stated.contains(&(origin, row.key.clone(), hash(&row.state))) {
                let what = format!(
                    "n{} shows {:?} of {origin}, which never stated it so: {:?}",
                    node.identity.index, row.key, row.state
                );
                return Err(Violation::new("strangers", now, what));
            }
        }
        Ok(())
    }
}

fn hash(state: &RowState) -> u64 {
    let mut octets = Vec::new();
    state.encode(&mut octets);
    let mut hasher = DefaultHasher::new();
    hasher.write(&octets);
    hasher.finish()
}
