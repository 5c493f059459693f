//! Some time after healing, when no guard holds anything any more, every view shows exactly the instances that the rows
//! of nodes say that have not left, and those of nodes that run are not taken for unreachable.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dunlin_core::host::Host;
use dunlin_core::model::{Health, Instance, InstanceId, NodeId, NodePhase};
use dunlin_core::replica::RowKey;

use super::{Violation, live};
use crate::node::{Condition, SimNode};

/// Instances by node and id.
type Instances = BTreeMap<(NodeId, InstanceId), Arc<Instance>>;

pub(super) fn check(now: Duration, nodes: &[SimNode]) -> Result<(), Violation> {
    let violation = |what| Err(Violation::new("catalog", now, what));
    for node in live(nodes) {
        let Some(host) = node.host() else { continue };
        let index = node.identity.index;
        let (shown, stated) = (shown(host), stated(host));
        if shown != stated {
            let first = shown.iter().find(|(key, instance)| stated.get(*key) != Some(*instance));
            let what = format!(
                "n{index} shows {} instances, its rows say {}; e.g. shown {first:?}",
                shown.len(),
                stated.len()
            );
            return violation(what);
        }
        let endpoints = host.view().services().flat_map(|service| service.endpoints.iter());
        for endpoint in endpoints {
            let on = nodes.iter().find(|other| other.identity.id == endpoint.node_id);
            let is_running = on.is_some_and(|on| on.condition == Condition::Running);
            if is_running == (endpoint.health == Health::Unreachable) {
                let what = format!(
                    "n{index} shows {:?} as {}; its node runs: {is_running}",
                    endpoint.key(),
                    endpoint.health
                );
                return violation(what);
            }
        }
    }
    Ok(())
}

fn shown(host: &Host) -> Instances {
    let endpoints = host.view().services().flat_map(|service| service.endpoints.iter());
    endpoints.map(|endpoint| (endpoint.key(), endpoint.instance.clone())).collect()
}

fn stated(host: &Host) -> Instances {
    let replica = host.replica();
    let has_left = |origin| {
        let row = replica.row(origin, &RowKey::Node);
        row.is_none_or(|row| row.node().is_none_or(|row| row.phase == NodePhase::Left))
    };
    let origins = replica.heads().map(|(origin, _)| origin).filter(|origin| !has_left(*origin));
    let rows = origins.flat_map(|origin| replica.rows(origin).map(move |row| (origin, row)));
    let instance = |(origin, (_, entry)): (NodeId, (RowKey, dunlin_core::replica::Entry))| {
        let instance = entry.state.present()?.instance()?;
        Some(((origin, instance.id.clone()), instance.clone()))
    };
    rows.filter_map(instance).collect()
}
