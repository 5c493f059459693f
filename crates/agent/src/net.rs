//! How agents reach each other: streams over TLS and sealed datagrams over UDP, on one port.
//!
//! The transport opens and accepts streams for every protocol between agents and knows none of them. Above it stands
//! gossip, so far the only protocol: it performs what [`Membership`](dunlin_core::gossip::Membership) wants done, on a
//! thread of its own so that a busy agent still answers probes, and carries frames for the exchange, which the driver
//! owns. Nothing here knows rows.
//!
//! - `transport`: accepting, admission, TLS, identity, dialling.
//! - `links`: gossip on streams. `members`: membership, datagrams, keys, round-trip times.
//! - `context`: what the tasks of gossip share. `event`: what they and the driver tell each other.
//! - `keyring`, `seal`, `replay`: sealed datagrams, as values without sockets.
//! - `fault`: what peers do wrong is counted, and logged once per peer and minute.

mod context;
pub(crate) mod event;
mod fault;
pub mod keyring;
mod links;
mod members;
pub mod replay;
pub mod seal;
mod stats;
mod transport;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use dunlin_core::gossip::{MembershipSettings, Peer};
use dunlin_core::model::NodeId;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(crate) use self::context::Context;
use self::context::Queues;
use self::event::{Arrived, NetEvent};
pub(crate) use self::fault::Fault;
use self::fence::Fence;
pub use self::links::GOSSIP;
pub(crate) use self::links::link;
use self::tls::SharedCredentials;
use self::transport::{Acceptors, Transport};
pub use self::transport::{Protocol, fence, tls};
use crate::handle::Shared;

/// Events that may wait for the driver.
const MAX_EVENTS: usize = 1024;
/// Frames that may wait for the driver; while the queue is full, links are not read.
const MAX_FRAMES: usize = 32;
/// Requests that may wait for the members' thread.
const MAX_REQUESTS: usize = 4096;
/// Octets of datagrams that the kernel may hold: bursts of bad news are worth some memory.
const RECEIVE_BUFFER_OCTETS: usize = 2 << 20;

/// The settings of the network.
#[derive(Debug)]
pub(crate) struct NetSettings {
    /// The id of this node, which its data directory keeps.
    pub(crate) id: NodeId,
    /// The address to listen on, with UDP and TCP.
    pub(crate) listen: SocketAddr,
    /// The address that others are told.
    pub(crate) advertise: SocketAddr,
    /// Agents to join, `host:port`.
    pub(crate) join: Vec<String>,
    /// The folder in which the keys are kept.
    pub(crate) data_dir: PathBuf,
    /// Members from before the last stop, and whether they were alive.
    pub(crate) peers: Vec<(Peer, bool)>,
    /// The first generation to use; above all former ones.
    pub(crate) generation: u64,
    /// The seed of all random choices.
    pub(crate) seed: u64,
    /// How members watch each other.
    pub(crate) membership: MembershipSettings,
}

/// The driver's end of the network.
#[derive(Debug)]
pub(crate) struct Net {
    context: Arc<Context>,
    /// The events of the network.
    pub(crate) events: mpsc::Receiver<NetEvent>,
    /// The frames that come on links.
    pub(crate) frames: mpsc::Receiver<Arrived>,
}

/// The sockets of the network, bound.
#[derive(Debug)]
pub(crate) struct Bound {
    tcp: std::net::TcpListener,
    udp: std::net::UdpSocket,
}

/// Binds the cluster's port, UDP and TCP. Port 0 takes a free one.
///
/// # Errors
/// When the port is in use, or this process may not bind it.
pub(crate) fn bind(listen: SocketAddr) -> io::Result<Bound> {
    let tcp = std::net::TcpListener::bind(listen)?;
    let udp = std::net::UdpSocket::bind(tcp.local_addr()?)?;
    tcp.set_nonblocking(true)?;
    udp.set_nonblocking(true)?;
    // Where the system grants less, packets are lost earlier.
    let _ = socket2::SockRef::from(&udp).set_recv_buffer_size(RECEIVE_BUFFER_OCTETS);
    Ok(Bound { tcp, udp })
}

impl Bound {
    /// The address that the sockets are bound to.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

impl Net {
    /// Starts all tasks of the network.
    ///
    /// # Errors
    /// When a socket cannot be given to the runtime, or the thread cannot be started.
    pub(crate) fn start(
        settings: NetSettings,
        bound: Bound,
        credentials: Arc<SharedCredentials>,
        fence: Option<Arc<Fence>>,
        shared: Arc<Shared>,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let NetSettings { id, generation, listen, advertise, .. } = settings;
        let own = Peer { id, generation, address: advertise };
        let (events, event_queue) = mpsc::channel(MAX_EVENTS);
        let (frames, frame_queue) = mpsc::channel(MAX_FRAMES);
        let (requests, request_queue) = mpsc::channel(MAX_REQUESTS);
        let queues = Queues { events, frames, requests };
        let transport = Arc::new(Transport::new(listen, advertise, credentials, fence, stop));
        let context = Arc::new(Context::new(Arc::clone(&transport), own, shared, queues));
        let mut acceptors = Acceptors::default();
        let gossip = Arc::clone(&context);
        acceptors.register(GOSSIP, move |stream| links::accept(Arc::clone(&gossip), stream));
        transport.serve(bound.tcp, acceptors)?;
        let joining = links::join_all(Arc::clone(&context), settings.join.clone());
        transport.tasks().spawn(joining);
        members::start(Arc::clone(&context), settings, own, bound.udp, request_queue)?;
        Ok(Self { context, events: event_queue, frames: frame_queue })
    }

    /// What all tasks share.
    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }
}
