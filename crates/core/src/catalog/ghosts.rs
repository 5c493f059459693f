//! Endpoints in the view that nobody registers any more and a guard holds.

use std::collections::{BTreeMap, BTreeSet};

use super::EndpointKey;
use crate::model::{InstanceId, NodeId, ServiceName};

/// The ghosts, by service and by node.
#[derive(Debug, Default)]
pub(super) struct Ghosts {
    by_service: BTreeMap<ServiceName, BTreeSet<EndpointKey>>,
    by_node: BTreeMap<NodeId, BTreeSet<(ServiceName, InstanceId)>>,
}

impl Ghosts {
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_service.is_empty() && self.by_node.is_empty()
    }

    /// The ghosts of a service, which is being rebuilt. [`put_back`](Self::put_back) takes them again.
    pub(super) fn take(&mut self, service: &ServiceName) -> BTreeSet<EndpointKey> {
        self.by_service.remove(service).unwrap_or_default()
    }

    /// Puts back what [`take`](Self::take) returned, with the changes that were
    /// [noted](Self::note).
    pub(super) fn put_back(&mut self, service: &ServiceName, ghosts: BTreeSet<EndpointKey>) {
        if !ghosts.is_empty() {
            self.by_service.insert(service.clone(), ghosts);
        }
    }

    /// Notes that an endpoint of a service that is being rebuilt became a ghost, or is none any more.
    pub(super) fn note(&mut self, service: &ServiceName, key: &EndpointKey, is_ghost: bool) {
        let (node, instance) = key;
        let on_node = self.by_node.entry(*node).or_default();
        let ghost = (service.clone(), instance.clone());
        if is_ghost {
            on_node.insert(ghost);
        } else {
            on_node.remove(&ghost);
        }
        if on_node.is_empty() {
            self.by_node.remove(node);
        }
    }

    /// The ghosts on a node, each with its service.
    pub(super) fn on(&self, node: NodeId) -> impl Iterator<Item = &(ServiceName, InstanceId)> {
        self.by_node.get(&node).into_iter().flatten()
    }

    /// How many ghosts there are on a node.
    pub(super) fn count_on(&self, node: NodeId) -> usize {
        self.by_node.get(&node).map_or(0, BTreeSet::len)
    }
}
