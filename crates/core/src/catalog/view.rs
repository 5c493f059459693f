//! What readers hold: an immutable picture of all services and nodes at one moment.

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use smol_str::SmolStr;

use super::by_name::ByName;
use super::by_node::ByNode;
use super::hints::{self, Hints};
use super::node::NodeView;
use super::service::{Endpoint, GuardMark, ServiceView};
use super::topology::Topology;
use crate::model::limits::MAX_NAME_OCTETS;
use crate::model::{InstanceId, NodeId, NodeName, NodeRow, ServiceName, ZoneName};

/// Indexes with removed services that a view remembers at most, so that a watch that is resumed learns of
/// their end. The oldest is forgotten first.
const MAX_REMOVALS: usize = 4096;

/// What a name stands for.
#[derive(Debug, Clone, Copy)]
pub enum Named<'a> {
    /// The name is a service's.
    Service(&'a Arc<ServiceView>),
    /// The name is no service's, but services have more labels in front of it: `prod.shop` exists as a name
    /// (an empty non-terminal, RFC 8020) when `http.api.prod.shop` does.
    Suffix,
    /// The name does not exist.
    Nothing,
}

/// Identifies a catalog within a process. Indices of views are comparable only if their catalogs are equal.
#[derive(Debug, Clone)]
pub struct CatalogId(Arc<()>);

impl PartialEq for CatalogId {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for CatalogId {}

/// All services and nodes at one moment. Cloning one costs a few reference counts.
#[derive(Debug, Clone)]
pub struct CatalogView {
    catalog: CatalogId,
    index: u64,
    layout_index: u64,
    topology: Arc<Topology>,
    topology_index: u64,
    services: ByName,
    /// Their names with the labels in reverse, so that those of one product stand together.
    keys: OrdSet<SmolStr>,
    hints: Arc<Hints>,
    /// How many names the hints were told of since they were made.
    hinted: usize,
    by_node: Arc<ByNode>,
    nodes: OrdMap<NodeName, Arc<NodeView>>,
    nodes_by_address: OrdMap<IpAddr, NodeName>,
    zones: OrdMap<ZoneName, usize>,
    removals: OrdMap<u64, Vec<ServiceName>>,
    removals_floor: u64,
}

impl CatalogView {
    /// A view without services or nodes.
    #[must_use]
    pub fn empty(topology: Topology, index: u64) -> Self {
        Self {
            catalog: CatalogId(Arc::new(())),
            index,
            layout_index: index,
            topology: Arc::new(topology),
            topology_index: index,
            services: ByName::default(),
            keys: OrdSet::new(),
            hints: Arc::new(Hints::for_names(0)),
            hinted: 0,
            by_node: Arc::default(),
            nodes: OrdMap::new(),
            nodes_by_address: OrdMap::new(),
            zones: OrdMap::new(),
            removals: OrdMap::new(),
            removals_floor: index,
        }
    }

    /// The catalog that this view shows.
    #[must_use]
    pub fn catalog(&self) -> &CatalogId {
        &self.catalog
    }

    /// A number that grows with every change of anything.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The index at which the set of service names, nodes, zones, or their distances last changed.
    /// While it stays, a negative answer stays true, and so does a name's reading as zone or label.
    #[must_use]
    pub fn layout_index(&self) -> u64 {
        self.layout_index
    }

    /// The distances of zones.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The index at which [`topology`](Self::topology) last changed.
    #[must_use]
    pub fn topology_index(&self) -> u64 {
        self.topology_index
    }

    /// The key under which [`index_of`](Self::index_of) finds a service without allocating.
    #[must_use]
    pub fn service_key(name: &ServiceName) -> Box<str> {
        Reversed::of(name.as_str()).as_str().into()
    }

    /// The index of one service, by its [`service_key`](Self::service_key).
    #[must_use]
    pub fn index_of(&self, key: &str) -> Option<u64> {
        self.by_key(key).map(|service| service.index)
    }

    /// The service of a name, if any instance of it is registered anywhere.
    #[must_use]
    pub fn service(&self, name: &ServiceName) -> Option<&Arc<ServiceView>> {
        self.services.get(Reversed::of(name.as_str()).hash(), |service| service.name == *name)
    }

    fn by_key(&self, key: &str) -> Option<&Arc<ServiceView>> {
        let is_it = |service: &ServiceView| Reversed::of(service.name.as_str()).as_str() == key;
        self.services.get(hints::hash(key), is_it)
    }

    /// Whether a service is certainly what it was in the view of an earlier index, by its
    /// [`service_key`](Self::service_key). This is much cheaper than a lookup, and false for some services
    /// that did not change.
    #[must_use]
    pub fn is_unchanged_since(&self, key: &str, index: u64) -> bool {
        self.hints.is_unchanged_since(hints::hash(key), index)
    }

