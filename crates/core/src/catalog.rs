//! The catalog: replicated rows and the status of nodes, joined into immutable views per service.
//!
//! Readers hold a [`CatalogView`] and never wait. The writer changes its own copy and publishes it;
//! a view shares everything that did not change with the one before, so a change costs the same
//! whether ten other services exist or a hundred thousand.
//!
//! The [guard](GuardSettings) sits between the two: what the rows say is gone is not always gone.

mod by_name;
#[path = "guard.rs"]
mod guard;
mod hints;
mod nodes;
mod refresh;
mod subscriptions;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use guard::Guard;
pub use guard::{GuardOverride, GuardSettings};
pub use nodes::NodeStatus;
use nodes::{Names, NodeRecord};
use refresh::Dirty;
pub use subscriptions::{Interest, SubscriptionId, Subscriptions};
pub use view::{
    CatalogId, CatalogView, Endpoint, GuardMark, Named, NodeView, Scope, ServiceView, Standing,
    Topology,
};

use crate::model::{
    Health, Instance, InstanceId, NodeId, NodeName, NodeRow, ServiceName, Timestamp, ZoneName,
};
use crate::replica::{Departure, Row, RowChange, RowKey, RowState};

/// Outputs for which room is kept once all are taken. When half a cluster is gone there are some for each of its
/// instances at once, some 200 octets each.
const OUTPUTS_KEPT: usize = 1024;

/// An instance in the whole cluster: ids are unique on their node only.
pub type EndpointKey = (NodeId, InstanceId);

/// What the catalog wants done, or has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Publish [`Catalog::view`] and wake whoever asked for these services, or for everything.
    Publish {
        /// The services that changed; may be empty when only nodes did.
        services: Vec<ServiceName>,
    },
    /// Try to connect to this address, then call [`Catalog::handle_probe`].
    Probe {
        /// The service whose guard asks.
        service: ServiceName,
        /// The endpoint in question.
        key: EndpointKey,
        /// Where to connect.
        address: SocketAddr,
    },
    /// An endpoint's health is another than before; `None` is "not registered".
    HealthChanged {
        /// Its service.
        service: ServiceName,
        /// Which endpoint.
        key: EndpointKey,
        /// The endpoint as it is; as it was if it is gone.
        endpoint: Endpoint,
        /// What it was.
        from: Option<Health>,
        /// What it is.
        to: Option<Health>,
    },
    /// The guard began to hold vanished endpoints of a service.
    Guarded {
        /// The service.
        service: ServiceName,
        /// How many are held.
        held: usize,
    },
    /// The guard holds nothing of the service any more.
    Released {
        /// The service.
        service: ServiceName,
        /// Why the hold ended.
        reason: &'static str,
    },
    /// A node's status is another than before; `None` is "was not known".
    NodeChanged {
        /// Its name.
        node: NodeName,
        /// Its id: for a while, two can have one name.
        id: NodeId,
        /// What it was.
        from: Option<NodeStatus>,
        /// What it is.
        to: NodeStatus,
    },
    /// An operator takes a node out of service, or has put it back.
    NodeDraining {
        /// Its name.
        node: NodeName,
        /// Its id.
        id: NodeId,
        /// Whether it is taken out.
        is_draining: bool,
    },
    /// Several live nodes have one name. The view shows the first; what runs on the others is shown all
    /// the same.
    NameConflict {
        /// The name.
        name: NodeName,
        /// Their ids, in order.
        ids: Vec<NodeId>,
    },
}

