//! The agent's own state, and errors.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The answer of `GET /api/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentStatus {
    /// Dunlin's version.
    pub version: String,
    /// This node's id.
    pub node_id: String,
    /// This node's name.
    pub node: String,
    /// This node's zone.
    pub zone: String,
    /// The suffix of all names in DNS.
    pub domain: String,
    /// Whether lookups are answered from a published view.
    pub ready: bool,
    /// Seconds since the agent started.
    pub uptime_seconds: u64,
    /// The catalog's index.
    pub index: u64,
    /// Services known.
    pub services: usize,
    /// Instances registered on this agent.
    pub local_instances: usize,
    /// Where the API listens.
    pub api: String,
    /// Where DNS listens; absent when it is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<String>,
    /// The local socket.
    pub socket: String,
    /// Where the state is kept.
    pub data_dir: String,
    /// The services folder.
    pub services_dir: String,
    /// What is wrong right now, for a person to mend.
    pub problems: Vec<String>,
}

/// The answer of `GET /healthz` and, when the agent is ready, of `GET /readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Probe {
    /// `alive` or `ready`.
    pub status: String,
}

/// The body of every answer with a 4xx or 5xx status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Error {
    /// What was wrong, and where.
    pub error: String,
    /// What would be right; may be empty.
    #[serde(default)]
    pub hint: String,
}