    /// What a name in lower case stands for. It need not be a service's.
    #[must_use]
    pub fn named(&self, name: &str) -> Named<'_> {
        let mut key = Reversed::of(name);
        let hash = key.hash();
        if !self.hints.may_exist(hash) {
            return Named::Nothing;
        }
        if let Some(service) = self.services.get(hash, |service| service.name.as_str() == name) {
            return Named::Service(service);
        }
        key.push(b".");
        if self.has_key_from(key.as_str()) { Named::Suffix } else { Named::Nothing }
    }

    /// Whether some service's name ends with these labels and has more in front, whether or not it is itself a
    /// service's.
    #[must_use]
    pub fn has_services_below(&self, suffix: &str) -> bool {
        let mut prefix = Reversed::of(suffix);
        prefix.push(b".");
        self.has_key_from(prefix.as_str())
    }

    fn has_key_from(&self, prefix: &str) -> bool {
        let mut range = self.keys.range::<_, str>((Bound::Included(prefix), Bound::Unbounded));
        range.next().is_some_and(|key| key.starts_with(prefix))
    }

    /// All services, in no order.
    pub fn services(&self) -> impl Iterator<Item = &Arc<ServiceView>> {
        self.services.iter()
    }

    /// All services, sorted by their labels in reverse, so that those of one product stand together. This
    /// costs a lookup for each service.
    pub fn services_by_product(&self) -> impl Iterator<Item = &Arc<ServiceView>> {
        self.keys.iter().map(|key| self.by_key(key).expect("each key is a service's"))
    }

    /// How many services there are.
    #[must_use]
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// The node of a name.
    #[must_use]
    pub fn node(&self, name: &NodeName) -> Option<&Arc<NodeView>> {
        self.nodes.get(name)
    }

