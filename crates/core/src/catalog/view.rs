//! What readers hold: an immutable picture of all services at one moment.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Bound;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use smol_str::SmolStr;

use super::by_name::ByName;
use super::hints::{self, Hints};
use super::{EndpointKey, NodeStatus};
use crate::model::limits::NAME_OCTETS;
use crate::model::{
    CheckId, CheckRow, Health, Instance, NodeId, NodeName, NodePhase, NodeRow, ServiceName,
    Timestamp, ZoneName,
};

/// Indexes with removed services that a view remembers, so that a resumed watch learns of their end.
const REMEMBERED_REMOVALS: usize = 4096;

/// Why an endpoint is in answers, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// By its health alone.
    Regular,
    /// The guard does not believe that it is gone: in answers.
    Held,
    /// No instance of the service is healthy and this one still accepts connections: in answers.
    Panic,
}

/// One instance as clients see it, with everything known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The node it runs on.
    pub node_id: NodeId,
    /// The node it runs on.
    pub node: Arc<NodeRow>,
    /// What was registered.
    pub instance: Arc<Instance>,
    /// What its checks, its mode and its node's liveness come to.
    pub health: Health,
    /// Its checks, sorted by id.
    pub checks: Arc<[(CheckId, Arc<CheckRow>)]>,
    /// Why it is in answers, or not.
    pub standing: Standing,
}

impl Endpoint {
    /// Which instance in the whole cluster it is.
    #[must_use]
    pub fn key(&self) -> EndpointKey {
        (self.node_id, self.instance.id.clone())
    }

    /// Where it listens.
    #[must_use]
    pub fn socket_address(&self) -> SocketAddr {
        SocketAddr::new(self.instance.address, self.instance.port.get())
    }

    /// Whether lookups without a health filter return it.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.is_trusted() || self.standing == Standing::Panic
    }

    /// Whether it is healthy, or the guard does not believe otherwise. Panic mode is less than that.
    fn is_trusted(&self) -> bool {
        self.health.is_healthy() || self.standing == Standing::Held
    }
}

/// That a service is guarded: some of its endpoints are [`Standing::Held`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardMark {
    /// When the hold began.
    pub since: Timestamp,
}

/// Which zones a lookup asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'a> {
    /// The own zone if it has healthy ones, else the nearest zone that has. What the guard holds counts as
    /// healthy; what panic mode serves does not, so it is served only when nothing better is anywhere.
    Nearest,
    /// One zone alone.
    Zone(&'a ZoneName),
    /// All zones.
    Any,
}

/// One service at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceView {
    /// Its name.
    pub name: ServiceName,
    /// The catalog's index when this service last changed.
    pub index: u64,
    /// Set while the guard holds some of its endpoints.
    pub guard: Option<GuardMark>,
    /// All of them, healthy or not, sorted by distance of the zone, then node name, then id.
    pub endpoints: Arc<[Endpoint]>,
}

impl ServiceView {
    /// The endpoints that answers hold, within a scope, nearest zone first.
    pub fn answered<'a>(&'a self, scope: Scope<'a>) -> impl Iterator<Item = &'a Endpoint> {
        // Endpoints are sorted by distance, so the first that fits stands in the nearest zone.
        let nearest = match scope {
            Scope::Nearest => {
                let trusted = self.endpoints.iter().find(|e| e.is_trusted());
                let first = trusted.or_else(|| self.endpoints.iter().find(|e| e.is_answered()));
                first.map(|e| &e.node.zone)
            }
            Scope::Zone(zone) => Some(zone),
            Scope::Any => None,
        };
        let everywhere = scope == Scope::Any;
        self.endpoints
            .iter()
            .filter(move |e| e.is_answered() && (everywhere || nearest == Some(&e.node.zone)))
    }

    /// How many endpoints have each health, in the order of [`Health::ALL`]; others are zero.
    #[must_use]
    pub fn health_counts(&self) -> BTreeMap<Health, usize> {
        let mut counts = BTreeMap::new();
        for endpoint in self.endpoints.iter() {
            *counts.entry(endpoint.health).or_insert(0) += 1;
        }
        counts
    }

