//! What must hold in every run, one file each. The first that does not ends the run.

pub(crate) mod acknowledged;
mod bounds;
mod catalog;
mod converged;
mod deleted;
mod digests;
mod forgotten;
mod heads;
mod health;
mod liveness;
mod registered;
mod shown;
mod sound;
mod strangers;
mod urgent_first;
mod whole;

use std::time::Duration;

use dunlin_core::host::Batch;
use dunlin_core::model::NodeId;
use dunlin_core::replica::RowChange;

use crate::client::Client;
use crate::node::{Condition, SimNode};
use crate::oracle::Oracle;
use crate::stream::StreamId;

/// An invariant that did not hold.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Which: the name of its file.
    pub invariant: &'static str,
    /// Virtual time.
    pub at: Duration,
    /// What differed.
    pub what: String,
}

impl Violation {
    pub(crate) fn new(invariant: &'static str, at: Duration, what: String) -> Self {
        Self { invariant, at, what }
    }
}

#[derive(Debug)]
pub(crate) struct Invariants {
    is_checked: bool,
    strangers: strangers::Strangers,
    heads: heads::Heads,
    deleted: deleted::Deleted,
    digests: digests::Digests,
    whole: whole::Whole,
    liveness: liveness::Liveness,
}

impl Invariants {
    pub(crate) fn new(ids: Vec<NodeId>, is_checked: bool) -> Self {
        Self {
            is_checked,
            strangers: strangers::Strangers::default(),
            heads: heads::Heads::default(),
            deleted: deleted::Deleted::default(),
            digests: digests::Digests::default(),
            whole: whole::Whole,
            liveness: liveness::Liveness::new(ids),
        }
    }

    /// A process started from its disk.
    pub(crate) fn started(&mut self, now: Duration, node: &SimNode) -> Result<(), Violation> {
        self.heads.started(node);
        self.deleted.started(node);
        self.digests.own_changed(node);
        self.digests.look(now, node)
    }

    /// A batch goes to a node's disk; the commit in it may be seen from now on.
    pub(crate) fn prepared(&mut self, node: NodeId, batch: &Batch) {
        if self.is_checked {
            self.strangers.prepared(node, batch);
        }
    }

    /// A node forgot another one.
    pub(crate) fn forgotten(&mut self, observer: usize, node: NodeId) {
        self.heads.forgotten(observer, node);
        self.deleted.forgotten(observer, node);
    }

    /// A node's disk is not what it was: it may say again what it had taken back.
    pub(crate) fn truth_replaced(&mut self, node: NodeId) {
        self.deleted.truth_replaced(node);
        self.digests.truth_replaced(node);
    }

    /// Rows became visible on a node, which shows them already.
    pub(crate) fn visible(
        &mut self,
        now: Duration,
        node: &SimNode,
        origin: NodeId,
        rows: &[RowChange],
    ) -> Result<(), Violation> {
        if !self.is_checked {
            return Ok(());
        }
        if origin == node.identity.id {
            self.digests.own_changed(node);
        }
        self.strangers.visible(now, node, origin, rows)?;
        self.deleted.visible(now, node, origin, rows)?;
        self.whole.visible(now, node, origin)?;
        self.heads.visible(now, node, origin)
    }

    pub(crate) fn misbehaved(
        &mut self,
        now: Duration,
        node: usize,
        peer: NodeId,
        problem: &str,
    ) -> Result<(), Violation> {
        if self.is_checked { Err(sound::misbehaved(now, node, peer, problem)) } else { Ok(()) }
    }

    /// A buffer was filled.
    pub(crate) fn queued(
        &mut self,
        now: Duration,
        node: usize,
        octets: usize,
    ) -> Result<(), Violation> {
        bounds::queued(now, node, octets)
    }

    /// A normal frame goes on the wire.
    pub(crate) fn on_wire(
        &mut self,
        now: Duration,
        node: &SimNode,
        stream: StreamId,
    ) -> Result<(), Violation> {
        if self.is_checked { urgent_first::on_wire(now, node, stream) } else { Ok(()) }
    }

    /// A look at every node from time to time.
    pub(crate) fn look(&mut self, now: Duration, nodes: &[SimNode]) -> Result<(), Violation> {
        if !self.is_checked {
            return Ok(());
        }
        for node in nodes {
            bounds::look(now, node)?;
            self.digests.look(now, node)?;
        }
        self.liveness.look(now, nodes)
    }

    /// From now on nothing disturbs the cluster.
    pub(crate) fn healed(&mut self, now: Duration) {
        self.liveness.healed(now);
    }

    /// What must hold of all rows some time after healing.
    pub(crate) fn finish_data(
        &self,
        now: Duration,
        nodes: &[SimNode],
        oracle: &Oracle,
    ) -> Result<(), Violation> {
        converged::check(now, nodes)?;
        shown::check(now, nodes)?;
        acknowledged::check(now, nodes, oracle)?;
        registered::check(now, nodes)
    }

    /// What must hold of members in the end.
    pub(crate) fn finish(
        &self,
        now: Duration,
        nodes: &[SimNode],
        client: &Client,
    ) -> Result<(), Violation> {
        self.liveness.finish(now, nodes)?;
        catalog::check(now, nodes)?;
        health::check(now, nodes, client)?;
        forgotten::check(now, nodes)
    }
}

/// Whether all that run know the same.
pub(crate) fn has_converged(nodes: &[SimNode]) -> bool {
    converged::has_converged(nodes)
}

/// Those whose process runs.
fn live(nodes: &[SimNode]) -> impl Iterator<Item = &SimNode> {
    nodes.iter().filter(|node| node.condition == Condition::Running)
}