    /// All nodes, sorted by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<NodeView>> {
        self.nodes.values()
    }

    /// How many endpoints there are on a node, with those that the guard holds.
    #[must_use]
    pub fn endpoint_count(&self, node: NodeId) -> usize {
        self.by_node.count(node)
    }

    /// The endpoints of the instances that are registered on the agent's own node, sorted by instance id.
    /// This costs a search within a service for each, however many endpoints other nodes have.
    pub fn own_endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.by_node.own_instances().filter_map(|(id, service)| self.own_endpoint_of(id, service))
    }

    /// The endpoint of an instance that is registered on the agent's own node.
    #[must_use]
    pub fn own_endpoint(&self, id: &InstanceId) -> Option<&Endpoint> {
        self.own_endpoint_of(id, self.by_node.own_service(id)?)
    }

    #[cfg(test)]
    pub(super) fn shares_index_by_node(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.by_node, &other.by_node)
    }

    fn own_endpoint_of(&self, id: &InstanceId, service: &ServiceName) -> Option<&Endpoint> {
        let key = (self.by_node.own()?, id);
        self.service(service)?.endpoint(&self.topology, self.by_node.own_row(), key)
    }

    /// The node with this address. If several share it, the first by name.
    #[must_use]
    pub fn node_at(&self, address: IpAddr) -> Option<&Arc<NodeView>> {
        self.nodes_by_address.get(&address).and_then(|name| self.nodes.get(name))
    }

    /// Whether a label is the name of a zone: some node stands in it, or this agent does.
    #[must_use]
    pub fn is_zone(&self, zone: &ZoneName) -> bool {
        *zone == self.topology.own_zone || self.zones.contains_key(zone)
    }

    /// The zone that a label names, if it names one.
    #[must_use]
    pub fn zone(&self, label: &str) -> Option<&ZoneName> {
        let own = &self.topology.own_zone;
        if label == own.as_str() {
            return Some(own);
        }
        self.zones.get_key_value(label).map(|(zone, _)| zone)
    }

    /// The zones that have at least one node, sorted by name.
    pub fn zones(&self) -> impl Iterator<Item = &ZoneName> {
        self.zones.keys()
    }

    /// The services that were removed after an index, oldest first. `None` if that is too long ago to know.
    #[must_use]
    pub fn removed_since(&self, index: u64) -> Option<impl Iterator<Item = (u64, &ServiceName)>> {
        (index >= self.removals_floor).then(|| {
            let later = self.removals.range(index.saturating_add(1)..);
            later.flat_map(|(at, names)| names.iter().map(|name| (*at, name)))
        })
    }

    /// Takes a node as the agent's own, for [`own_endpoints`](Self::own_endpoints).
    pub fn set_own_node(&mut self, node: NodeId) {
        let row =
            self.nodes.values().find(|view| view.id == node).map(|view| Arc::clone(&view.row));
        let on_node = |service: &&Arc<ServiceView>, e: &Endpoint| {
            (e.node_id == node).then(|| (e.instance.id.clone(), service.name.clone()))
        };
        let instances = self
            .services()
            .flat_map(|service| service.endpoints.iter().filter_map(move |e| on_node(&service, e)))
            .collect::<Vec<_>>();
        self.index_own_node(node, row, instances);
    }

    /// As [`set_own_node`](Self::set_own_node), with the node's row and the instances that are registered
    /// on it.
    pub(super) fn index_own_node(
        &mut self,
        node: NodeId,
        row: Option<Arc<NodeRow>>,
        instances: impl IntoIterator<Item = (InstanceId, ServiceName)>,
    ) {
        Arc::make_mut(&mut self.by_node).set_own(node, row, instances);
    }

    /// Notes another row of a node, if it is the agent's own.
    pub(super) fn index_row(&mut self, node: NodeId, row: Option<&Arc<NodeRow>>) {
        if self.by_node.own() == Some(node) && self.by_node.own_row() != row {
            Arc::make_mut(&mut self.by_node).set_own_row(row.cloned());
        }
    }

    /// Notes which service a registered instance belongs to, if it is on the agent's own node. `None` if it
    /// is registered no more.
    pub(super) fn index_instance(
        &mut self,
        node: NodeId,
        id: &InstanceId,
        service: Option<&ServiceName>,
    ) {
        if self.by_node.own() != Some(node) || self.by_node.own_service(id) == service {
            return;
        }
        let by_node = Arc::make_mut(&mut self.by_node);
        match service {
            Some(service) => by_node.put_own(id.clone(), service.clone()),
            None => by_node.remove_own(id),
        }
    }

    /// Notes how many endpoints a node has.
    pub(super) fn index_count(&mut self, node: NodeId, count: usize) {
        if self.by_node.count(node) != count {
            Arc::make_mut(&mut self.by_node).set_count(node, count);
        }
    }

    /// Starts a new index, which belongs to the changes that follow. Returns it.
    pub fn advance(&mut self) -> u64 {
        self.index += 1;
        self.index
    }

    /// Inserts or replaces a service at the present index. Sorts its endpoints, and counts all of them as
    /// registered.
    pub fn put_service(
        &mut self,
        name: ServiceName,
        guard: Option<GuardMark>,
        mut endpoints: Vec<Endpoint>,
    ) {
        self.index_service(&name, &endpoints);
        endpoints.sort_by(|a, b| self.topology.compare(a, b));
        self.put_sorted(name, guard, endpoints.into());
    }

    /// Notes the endpoints that a service is to have instead of those that it has.
    fn index_service(&mut self, name: &ServiceName, endpoints: &[Endpoint]) {
        let old = self.service(name).cloned();
        for endpoint in old.iter().flat_map(|old| old.endpoints.iter()) {
            let node = endpoint.node_id;
            self.index_count(node, self.by_node.count(node) - 1);
            if self.by_node.own_service(&endpoint.instance.id) == Some(name) {
                self.index_instance(node, &endpoint.instance.id, None);
            }
        }
        for endpoint in endpoints {
            let node = endpoint.node_id;
            self.index_count(node, self.by_node.count(node) + 1);
            self.index_instance(node, &endpoint.instance.id, Some(name));
        }
    }

    /// Inserts or replaces a service at the present index, with endpoints that are in order. The caller
    /// keeps the index by node.
    pub(super) fn put_sorted(
        &mut self,
        name: ServiceName,
        guard: Option<GuardMark>,
        endpoints: Arc<[Endpoint]>,
    ) {
        let key = Reversed::of(name.as_str());
        let view = Arc::new(ServiceView { name, index: self.index, guard, endpoints });
        let hash = key.hash();
        self.hints.change(hash, self.index);
        if self.services.insert(hash, view) {
            self.keys.insert(key.as_str().into());
            self.layout_index = self.index;
            self.hint_at(key.as_str());
        }
    }

    /// Tells the hints of a new name and of those above it. Replaces the hints when they are full, since they
    /// keep names that are gone.
    fn hint_at(&mut self, key: &str) {
        self.hinted += new_to(&self.hints, hints::names(key));
        if self.hinted > self.hints.room() {
            let empty = self.hints.emptied(self.services.len());
            let names = self.keys.iter().flat_map(|key| hints::names(key));
            self.hinted = new_to(&empty, names);
            self.hints = Arc::new(empty);
        }
    }

    /// Takes other distances at the present index, and puts the services whose order they change in it.
    /// Returns these.
    pub(crate) fn set_topology(&mut self, topology: Topology) -> Vec<ServiceName> {
        self.topology = Arc::new(topology);
        self.topology_index = self.index;
        self.layout_index = self.index;
        let is_sorted = |s: &ServiceView| {
            s.endpoints.is_sorted_by(|a, b| self.topology.compare(a, b) != Ordering::Greater)
        };
        let moved: Vec<_> = self.services().filter(|s| !is_sorted(s)).cloned().collect();
        let put = |service: &Arc<ServiceView>| {
            let mut endpoints = service.endpoints.to_vec();
            endpoints.sort_by(|a, b| self.topology.compare(a, b));
            self.put_sorted(service.name.clone(), service.guard, endpoints.into());
            service.name.clone()
        };
        moved.iter().map(put).collect()
    }

    /// Removes a service at the present index, remembering that it was there.
    pub fn remove_service(&mut self, name: &ServiceName) {
        self.index_service(name, &[]);
        self.take_service(name);
    }

    /// Removes a service at the present index, remembering that it was there. The caller keeps the
    /// index by node.
    pub(super) fn take_service(&mut self, name: &ServiceName) {
        let key = Reversed::of(name.as_str());
        let hash = key.hash();
        if !self.services.remove(hash, |service| service.name == *name) {
            return;
        }
        self.keys.remove(key.as_str());
        self.hints.change(hash, self.index);
        self.layout_index = self.index;
        self.removals.entry(self.index).or_default().push(name.clone());
        if self.removals.len() > MAX_REMOVALS
            && let Some(oldest) = self.removals.get_min().map(|(at, _)| *at)
        {
            self.removals.remove(&oldest);
            self.removals_floor = oldest;
        }
    }

    /// Inserts a node at the present index, or replaces the one of its name.
    pub fn put_node(&mut self, node: NodeView) {
        self.index_row(node.id, Some(&node.row));
        let name = node.row.name.clone();
        let place = |node: &NodeView| (node.row.address.to_canonical(), node.row.zone.clone());
        let old = self.nodes.get(&name).cloned();
        let answers_as_before = old.as_deref().is_some_and(|old| {
            old.id == node.id && old.row == node.row && old.is_live() == node.is_live()
        });
        if !answers_as_before {
            self.layout_index = self.index;
        }
        if old.as_deref().map(place) != Some(place(&node)) {
            if let Some(old) = old {
                self.take_node(&old);
            }
            let (address, zone) = place(&node);
            if self.nodes_by_address.get(&address).is_none_or(|holder| name < *holder) {
                self.nodes_by_address.insert(address, name.clone());
            }
            *self.zones.entry(zone).or_insert(0) += 1;
        }
        self.nodes.insert(name, Arc::new(node));
    }

    /// Removes a node at the present index, unless its name is another node's by now.
    pub fn remove_node(&mut self, id: NodeId, name: &NodeName) {
        let Some(old) = self.nodes.get(name).filter(|node| node.id == id).cloned() else {
            return;
        };
        self.take_node(&old);
        self.layout_index = self.index;
    }

    /// Takes a node out, and its address and zone if no other node has them.
    fn take_node(&mut self, old: &NodeView) {
        let name = &old.row.name;
        self.nodes.remove(name);
        let address = old.row.address.to_canonical();
        if self.nodes_by_address.get(&address) == Some(name) {
            self.nodes_by_address.remove(&address);
            let heir = self.nodes.values().find(|n| n.row.address.to_canonical() == address);
            if let Some(heir) = heir.map(|n| n.row.name.clone()) {
                self.nodes_by_address.insert(address, heir);
            }
        }
        if let Some(count) = self.zones.get_mut(&old.row.zone) {
            *count -= 1;
            if *count == 0 {
                self.zones.remove(&old.row.zone);
            }
        }
    }
}

/// Tells hints of names. Returns how many of these are new to them.
fn new_to<'a>(hints: &Hints, names: impl Iterator<Item = &'a str>) -> usize {
    names.filter(|name| hints.insert(hints::hash(name))).count()
}

/// The labels of a name in reverse, without an allocation: every lookup begins with it.
struct Reversed {
    octets: [u8; MAX_NAME_OCTETS + 1],
    len: usize,
}

impl Reversed {
    /// The result is empty, as no service's name is, if the name is longer than a service's may be.
    fn of(name: &str) -> Self {
        let mut reversed = Self { octets: [0; _], len: 0 };
        if name.len() <= MAX_NAME_OCTETS {
            for label in name.as_bytes().rsplit(|octet| *octet == b'.') {
                if reversed.len > 0 {
                    reversed.push(b".");
                }
                reversed.push(label);
            }
        }
        reversed
    }

    fn push(&mut self, octets: &[u8]) {
        let end = self.len + octets.len();
        self.octets[self.len..end].copy_from_slice(octets);
        self.len = end;
    }

    fn hash(&self) -> u64 {
        hints::hash(self.as_str())
    }

    fn as_str(&self) -> &str {
        str::from_utf8(&self.octets[..self.len]).expect("it was cut at dots")
    }
}