    /// How many endpoints answers hold, over all zones.
    #[must_use]
    pub fn answered_count(&self) -> usize {
        self.endpoints.iter().filter(|e| e.is_answered()).count()
    }
}

/// What stands under a name.
#[derive(Debug, Clone, Copy)]
pub enum Named<'a> {
    /// A service.
    Service(&'a Arc<ServiceView>),
    /// Nothing itself, but services have more labels in front of it: `prod.shop` exists as a name (an empty
    /// non-terminal, RFC 8020) when `http.api.prod.shop` does.
    Suffix,
    /// Nothing.
    Nothing,
}

/// One node at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Its identity.
    pub id: NodeId,
    /// What it says of itself.
    pub row: Arc<NodeRow>,
    /// Whether it can be reached.
    pub status: NodeStatus,
}

impl NodeView {
    /// Whether its instances can be asked.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.status.is_live()
    }

    /// Whether an operator takes it out of service.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.row.phase == NodePhase::Draining
    }
}

/// Where this agent stands, and how far the other zones are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// This agent's zone.
    pub own_zone: ZoneName,
    /// Other zones, nearest first; zones not listed come after these, by name.
    pub nearest_zones: Vec<ZoneName>,
}

impl Topology {
    /// A zone's distance: 0 for the own, 1 and up for others in order of nearness.
    #[must_use]
    pub fn rank(&self, zone: &ZoneName) -> u16 {
        if *zone == self.own_zone {
            return 0;
        }
        let place = self.nearest_zones.iter().position(|z| z == zone);
        let rank = place.unwrap_or(self.nearest_zones.len()) + 1;
        u16::try_from(rank).unwrap_or(u16::MAX)
    }

    /// The order of endpoints within a service: distance of the zone, zone, node, id. Where two nodes
    /// share a name, their own ids decide.
    pub(super) fn compare(&self, a: &Endpoint, b: &Endpoint) -> Ordering {
        let (x, y) = (&a.node, &b.node);
        let by_zone = || match x.zone == y.zone {
            true => Ordering::Equal,
            false => self.rank(&x.zone).cmp(&self.rank(&y.zone)).then_with(|| x.zone.cmp(&y.zone)),
        };
        let by_node = if Arc::ptr_eq(x, y) {
            Ordering::Equal
        } else {
            by_zone().then_with(|| x.name.cmp(&y.name))
        };
        by_node
            .then_with(|| a.instance.id.cmp(&b.instance.id))
            .then_with(|| a.node_id.cmp(&b.node_id))
    }
}