/// The writer's side: takes rows, liveness and probe results; yields views and [`Output`]s.
#[derive(Debug)]
pub struct Catalog {
    view: CatalogView,
    settings: GuardSettings,
    nodes: BTreeMap<NodeId, NodeRecord>,
    names: Names,
    guards: BTreeMap<ServiceName, Guard>,
    /// Endpoints in the view that nobody registers any more and a guard holds.
    ghosts: BTreeMap<ServiceName, BTreeSet<EndpointKey>>,
    deadlines: BTreeSet<(Instant, ServiceName)>,
    dirty: Dirty,
    /// Endpoints that somebody took away on purpose since the last refresh.
    deliberate: BTreeSet<EndpointKey>,
    outputs: VecDeque<Output>,
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
            ghosts: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            dirty: Dirty::default(),
            deliberate: BTreeSet::new(),
            outputs: VecDeque::new(),
        }
    }

    /// The present view. Clone it to publish it.
    #[must_use]
    pub fn view(&self) -> &CatalogView {
        &self.view
    }

    /// Takes another guard configuration; holds that are under way go on under it.
    pub fn set_guard(&mut self, settings: GuardSettings) {
        self.settings = settings;
    }

    /// Fills the catalog with rows as they were stored: nothing in them counts as vanished, and
    /// nothing is told but that a view is to be published.
    pub fn load<'a>(&mut self, rows: impl IntoIterator<Item = (NodeId, &'a RowKey, &'a RowState)>) {
        for (origin, key, state) in rows {
            self.take_row(origin, key, state);
        }
        self.nodes.values_mut().for_each(NodeRecord::pack);
        self.refresh(None);
    }

    /// Looks at everything once more, now that there is a time: services that were last answered in panic
    /// mode ask for their probes. Call it when the node has stated its own rows after a start.
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

    /// Takes rows of several nodes, and shows them together: cheaper than one node after the other.
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

    /// Takes what membership says of nodes, together: the guard sees the whole drop as one. A status may
    /// come before any row of its node. [`NodeStatus::Left`] counts as down here, since it is for a node
    /// itself to say that it has left.
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

    /// Takes the other zones by measured distance, nearest first. Costs nothing if they are as before.
    pub fn set_nearest_zones(&mut self, nearest_zones: Vec<ZoneName>) {
        let topology = self.view.topology();
        if topology.nearest_zones == nearest_zones {
            return;
        }
        let own_zone = topology.own_zone.clone();
        self.view.advance();
        let services = self.view.set_topology(Topology { own_zone, nearest_zones });
        self.outputs.push_back(Output::Publish { services });
    }

    /// Forgets a node: it was gone for too long, or another took its place. Whatever is known of it
    /// vanishes at once, and no guard holds it.
    pub fn forget(&mut self, now: Instant, wall: Timestamp, node: NodeId) {
        self.withdraw_ghosts(node);
        let Some(record) = self.nodes.remove(&node) else { return };
        for instance in record.instances() {
            let key = (node, instance.id.clone());
            self.deliberate.insert(key.clone());
            self.dirty.endpoint(&instance.service, key);
        }
        if let Some(row) = &record.row {
            self.names.release(&row.name, node);
        }
        self.refresh(Some((now, wall)));
    }

    /// Takes the result of an [`Output::Probe`].
    pub fn handle_probe(
        &mut self,
        now: Instant,
        wall: Timestamp,
        service: &ServiceName,
        key: &EndpointKey,
        answered: bool,
    ) {
        if let Some(guard) = self.guards.get_mut(service) {
            guard.handle_probe(now, key, answered);
            self.after_guard(service);
            self.refresh(Some((now, wall)));
        }
    }

    /// Does what is due: ends holds, asks for further probes.
    pub fn handle_deadline(&mut self, now: Instant, wall: Timestamp) {
        while let Some((due, service)) = self.deadlines.first().cloned()
            && due <= now
        {
            self.deadlines.pop_first();
            if let Some(guard) = self.guards.get_mut(&service) {
                guard.noted_deadline = None;
                guard.handle_deadline(now);
                self.after_guard(&service);
            }
        }
        self.refresh(Some((now, wall)));
    }

    /// When [`Catalog::handle_deadline`] is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(due, _)| *due)
    }

    /// Ends the hold of a service at an operator's word. False if it was not guarded.
    pub fn release(&mut self, now: Instant, wall: Timestamp, service: &ServiceName) -> bool {
        let Some(guard) = self.guards.get_mut(service) else { return false };
        let was_held = guard.release("released by an operator");
        self.after_guard(service);
        self.refresh(Some((now, wall)));
        was_held
    }

    /// The next thing to do or to tell.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        if output.is_none() && self.outputs.capacity() > OUTPUTS_KEPT {
            self.outputs = VecDeque::new();
        }
        output
    }

    fn take_row(&mut self, origin: NodeId, key: &RowKey, state: &RowState) {
        let state = &state.known();
        match (key, state) {
            // A kind of which only newer versions know what it means.
            (RowKey::Other(_), _) => {}
            (RowKey::Node, RowState::Present(Row::Node(row))) => {
                self.take_node(origin, Some(Arc::clone(row)));
            }
            (RowKey::Node, RowState::Present(_) | RowState::Gone(_)) => {
                self.take_node(origin, None);
            }
            (RowKey::Instance(id), RowState::Present(Row::Instance(instance))) => {
                self.take_instance(origin, id, Some(instance));
            }
            (RowKey::Instance(id), state) => {
                self.take_instance(origin, id, None);
                if *state == RowState::Gone(Departure::Deregistered) {
                    self.deliberate.insert((origin, id.clone()));
                }
            }
            (RowKey::Check(instance, check), state) => {
                let record = self.nodes.entry(origin).or_default();
                let key = (instance.clone(), check.clone());
                match state {
                    RowState::Present(Row::Check(row)) => record.checks.insert(key, row.clone()),
                    RowState::Present(_) | RowState::Gone(_) => record.checks.remove(&key),
                };
                if let Some(row) = record.instance(instance) {
                    self.dirty.endpoint(&row.service, (origin, instance.clone()));
                }
            }
        }
    }

    fn take_instance(&mut self, origin: NodeId, id: &InstanceId, new: Option<&Arc<Instance>>) {
        let record = self.nodes.entry(origin).or_default();
        let old = match new {
            Some(new) => record.put_instance(Arc::clone(new)),
            None => record.remove_instance(id),
        };
        if let Some(new) = new {
            self.dirty.endpoint(&new.service, (origin, id.clone()));
        }
        // One that moved to another service vanished from the one it was in.
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

    /// Has the guards let go of what a node no longer registers: it goes on purpose.
    fn withdraw_ghosts(&mut self, node: NodeId) {
        for (service, ghosts) in &self.ghosts {
            for key in ghosts.iter().filter(|(on, _)| *on == node) {
                self.deliberate.insert(key.clone());
                self.dirty.endpoint(service, key.clone());
            }
        }
    }

    /// Shows what a guard changed of its own accord.
    fn after_guard(&mut self, service: &ServiceName) {
        let Some(guard) = self.guards.get_mut(service) else { return };
        for key in guard.take_touched() {
            self.dirty.endpoint(service, key);
        }
        self.follow_guard(service);
    }

    /// Does what a guard asks for.
    fn follow_guard(&mut self, service: &ServiceName) {
        let Some(guard) = self.guards.get_mut(service) else { return };
        if let Some(reason) = guard.take_end() {
            self.outputs.push_back(Output::Released { service: service.clone(), reason });
        }
        for (key, address) in guard.take_probes() {
            self.outputs.push_back(Output::Probe { service: service.clone(), key, address });
        }
        let due = guard.next_deadline();
        let noted = std::mem::replace(&mut guard.noted_deadline, due);
        let is_idle = guard.is_idle();
        if noted != due {
            noted.into_iter().for_each(|at| _ = self.deadlines.remove(&(at, service.clone())));
            self.deadlines.extend(due.map(|at| (at, service.clone())));
        }
        if is_idle {
            self.guards.remove(service);
        } else {
            guard.give_back();
        }
    }
}
