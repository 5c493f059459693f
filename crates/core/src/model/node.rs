//! A node, which is one host with an agent.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::name::{NodeName, ZoneName};

/// Whether a node takes part in answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum NodePhase {
    /// The node takes part in answers.
    #[default]
    Active,
    /// An operator takes the node out of service: its instances keep their clients and get no new ones.
    Draining,
    /// The node was stopped in good order. Its instances are unavailable until it states itself active again.
    Left,
}

/// A node's description of itself, which all nodes know. Its encoding, and how it may grow, is described in
/// `replica/rows/node.rs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// The node's name, unique in the cluster.
    pub name: NodeName,
    /// The failure domain of the node.
    pub zone: ZoneName,
    /// The address of the node's services, unless an instance has its own.
    pub address: IpAddr,
    /// Whether the node's agent answers DNS for other hosts, so that it is one of the domain's name servers.
    pub serves_dns: bool,
    /// Metadata pairs, at most 64.
    pub meta: BTreeMap<Arc<str>, Arc<str>>,
    /// Whether the node takes part in answers.
    pub phase: NodePhase,
}