/// Tells a catalog from others of the same process: indices are comparable within one.
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
    /// Names that the hints were told of since they were made.
    hinted: usize,
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
            nodes: OrdMap::new(),
            nodes_by_address: OrdMap::new(),
            zones: OrdMap::new(),
            removals: OrdMap::new(),
            removals_floor: index,
        }
    }

    /// Which catalog it shows.
    #[must_use]
    pub fn catalog(&self) -> &CatalogId {
        &self.catalog
    }

    /// Grows with every change of anything.
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

    /// Where this agent stands.
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

    /// One service, if any instance of it is registered anywhere.
    #[must_use]
    pub fn service(&self, name: &ServiceName) -> Option<&Arc<ServiceView>> {
        self.services.get(Reversed::of(name.as_str()).hash(), |service| service.name == *name)
    }

    fn by_key(&self, key: &str) -> Option<&Arc<ServiceView>> {
        let is_it = |service: &ServiceView| Reversed::of(service.name.as_str()).as_str() == key;
        self.services.get(hints::hash(key), is_it)
    }

    /// Whether a service is certainly what it was in the view of an earlier index, by its
    /// [`service_key`](Self::service_key). Costs next to nothing, and misses some that did not change.
    #[must_use]
    pub fn is_unchanged_since(&self, key: &str, index: u64) -> bool {
        self.hints.is_unchanged_since(hints::hash(key), index)
    }

    /// What stands under a name in lower case, which need not be a service's.
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

    /// All services, sorted by their labels in reverse: those of one product stand together. Costs a lookup for each.
    pub fn services_by_product(&self) -> impl Iterator<Item = &Arc<ServiceView>> {
        self.keys.iter().map(|key| self.by_key(key).expect("each key is a service's"))
    }

    /// How many services there are.
    #[must_use]
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// One node by name.
    #[must_use]
    pub fn node(&self, name: &NodeName) -> Option<&Arc<NodeView>> {
        self.nodes.get(name)
    }

    /// All nodes by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<NodeView>> {
        self.nodes.values()
    }

    /// The node with this address; the first by name if several share it.
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

    /// Zones with at least one node, by name.
    pub fn zones(&self) -> impl Iterator<Item = &ZoneName> {
        self.zones.keys()
    }

    /// Services that were removed after an index, oldest first; `None` if that is too long ago to know.
    #[must_use]
    pub fn removed_since(&self, index: u64) -> Option<impl Iterator<Item = (u64, &ServiceName)>> {
        (index >= self.removals_floor).then(|| {
            let later = self.removals.range(index.saturating_add(1)..);
            later.flat_map(|(at, names)| names.iter().map(|name| (*at, name)))
        })
    }

    /// Starts a new index, which the changes that follow carry. Returns it.
    pub fn advance(&mut self) -> u64 {
        self.index += 1;
        self.index
    }

    /// Inserts or replaces a service at the present index, sorting its endpoints.
    pub fn put_service(
        &mut self,
        name: ServiceName,
        guard: Option<GuardMark>,
        mut endpoints: Vec<Endpoint>,
    ) {
        endpoints.sort_by(|a, b| self.topology.compare(a, b));
        self.put_sorted(name, guard, endpoints.into());
    }

    /// As [`put_service`](Self::put_service), with endpoints that are in order.
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

    /// Tells the hints of a new name and of those above it. When they are full, also of names that are gone by now,
    /// new ones are made.
    fn hint_at(&mut self, key: &str) {
        self.hinted += new_to(&self.hints, hints::names(key));
        if self.hinted > self.hints.room() {
            let anew = self.hints.anew(self.services.len());
            let names = self.keys.iter().flat_map(|key| hints::names(key));
            self.hinted = new_to(&anew, names);
            self.hints = Arc::new(anew);
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
            let name = service.name.clone();
            self.put_service(name.clone(), service.guard, service.endpoints.to_vec());
            name
        };
        moved.iter().map(put).collect()
    }

    /// Removes a service at the present index, remembering that it was there.
    pub fn remove_service(&mut self, name: &ServiceName) {
        let key = Reversed::of(name.as_str());
        let hash = key.hash();
        if !self.services.remove(hash, |service| service.name == *name) {
            return;
        }
        self.keys.remove(key.as_str());
        self.hints.change(hash, self.index);
        self.layout_index = self.index;
        self.removals.entry(self.index).or_default().push(name.clone());
        if self.removals.len() > REMEMBERED_REMOVALS
            && let Some(oldest) = self.removals.get_min().map(|(at, _)| *at)
        {
            self.removals.remove(&oldest);
            self.removals_floor = oldest;
        }
    }

    /// Inserts a node at the present index, or replaces the one of its name.
    pub fn put_node(&mut self, node: NodeView) {
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

    /// Takes a node out, and its address and zone if nobody else has them.
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

/// Tells hints of names. Returns how many of them are new to them.
fn new_to<'a>(hints: &Hints, names: impl Iterator<Item = &'a str>) -> usize {
    names.filter(|name| hints.insert(hints::hash(name))).count()
}

/// The labels of a name in reverse, without an allocation: every lookup begins with it.
struct Reversed {
    octets: [u8; NAME_OCTETS + 1],
    len: usize,
}

