//! What was deleted never returns: what a node shows of a row only gets newer.
//!
//! A node whose disk was replaced may say again what it had taken back; its rows are left to the other invariants.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dunlin_core::model::NodeId;
use dunlin_core::replica::{RowChange, RowKey};

use super::Violation;
use crate::node::SimNode;
use crate::oracle::stamp_of;

const NAME: &str = "deleted";

#[derive(Debug, Default)]
pub(super) struct Deleted {
    /// The newest statement of each row that each process has shown.
    newest: BTreeMap<(usize, NodeId, RowKey), u64>,
    exempt: BTreeSet<NodeId>,
}

impl Deleted {
    /// What was shown and not stored may be learned again after a crash.
    pub(super) fn started(&mut self, node: &SimNode) {
        let index = node.identity.index;
        self.newest.retain(|(observer, ..), _| *observer != index);
    }

    /// A node forgot another one: what it learns of it afterwards is new to it.
    pub(super) fn forgotten(&mut self, observer: usize, node: NodeId) {
        self.newest.retain(|(index, origin, _), _| (*index, *origin) != (observer, node));
    }

    pub(super) fn truth_replaced(&mut self, node: NodeId) {
        self.exempt.insert(node);
    }

    pub(super) fn visible(
        &mut self,
        now: Duration,
        node: &SimNode,
        origin: NodeId,
        rows: &[RowChange],
    ) -> Result<(), Violation> {
        if self.exempt.contains(&origin) {
            return Ok(());
        }
        for row in rows {
            let Some(stamp) = stamp_of(&row.state) else { continue };
            let at = (node.identity.index, origin, row.key.clone());
            let newest = self.newest.entry(at).or_insert(0);
            if stamp < *newest {
                let what = format!(
                    "n{} shows statement {stamp} of {:?} of {origin}, after {newest}",
                    node.identity.index, row.key
                );
                return Err(Violation::new(NAME, now, what));
            }
            *newest = stamp;
        }
        Ok(())
    }
}
