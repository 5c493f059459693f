//! Heads never go back while a process runs, unless it distrusts a history because its rows differ from a peer's at
//! the same head, or has forgotten its node: then it learns that history from the beginning.

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

    /// A node forgot another one, which has to state its history again if it comes back.
    pub(super) fn forgotten(&mut self, observer: usize, node: NodeId) {
        self.heads.remove(&(observer, node));
    }

    pub(super) fn visible(
        &mut self,
        now: Duration,
        node: &SimNode,
        origin: NodeId,
    ) -> Result<(), Violation> {
        let Some(host) = node.host() else { return Ok(()) };
        let index = node.identity.index;
        let divergences = host.exchange_stats().map_or(0, |stats| stats.divergences);
        if self.divergences.insert(index, divergences).unwrap_or(0) != divergences {
            self.heads.retain(|(observer, _), _| *observer != index);
        }
        let head = host.replica().head(origin);
        let before = self.heads.insert((index, origin), head).unwrap_or(Version::ZERO);
        if head < before {
            let what = format!("n{index}: head of {origin} went from {before} back to {head}");
            return Err(Violation::new(NAME, now, what));
        }
        Ok(())
    }
}
