//! What all tasks of gossip share: the transport below, the queues to the driver, and what members and links publish
//! for each other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use dunlin_core::gossip::{ExchangeStats, Outgoing, Peer};
use dunlin_core::model::NodeId;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::event::{Arrived, MembersRequest, NetEvent, QUEUE_TIMEOUT};
use super::fault::{Culprit, Fault};
use super::stats::MembersStats;
use super::transport::Transport;
use super::transport::fence::Side;
use crate::handle::Shared;

/// The subject under which it is reported that no agent lets this one in.
pub(super) const JOIN_SUBJECT: &str = "cluster-join";
/// The time between two looks whether there is a link.
const JOINED_INTERVAL: Duration = Duration::from_millis(20);

/// What all tasks of gossip share.
#[derive(Debug)]
pub(crate) struct Context {
    transport: Arc<Transport>,
    pub(super) own: ArcSwap<Peer>,
    pub(super) shared: Arc<Shared>,
    pub(super) events: mpsc::Sender<NetEvent>,
    pub(super) frames: mpsc::Sender<Arrived>,
    pub(super) requests: mpsc::Sender<MembersRequest>,
    /// The keys as [`Frame::Keys`](dunlin_core::gossip::Frame::Keys) has them; every link sends them when they change.
    pub(super) keys: watch::Sender<Arc<[u8]>>,
    /// The links' urgent lanes, for packets that do not get through as datagrams.
    pub(super) lanes: ArcSwap<BTreeMap<NodeId, mpsc::Sender<Outgoing>>>,
    /// Some members, for peers that know few, and whether they are alive.
    pub(super) known: ArcSwap<Vec<(Peer, bool)>>,
    /// The digest of all rows that this agent has.
    pub(super) summary: AtomicU64,
    /// The number of the next link.
    pub(super) next_link: AtomicU64,
    pub(super) stats: MembersStats,
    exchange_stats: ArcSwap<ExchangeStats>,
}

/// The sending ends of all queues that gossip fills.
pub(super) struct Queues {
    pub(super) events: mpsc::Sender<NetEvent>,
    pub(super) frames: mpsc::Sender<Arrived>,
    pub(super) requests: mpsc::Sender<MembersRequest>,
}

impl Context {
    /// Gossip of a node that has neither members nor links yet.
    pub(super) fn new(
        transport: Arc<Transport>,
        own: Peer,
        shared: Arc<Shared>,
        queues: Queues,
    ) -> Self {
        let Queues { events, frames, requests } = queues;
        let (keys, _) = watch::channel(Arc::from([]));
        Self {
            transport,
            own: ArcSwap::from_pointee(own),
            shared,
            events,
            frames,
            requests,
            keys,
            lanes: ArcSwap::default(),
            known: ArcSwap::default(),
            summary: AtomicU64::new(0),
            next_link: AtomicU64::new(1),
            stats: MembersStats::default(),
            exchange_stats: ArcSwap::default(),
        }
    }
}

/// What goes through the queues.
impl Context {
    /// Tells the driver; waits while it is busy.
    pub(super) async fn tell(&self, event: NetEvent) {
        // An error means that the driver has stopped, or is stuck, which its watchdog will find.
        if self.events.send_timeout(event, QUEUE_TIMEOUT).await.is_err() {
            debug!("the driver did not take an event of the network");
        }
    }

    /// Tells the driver what it also finds out otherwise, if a little later; false if its queue is full.
    pub(super) fn hint(&self, event: NetEvent) -> bool {
        self.events.try_send(event).is_ok()
    }

    /// Asks the members' thread; waits while it is busy.
    pub(super) async fn request(&self, request: MembersRequest) {
        // An error means that the network has stopped.
        let _ = self.requests.send_timeout(request, QUEUE_TIMEOUT).await;
    }

    /// Hands a request over; lost when the members' thread is far behind, as packets are.
    pub(crate) fn try_request(&self, request: MembersRequest) {
        if self.requests.try_send(request).is_err() {
            debug!("the members' thread did not take a request");
        }
    }
}

/// What members, links and the driver share with each other.
impl Context {
    /// This agent as the others know it at present.
    pub(crate) fn own_peer(&self) -> Peer {
        **self.own.load()
    }

    /// Publishes the digest of all rows that this agent has.
    pub(crate) fn set_summary(&self, summary: u64) {
        self.summary.store(summary, Ordering::Relaxed);
    }

    /// Publishes which links there are, by their urgent lanes.
    pub(crate) fn set_lanes(&self, lanes: BTreeMap<NodeId, mpsc::Sender<Outgoing>>) {
        if !lanes.is_empty() {
            self.shared.problems.clear(JOIN_SUBJECT);
        }
        self.lanes.store(Arc::new(lanes));
    }

    /// Waits until there is a link to another agent.
    pub(crate) async fn joined(&self) {
        let mut ticks = tokio::time::interval(JOINED_INTERVAL);
        while self.lanes.load().is_empty() {
            ticks.tick().await;
        }
    }

    /// The counters of the members' thread.
    pub(crate) fn stats(&self) -> &MembersStats {
        &self.stats
    }

    /// The counters of the exchange, as of the last second.
    pub(crate) fn exchange_stats(&self) -> ExchangeStats {
        **self.exchange_stats.load()
    }

    /// Publishes the counters of the exchange.
    pub(crate) fn set_exchange_stats(&self, stats: ExchangeStats) {
        self.exchange_stats.store(Arc::new(stats));
    }
}

/// What the transport does for gossip.
impl Context {
    /// The streams below gossip.
    pub(super) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Counts a fault, and logs it unless that was done within the last minute.
    pub(crate) fn report(&self, culprit: impl Into<Culprit>, fault: Fault, problem: &str) {
        self.transport.report(culprit, fault, problem);
    }

    /// How often peers did each thing wrong.
    pub(crate) fn faults(&self) -> impl Iterator<Item = (Fault, u64)> {
        self.transport.faults()
    }

    /// The fence as this agent sees it.
    pub(super) fn side(&self) -> &Side {
        self.transport.side()
    }

    /// Cancelled when the agent stops.
    pub(super) fn stop(&self) -> &CancellationToken {
        self.transport.stop()
    }

    /// The tasks that [`Context::stopped`] waits for.
    pub(super) fn tasks(&self) -> &TaskTracker {
        self.transport.tasks()
    }

    /// From now on links end without a goodbye, as they do when a process crashes.
    pub(crate) fn cut_off(&self) {
        self.transport.cut_off();
    }

    /// Waits until everything has ended; the stop token must have been cancelled.
    pub(crate) async fn stopped(&self) {
        self.transport.stopped().await;
    }
}
