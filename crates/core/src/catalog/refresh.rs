//! From changed rows to changed views.
//!
//! A service is put together from the endpoints that it had and those that changed. An endpoint that did not
//! change is shared with the view before, and is neither made again nor compared.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::nodes::NodeRecord;
use super::service::{Endpoint, GuardMark, ServiceView, Standing};
use super::topology::Topology;
use super::{Catalog, CatalogOutput, EndpointKey};
use crate::model::{
    CheckId, CheckRow, Health, Instance, InstanceId, Mode, NodePhase, ServiceName, Timestamp,
    effective_health,
};

/// The checks of an endpoint, sorted by id.
type Checks = Arc<[(CheckId, Arc<CheckRow>)]>;

/// What is to be looked at again: endpoints, each with its service, or a service itself. This is one piece of
/// memory that the system gets back, since it holds everything there is at a start.
#[derive(Debug, Default)]
pub(super) struct Dirty(Vec<(ServiceName, Option<EndpointKey>)>);

impl Dirty {
    pub(super) fn endpoint(&mut self, service: &ServiceName, key: EndpointKey) {
        self.0.push((service.clone(), Some(key)));
    }

    pub(super) fn service(&mut self, service: &ServiceName) {
        self.0.push((service.clone(), None));
    }

    /// Takes everything, in order, nothing twice.
    fn take(&mut self) -> Vec<(ServiceName, Option<EndpointKey>)> {
        let mut all = std::mem::take(&mut self.0);
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// An endpoint that was looked at again.
#[derive(Debug)]
pub(super) struct Changed {
    pub(super) key: EndpointKey,
    /// Its position among the service's endpoints before.
    position: Option<usize>,
    /// What the rows have now. `None` means that it is not registered.
    pub(super) now: Option<Endpoint>,
}

impl Changed {
    /// Nothing but the key is known yet.
    pub(super) fn new(key: EndpointKey) -> Self {
        Self { key, position: None, now: None }
    }
}

/// A service that is being put together.
pub(super) struct Rebuild {
    pub(super) service: ServiceName,
    before: Option<Arc<ServiceView>>,
    /// Held endpoints that nobody registers any more.
    pub(super) ghosts: BTreeSet<EndpointKey>,
    /// The endpoints that changed, sorted by key.
    pub(super) changed: Vec<Changed>,
    /// How many registered endpoints did not change.
    pub(super) unchanged: usize,
    /// How many of these are healthy.
    pub(super) unchanged_healthy: usize,
}

impl Rebuild {
    fn old(&self) -> &[Endpoint] {
        self.before.as_deref().map_or(&[], |view| &view.endpoints)
    }

    /// A changed endpoint as it was before.
    pub(super) fn old_of(&self, changed: &Changed) -> Option<&Endpoint> {
        changed.position.map(|at| &self.old()[at])
    }

    fn search(&self, endpoint: &Endpoint) -> Option<usize> {
        let wanted = (&endpoint.node_id, &endpoint.instance.id);
        self.changed.binary_search_by(|c| (&c.key.0, &c.key.1).cmp(&wanted)).ok()
    }

    fn is_ghost(&self, endpoint: &Endpoint) -> bool {
        endpoint.standing == Standing::Held
            && !self.ghosts.is_empty()
            && self.ghosts.contains(&endpoint.key())
    }

    /// Finds the positions of the changed endpoints, and counts the others. This is the one walk over all
    /// endpoints.
    pub(super) fn locate(&mut self) {
        let Some(before) = self.before.clone() else { return };
        let (mut unchanged, mut healthy) = (0, 0);
        // Most changes are of one node, and most endpoints are on other nodes: these need no search.
        let node = |changed: Option<&Changed>| changed.map(|c| c.key.0);
        let (first, last) = (node(self.changed.first()), node(self.changed.last()));
        for (at, endpoint) in before.endpoints.iter().enumerate() {
            let on = Some(endpoint.node_id);
            let found = (first <= on && on <= last).then(|| self.search(endpoint)).flatten();
            if let Some(found) = found {
                self.changed[found].position = Some(at);
            } else if endpoint.standing != Standing::Held || !self.is_ghost(endpoint) {
                unchanged += 1;
                healthy += usize::from(endpoint.health.is_healthy());
            }
        }
        (self.unchanged, self.unchanged_healthy) = (unchanged, healthy);
    }

    /// The registered endpoints that did not change.
    pub(super) fn unchanged(&self) -> impl Iterator<Item = &Endpoint> {
        self.old().iter().filter(|e| self.search(e).is_none() && !self.is_ghost(e))
    }

    /// The registered health of an endpoint as it was, and as it is.
    fn healths(&self, changed: &Changed) -> (Option<Health>, Option<Health>) {
        let old = self.old_of(changed).filter(|e| !self.is_ghost(e));
        (old.map(|e| e.health), changed.now.as_ref().map(|e| e.health))
    }
}

/// What is to be shown of a service.
struct Rebuilt {
    service: ServiceName,
    mark: Option<GuardMark>,
    endpoints: Arc<[Endpoint]>,
}

impl Catalog {
    /// Rebuilds what is dirty and publishes it together. Without a time, nothing counts as vanished.
    pub(super) fn refresh(&mut self, time: Option<(Instant, Timestamp)>) {
        let nodes = self.changed_nodes(time.is_some());
        let dirty = self.dirty.take();
        let rebuilt: Vec<Rebuilt> = dirty
            .chunk_by(|(one, _), (other, _)| one == other)
            .filter_map(|same| self.rebuild(same, time))
            .collect();
        drop(dirty);
        self.deliberate.clear();
        self.count_endpoints();
        if rebuilt.is_empty() && nodes.is_empty() {
            return;
        }
        self.view.advance();
        for (name, node) in nodes {
            self.show_node(&name, node);
        }
        let services = rebuilt.iter().map(|r| r.service.clone()).collect();
        for Rebuilt { service, mark, endpoints } in rebuilt {
            if endpoints.is_empty() {
                self.view.take_service(&service);
            } else {
                self.view.put_sorted(service, mark, endpoints);
            }
        }
        self.outputs.push_back(CatalogOutput::Publish { services });
    }

    /// Counts the endpoints of the nodes that may have more or fewer than before.
    fn count_endpoints(&mut self) {
        if self.recount.is_empty() {
            return;
        }
        let mut nodes = std::mem::take(&mut self.recount);
        nodes.sort_unstable();
        nodes.dedup();
        for node in nodes {
            let registered = self.nodes.get(&node).map_or(0, NodeRecord::endpoint_count);
            self.view.index_count(node, registered + self.ghosts.count_on(node));
        }
    }

    /// What is to be shown of one service, or `None` if that did not change.
    fn rebuild(
        &mut self,
        dirty: &[(ServiceName, Option<EndpointKey>)],
        time: Option<(Instant, Timestamp)>,
    ) -> Option<Rebuilt> {
        let service = dirty.first()?.0.clone();
        let keys = dirty.iter().filter_map(|(_, key)| key.clone());
        let mut rebuild = Rebuild {
            before: self.view.service(&service).cloned(),
            ghosts: self.ghosts.take(&service),
            changed: keys.map(Changed::new).collect(),
            unchanged: 0,
            unchanged_healthy: 0,
            service,
        };
        rebuild.locate();
        for at in 0..rebuild.changed.len() {
            rebuild.changed[at].now = self.endpoint(&rebuild, &rebuild.changed[at]);
        }
        if let Some((now, wall)) = time {
            self.tell_changes(&rebuild);
            self.consult_guard(now, wall, &mut rebuild);
        }
        self.stand(&mut rebuild);
        let mark = self.guards.get(&rebuild.service).and_then(|guarded| guarded.mark);
        let endpoints = self.endpoints_of(&mut rebuild, mark);
        let Rebuild { service, ghosts, .. } = rebuild;
        self.ghosts.put_back(&service, ghosts);
        endpoints.map(|endpoints| Rebuilt { service, mark, endpoints })
    }

    /// One endpoint as the rows have it: the same as before if nothing of it changed. `None` while the row of
    /// its node has not come, or when the node has left.
    pub(super) fn endpoint(&self, rebuild: &Rebuild, changed: &Changed) -> Option<Endpoint> {
        let (node_id, id) = &changed.key;
        let record = self.nodes.get(node_id)?;
        let node = record.row_of_stay()?;
        let instance = record.instance(id).filter(|i| i.service == rebuild.service)?;
        let old = rebuild.old_of(changed);
        let health = record.health(instance);
        let checks = record.checks_of(id, old.map(|e| &e.checks));
        if let Some(old) = old
            && old.health == health
            && old.node == *node
            && old.instance == *instance
            && Arc::ptr_eq(&old.checks, &checks)
        {
            return Some(old.clone());
        }
        let (node, instance) = (Arc::clone(node), Arc::clone(instance));
        let standing = old.map_or(Standing::Regular, |e| e.standing);
        Some(Endpoint { node_id: *node_id, node, instance, health, checks, standing })
    }

    fn tell_changes(&mut self, rebuild: &Rebuild) {
        for changed in &rebuild.changed {
            let (from, to) = rebuild.healths(changed);
            let endpoint = changed.now.as_ref().or_else(|| rebuild.old_of(changed));
            if let Some(endpoint) = endpoint.filter(|_| from != to) {
                let (service, endpoint) = (rebuild.service.clone(), endpoint.clone());
                let key = changed.key.clone();
                let told = CatalogOutput::HealthChanged { service, key, endpoint, from, to };
                self.outputs.push_back(told);
            }
        }
    }

    /// All endpoints in order, or `None` if they and the mark are as before.
    fn endpoints_of(
        &self,
        rebuild: &mut Rebuild,
        mark: Option<GuardMark>,
    ) -> Option<Arc<[Endpoint]>> {
        let changed = std::mem::take(&mut rebuild.changed);
        let old = rebuild.old();
        let edits = edits(self.view.topology(), old, changed);
        let is_same_mark = rebuild.before.as_deref().is_none_or(|view| view.guard == mark);
        (!edits.is_empty() || !is_same_mark).then(|| spliced(old, edits))
    }
}

impl NodeRecord {
    fn health(&self, instance: &Instance) -> Health {
        let is_draining = self.row.as_ref().is_some_and(|row| row.phase == NodePhase::Draining);
        let mode = match &instance.profile.mode {
            Mode::Active if is_draining => &Mode::Draining,
            mode @ (Mode::Active | Mode::Draining | Mode::Maintenance { .. }) => mode,
        };
        let statuses = self.range(&instance.id).map(|(_, row)| row.status);
        effective_health(mode, self.status().is_live(), statuses)
    }

    fn range(&self, id: &InstanceId) -> impl Iterator<Item = (&CheckId, &Arc<CheckRow>)> {
        let checks = self.checks.range((id.clone(), CheckId::least())..);
        checks.take_while(move |((i, _), _)| i == id).map(|((_, check), row)| (check, row))
    }

    /// The checks of an instance. The same piece of memory as before if they did not change.
    fn checks_of(&self, id: &InstanceId, old: Option<&Checks>) -> Checks {
        let old = old.filter(|old| self.range(id).eq(old.iter().map(|(check, row)| (check, row))));
        if let Some(old) = old {
            return Arc::clone(old);
        }
        // All empty slices are one, so that they cost no allocation.
        let checks: Vec<_> = self.range(id).map(|(c, row)| (c.clone(), Arc::clone(row))).collect();
        if checks.is_empty() { Arc::default() } else { checks.into() }
    }
}

/// A difference between a service's endpoints before and after.
struct Edit {
    /// The position among the old endpoints.
    at: usize,
    /// Whether the old endpoint there goes.
    takes: bool,
    /// The endpoint that comes before the old one there, or in its place.
    puts: Option<Endpoint>,
}

/// What is to be done to the old endpoints, sorted by position.
fn edits(topology: &Topology, old: &[Endpoint], changed: Vec<Changed>) -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut inserted = Vec::new();
    for Changed { position, now, .. } in changed {
        match (position, now) {
            (Some(at), Some(new)) if old[at] == new => {}
            (Some(at), Some(new)) if topology.compare(&old[at], &new).is_eq() => {
                edits.push(Edit { at, takes: true, puts: Some(new) });
            }
            (position, new) => {
                edits.extend(position.map(|at| Edit { at, takes: true, puts: None }));
                inserted.extend(new);
            }
        }
    }
    inserted.sort_by(|a, b| topology.compare(a, b));
    edits.extend(inserted.into_iter().map(|new| {
        let at = old.partition_point(|e| topology.compare(e, &new).is_lt());
        Edit { at, takes: false, puts: Some(new) }
    }));
    // What is put before an old endpoint comes before what replaces it. The sort is stable, and the inserted
    // endpoints are in order.
    edits.sort_by_key(|edit| (edit.at, edit.takes));
    edits
}

fn spliced(old: &[Endpoint], edits: Vec<Edit>) -> Arc<[Endpoint]> {
    let mut endpoints = Vec::with_capacity(old.len() + edits.len());
    let mut next = 0;
    for Edit { at, takes, puts } in edits {
        endpoints.extend_from_slice(&old[next..at]);
        endpoints.extend(puts);
        next = at + usize::from(takes);
    }
    endpoints.extend_from_slice(&old[next..]);
    endpoints.into()
}
