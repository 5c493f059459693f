//! How agents reach each other: links over TLS, sealed datagrams over UDP, on one port.
//!
//! The network performs what [`Membership`](dunlin_core::gossip::Membership) wants done, on a thread of its own so
//! that a busy agent still answers probes, and carries what the exchange, which the driver owns, has to say. It knows
//! nothing of rows.
//!
//! - `connect`: from a TCP connection to a link. `link`, `framing`: what runs on it.
//! - `members`: membership, datagrams, keys, round-trip times.
//! - `fault`: what peers do wrong is counted, and logged once per peer and minute.

pub(crate) mod event;
mod fault;
pub mod keyring;
mod links;
mod members;
pub mod replay;
pub mod seal;
mod transport;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use dunlin_core::gossip::{ExchangeStats, MembershipSettings, Peer};
use dunlin_core::model::NodeId;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use self::event::{Arrived, Event, PATIENCE, Request};
pub(crate) use self::fault::Fault;
use self::fault::{Culprit, Faults};
use self::fence::Fence;
use self::links::connect;
pub(crate) use self::links::link;
use self::tls::SharedCredentials;
use self::transport::fence::Side;
pub use self::transport::{fence, tls};
use crate::handle::Shared;

/// Events that may wait for the driver.
const EVENTS: usize = 1024;
/// Frames that may wait for the driver; while they do, their links are not read.
const FRAMES: usize = 32;
/// Requests that may wait for the network.
const REQUESTS: usize = 4096;
/// The shortest and the longest time between two attempts to join.
const JOIN_PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// The subject under which it is reported that nobody lets this agent in.
const JOIN: &str = "cluster-join";

/// What the network needs to know.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The node, as it was when its data directory was last in use.
    pub(crate) id: NodeId,
    /// Where to listen, UDP and TCP.
    pub(crate) listen: SocketAddr,
    /// What others are told.
    pub(crate) advertise: SocketAddr,
    /// Agents to join, `host:port`.
    pub(crate) join: Vec<String>,
    /// Where the keys are kept.
    pub(crate) data_dir: PathBuf,
    /// Members from before the last stop, and whether they were alive.
    pub(crate) peers: Vec<(Peer, bool)>,
    /// The first generation to use; above all former ones.
    pub(crate) generation: u64,
    /// Randomness to begin with.
    pub(crate) seed: u64,
    /// How members watch each other.
    pub(crate) membership: MembershipSettings,
}

/// What all tasks of the network share.
#[derive(Debug)]
pub(crate) struct Context {
    listen: SocketAddr,
    advertise: SocketAddr,
    own: ArcSwap<Peer>,
    credentials: Arc<SharedCredentials>,
    shared: Arc<Shared>,
    side: Side,
    faults: Faults,
    events: mpsc::Sender<Event>,
    frames: mpsc::Sender<Arrived>,
    requests: mpsc::Sender<Request>,
    /// The keys as [`Frame::Keys`](dunlin_core::gossip::Frame::Keys) has them; every link sends them when they change.
    keys: watch::Sender<Arc<[u8]>>,
    /// The links' urgent lanes, for packets that do not get through as such.
    lanes: ArcSwap<std::collections::BTreeMap<NodeId, mpsc::Sender<dunlin_core::gossip::Outgoing>>>,
    /// Some members, for peers that know few, and whether they are alive.
    known: ArcSwap<Vec<(Peer, bool)>>,
    /// What the own catalog comes to.
    summary: AtomicU64,
    next_link: AtomicU64,
    stats: members::Stats,
    exchange_stats: ArcSwap<ExchangeStats>,
    /// Links end without a word, as in a crash.
    is_cut_off: AtomicBool,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Context {
    fn own(&self) -> Peer {
        **self.own.load()
    }

    /// Counts a fault, and logs it unless that was done within the last minute.
    pub(crate) fn report(&self, culprit: impl Into<Culprit>, fault: Fault, problem: &str) {
        let culprit = culprit.into();
        if self.faults.note(Instant::now(), culprit, fault) {
            let who = match culprit {
                Culprit::Node(node) => node.to_string(),
                Culprit::Address(address) => address.to_string(),
            };
            warn!(peer = who, fault = fault.as_str(), problem, "a peer did not do right");
        }
    }

    /// Tells the driver; waits while it is busy.
    async fn tell(&self, event: Event) {
        // An error means that the driver has stopped, or is stuck, which its watchdog will find.
        if self.events.send_timeout(event, PATIENCE).await.is_err() {
            debug!("the driver did not take an event of the network");
        }
    }

    /// Tells the driver what it also finds out otherwise, if a little later; false if its queue is full.
    fn hint(&self, event: Event) -> bool {
        self.events.try_send(event).is_ok()
    }

    /// Asks the members' thread; waits while it is busy.
    async fn request(&self, request: Request) {
        // An error means that the network has stopped.
        let _ = self.requests.send_timeout(request, PATIENCE).await;
    }
}

/// The driver's end of the network.
#[derive(Debug)]
pub(crate) struct Net {
    context: Arc<Context>,
    /// What happens.
    pub(crate) events: mpsc::Receiver<Event>,
    /// What comes on links.
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
/// When it is taken, or not ours.
pub(crate) fn bind(listen: SocketAddr) -> io::Result<Bound> {
    let tcp = std::net::TcpListener::bind(listen)?;
    let udp = std::net::UdpSocket::bind(tcp.local_addr()?)?;
    tcp.set_nonblocking(true)?;
    udp.set_nonblocking(true)?;
    // Bursts of bad news are worth some memory. Where the system grants less, packets are lost earlier.
    let _ = socket2::SockRef::from(&udp).set_recv_buffer_size(2 << 20);
    Ok(Bound { tcp, udp })
}

impl Bound {
    /// Where it listens.
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
        settings: Settings,
        bound: Bound,
        credentials: Arc<SharedCredentials>,
        fence: Option<Arc<Fence>>,
        shared: Arc<Shared>,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let own =
            Peer { id: settings.id, generation: settings.generation, address: settings.advertise };
        let (events, event_queue) = mpsc::channel(EVENTS);
        let (frames, frame_queue) = mpsc::channel(FRAMES);
        let (requests, request_queue) = mpsc::channel(REQUESTS);
        let (keys, _) = watch::channel(Arc::from([]));
        let context = Arc::new(Context {
            listen: settings.listen,
            advertise: settings.advertise,
            own: ArcSwap::from_pointee(own),
            credentials,
            shared,
            side: Side { fence, here: settings.advertise.ip() },
            faults: Faults::default(),
            events,
            frames,
            requests,
            keys,
            lanes: ArcSwap::default(),
            known: ArcSwap::default(),
            summary: AtomicU64::new(0),
            next_link: AtomicU64::new(1),
            stats: members::Stats::default(),
            exchange_stats: ArcSwap::default(),
            is_cut_off: AtomicBool::new(false),
            stop,
            tasks: TaskTracker::new(),
        });
        let listener = tokio::net::TcpListener::from_std(bound.tcp)?;
        context.tasks.spawn(connect::accept_all(Arc::clone(&context), listener));
        context.tasks.spawn(join_all(Arc::clone(&context), settings.join.clone()));
        members::start(Arc::clone(&context), settings, own, bound.udp, request_queue)?;
        Ok(Self { context, events: event_queue, frames: frame_queue })
    }

