//! Nodes, as `GET /api/nodes` answers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A node as this agent sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// 32 hexadecimal digits, kept in its data directory.
    pub id: String,
    /// Unique in the cluster.
    pub name: String,
    /// Its failure domain.
    pub zone: String,
    /// Where its services are reached.
    #[schema(value_type = String, example = "127.0.0.1")]
    pub address: IpAddr,
    /// `alive`, `suspect`, `down` or `left`.
    pub status: String,
    /// The last version of its rows that this agent has.
    pub head: u64,
    /// How many instances it has registered.
    pub instances: usize,
    /// Whether it is the agent that answers.
    pub this: bool,
    /// Free pairs.
    pub meta: BTreeMap<String, String>,
}

/// The answer of `GET /api/nodes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeList {
    /// By name.
    pub nodes: Vec<Node>,
}
