//! The catalog: replicated rows and the status of nodes, joined into immutable views per service.
//!
//! Readers hold a [`CatalogView`] and never wait. The writer changes its own copy and publishes it. A view
//! shares everything that did not change with the view before, so a change costs the same whether ten other
//! services exist or a hundred thousand.
//!
//! Each service has a [guard](crate::guard) between rows and view, because an instance that the rows say is
//! gone is not always gone.

mod by_name;
mod by_node;
mod ghosts;
mod guard_settings;
mod guarded;
mod hints;
mod nodes;
mod refresh;
mod service;
mod subscriptions;
#[cfg(test)]
mod tests;
mod topology;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use ghosts::Ghosts;
pub use guard_settings::{GuardOverride, GuardSettings};
use guarded::ServiceGuard;
pub use nodes::NodeStatus;
use nodes::{Names, NodeRecord};
use refresh::Dirty;
pub use service::{Endpoint, GuardMark, Scope, ServiceView, Standing};
pub use subscriptions::{Interest, SubscriptionId, Subscriptions};
pub use topology::Topology;
pub use view::{CatalogId, CatalogView, Named, NodeView};

use crate::model::{
    Health, Instance, InstanceId, NodeId, NodeName, NodeRow, ServiceName, Timestamp, ZoneName,
};
use crate::replica::{Departure, Row, RowChange, RowKey, RowState};

/// Outputs for which room is kept at most once all are taken. When half a cluster is gone, there are several
/// for each of its instances at once, of about 200 octets each.
const MAX_KEPT_OUTPUTS: usize = 1024;

/// Identifies an instance in the whole cluster, since its id is unique on its node only.
pub type EndpointKey = (NodeId, InstanceId);

/// What the catalog wants done, or has to report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogOutput {
    /// Publish [`Catalog::view`] and wake the subscribers that asked for these services, or for everything.
    Publish {
        /// The services that changed. There may be none, when only nodes changed.
        services: Vec<ServiceName>,
    },
    /// Try to connect to this address, then call [`Catalog::handle_probe`].
    Probe {
        /// The service whose guard asks for the probe.
        service: ServiceName,
        /// The endpoint in question.
        key: EndpointKey,
        /// Where to connect.
        address: SocketAddr,
    },
    /// An endpoint's health is another than before. `None` means that the endpoint is not registered.
    HealthChanged {
        /// The endpoint's service.
        service: ServiceName,
        /// What identifies the endpoint.
        key: EndpointKey,
        /// The endpoint as it is, or as it was if it is gone.
        endpoint: Endpoint,
        /// The health that it had.
        from: Option<Health>,
        /// The health that it has.
        to: Option<Health>,
    },
    /// The guard began to hold vanished endpoints of a service.
    Guarded {
        /// The service that the guard belongs to.
        service: ServiceName,
        /// How many endpoints are held.
        held: usize,
    },
    /// The guard holds no endpoint of the service any more.
    Released {
        /// The service that the guard belongs to.
        service: ServiceName,
        /// Why the hold ended.
        reason: &'static str,
    },
    /// A node's status is another than before. `None` means that the node was not known.
    NodeChanged {
        /// The node's name.
        node: NodeName,
        /// The node's id, since two nodes can have one name for a while.
        id: NodeId,
        /// The status that it had.
        from: Option<NodeStatus>,
        /// The status that it has.
        to: NodeStatus,
    },
    /// An operator takes a node out of service, or has put it back.
    NodeDraining {
        /// The node's name.
        node: NodeName,
        /// The node's id.
        id: NodeId,
        /// Whether the node is taken out of service.
        is_draining: bool,
    },
    /// Several live nodes have one name. The view shows the first of them, and the instances of all of them.
    NameConflict {
        /// The name that they have.
        name: NodeName,
        /// The ids of the nodes, in order.
        ids: Vec<NodeId>,
    },
}

/// The writer's side of the catalog. It takes rows, the status of nodes and the results of probes, and yields
/// views and [`CatalogOutput`]s.
#[derive(Debug)]
pub struct Catalog {
    view: CatalogView,
    settings: GuardSettings,
    nodes: BTreeMap<NodeId, NodeRecord>,
    names: Names,
    guards: BTreeMap<ServiceName, ServiceGuard>,
    ghosts: Ghosts,
    deadlines: BTreeSet<(Instant, ServiceName)>,
    dirty: Dirty,
    /// Nodes that may have more endpoints or fewer than at the last refresh.
    recount: Vec<NodeId>,
    /// Endpoints that were taken away on purpose since the last refresh.
    deliberate: BTreeSet<EndpointKey>,
    outputs: VecDeque<CatalogOutput>,
}

