//! One node at one moment, and whether it can be reached.

use std::sync::Arc;

use crate::model::{NodeId, NodePhase, NodeRow};

/// Whether a node can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeStatus {
    /// The node answers, or membership knows nothing of it yet.
    Alive,
    /// The node does not answer, and others are being asked. It counts as alive.
    Suspect,
    /// The node does not answer anybody.
    Down,
    /// The node's own row says that it has left, whatever membership says.
    Left,
}

impl NodeStatus {
    /// Every status there is.
    pub const ALL: [Self; 4] = [Self::Alive, Self::Suspect, Self::Down, Self::Left];

    /// Whether instances on a node with this status can be reached.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Alive | Self::Suspect)
    }

    /// The status as users read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Left => "left",
        }
    }
}

/// One node at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// The node's id.
    pub id: NodeId,
    /// What the node says of itself.
    pub row: Arc<NodeRow>,
    /// Whether the node can be reached.
    pub status: NodeStatus,
}

impl NodeView {
    /// Whether the node's instances can be reached.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.status.is_live()
    }

    /// Whether an operator takes the node out of service.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.row.phase == NodePhase::Draining
    }
}
