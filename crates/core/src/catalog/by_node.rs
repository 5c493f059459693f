//! Endpoints by their node: how many there are on each, and which ones are the own node's.
//!
//! For other nodes nobody asks for more than their number, so this index costs some octets for each node
//! and for each instance of the own node, and nothing for the instances of others.

use std::sync::Arc;

use imbl::OrdMap;

use crate::model::{InstanceId, NodeId, NodeRow, ServiceName};

/// The index. It is shared by all views between which no endpoint came or went.
#[derive(Debug, Clone, Default)]
pub(super) struct ByNode {
    /// How many endpoints there are on each node, without nodes that have none.
    counts: OrdMap<NodeId, usize>,
    /// The agent's own node, if there is one.
    own: Option<NodeId>,
    /// The own node's row, which tells where in a service the own endpoints stand.
    own_row: Option<Arc<NodeRow>>,
    /// The instances that are registered on the own node, with the services that they belong to.
    own_instances: OrdMap<InstanceId, ServiceName>,
}

impl ByNode {
    pub(super) fn own(&self) -> Option<NodeId> {
        self.own
    }

    pub(super) fn own_row(&self) -> Option<&Arc<NodeRow>> {
        self.own_row.as_ref()
    }

    pub(super) fn count(&self, node: NodeId) -> usize {
        self.counts.get(&node).copied().unwrap_or(0)
    }

    /// The service of an instance that is registered on the own node.
    pub(super) fn own_service(&self, id: &InstanceId) -> Option<&ServiceName> {
        self.own_instances.get(id)
    }

    /// What is registered on the own node, by id.
    pub(super) fn own_instances(&self) -> impl Iterator<Item = (&InstanceId, &ServiceName)> {
        self.own_instances.iter()
    }

    /// Takes another node as the own one, with what is registered on it.
    pub(super) fn set_own(
        &mut self,
        node: NodeId,
        row: Option<Arc<NodeRow>>,
        instances: impl IntoIterator<Item = (InstanceId, ServiceName)>,
    ) {
        (self.own, self.own_row) = (Some(node), row);
        self.own_instances = instances.into_iter().collect();
    }

    pub(super) fn set_own_row(&mut self, row: Option<Arc<NodeRow>>) {
        self.own_row = row;
    }

    pub(super) fn put_own(&mut self, id: InstanceId, service: ServiceName) {
        self.own_instances.insert(id, service);
    }

    pub(super) fn remove_own(&mut self, id: &InstanceId) {
        self.own_instances.remove(id);
    }

    pub(super) fn set_count(&mut self, node: NodeId, count: usize) {
        if count == 0 {
            self.counts.remove(&node);
        } else {
            self.counts.insert(node, count);
        }
    }
}
