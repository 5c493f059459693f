//! The messages between the network and the driver.

use std::time::Duration;

use dunlin_core::gossip::{Frame, Hello, Peer};
use dunlin_core::host::PeerEvent;
use dunlin_core::model::NodeId;
use tokio::sync::oneshot;

use super::link::Link;

/// An event of the network, for the driver.
#[derive(Debug)]
pub(crate) enum NetEvent {
    /// A link is being opened, and this agent has to say hello.
    Hello {
        /// The node at the other end, if that is known.
        to: Option<NodeId>,
        /// Receives the hello; `None` when no further link is taken.
        reply: oneshot::Sender<Option<Box<Hello>>>,
    },
    /// A link is open and both sides have said hello.
    Linked {
        /// The peer's hello.
        hello: Box<Hello>,
        /// Whether this agent opened it.
        is_dialed: bool,
        /// The driver's end of the link.
        link: Link,
    },
    /// A link has ended.
    Closed {
        /// The node at the other end.
        node: NodeId,
        /// The number of the link.
        link: u64,
    },
    /// A member could not be dialled.
    DialFailed(NodeId),
    /// A link has room again.
    Writable(NodeId),
    /// Membership has something to tell.
    Members(PeerEvent),
}

/// A frame that came on a link. Frames have a queue of their own, from which the driver takes in turn with the writes
/// of this agent.
#[derive(Debug)]
pub(crate) struct Arrived {
    /// The node that sent the frame.
    pub(crate) from: NodeId,
    /// The number of the link.
    pub(crate) link: u64,
    /// The frame itself.
    pub(crate) frame: Frame,
}

/// A request to the thread of the members.
#[derive(Debug)]
pub(crate) enum MembersRequest {
    /// Greet a member with which a link was opened.
    Meet {
        /// The member at the other end.
        peer: Peer,
        /// The generation of this agent that the member knows.
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
        /// The members to send to.
        to: Vec<Peer>,
        /// The encoded packet.
        packet: std::sync::Arc<[u8]>,
    },
    /// A member's host refused a connection.
    Doubt(NodeId),
    /// Tell the others that this agent stops, and say when that is done.
    Leave(oneshot::Sender<()>),
}

/// How long requests and events that cannot be lost wait for room.
pub(crate) const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
