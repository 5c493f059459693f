//! Nodes, as `GET /api/nodes` answers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A node as this agent sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
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
    /// Whether an operator takes it out of service: its instances get no new clients.
    #[serde(default)]
    pub draining: bool,
    /// Milliseconds that a question to it and its answer took lately; absent until measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
    /// The last version of its rows that this agent has.
    pub head: u64,
    /// How many versions this agent lacks of that node's history; absent while that is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<u64>,
    /// How many instances it has registered.
    pub instances: usize,
    /// Whether it is the agent that answers.
    pub this: bool,
    /// Free pairs.
    pub meta: BTreeMap<String, String>,
}

/// The answer of `GET /api/nodes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeList {
    /// By name.
    pub nodes: Vec<Node>,
}

/// The body of `PUT /api/node/drain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeDrainRequest {
    /// Take the agent's node out of service, or put it back.
    pub enabled: bool,
}
