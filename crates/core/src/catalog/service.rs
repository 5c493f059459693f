//! One service at one moment, and its endpoints.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::EndpointKey;
use super::topology::{EndpointPlace, Topology};
use crate::model::{
    CheckId, CheckRow, Health, Instance, InstanceId, NodeId, NodeRow, ServiceName, Timestamp,
    ZoneName,
};

/// Why an endpoint is in answers, or why it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its health alone decides.
    Regular,
    /// The guard does not believe that it is gone, so it is in answers.
    Held,
    /// No instance of the service is healthy and this one still accepts connections, so it is in answers.
    Panic,
}

/// One instance as clients see it, with everything known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The id of the node that it runs on.
    pub node_id: NodeId,
    /// The row of the node that it runs on.
    pub node: Arc<NodeRow>,
    /// The instance as it was registered.
    pub instance: Arc<Instance>,
    /// What follows from its checks, its mode and the status of its node.
    pub health: Health,
    /// The states of its checks, sorted by id.
    pub checks: Arc<[(CheckId, Arc<CheckRow>)]>,
    /// Why it is in answers, or why it is not.
    pub standing: Standing,
}

impl Endpoint {
    /// What identifies it in the whole cluster.
    #[must_use]
    pub fn key(&self) -> EndpointKey {
        (self.node_id, self.instance.id.clone())
    }

    /// The address and the port that it listens on.
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

impl<'a> From<&'a Endpoint> for EndpointPlace<'a> {
    fn from(endpoint: &'a Endpoint) -> Self {
        let Endpoint { node_id, node, instance, .. } = endpoint;
        Self { node, node_id: *node_id, instance: &instance.id }
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
    /// The own zone if it has healthy endpoints, else the nearest zone that has. An endpoint that the guard
    /// holds counts as healthy. One that panic mode serves does not, so it is served only when no zone has a
    /// better one.
    Nearest,
    /// This zone and no other.
    Zone(&'a ZoneName),
    /// Every zone.
    Any,
}

/// One service at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceView {
    /// The service's name.
    pub name: ServiceName,
    /// The catalog's index when this service last changed.
    pub index: u64,
    /// Set while the guard holds some of its endpoints.
    pub guard: Option<GuardMark>,
    /// All endpoints, healthy or not, sorted by distance of the zone, then node name, then instance id.
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

    /// The endpoint of an instance. With the row of its node it is found by a binary search. An endpoint that
    /// has another row (the guard holds it as it was then) is found by a walk over the service.
    pub(super) fn endpoint(
        &self,
        topology: &Topology,
        row: Option<&Arc<NodeRow>>,
        (node_id, instance): (NodeId, &InstanceId),
    ) -> Option<&Endpoint> {
        let search = |node| {
            let sought = EndpointPlace { node, node_id, instance };
            let found = self.endpoints.binary_search_by(|e| topology.compare(e, sought));
            found.ok().map(|at| &self.endpoints[at])
        };
        let is_it = |e: &&Endpoint| e.node_id == node_id && e.instance.id == *instance;
        row.and_then(search).or_else(|| self.endpoints.iter().find(is_it))
    }

    /// How many endpoints have each health. A health that none has is left out.
    #[must_use]
    pub fn health_counts(&self) -> BTreeMap<Health, usize> {
        let mut counts = BTreeMap::new();
        for endpoint in self.endpoints.iter() {
            *counts.entry(endpoint.health).or_insert(0) += 1;
        }
        counts
    }

    /// How many endpoints answers hold, all zones together.
    #[must_use]
    pub fn answered_count(&self) -> usize {
        self.endpoints.iter().filter(|e| e.is_answered()).count()
    }
}
