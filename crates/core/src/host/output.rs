//! What a host wants done.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::event::Event;
use super::request::{Answer, RequestError, Ticket};
use super::stored::Batch;
use crate::catalog::EndpointKey;
use crate::gossip::Peer;
use crate::health::{CheckKey, RunId};
use crate::model::{CheckSpec, NodeId, ServiceName, Timestamp};
use crate::replica::RowChange;

/// One moment on both clocks: one to schedule by, and one to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The clock that only goes forward.
    pub now: Instant,
    /// The clock that people set.
    pub wall: Timestamp,
}

/// Numbers a link among all that the process has ever had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// What is measured of another member, for people to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenMember {
    /// The member.
    pub peer: Peer,
    /// The smoothed round-trip time, once there is one.
    pub rtt: Option<Duration>,
    /// The newest version of its rows that some peer has and this host lacks; zero if there is none.
    pub newest_head: u64,
}

/// What a host wants done, in the order in which it is to be done.
#[derive(Debug)]
pub enum Output {
    /// Store this batch whole or not at all, synced, then call [`Host::handle_stored`](super::Host::handle_stored).
    /// There is one at a time.
    Store(Box<Batch>),
    /// Answer the client that asked under this ticket.
    Answer {
        /// The request's ticket.
        ticket: Ticket,
        /// What came of it.
        result: Result<Answer, RequestError>,
    },
    /// Publish [`Host::view`](super::Host::view), then wake the readers that wait for these services, or
    /// for all.
    Publish {
        /// The services that changed; empty when only nodes did.
        services: Vec<ServiceName>,
    },
    /// Publish [`Host::registry`](super::Host::registry): what readers may see of it has changed.
    PublishRegistry,
    /// Perform a check, then call [`Host::handle_check`](super::Host::handle_check), whatever happened.
    RunCheck {
        /// The check.
        key: CheckKey,
        /// The run, to be handed back with its result.
        run: RunId,
        /// The service of the check's instance.
        service: ServiceName,
        /// The address of the check's instance.
        address: SocketAddr,
        /// What to do.
        spec: Arc<CheckSpec>,
    },
    /// Give a run up. Its result does not count any more.
    CancelCheck {
        /// The run.
        run: RunId,
    },
    /// Try to connect to an endpoint, then call [`Host::handle_probe`](super::Host::handle_probe).
    Probe {
        /// The service whose guard asks.
        service: ServiceName,
        /// The endpoint.
        key: EndpointKey,
        /// Where to connect.
        address: SocketAddr,
    },
    /// Tell people what happened.
    Tell(Event),
    /// Do something with other hosts.
    Peers(PeerOutput),
    /// Rows became visible or vanished together. Told only if [`HostSettings::tells_rows`](super::HostSettings) is
    /// set.
    Shown {
        /// The node whose rows these are.
        origin: NodeId,
        /// The rows.
        rows: Vec<RowChange>,
    },
    /// Everything is stored that there was, after [`Host::handle_stop`](super::Host::handle_stop).
    Stopped,
}

/// What a host wants done with others.
#[derive(Debug)]
pub enum PeerOutput {
    /// Open a stream to this member unless one is being opened, exchange hellos, then tell of it by
    /// [`PeerEvent::Linked`](super::PeerEvent::Linked) or [`PeerEvent::DialFailed`](super::PeerEvent::DialFailed).
    Dial(Peer),
    /// Close this link.
    CloseLink {
        /// The node at its other end.
        node: NodeId,
        /// The link.
        link: LinkId,
        /// Why.
        reason: &'static str,
    },
    /// Ask [`Host::next_frame`](super::Host::next_frame) as long as the link to this node has room.
    Ready(NodeId),
    /// Send an encoded packet to these members as datagrams.
    SendUrgent {
        /// The receivers.
        to: Vec<Peer>,
        /// The packet.
        packet: Arc<[u8]>,
    },
    /// Tell [`Members::handle_met`](super::Members::handle_met) of a peer to which a link is open.
    Met {
        /// The peer.
        peer: Peer,
        /// What it knows of this host's generation.
        known_generation: u64,
    },
    /// A peer sent what no sound peer sends.
    Misbehaved {
        /// The peer.
        node: NodeId,
        /// What was wrong.
        problem: String,
    },
    /// Show people what is measured of the members.
    ShowMembers(Vec<SeenMember>),
}
