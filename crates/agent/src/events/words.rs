//! The words for what happened: in the log, and in the stream of events.

use dunlin_api as api;
use dunlin_core::catalog::NodeStatus;
use dunlin_core::host::{Event, Place};
use dunlin_core::model::{NodeId, NodeName, ProviderId, ServiceName, Timestamp};
use tracing::{debug, error, info, warn};

/// Writes an event into the log, as far as it belongs there.
pub(crate) fn log(event: &Event) {
    match event {
        Event::InstanceExpired { instance, provider, reason } => {
            warn!(%instance, %provider, reason, "instance deregistered");
        }
        Event::ServiceGuarded { service, held } => warn!(%service, held, "service guarded"),
        Event::ServiceReleased { service, reason } => info!(%service, reason, "guard released"),
        Event::NodeChanged { node, id, from, to } => {
            let (from, to) = (status_word(*from), to.as_str());
            match node_kind(event) {
                Some(_) => info!(%node, %id, from, to, "node changed"),
                None => debug!(%node, %id, from, to, "node suspected or cleared"),
            }
        }
        Event::NodeDraining { node, is_draining } => {
            info!(%node, is_draining, "node drained or put back");
        }
        Event::NodeNameConflict { node, ids } => {
            warn!(%node, ids = list(ids), "several live nodes have one name");
        }
        Event::NodeForgotten { id } => {
            info!(node = %id, "a node is forgotten: it was gone for too long, or another took its place");
        }
        Event::ProviderExpired { provider } => {
            info!(%provider, "provider did not state its set again in time; forgotten");
        }
        Event::OwnStateRestored { instances } => info!(instances, "own state restored"),
        Event::HistoryRestated { above } => {
            warn!(%above, "others know this node's rows otherwise; they are stated again");
        }
        Event::LinkOpened { node, zone, address, is_dialed } => {
            info!(%node, %zone, %address, is_dialed, "link");
        }
        Event::DiskRefuses { error } => {
            error!(error, "the disk does not take changes; registrations are refused meanwhile");
        }
        Event::DiskAccepts => info!("the disk takes changes again"),
        Event::InstanceRegistered { .. }
        | Event::InstanceDeregistered { .. }
        | Event::HealthChanged { .. }
        | Event::ProviderChanged { .. }
        | Event::ProviderFailed { .. } => {}
    }
}

/// An event in the form of the API; `None` for an event that only the log shows. `own` is the node of this agent.
pub(crate) fn of(event: &Event, own: &NodeName, wall: Timestamp) -> Option<api::Event> {
    let told = |kind: &str, reason: String| api::Event {
        id: 0,
        time: wall.to_string(),
        kind: kind.to_owned(),
        node: own.to_string(),
        service: None,
        instance: None,
        provider: None,
        reason,
    };
    Some(match event {
        Event::InstanceRegistered { place, health } => {
            at(place, told("InstanceRegistered", format!("now {health}")))
        }
        Event::InstanceDeregistered { place, has_node_left } => {
            let reason = if *has_node_left { "its node left" } else { "no longer registered" };
            at(place, told("InstanceDeregistered", reason.to_owned()))
        }
        Event::HealthChanged { place, from, to, why } => {
            let why = why.as_ref().map(|(check, output)| format!(": {check}: {output}"));
            let reason = format!("{} to {}{}", from.as_str(), to.as_str(), why.unwrap_or_default());
            at(place, told("HealthChanged", reason))
        }
        Event::InstanceExpired { instance, reason, .. } => {
            let told = told("InstanceExpired", reason.clone());
            api::Event { instance: Some(instance.to_string()), ..told }
        }
        Event::ServiceGuarded { service, held } => {
            let reason =
                format!("{held} instances vanished together; they are served while they answer");
            of_service(service, told("ServiceGuarded", reason))
        }
        Event::ServiceReleased { service, reason } => {
            of_service(service, told("ServiceReleased", (*reason).to_owned()))
        }
        Event::NodeChanged { node, id, from, to } => {
            let reason = format!("{} to {}, id {id}", status_word(*from), to.as_str());
            of_node(node, told(node_kind(event)?, reason))
        }
        Event::NodeDraining { node, is_draining } => {
            let (kind, reason) = if *is_draining {
                ("NodeDraining", "its instances get no new clients")
            } else {
                ("NodeUndrained", "its instances are in answers again if healthy")
            };
            of_node(node, told(kind, reason.to_owned()))
        }
        Event::NodeNameConflict { node, ids } => {
            let ids = list(ids);
            let reason = format!("several live nodes have this name: {ids}; the first is shown");
            of_node(node, told("NodeNameConflict", reason))
        }
        Event::ProviderChanged { provider, stated, gone } => {
            let reason = format!("{stated} instances stated new or different, {gone} gone");
            of_provider(provider, told("ProviderChanged", reason))
        }
        Event::ProviderFailed { provider, error } => {
            let reason = format!("{error}; its last good state holds");
            of_provider(provider, told("ProviderFailed", reason))
        }
        Event::NodeForgotten { .. }
        | Event::ProviderExpired { .. }
        | Event::OwnStateRestored { .. }
        | Event::HistoryRestated { .. }
        | Event::LinkOpened { .. }
        | Event::DiskRefuses { .. }
        | Event::DiskAccepts => return None,
    })
}

fn at(place: &Place, told: api::Event) -> api::Event {
    let Place { node, service, instance } = place;
    let (service, instance) = (Some(service.to_string()), Some(instance.to_string()));
    api::Event { node: node.to_string(), service, instance, ..told }
}

fn of_service(service: &ServiceName, told: api::Event) -> api::Event {
    api::Event { service: Some(service.to_string()), ..told }
}

fn of_provider(provider: &ProviderId, told: api::Event) -> api::Event {
    api::Event { provider: Some(provider.to_string()), ..told }
}

fn of_node(node: &NodeName, told: api::Event) -> api::Event {
    api::Event { node: node.to_string(), ..told }
}

fn status_word(status: Option<NodeStatus>) -> &'static str {
    status.map_or("unknown", NodeStatus::as_str)
}

/// The kind of a change of the status of a node; `None` for a change that is not reported.
fn node_kind(event: &Event) -> Option<&'static str> {
    let Event::NodeChanged { from, to, .. } = event else { return None };
    match (from, to) {
        (None, NodeStatus::Alive | NodeStatus::Suspect) => Some("NodeJoined"),
        (Some(NodeStatus::Down | NodeStatus::Left), status) if status.is_live() => {
            Some("NodeReturned")
        }
        (_, NodeStatus::Down) => Some("NodeDown"),
        (_, NodeStatus::Left) => Some("NodeLeft"),
        (_, NodeStatus::Alive | NodeStatus::Suspect) => None,
    }
}

fn list(ids: &[NodeId]) -> String {
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    ids.join(", ")
}
