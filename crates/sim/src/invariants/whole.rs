//! A commit is never half visible: two rows that are only ever changed together are always seen together.

use std::time::Duration;

use dunlin_core::model::NodeId;
use dunlin_core::replica::{Row, RowKey, RowState};

use super::Violation;
use crate::client::{PAIR, instance_id};
use crate::node::SimNode;

#[derive(Debug)]
pub(super) struct Whole;

impl Whole {
    pub(super) fn visible(
        &self,
        now: Duration,
        node: &SimNode,
        origin: NodeId,
    ) -> Result<(), Violation> {
        let Some(shown) = node.shown.get(&origin) else { return Ok(()) };
        let weight = |id| match shown.get(&RowKey::Instance(instance_id(id))) {
            Some(RowState::Present(Row::Instance(instance))) => Some(instance.weight),
            Some(_) | None => None,
        };
        let [first, second] = PAIR.map(weight);
        if first == second {
            return Ok(());
        }
        let what = format!(
            "n{} shows a pair of {origin} with {first:?} and {second:?}",
            node.identity.index
        );
        Err(Violation::new("whole", now, what))
    }
}
