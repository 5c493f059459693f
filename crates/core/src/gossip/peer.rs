//! The identity of a member as the other members know it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::model::NodeId;

/// One life of one agent: an agent that comes back has the same id and a higher generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Peer {
    /// The id of the agent's node.
    pub id: NodeId,
    /// Grows with every start and every return. The first value is the wall clock in milliseconds, which keeps it above
    /// that of a former life even if the disk was lost.
    pub generation: u64,
    /// The address at which the agent is reached over UDP and TCP.
    pub address: SocketAddr,
}

impl foca::Identity for Peer {
    type Addr = NodeId;

    fn renew(&self) -> Option<Self> {
        Some(Self { generation: self.generation.saturating_add(1), ..*self })
    }

    fn addr(&self) -> NodeId {
        self.id
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.generation, self.address) > (adversary.generation, adversary.address)
    }
}
