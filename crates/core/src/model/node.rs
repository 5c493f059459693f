//! A node: one host with an agent.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::name::{NodeName, ZoneName};

/// Whether a node wants to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum NodePhase {
    /// As usual.
    #[default]
    Active,
    /// An operator takes it out of service: its instances serve who has them and get no new clients.
    Draining,
    /// It was stopped in good order. Nothing on it can be asked until it states itself active again.
    Left,
}

/// What a node says of itself to all others. How it looks as octets, and how it may grow, is said in
/// `replica/rows/node.rs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// Unique in the cluster.
    pub name: NodeName,
    /// The failure domain it stands in.
    pub zone: ZoneName,
    /// Where its services are reached, unless an instance says otherwise.
    pub address: IpAddr,
    /// Whether its agent answers DNS for others than itself: such agents are the domain's name servers.
    pub serves_dns: bool,
    /// Free pairs, at most 64.
    pub meta: BTreeMap<Arc<str>, Arc<str>>,
    /// Whether it wants to be asked.
    pub phase: NodePhase,
}
