//! What the network and the driver tell each other.

use std::time::Duration;

use dunlin_core::gossip::{Frame, Hello, Peer};
use dunlin_core::host::PeerEvent;
use dunlin_core::model::NodeId;
use tokio::sync::oneshot;

use super::link::Link;

/// What the network tells the driver.
#[derive(Debug)]
pub(crate) enum NetEvent {
    /// A link is being opened: what to say first.
    Hello {
        /// To whom, if that is known.
        to: Option<NodeId>,
        /// The answer; none when no further link is taken.
        reply: oneshot::Sender<Option<Box<Hello>>>,
    },
    /// A link is open and both sides have said hello.
    Linked {
        /// What the peer said.
        hello: Box<Hello>,
        /// Whether this agent opened it.
        is_dialed: bool,
        /// The link.
        link: Link,
    },
    /// A link has ended.
    Closed {
        /// To whom it was.
        node: NodeId,
        /// Which of the links there ever were.
        link: u64,
    },
    /// A member could not be dialled.
    DialFailed(NodeId),
    /// A link has room again.
    Writable(NodeId),
    /// What the members' machine tells.
    Members(PeerEvent),
}

/// A frame that came on a link. It has a queue of its own, which is taken from in turn with the agent's own writes.
#[derive(Debug)]
pub(crate) struct Arrived {
    /// From whom.
    pub(crate) from: NodeId,
    /// On which of the links there ever were.
    pub(crate) link: u64,
    /// The frame.
    pub(crate) frame: Frame,
}

/// What the driver tells the network.
#[derive(Debug)]
pub(crate) enum MembersRequest {
    /// Greet a member with which a link was opened.
    Meet {
        /// Who.
        peer: Peer,
        /// What it knows of this agent's generation.
        known_generation: u64,
    },
    /// Members that a peer knows.
    Introduce(Vec<(Peer, bool)>),
    /// Keys that a peer knows, as [`Frame::Keys`] has them.
    Keys(NodeId, Vec<u8>),
    /// A packet that came on a link.
    Packet(NodeId, Vec<u8>),
    /// Send an encoded packet to these members.
    Urgent {
        /// To whom.
        to: Vec<Peer>,
        /// The packet.
        packet: std::sync::Arc<[u8]>,
    },
    /// A member's host refused a connection.
    Doubt(NodeId),
    /// Tell the others that this agent stops, and say when that is done.
    Leave(oneshot::Sender<()>),
}

/// How long requests and events that cannot be lost wait for room.
pub(crate) const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
