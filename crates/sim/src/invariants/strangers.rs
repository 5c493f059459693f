//! A row of a node that is seen anywhere was once stated by that node.

use std::collections::BTreeMap;
use std::time::Duration;

use dunlin_core::model::NodeId;
use dunlin_core::replica::{Delta, RowChange, RowKey, RowState};

use super::Violation;
use crate::node::SimNode;
use crate::oracle::stamp_of;

#[derive(Debug, Default)]
pub(super) struct Strangers {
    stated: BTreeMap<u64, (NodeId, RowKey)>,
}

impl Strangers {
    pub(super) fn prepared(&mut self, delta: &Delta) {
        for row in &delta.rows {
            if let Some(stamp) = stamp_of(&row.state) {
                self.stated.insert(stamp, (delta.origin, row.key.clone()));
            }
        }
    }

    pub(super) fn visible(
        &self,
        now: Duration,
        node: &SimNode,
        origin: NodeId,
        rows: &[RowChange],
    ) -> Result<(), Violation> {
        for row in rows.iter().filter(|row| matches!(row.state, RowState::Present(_))) {
            let stated = stamp_of(&row.state).and_then(|stamp| self.stated.get(&stamp));
            if stated.is_none_or(|(by, key)| *by != origin || *key != row.key) {
                let what = format!(
                    "n{} shows {:?} of {origin}, which was stated as {stated:?}",
                    node.identity.index, row.key
                );
                return Err(Violation::new("strangers", now, what));
            }
        }
        Ok(())
    }
}