impl Catalog {
    /// An empty catalog whose indexes start above `index`.
    #[must_use]
    pub fn new(topology: Topology, settings: GuardSettings, index: u64) -> Self {
        Self {
            view: CatalogView::empty(topology, index),
            settings,
            nodes: BTreeMap::new(),
            names: Names::default(),
            guards: BTreeMap::new(),
            ghosts: Ghosts::default(),
            deadlines: BTreeSet::new(),
            dirty: Dirty::default(),
            recount: Vec::new(),
            deliberate: BTreeSet::new(),
            outputs: VecDeque::new(),
        }
    }

    /// The present view. Clone it to publish it.
    #[must_use]
    pub fn view(&self) -> &CatalogView {
        &self.view
    }

    /// Takes a node as the agent's own, for [`CatalogView::own_endpoints`]. Views that are published
    /// afterwards show it.
    pub fn set_own_node(&mut self, node: NodeId) {
        let record = self.nodes.get(&node);
        let row = record.and_then(|record| record.row.clone());
        let instances = record.into_iter().flat_map(NodeRecord::instances);
        let services = instances.map(|instance| (instance.id.clone(), instance.service.clone()));
        self.view.index_own_node(node, row, services);
    }

    /// Takes another guard configuration. Holds that are under way go on under it.
    pub fn set_guard(&mut self, settings: GuardSettings) {
        self.settings = settings;
    }

