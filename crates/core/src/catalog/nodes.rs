//! What is known of each node, and which node a name stands for.
//!
//! Rows and news of membership come in any order, so a record may have either without the other. In the view a
//! name belongs to one node. [`Names`] decides which one, if several nodes claim it.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::view::NodeView;
use super::{Catalog, CatalogOutput};
use crate::model::{CheckId, CheckRow, Instance, InstanceId, NodeId, NodeName, NodePhase, NodeRow};

/// Whether a node can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeStatus {
    /// The node answers, or membership knows nothing of it yet.
    Alive,
    /// The node does not answer, and others are being asked. It counts as alive.
    Suspect,
    /// The node does not answer anybody.
    Down,
    /// The node's own row says that it has left, whatever membership says.
    Left,
}

impl NodeStatus {
    /// Every status there is.
    pub const ALL: [Self; 4] = [Self::Alive, Self::Suspect, Self::Down, Self::Left];

    /// Whether instances on a node with this status can be reached.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Alive | Self::Suspect)
    }

    /// The status as users read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Left => "left",
        }
    }
}

/// What is known of one node.
#[derive(Debug, Default)]
pub(super) struct NodeRecord {
    pub(super) row: Option<Arc<NodeRow>>,
    /// What membership said last.
    membership: Option<NodeStatus>,
    /// What outputs last said of the node.
    told: Option<(NodeStatus, NodePhase)>,
    instances: BTreeSet<ById>,
    pub(super) checks: BTreeMap<(InstanceId, CheckId), Arc<CheckRow>>,
}

/// An instance that is compared by its id: a set of these is a map that does not store its keys separately.
#[derive(Debug)]
struct ById(Arc<Instance>);

impl Borrow<InstanceId> for ById {
    fn borrow(&self) -> &InstanceId {
        &self.0.id
    }
}

impl Ord for ById {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.id.cmp(&other.0.id)
    }
}

impl PartialOrd for ById {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ById {}

impl NodeRecord {
    pub(super) fn instance(&self, id: &InstanceId) -> Option<&Arc<Instance>> {
        self.instances.get(id).map(|ById(instance)| instance)
    }

    /// All instances, sorted by id.
    pub(super) fn instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.instances.iter().map(|ById(instance)| instance)
    }

    /// Puts an instance in. Returns the one that it replaces.
    pub(super) fn put_instance(&mut self, instance: Arc<Instance>) -> Option<Arc<Instance>> {
        self.instances.replace(ById(instance)).map(|ById(old)| old)
    }

    pub(super) fn remove_instance(&mut self, id: &InstanceId) -> Option<Arc<Instance>> {
        self.instances.take(id).map(|ById(old)| old)
    }

    /// Builds the set of instances again: a tree that grew in order is half empty.
    pub(super) fn pack(&mut self) {
        self.instances = std::mem::take(&mut self.instances).into_iter().collect();
    }

    /// How many endpoints there are for what is registered: none before the node's row is known, and none
    /// after the node has left.
    pub(super) fn endpoint_count(&self) -> usize {
        if self.row_of_stay().is_some() { self.instances.len() } else { 0 }
    }

    /// The node's row, unless the node has left: nothing exists on a node that has left.
    pub(super) fn row_of_stay(&self) -> Option<&Arc<NodeRow>> {
        self.row.as_ref().filter(|row| row.phase != NodePhase::Left)
    }

    pub(super) fn status(&self) -> NodeStatus {
        if self.row.as_ref().is_some_and(|row| row.phase == NodePhase::Left) {
            return NodeStatus::Left;
        }
        match self.membership {
            None | Some(NodeStatus::Alive) => NodeStatus::Alive,
            Some(NodeStatus::Suspect) => NodeStatus::Suspect,
            Some(NodeStatus::Down | NodeStatus::Left) => NodeStatus::Down,
        }
    }

    /// Whether somebody takes the node out of service on purpose.
    pub(super) fn is_leaving(&self) -> bool {
        self.row.as_ref().is_some_and(|row| row.phase != NodePhase::Active)
    }

    /// Takes what membership says. Returns whether the health of instances changes by it.
    pub(super) fn set_membership(&mut self, status: NodeStatus) -> bool {
        let was_live = self.status().is_live();
        self.membership = Some(status);
        self.status().is_live() != was_live
    }
}