impl Reversed {
    /// What is longer than a service's name may be comes out empty, as no service is called.
    fn of(name: &str) -> Self {
        let mut reversed = Self { octets: [0; _], len: 0 };
        if name.len() <= NAME_OCTETS {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{InstanceFields, InstanceId, NodePhase, ProviderId};

    fn node(name: &str, zone: &str, address: [u8; 4]) -> NodeView {
        let row = NodeRow {
            name: NodeName::parse(name).unwrap(),
            zone: ZoneName::parse(zone).unwrap(),
            address: address.into(),
            serves_dns: true,
            meta: BTreeMap::new(),
            phase: NodePhase::Active,
        };
        NodeView {
            id: NodeId::from_bytes([address[3]; 16]),
            row: Arc::new(row),
            status: NodeStatus::Alive,
        }
    }

    fn endpoint(id: &str, service: &str, node: &NodeView, health: Health) -> Endpoint {
        let fields = InstanceFields {
            id: InstanceId::parse(id).unwrap(),
            service: ServiceName::parse(service).unwrap(),
            address: node.row.address,
            port: 80,
            weight: 100,
            tags: vec![],
            meta: BTreeMap::new(),
            provider: ProviderId::api(),
        };
        Endpoint {
            node_id: node.id,
            node: node.row.clone(),
            instance: Arc::new(Instance::new(fields).unwrap()),
            health,
            checks: Arc::new([]),
            standing: Standing::Regular,
        }
    }

    fn view() -> CatalogView {
        let own_zone = ZoneName::parse("eu1").unwrap();
        let nearest_zones = vec![ZoneName::parse("us1").unwrap(), ZoneName::parse("ap1").unwrap()];
        CatalogView::empty(Topology { own_zone, nearest_zones }, 0)
    }

    fn service(text: &str) -> ServiceName {
        ServiceName::parse(text).unwrap()
    }

    #[test]
    fn the_nearest_zone_with_a_healthy_instance_answers() {
        let (here, us, ap) = (
            node("a", "eu1", [127, 0, 0, 1]),
            node("b", "us1", [127, 0, 0, 2]),
            node("c", "ap1", [127, 0, 0, 3]),
        );
        let mut view = view();
        view.advance();
        let endpoints = vec![
            endpoint("w3", "web", &ap, Health::Passing),
            endpoint("w1", "web", &here, Health::Critical),
            endpoint("w2", "web", &us, Health::Warning),
        ];
        view.put_service(service("web"), None, endpoints);
        let web = view.service(&service("web")).unwrap();
        let ids =
            |scope| -> Vec<&str> { web.answered(scope).map(|e| e.instance.id.as_str()).collect() };
        assert_eq!(ids(Scope::Nearest), ["w2"]);
        assert_eq!(ids(Scope::Any), ["w2", "w3"]);
        assert_eq!(ids(Scope::Zone(&ap.row.zone)), ["w3"]);
        assert!(ids(Scope::Zone(&here.row.zone)).is_empty());
    }

    #[test]
    fn panic_in_the_own_zone_hides_nothing_healthy_and_the_guard_does() {
        let (here, us) = (node("a", "eu1", [127, 0, 0, 1]), node("b", "us1", [127, 0, 0, 2]));
        for (standing, expected) in [(Standing::Panic, "w2"), (Standing::Held, "w1")] {
            let mut own = endpoint("w1", "web", &here, Health::Critical);
            own.standing = standing;
            let mut view = view();
            let far = endpoint("w2", "web", &us, Health::Passing);
            view.put_service(service("web"), None, vec![own, far]);
            let web = view.service(&service("web")).unwrap();
            let ids: Vec<_> =
                web.answered(Scope::Nearest).map(|e| e.instance.id.as_str()).collect();
            assert_eq!(ids, [expected]);
        }
    }

    #[test]
    fn names_above_services_exist_and_others_do_not() {
        let here = node("a", "eu1", [127, 0, 0, 1]);
        let mut view = view();
        view.advance();
        let name = service("http.api.prod.shop");
        view.put_service(name.clone(), None, vec![endpoint("w", "x", &here, Health::Passing)]);
        view.put_service(service("shop"), None, vec![endpoint("s", "x", &here, Health::Passing)]);
        for above in ["prod.shop", "api.prod.shop"] {
            assert!(matches!(view.named(above), Named::Suffix), "{above}");
        }
        for other in ["hop", "api.prod", "pro.shop", "x.http.api.prod.shop", ""] {
            assert!(matches!(view.named(other), Named::Nothing), "{other}");
        }
        for service in ["http.api.prod.shop", "shop"] {
            assert!(matches!(view.named(service), Named::Service(_)), "{service}");
        }
        view.remove_service(&service("shop"));
        assert!(matches!(view.named("shop"), Named::Suffix));
        view.remove_service(&name);
        for gone in ["shop", "prod.shop", "http.api.prod.shop"] {
            assert!(matches!(view.named(gone), Named::Nothing), "{gone}");
        }
    }

    #[test]
    fn names_are_found_however_many_come_and_go() {
        let here = node("a", "eu1", [127, 0, 0, 1]);
        let mut view = view();
        let name = |number: u32| service(&format!("s{number}.p{}", number % 7));
        let count = 3 * u32::try_from(Hints::for_names(0).room()).unwrap();
        for number in 0..count {
            view.advance();
            let endpoint = endpoint("w", "x", &here, Health::Passing);
            view.put_service(name(number), None, vec![endpoint]);
            if number % 2 == 0 {
                view.remove_service(&name(number));
            }
        }
        for number in 0..count {
            let is_there = matches!(view.named(name(number).as_str()), Named::Service(_));
            assert_eq!(is_there, number % 2 == 1, "{number}");
        }
        assert!((0..7).all(|n| matches!(view.named(&format!("p{n}")), Named::Suffix)));
    }

    #[test]
    fn a_service_is_unchanged_until_it_changes() {
        let here = node("a", "eu1", [127, 0, 0, 1]);
        let mut view = view();
        view.advance();
        let put = |view: &mut CatalogView, name: &str| {
            let endpoint = endpoint("w", name, &here, Health::Passing);
            view.put_service(service(name), None, vec![endpoint]);
        };
        put(&mut view, "web");
        let key = CatalogView::service_key(&service("web"));
        let made = view.index();
        view.advance();
        put(&mut view, "other");
        assert!(view.is_unchanged_since(&key, made));
        view.advance();
        put(&mut view, "web");
        assert!(!view.is_unchanged_since(&key, made));
        let changed = view.index();
        assert!(view.is_unchanged_since(&key, changed));
        view.advance();
        view.remove_service(&service("web"));
        assert!(!view.is_unchanged_since(&key, changed));
    }

    #[test]
    fn an_older_view_does_not_change() {
        let here = node("a", "eu1", [127, 0, 0, 1]);
        let mut view = view();
        view.advance();
        view.put_service(service("web"), None, vec![endpoint("w", "web", &here, Health::Passing)]);
        let before = view.clone();
        view.advance();
        view.remove_service(&service("web"));
        assert!(before.service(&service("web")).is_some());
        assert!(view.service(&service("web")).is_none());
        let removed: Vec<_> = view.removed_since(before.index()).unwrap().collect();
        assert_eq!(removed, [(2, &service("web"))]);
        assert!(view.layout_index() > before.layout_index());
    }

    #[test]
    fn a_shared_address_belongs_to_the_first_node_by_name() {
        let mut view = view();
        view.advance();
        view.put_node(node("b", "eu1", [127, 0, 0, 1]));
        view.put_node(node("a", "us1", [127, 0, 0, 1]));
        let at = |view: &CatalogView| {
            view.node_at([127, 0, 0, 1].into()).map(|n| n.row.name.to_string())
        };
        assert_eq!(at(&view).as_deref(), Some("a"));
        let a = NodeName::parse("a").unwrap();
        view.remove_node(NodeId::from_bytes([9; 16]), &a);
        assert!(view.node(&a).is_some(), "the name is another node's");
        view.remove_node(NodeId::from_bytes([1; 16]), &a);
        assert_eq!(at(&view).as_deref(), Some("b"));
        assert!(!view.is_zone(&ZoneName::parse("us1").unwrap()));
    }
}
