//! Heads never go back while a process runs, unless it distrusts a history because its rows differ from a peer's at
//! the same head: then it learns that history anew, and the head begins at zero.

use std::collections::BTreeMap;
use std::time::Duration;

use dunlin_core::model::NodeId;
use dunlin_core::replica::Version;

use super::Violation;
use crate::node::SimNode;

const NAME: &str = "heads";

#[derive(Debug, Default)]
pub(super) struct Heads {
    heads: BTreeMap<(usize, NodeId), Version>,
    divergences: BTreeMap<usize, u64>,
}

impl Heads {
    pub(super) fn started(&mut self, node: &SimNode) {
        let index = node.identity.index;
        self.heads.retain(|(observer, _), _| *observer != index);
        self.divergences.remove(&index);
    }

    pub(super) fn visible(
        &mut self,
        now: Duration,
        node: &SimNode,
        origin: NodeId,
    ) -> Result<(), Violation> {
        let Some(agent) = &node.agent else { return Ok(()) };
        let index = node.identity.index;
        let divergences = agent.exchange.stats().divergences;
        if self.divergences.insert(index, divergences).unwrap_or(0) != divergences {
            self.heads.retain(|(observer, _), _| *observer != index);
        }
        let head = agent.replica.head(origin);
        let before = self.heads.insert((index, origin), head).unwrap_or(Version::ZERO);
        if head < before {
            let what = format!("n{index}: head of {origin} went from {before} back to {head}");
            return Err(Violation::new(NAME, now, what));
        }
        Ok(())
    }
}
