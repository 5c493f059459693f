//! From the model to the wire: what the catalog holds, as clients read it.

use std::collections::BTreeMap;
use std::sync::Arc;

use dunlin_api as api;
use dunlin_core::catalog::{CatalogView, Endpoint, NodeView, ServiceView, Standing};
use dunlin_core::model::{InstanceId, Mode, NodeId, ServiceName};

use super::filter::Filter;
use crate::Shared;

/// A service with the instances a client wants.
pub(super) fn service(view: &ServiceView, filter: &Filter) -> api::Service {
    api::Service {
        service: view.name.to_string(),
        index: view.index,
        guarded: view.guard.is_some(),
        instances: filter.of(view).map(instance).collect(),
    }
}

/// A service that is not there, or not any more.
pub(super) fn absent(name: &ServiceName, index: u64) -> api::Service {
    api::Service { service: name.to_string(), index, guarded: false, instances: Vec::new() }
}

pub(super) fn instance(endpoint: &Endpoint) -> api::Instance {
    let instance = &endpoint.instance;
    let reason = match &instance.profile.mode {
        Mode::Maintenance { reason } if !reason.is_empty() => Some(reason.to_string()),
        Mode::Maintenance { .. } | Mode::Active | Mode::Draining => None,
    };
    let checks = endpoint.checks.iter().map(|(id, row)| api::CheckState {
        id: id.to_string(),
        status: row.status.as_str().to_owned(),
        output: row.output.to_string(),
        since: row.since.to_string(),
    });
    api::Instance {
        id: instance.id.to_string(),
        node: endpoint.node.name.to_string(),
        zone: endpoint.node.zone.to_string(),
        address: instance.address,
        port: instance.port.get(),
        weight: instance.weight,
        tags: instance.profile.tags.iter().map(|tag| tag.to_string()).collect(),
        meta: pairs(instance.profile.meta.iter()),
        health: endpoint.health.as_str().to_owned(),
        standing: match endpoint.standing {
            Standing::Regular => None,
            Standing::Held => Some(api::Standing::Held),
            Standing::Panic => Some(api::Standing::Panic),
        },
        reason,
        checks: checks.collect(),
    }
}

pub(super) fn summary(view: &ServiceView) -> api::ServiceSummary {
    let mut zones = BTreeMap::new();
    for endpoint in view.endpoints.iter() {
        *zones.entry(endpoint.node.zone.to_string()).or_insert(0) += 1;
    }
    let health = view.health_counts().into_iter().map(|(h, n)| (h.as_str().to_owned(), n));
    api::ServiceSummary {
        service: view.name.to_string(),
        index: view.index,
        guarded: view.guard.is_some(),
        instances: view.endpoints.len(),
        healthy: view.answered_count(),
        health: health.collect(),
        zones,
    }
}

pub(super) fn local_instance(endpoint: &Endpoint) -> api::LocalInstance {
    api::LocalInstance {
        service: endpoint.instance.service.to_string(),
        provider: endpoint.instance.profile.provider.to_string(),
        instance: instance(endpoint),
    }
}

pub(super) fn node(view: &NodeView, instances: usize, shared: &Shared) -> api::Node {
    let this = view.id == shared.identity.node_id;
    let head = shared.heads.load().get(&view.id).copied().unwrap_or(0);
    let member = shared.members.0.load().get(&view.id).cloned().unwrap_or_default();
    // One's own history is never behind; nobody told of one that is.
    let newest = (!this && member.newest_head > 0).then_some(member.newest_head);
    api::Node {
        id: view.id.to_string(),
        name: view.row.name.to_string(),
        zone: view.row.zone.to_string(),
        address: view.row.address,
        status: view.status.as_str().to_owned(),
        draining: view.is_draining(),
        rtt_ms: member.rtt.map(|rtt| rtt.as_secs_f64() * 1000.0),
        head,
        behind: newest.map(|newest| newest.saturating_sub(head)),
        instances,
        this,
        meta: pairs(view.row.meta.iter()),
    }
}

/// How many instances each node has registered.
pub(super) fn instances_by_node(view: &CatalogView) -> BTreeMap<NodeId, usize> {
    let mut counts = BTreeMap::new();
    for endpoint in view.services().flat_map(|service| service.endpoints.iter()) {
        *counts.entry(endpoint.node_id).or_insert(0) += 1;
    }
    counts
}

/// One instance of a node, wherever it belongs.
pub(super) fn find_instance<'a>(
    view: &'a CatalogView,
    node: NodeId,
    id: &InstanceId,
) -> Option<&'a Endpoint> {
    let mut endpoints = view.services().flat_map(|service| service.endpoints.iter());
    endpoints.find(|e| e.node_id == node && e.instance.id == *id)
}

fn pairs<'a>(meta: impl Iterator<Item = (&'a Arc<str>, &'a Arc<str>)>) -> BTreeMap<String, String> {
    meta.map(|(k, v)| (k.to_string(), v.to_string())).collect()
}
