//! At one head, with nothing above, everyone has the same rows of a node: those that it had itself when it was there.
//!
//! Comparing digests would find and mend a difference some time later; this finds that there was one. Nodes whose
//! disk was replaced may use a version twice until they have stated their history again; they are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dunlin_core::model::NodeId;
use dunlin_core::replica::Version;

use super::Violation;
use crate::node::SimNode;

#[derive(Debug, Default)]
pub(super) struct Digests {
    /// What each node's own rows came to at each of its versions.
    own: BTreeMap<(NodeId, Version), u64>,
    exempt: BTreeSet<NodeId>,
}

impl Digests {
    pub(super) fn truth_replaced(&mut self, node: NodeId) {
        self.exempt.insert(node);
    }

    /// A node's own rows have changed.
    pub(super) fn own_changed(&mut self, node: &SimNode) {
        let Some(host) = node.host() else { return };
        let (id, replica) = (node.identity.id, host.replica());
        self.own.insert((id, replica.head(id)), replica.digest(id));
    }

    /// Compares everything that a node has.
    pub(super) fn look(&self, now: Duration, node: &SimNode) -> Result<(), Violation> {
        let Some(host) = node.host() else { return Ok(()) };
        let told = host.replica().told_in(u64::MAX);
        for (origin, extent, digest) in told.filter(|(_, extent, _)| extent.early().is_empty()) {
            let head = extent.head();
            let own = self.own.get(&(origin, head));
            if !self.exempt.contains(&origin) && own.is_some_and(|own| *own != digest) {
                let what = format!(
                    "n{} has other rows of {origin} at version {head} than it had itself",
                    node.identity.index
                );
                return Err(Violation::new("digests", now, what));
            }
        }
        Ok(())
    }
}
