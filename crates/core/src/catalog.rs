//! The catalog: replicated rows and node liveness, joined into immutable views per service.
//!
//! Readers hold a [`CatalogView`] and never wait. The writer changes its own copy and publishes it;
//! a view shares everything that did not change with the one before, so a change costs the same
//! whether ten other services exist or a hundred thousand.
//!
//! The [guard](GuardSettings) sits between the two: what the rows say is gone is not always gone.

mod guard;
mod subscriptions;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use guard::{Guard, Observation};
pub use guard::{GuardOverride, GuardSettings};
pub use subscriptions::{Interest, SubscriptionId, Subscriptions};
pub use view::{
    CatalogView, Endpoint, GuardMark, NodeView, Scope, ServiceView, Standing, Topology,
};

use crate::model::{
    CheckId, CheckRow, Health, Instance, InstanceId, Mode, NodeId, NodeRow, ServiceName, Timestamp,
    effective_health,
};
use crate::replica::{Departure, Row, RowChange, RowKey, RowState};

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
        /// The endpoint.
        key: EndpointKey,
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
}

/// What is known of one node.
#[derive(Debug, Default)]
struct NodeRecord {
    row: Option<Arc<NodeRow>>,
    is_down: bool,
    instances: BTreeMap<InstanceId, Arc<Instance>>,
    checks: BTreeMap<(InstanceId, CheckId), Arc<CheckRow>>,
}