    /// Fills the catalog with rows as they were stored. Nothing in them counts as vanished, and the only output
    /// is that a view is to be published.
    pub fn load<'a>(&mut self, rows: impl IntoIterator<Item = (NodeId, &'a RowKey, &'a RowState)>) {
        for (origin, key, state) in rows {
            self.take_row(origin, key, state);
        }
        self.nodes.values_mut().for_each(NodeRecord::pack);
        self.refresh(None);
    }

    /// Looks at everything once more, now that there is a time, so that services that were last answered in
    /// panic mode ask for their probes. Call it when the node has stated its own rows after a start.
    pub fn reconsider(&mut self, now: Instant, wall: Timestamp) {
        for service in self.view.services() {
            self.dirty.service(&service.name);
        }
        for row in self.nodes.values().filter_map(|record| record.row.as_ref()) {
            self.names.touch(&row.name);
        }
        self.refresh(Some((now, wall)));
    }

    /// Takes rows of one node that became visible together, and shows them together.
    pub fn handle_rows(
        &mut self,
        now: Instant,
        wall: Timestamp,
        origin: NodeId,
        rows: &[RowChange],
    ) {
        for RowChange { key, state } in rows {
            self.take_row(origin, key, state);
        }
        self.refresh(Some((now, wall)));
    }

    /// Takes rows of several nodes, and shows them together. This is cheaper than one node after the other.
    pub fn handle_all(
        &mut self,
        now: Instant,
        wall: Timestamp,
        nodes: &[(NodeId, Vec<RowChange>)],
    ) {
        for (origin, rows) in nodes {
            for RowChange { key, state } in rows {
                self.take_row(*origin, key, state);
            }
        }
        self.refresh(Some((now, wall)));
    }

    /// Takes what membership says of nodes. Statuses that come together are one drop for the guard. A status
    /// may come before any row of its node. [`NodeStatus::Left`] counts as down here, since only a node itself
    /// can say that it has left.
    pub fn handle_statuses(
        &mut self,
        now: Instant,
        wall: Timestamp,
        statuses: &[(NodeId, NodeStatus)],
    ) {
        for (id, status) in statuses {
            let record = self.nodes.entry(*id).or_default();
            let concerns_instances = record.set_membership(*status);
            if let Some(row) = &record.row {
                self.names.touch(&row.name);
            }
            if concerns_instances {
                for instance in record.instances() {
                    self.dirty.endpoint(&instance.service, (*id, instance.id.clone()));
                }
            }
        }
        self.refresh(Some((now, wall)));
    }

    /// Takes the other zones by measured distance, nearest first. Does nothing if they are as before.
    pub fn set_nearest_zones(&mut self, nearest_zones: Vec<ZoneName>) {
        let topology = self.view.topology();
        if topology.nearest_zones == nearest_zones {
            return;
        }
        let own_zone = topology.own_zone.clone();
        self.view.advance();
        let services = self.view.set_topology(Topology { own_zone, nearest_zones });
        self.outputs.push_back(CatalogOutput::Publish { services });
    }

    /// Forgets a node that was gone for too long, or whose place another node took. Whatever is known of it
    /// vanishes at once, and no guard holds it.
    pub fn forget(&mut self, now: Instant, wall: Timestamp, node: NodeId) {
        self.withdraw_ghosts(node);
        let Some(record) = self.nodes.remove(&node) else { return };
        self.recount(node);
        self.view.index_row(node, None);
        for instance in record.instances() {
            let key = (node, instance.id.clone());
            self.view.index_instance(node, &instance.id, None);
            self.deliberate.insert(key.clone());
            self.dirty.endpoint(&instance.service, key);
        }
        if let Some(row) = &record.row {
            self.names.release(&row.name, node);
        }
        self.refresh(Some((now, wall)));
    }

    /// Takes the result of an [`CatalogOutput::Probe`].
    pub fn handle_probe(
        &mut self,
        now: Instant,
        wall: Timestamp,
        service: &ServiceName,
        key: &EndpointKey,
        answered: bool,
    ) {
        if let Some(guarded) = self.guards.get_mut(service) {
            guarded.guard.handle_probe(now, key, answered);
            self.after_guard(wall, service);
            self.refresh(Some((now, wall)));
        }
    }

    /// Does what is due: ends holds, and asks for further probes.
    pub fn handle_deadline(&mut self, now: Instant, wall: Timestamp) {
        while let Some((due, service)) = self.deadlines.first().cloned()
            && due <= now
        {
            self.deadlines.pop_first();
            if let Some(guarded) = self.guards.get_mut(&service) {
                guarded.noted_deadline = None;
                guarded.guard.handle_deadline(now);
                self.after_guard(wall, &service);
            }
        }
        self.refresh(Some((now, wall)));
    }

    /// When [`Catalog::handle_deadline`] is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(due, _)| *due)
    }

    /// Ends the hold of a service because an operator says so. False if it was not guarded.
    pub fn release(&mut self, now: Instant, wall: Timestamp, service: &ServiceName) -> bool {
        let Some(guarded) = self.guards.get_mut(service) else { return false };
        let was_held = guarded.guard.release("released by an operator");
        self.after_guard(wall, service);
        self.refresh(Some((now, wall)));
        was_held
    }

    /// The next thing to do or to report.
    pub fn poll_output(&mut self) -> Option<CatalogOutput> {
        let output = self.outputs.pop_front();
        if output.is_none() && self.outputs.capacity() > MAX_KEPT_OUTPUTS {
            self.outputs = VecDeque::new();
        }
        output
    }

    fn take_row(&mut self, origin: NodeId, key: &RowKey, state: &RowState) {
        let row = state.present();
        // Rows of other kinds are none of the catalog's business.
        if let RowKey::Node = key {
            self.take_node(origin, row.and_then(Row::node).cloned());
        } else if let RowKey::Instance(id) = key {
            self.take_instance(origin, id, row.and_then(Row::instance));
            if *state == RowState::Gone(Departure::Deregistered) {
                self.deliberate.insert((origin, id.clone()));
            }
        } else if let RowKey::Check(instance, check) = key {
            let record = self.nodes.entry(origin).or_default();
            let key = (instance.clone(), check.clone());
            match row.and_then(Row::check) {
                Some(row) => record.checks.insert(key, row.clone()),
                None => record.checks.remove(&key),
            };
            if let Some(row) = record.instance(instance) {
                self.dirty.endpoint(&row.service, (origin, instance.clone()));
            }
        }
    }

    fn take_instance(&mut self, origin: NodeId, id: &InstanceId, new: Option<&Arc<Instance>>) {
        let record = self.nodes.entry(origin).or_default();
        let old = match new {
            Some(new) => record.put_instance(Arc::clone(new)),
            None => record.remove_instance(id),
        };
        if old.is_some() != new.is_some() {
            self.recount(origin);
        }
        self.view.index_instance(origin, id, new.map(|new| &new.service));
        if let Some(new) = new {
            self.dirty.endpoint(&new.service, (origin, id.clone()));
        }
        // An instance that moved to another service vanished from the one that it was in.
        if let Some(old) = old.filter(|old| new.is_none_or(|new| new.service != old.service)) {
            self.dirty.endpoint(&old.service, (origin, id.clone()));
        }
    }

    fn take_node(&mut self, origin: NodeId, row: Option<Arc<NodeRow>>) {
        let record = self.nodes.entry(origin).or_default();
        if record.row == row {
            return;
        }
        let old = std::mem::replace(&mut record.row, row.clone());
        for instance in record.instances() {
            self.dirty.endpoint(&instance.service, (origin, instance.id.clone()));
        }
        let is_leaving = record.is_leaving();
        self.recount(origin);
        self.view.index_row(origin, row.as_ref());
        if let Some(old) = old {
            self.names.release(&old.name, origin);
        }
        if let Some(new) = row {
            self.names.claim(&new.name, origin);
        }
        if is_leaving {
            self.withdraw_ghosts(origin);
        }
    }

    /// Has a node's endpoints counted at the next refresh.
    fn recount(&mut self, node: NodeId) {
        // Rows of one node come together: few nodes are noted twice.
        if self.recount.last() != Some(&node) {
            self.recount.push(node);
        }
    }
}
