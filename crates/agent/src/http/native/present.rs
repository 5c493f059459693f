//! From the model to the wire: what the catalog holds, as clients read it.

use std::collections::BTreeMap;
use std::sync::Arc;

use dunlin_api as api;
use dunlin_core::catalog::{CatalogView, Endpoint, NodeView, ServiceView, Standing};
use dunlin_core::model::{Mode, ServiceName};

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

pub(super) fn node(view: &CatalogView, node: &NodeView, shared: &Shared) -> api::Node {
    let this = node.id == shared.identity.node_id;
    let head = shared.heads.load().get(&node.id).copied().unwrap_or(0);
    let member = shared.members.0.load().get(&node.id).cloned().unwrap_or_default();
    // The own history is never behind. Another node's is behind if a peer told of a newer head.
    let newest = (!this && member.newest_head > 0).then_some(member.newest_head);
    api::Node {
        id: node.id.to_string(),
        name: node.row.name.to_string(),
        zone: node.row.zone.to_string(),
        address: node.row.address,
        status: node.status.as_str().to_owned(),
        draining: node.is_draining(),
        rtt_ms: member.rtt.map(|rtt| rtt.as_secs_f64() * 1000.0),
        head,
        behind: newest.map(|newest| newest.saturating_sub(head)),
        instances: view.endpoint_count(node.id),
        this,
        meta: pairs(node.row.meta.iter()),
    }
}

fn pairs<'a>(meta: impl Iterator<Item = (&'a Arc<str>, &'a Arc<str>)>) -> BTreeMap<String, String> {
    meta.map(|(k, v)| (k.to_string(), v.to_string())).collect()
}