    /// What all tasks share.
    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }
}

impl Context {
    /// Who this agent is to the others at present.
    pub(crate) fn own_peer(&self) -> Peer {
        self.own()
    }

    /// Hands a request over; lost when the members' thread is far behind, as packets are.
    pub(crate) fn try_request(&self, request: Request) {
        if self.requests.try_send(request).is_err() {
            debug!("the members' thread did not take a request");
        }
    }

    /// Opens a link to a member; what comes of it is told as an event.
    pub(crate) fn dial(self: &Arc<Self>, peer: Peer) {
        self.tasks.spawn(connect::dial_member(Arc::clone(self), peer));
    }

    /// Says what the own catalog comes to.
    pub(crate) fn set_summary(&self, summary: u64) {
        self.summary.store(summary, Ordering::Relaxed);
    }

    /// Says which links there are.
    pub(crate) fn set_lanes(
        &self,
        lanes: std::collections::BTreeMap<NodeId, mpsc::Sender<dunlin_core::gossip::Outgoing>>,
    ) {
        if !lanes.is_empty() {
            self.shared.problems.clear(JOIN);
        }
        self.lanes.store(Arc::new(lanes));
    }

    /// How often peers did wrong.
    pub(crate) fn faults(&self) -> impl Iterator<Item = (Fault, u64)> {
        self.faults.counts()
    }

    /// Numbers of the exchange, as of the last second.
    pub(crate) fn exchange_stats(&self) -> ExchangeStats {
        **self.exchange_stats.load()
    }

    /// Tells numbers of the exchange.
    pub(crate) fn set_exchange_stats(&self, stats: ExchangeStats) {
        self.exchange_stats.store(Arc::new(stats));
    }

    /// Numbers of the members' thread.
    pub(crate) fn stats(&self) -> &members::Stats {
        &self.stats
    }

    /// Waits until there is a link to another agent.
    pub(crate) async fn joined(&self) {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        while self.lanes.load().is_empty() {
            ticks.tick().await;
        }
    }

    /// From now on links end without a word, as in a crash.
    pub(crate) fn cut_off(&self) {
        self.is_cut_off.store(true, Ordering::Relaxed);
    }

    /// Waits until everything has ended; the stop token must have been cancelled.
    pub(crate) async fn stopped(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Dials the agents to join, in turn, as long as there is no link.
async fn join_all(context: Arc<Context>, join: Vec<String>) {
    let mut pause = JOIN_PAUSE.0;
    let stop = context.stop.clone();
    loop {
        if context.lanes.load().is_empty() {
            for host in &join {
                let Some(()) = stop.run_until_cancelled(join_one(&context, host)).await else {
                    return;
                };
            }
        } else {
            context.shared.problems.clear(JOIN);
            pause = JOIN_PAUSE.0;
        }
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
        pause = (pause * 2).min(JOIN_PAUSE.1);
    }
}

async fn join_one(context: &Arc<Context>, host: &str) {
    let problem = match tokio::net::lookup_host(host).await {
        Err(error) => format!("{host}: {error}"),
        Ok(addresses) => {
            let mut problem = format!("{host} has no address");
            for address in addresses {
                if address == context.advertise || address == context.listen {
                    return;
                }
                match connect::dial(context, address, None).await {
                    Ok(()) => return,
                    Err(error) => {
                        if error.is_refusal() {
                            context.report(address.ip(), error.fault(), &error.to_string());
                        }
                        problem = format!("{host}: {error}");
                    }
                }
            }
            problem
        }
    };
    debug!(problem, "not joined");
    if context.lanes.load().is_empty() {
        context.shared.problems.set(JOIN, problem);
    }
}