/// The writer's side: takes rows, liveness and probe results; yields views and [`Output`]s.
#[derive(Debug)]
pub struct Catalog {
    view: CatalogView,
    settings: GuardSettings,
    nodes: BTreeMap<NodeId, NodeRecord>,
    members: BTreeMap<ServiceName, BTreeSet<EndpointKey>>,
    guards: BTreeMap<ServiceName, Guard>,
    deadlines: BTreeSet<(Instant, ServiceName)>,
    dirty: BTreeSet<ServiceName>,
    /// Endpoints that somebody took away on purpose since the last refresh.
    deliberate: BTreeSet<EndpointKey>,
    is_nodes_dirty: bool,
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
            members: BTreeMap::new(),
            guards: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            dirty: BTreeSet::new(),
            deliberate: BTreeSet::new(),
            is_nodes_dirty: false,
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
        self.refresh(None);
    }

    /// Looks at every service once more, now that there is a time: those that were last answered in panic
    /// mode ask for their probes. Call it when the node has stated its own rows after a start.
    pub fn reconsider(&mut self, now: Instant, wall: Timestamp) {
        self.dirty.extend(self.members.keys().cloned());
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

    /// Takes what membership says of a node.
    pub fn handle_liveness(&mut self, now: Instant, wall: Timestamp, node: NodeId, is_live: bool) {
        let record = self.nodes.entry(node).or_default();
        if record.is_down != is_live {
            return;
        }
        record.is_down = !is_live;
        self.is_nodes_dirty = true;
        self.dirty.extend(record.instances.values().map(|i| i.service.clone()));
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
            self.dirty.insert(service.clone());
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
                guard.handle_deadline(now, &self.settings);
            }
            self.dirty.insert(service);
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
        self.dirty.insert(service.clone());
        self.refresh(Some((now, wall)));
        was_held
    }

    /// The next thing to do or to tell.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn take_row(&mut self, origin: NodeId, key: &RowKey, state: &RowState) {
        let record = self.nodes.entry(origin).or_default();
        match (key, state) {
            (RowKey::Node, state) => {
                let row = match state {
                    RowState::Present(Row::Node(row)) => Some(row.clone()),
                    RowState::Present(_) | RowState::Gone(_) => None,
                };
                if let Some(old) = std::mem::replace(&mut record.row, row) {
                    self.view.remove_node(&old.name);
                }
                self.is_nodes_dirty = true;
                self.dirty.extend(record.instances.values().map(|i| i.service.clone()));
            }
            (RowKey::Instance(id), RowState::Present(Row::Instance(instance))) => {
                let old = record.instances.insert(id.clone(), instance.clone());
                self.leave(origin, id, old.as_deref());
                let key = (origin, id.clone());
                self.members.entry(instance.service.clone()).or_default().insert(key);
                self.dirty.insert(instance.service.clone());
            }
            (RowKey::Instance(id), state) => {
                let old = record.instances.remove(id);
                self.leave(origin, id, old.as_deref());
                if *state == RowState::Gone(Departure::Deregistered) {
                    self.deliberate.insert((origin, id.clone()));
                }
            }
            (RowKey::Check(instance, check), state) => {
                let key = (instance.clone(), check.clone());
                match state {
                    RowState::Present(Row::Check(row)) => record.checks.insert(key, row.clone()),
                    RowState::Present(_) | RowState::Gone(_) => record.checks.remove(&key),
                };
                self.dirty.extend(record.instances.get(instance).map(|i| i.service.clone()));
            }
        }
    }

    /// Takes an instance out of the service it was in.
    fn leave(&mut self, origin: NodeId, id: &InstanceId, old: Option<&Instance>) {
        let Some(old) = old else { return };
        if let Some(members) = self.members.get_mut(&old.service) {
            members.remove(&(origin, id.clone()));
        }
        self.dirty.insert(old.service.clone());
    }

    /// Rebuilds what is dirty and publishes it together. Without a time, nothing counts as vanished.
    fn refresh(&mut self, time: Option<(Instant, Timestamp)>) {
        let dirty = std::mem::take(&mut self.dirty);
        let mut changed = Vec::new();
        for service in dirty {
            if let Some(rebuilt) = self.rebuild(&service, time) {
                changed.push((service, rebuilt));
            }
        }
        self.deliberate.clear();
        let nodes_changed = std::mem::take(&mut self.is_nodes_dirty);
        if changed.is_empty() && !nodes_changed {
            return;
        }
        self.view.advance();
        if nodes_changed {
            self.refresh_nodes();
        }
        let services = changed.iter().map(|(service, _)| service.clone()).collect();
        for (service, (mark, endpoints)) in changed {
            if endpoints.is_empty() {
                self.view.remove_service(&service);
                self.members.remove(&service);
            } else {
                self.view.put_service(service, mark, endpoints);
            }
        }
        self.outputs.push_back(Output::Publish { services });
    }

    fn refresh_nodes(&mut self) {
        for (id, record) in &self.nodes {
            let Some(row) = &record.row else { continue };
            let node = NodeView { id: *id, row: row.clone(), is_live: !record.is_down };
            if self.view.node(&row.name).is_none_or(|old| **old != node) {
                self.view.put_node(node);
            }
        }
    }

    /// One service anew: its guard's mark and its endpoints in order, or `None` if nothing changed.
    fn rebuild(
        &mut self,
        service: &ServiceName,
        time: Option<(Instant, Timestamp)>,
    ) -> Option<(Option<GuardMark>, Vec<Arc<Endpoint>>)> {
        let old = self.view.service(service).cloned();
        let mut endpoints = self.present_endpoints(service);
        if let Some((now, wall)) = time {
            self.tell_changes(service, old.as_deref(), &endpoints);
            self.observe(now, wall, service, old.as_deref(), &endpoints);
        }
        let mut mark = None;
        if let Some(guard) = self.guards.get(service) {
            mark = guard.mark();
            guard.apply(&mut endpoints);
        }
        self.view.sort(&mut endpoints);
        let is_same = match &old {
            Some(old) => old.guard == mark && *old.endpoints == *endpoints,
            None => endpoints.is_empty(),
        };
        (!is_same).then_some((mark, endpoints))
    }

    /// The endpoints of a service as the rows say, sorted by key.
    fn present_endpoints(&self, service: &ServiceName) -> Vec<Arc<Endpoint>> {
        let members = self.members.get(service).into_iter().flatten();
        members.filter_map(|(node, id)| self.endpoint(*node, id)).collect()
    }

    /// One endpoint; none while its node's own row has not come.
    fn endpoint(&self, node_id: NodeId, id: &InstanceId) -> Option<Arc<Endpoint>> {
        let record = self.nodes.get(&node_id)?;
        let (node, instance) = (record.row.clone()?, record.instances.get(id)?.clone());
        let checks: Arc<[(CheckId, Arc<CheckRow>)]> = record
            .checks
            .range((id.clone(), CheckId::least())..)
            .take_while(|((instance, _), _)| instance == id)
            .map(|((_, check), row)| (check.clone(), row.clone()))
            .collect();
        let statuses = checks.iter().map(|(_, row)| row.status);
        let health = effective_health(&instance.mode, !record.is_down, statuses);
        let standing = Standing::Regular;
        Some(Arc::new(Endpoint { node_id, node, instance, health, checks, standing }))
    }

    fn tell_changes(
        &mut self,
        service: &ServiceName,
        old: Option<&ServiceView>,
        new: &[Arc<Endpoint>],
    ) {
        let health = |endpoints: &[Arc<Endpoint>]| -> BTreeMap<EndpointKey, Health> {
            endpoints.iter().map(|e| (e.key(), e.health)).collect()
        };
        let after = health(new);
        let mut before = health(old.map_or(&[], |o| &o.endpoints));
        // What is held although nobody registers it was told when it vanished.
        before.retain(|key, _| {
            after.contains_key(key) || !self.guards.get(service).is_some_and(|g| g.holds(key))
        });
        let keys: BTreeSet<&EndpointKey> = before.keys().chain(after.keys()).collect();
        for key in keys {
            let (from, to) = (before.get(key).copied(), after.get(key).copied());
            if from != to {
                let (service, key) = (service.clone(), key.clone());
                self.outputs.push_back(Output::HealthChanged { service, key, from, to });
            }
        }
    }

    /// Shows the guard what changed and does what it asks for.
    fn observe(
        &mut self,
        now: Instant,
        wall: Timestamp,
        service: &ServiceName,
        old: Option<&ServiceView>,
        new: &[Arc<Endpoint>],
    ) {
        let after: BTreeMap<EndpointKey, &Arc<Endpoint>> =
            new.iter().map(|e| (e.key(), e)).collect();
        let is_deliberate = |key: &EndpointKey| {
            self.deliberate.contains(key)
                || after.get(key).is_some_and(|e| e.instance.mode != Mode::Active)
        };
        let was_healthy =
            |e: &&Arc<Endpoint>| e.health.is_healthy() && e.standing == Standing::Regular;
        let vanished = old
            .map_or(&[][..], |o| &o.endpoints)
            .iter()
            .filter(was_healthy)
            .filter(|e| !after.get(&e.key()).is_some_and(|e| e.health.is_healthy()))
            .filter(|e| !is_deliberate(&e.key()))
            .cloned()
            .collect();
        let guard = self.guards.entry(service.clone()).or_default();
        let was_held = guard.held();
        let withdrawn = guard.keys().filter(|key| is_deliberate(key)).cloned().collect();
        let observation = Observation { vanished, withdrawn, present: new };
        guard.observe(now, wall, &self.settings.of(service), observation);
        self.follow_guard(service, was_held);
    }

    fn follow_guard(&mut self, service: &ServiceName, was_held: usize) {
        let Some(guard) = self.guards.get_mut(service) else { return };
        let held = guard.held();
        if was_held == 0 && held > 0 {
            self.outputs.push_back(Output::Guarded { service: service.clone(), held });
        }
        if let Some(reason) = guard.take_end() {
            self.outputs.push_back(Output::Released { service: service.clone(), reason });
        }
        for (key, address) in guard.take_probes() {
            self.outputs.push_back(Output::Probe { service: service.clone(), key, address });
        }
        let due = guard.next_deadline();
        if let Some(noted) = std::mem::replace(&mut guard.noted_deadline, due) {
            self.deadlines.remove(&(noted, service.clone()));
        }
        if let Some(due) = due {
            self.deadlines.insert((due, service.clone()));
        }
        if guard.is_idle() {
            self.guards.remove(service);
        }
    }
}