/// The nodes that claim each name.
///
/// A node that lost its data directory comes back under its name with a new id, so for a while two ids
/// have one name. The view shows the node that is live. Of two live nodes it shows the one with the smaller
/// id, since all agents choose the same one then.
#[derive(Debug, Default)]
pub(super) struct Names {
    claims: BTreeSet<(NodeName, NodeId)>,
    /// Live claimants that an output reported as a conflict.
    told: BTreeMap<NodeName, Vec<NodeId>>,
    /// Names for which the view may have to show another node.
    dirty: BTreeSet<NodeName>,
}

impl Names {
    pub(super) fn claim(&mut self, name: &NodeName, id: NodeId) {
        self.claims.insert((name.clone(), id));
        self.touch(name);
    }

    pub(super) fn release(&mut self, name: &NodeName, id: NodeId) {
        self.claims.remove(&(name.clone(), id));
        self.touch(name);
    }

    pub(super) fn touch(&mut self, name: &NodeName) {
        self.dirty.insert(name.clone());
    }

    fn claimants(&self, name: &NodeName) -> Vec<NodeId> {
        let first = (name.clone(), NodeId::from_bytes([0; 16]));
        let claims = self.claims.range(first..).take_while(|(claimed, _)| claimed == name);
        claims.map(|(_, id)| *id).collect()
    }
}

impl Catalog {
    /// The names for which the view is to show another node, with that node.
    pub(super) fn changed_nodes(&mut self, is_telling: bool) -> Vec<(NodeName, Option<NodeView>)> {
        let mut changed = Vec::new();
        for name in std::mem::take(&mut self.names.dirty) {
            let claimants = self.names.claimants(&name);
            for id in &claimants {
                self.tell_node(*id, &name, is_telling);
            }
            self.tell_conflict(&name, &claimants, is_telling);
            let is_live = |id: &NodeId| self.nodes.get(id).is_some_and(|r| r.status().is_live());
            let holder = claimants.into_iter().min_by_key(|id| (!is_live(id), *id));
            let node = holder.and_then(|id| {
                let record = self.nodes.get(&id)?;
                Some(NodeView { id, row: record.row.clone()?, status: record.status() })
            });
            if self.view.node(&name).map(|old| &**old) != node.as_ref() {
                changed.push((name, node));
            }
        }
        changed
    }

    pub(super) fn show_node(&mut self, name: &NodeName, node: Option<NodeView>) {
        match node {
            Some(node) => self.view.put_node(node),
            None => {
                let old = self.view.node(name).map(|old| old.id);
                old.into_iter().for_each(|id| self.view.remove_node(id, name));
            }
        }
    }

    fn tell_node(&mut self, id: NodeId, name: &NodeName, is_telling: bool) {
        let Some(record) = self.nodes.get_mut(&id) else { return };
        let Some(row) = &record.row else { return };
        let (to, phase) = (record.status(), row.phase);
        let told = record.told.replace((to, phase));
        if !is_telling {
            return;
        }
        let from = told.map(|(status, _)| status);
        if from != Some(to) {
            self.outputs.push_back(CatalogOutput::NodeChanged { node: name.clone(), id, from, to });
        }
        let was_draining = told.is_some_and(|(_, phase)| phase == NodePhase::Draining);
        let is_draining = phase == NodePhase::Draining;
        if was_draining != is_draining {
            self.outputs.push_back(CatalogOutput::NodeDraining {
                node: name.clone(),
                id,
                is_draining,
            });
        }
    }

    fn tell_conflict(&mut self, name: &NodeName, claimants: &[NodeId], is_telling: bool) {
        let is_live = |id: &NodeId| self.nodes.get(id).is_some_and(|r| r.status().is_live());
        let live: Vec<NodeId> = claimants.iter().copied().filter(is_live).collect();
        if live.len() < 2 {
            self.names.told.remove(name);
            return;
        }
        let told = self.names.told.get(name);
        let is_news = live.iter().any(|id| told.is_none_or(|told| !told.contains(id)));
        if is_news && is_telling {
            self.names.told.insert(name.clone(), live.clone());
            self.outputs.push_back(CatalogOutput::NameConflict { name: name.clone(), ids: live });
        }
    }
}
