//! The driver's part of the cluster: it owns the exchange, since the exchange reads and merges the replica.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dunlin_core::catalog::NodeStatus;
use dunlin_core::gossip::{Exchange, ExchangeOutput, Liveness, Peer};
use dunlin_core::model::{NodeId, NodeName, Timestamp};
use dunlin_core::replica::{Delta, Piece, Replica, Row, RowChange, RowKey, Unstored, Version};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::{Driver, clocks};
use crate::handle::MemberInfo;
use crate::net::event::{Arrived, Event, Measured, Request};
use crate::net::link::Link;
use crate::net::{Context, Fault};
use crate::store::{Batch, HistoryWrite};

/// Events of the network taken in before anything else is looked at.
const MOST_EVENTS: usize = 256;
/// Frames merged before their rows are shown and others have their turn.
const MOST_FRAMES: usize = 16;
/// Once frames made so many rows visible, they are shown. It takes some milliseconds, for which urgent news waits.
const MOST_SHOWN: usize = 1_000;
/// For how long frames are merged before their rows are shown.
const MERGE_TIME: Duration = Duration::from_millis(2);
/// Rows of other nodes that one batch stores, so that the own writes in it need not wait long.
const MOST_STORED: usize = 2_000;
/// Fewer wait this long for more of them.
const STORE_DELAY: Duration = Duration::from_millis(100);
/// Time between two looks for nodes that are gone for good.
const TIDY_PERIOD: Duration = Duration::from_secs(5);
/// A node is forgotten after it was not seen for this long since the start, however long it was gone before.
const SEEN_GONE: Duration = Duration::from_secs(600);
/// After a start, for how long rows of a node that no member knows are believed.
const BELIEVED: Duration = Duration::from_secs(10);

/// What the driver keeps for the cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    context: Arc<Context>,
    pub(super) exchange: Exchange,
    links: BTreeMap<NodeId, Link>,
    generations: BTreeMap<NodeId, u64>,
    live: BTreeSet<NodeId>,
    unstored: Unstored,
    peers: Option<Vec<(NodeId, Vec<u8>)>>,
    /// Above which version the own history is to be stated anew, if it is.
    restate: Option<Version>,
    /// Nodes to be forgotten on disk, each with its last version.
    forgotten: Vec<(NodeId, Version)>,
    /// Nodes with rows that are not among the live.
    gone: BTreeMap<NodeId, Gone>,
    /// Whether that is to be stored.
    has_gone_changed: bool,
    started: Instant,
    next_tidy: Instant,
}

/// Since when a node is gone.
#[derive(Debug, Clone, Copy)]
struct Gone {
    /// For how long it was when this agent started.
    before: Duration,
    /// Since when this agent has seen it since its start.
    seen: Instant,
}

/// What a batch stores for the cluster, to be put back should the disk refuse.
#[derive(Debug, Default)]
pub(super) struct Remote {
    /// Above which version the own history is stated anew, if it is.
    pub(super) restated: Option<Version>,
    pieces: Vec<Piece>,
    peers: Option<Vec<(NodeId, Vec<u8>)>>,
    forgotten: Vec<(NodeId, Version)>,
    has_gone_changed: bool,
}

/// What came of frames or events and waits to be shown together.
#[derive(Default)]
struct News {
    visible: Vec<(NodeId, Vec<RowChange>)>,
    /// How many rows are visible.
    rows: usize,
    /// To whom there is more to send.
    ready: BTreeSet<NodeId>,
}

impl Gone {
    fn seen_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.seen)
    }
}

impl Cluster {
    /// Nothing of the cluster is known but what was stored.
    pub(crate) fn new(
        context: Arc<Context>,
        exchange: Exchange,
        gone: &[(NodeId, Timestamp)],
        (now, wall): (Instant, Timestamp),
    ) -> Self {
        let gone_before = |since: Timestamp| Gone { before: wall.since(since), seen: now };
        let gone = gone.iter().map(|(node, since)| (*node, gone_before(*since)));
        Self {
            context,
            exchange,
            links: BTreeMap::new(),
            generations: BTreeMap::new(),
            live: BTreeSet::new(),
            unstored: Unstored::new(MOST_STORED, STORE_DELAY),
            peers: None,
            restate: None,
            forgotten: Vec::new(),
            gone: gone.collect(),
            has_gone_changed: false,
            started: now,
            next_tidy: now + TIDY_PERIOD,
        }
    }

    pub(super) fn next_deadline(&self) -> Instant {
        self.exchange.next_deadline().min(self.next_tidy)
    }

    /// Whether something is to be stored now that nobody waits for.
    pub(super) fn wants_to_store(&self, now: Instant) -> bool {
        let Self { peers, restate, forgotten, has_gone_changed, .. } = self;
        let has_more = peers.is_some() || restate.is_some() || *has_gone_changed;
        !forgotten.is_empty() || has_more || self.unstored.due().is_some_and(|at| at <= now)
    }

    /// When rows of other nodes are to be stored, if any are.
    pub(super) fn store_at(&self) -> Option<Instant> {
        self.unstored.due()
    }

    /// Has what waits stored with the next batch.
    pub(super) fn store_soon(&mut self, now: Instant) {
        self.unstored.set_due(now);
    }

    fn drop_link(&mut self, node: NodeId) {
        if self.links.remove(&node).is_some() {
            self.publish_lanes();
        }
    }

    fn publish_lanes(&self) {
        let lanes = self.links.iter().map(|(node, link)| (*node, link.urgent_lane())).collect();
        self.context.set_lanes(lanes);
    }

    fn note_member(&mut self, now: Instant, peer: Peer, is_live: bool, replica: &Replica) {
        self.generations.insert(peer.id, peer.generation);
        self.exchange.handle_member(now, peer, is_live, replica);
        if is_live {
            self.live.insert(peer.id);
            self.has_gone_changed |= self.gone.remove(&peer.id).is_some();
        } else {
            self.live.remove(&peer.id);
        }
    }

    /// Rows of a node that is gone have come: it was there while nobody here looked.
    fn note_news(&mut self, origin: NodeId) {
        let now = Instant::now();
        // Not with every batch of many: all of it is stored each time.
        if let Some(gone) = self.gone.get_mut(&origin)
            && gone.before + gone.seen_for(now) >= TIDY_PERIOD
        {
            *gone = Gone { before: Duration::ZERO, seen: now };
            self.has_gone_changed = true;
        }
    }
}

impl Driver {
    /// Takes in what the network has to tell, before anything else: bad news is among it.
    pub(super) fn take_events(&mut self) {
        let mut statuses = Vec::new();
        for _ in 0..MOST_EVENTS {
            let Ok(event) = self.net_events.try_recv() else { break };
            self.handle_event(event, &mut statuses);
        }
        self.show_statuses(&statuses);
    }

    /// Takes in one event that was waited for, and those behind it.
    pub(super) fn take_event(&mut self, event: Event) {
        let mut statuses = Vec::new();
        self.handle_event(event, &mut statuses);
        self.show_statuses(&statuses);
    }

    fn show_statuses(&mut self, statuses: &[(NodeId, NodeStatus)]) {
        if !statuses.is_empty() {
            let (now, wall) = clocks();
            self.catalog.handle_statuses(now, wall, statuses);
        }
    }

    fn handle_event(&mut self, event: Event, statuses: &mut Vec<(NodeId, NodeStatus)>) {
        let (now, _) = clocks();
        let Some(cluster) = &mut self.cluster else { return };
        match event {
            Event::Hello { to, reply } => {
                let known = to.and_then(|to| cluster.generations.get(&to)).copied();
                let hello = cluster.exchange.has_room().then(|| {
                    let own = cluster.context.own_peer();
                    let name = self.shared.identity.node.clone();
                    let generation = known.unwrap_or_default();
                    Box::new(cluster.exchange.hello(&self.replica, own, name, to, generation))
                });
                // Whoever asked may have given up.
                let _ = reply.send(hello);
            }
            Event::Linked { hello, is_dialed, link } => {
                self.handle_linked(now, &hello, is_dialed, link);
            }
            Event::Closed { node, link } => {
                if cluster.links.get(&node).is_some_and(|known| known.id == link) {
                    cluster.drop_link(node);
                    cluster.exchange.handle_link_closed(now, node);
                }
            }
            Event::DialFailed(node) => cluster.exchange.handle_dial_failed(now, node),
            Event::Writable(node) => self.fill_link(node),
            Event::Member { peer, is_live } => {
                cluster.note_member(now, peer, is_live, &self.replica);
                let status = if is_live { NodeStatus::Alive } else { NodeStatus::Down };
                statuses.push((peer.id, status));
            }
            Event::Urgent { from, delta } => {
                cluster.exchange.handle_urgent(now, from, delta, &mut self.replica);
            }
            Event::Summary { from, summary } => {
                cluster.exchange.handle_summary(now, from, summary, &self.replica);
            }
            Event::Members(members) => self.publish_members(members, statuses),
            Event::Peers(peers) => cluster.peers = Some(peers),
            Event::NearestZones(zones) => {
                self.catalog.set_nearest_zones(zones);
            }
        }
        self.perform_exchange();
    }

    fn handle_linked(
        &mut self,
        now: Instant,
        hello: &dunlin_core::gossip::Hello,
        is_dialed: bool,
        link: Link,
    ) {
        let Some(cluster) = &mut self.cluster else { return };
        let (own, node) = (cluster.context.own_peer().id, hello.peer.id);
        let was_dialed = cluster.exchange.links().find(|(linked, _)| *linked == node);
        // Both sides decide alike: the link that the smaller id opened stays; of two by one side, the newer. A link
        // of a former life is dead, whether or not that has been noticed.
        let is_same_life = cluster.generations.get(&node) == Some(&hello.peer.generation);
        if let Some((_, was_dialed)) = was_dialed
            && is_same_life
            && was_dialed != is_dialed
            && (own < node) != is_dialed
        {
            return link.close();
        }
        info!(node = %hello.name, zone = %hello.zone, address = %hello.peer.address, is_dialed, "link");
        cluster.links.insert(node, link);
        cluster.publish_lanes();
        cluster.generations.insert(node, hello.peer.generation);
        let known_generation = hello.your_generation;
        cluster.context.try_request(Request::Meet { peer: hello.peer, known_generation });
        cluster.exchange.handle_link(now, hello, is_dialed, &self.replica);
    }

    /// Shows who is there, how far away, and how much of each node's rows is known to be missing.
    fn publish_members(
        &mut self,
        members: Vec<Measured>,
        statuses: &mut Vec<(NodeId, NodeStatus)>,
    ) {
        let (now, _) = clocks();
        let Some(cluster) = &mut self.cluster else { return };
        let mut known = BTreeMap::new();
        for Measured { peer, liveness, rtt } in members {
            let status = match liveness {
                Liveness::Alive => NodeStatus::Alive,
                Liveness::Suspect => NodeStatus::Suspect,
                Liveness::Down => NodeStatus::Down,
            };
            let is_live = liveness != Liveness::Down;
            // Also what an event was lost of.
            if cluster.live.contains(&peer.id) != is_live {
                cluster.note_member(now, peer, is_live, &self.replica);
            }
            statuses.push((peer.id, status));
            let newest_head = cluster.exchange.newest_head(peer.id).as_u64();
            let cluster_address = Some(peer.address);
            known.insert(peer.id, MemberInfo { rtt, newest_head, cluster_address });
        }
        cluster.context.set_exchange_stats(cluster.exchange.stats());
        self.shared.members.0.store(Arc::new(known));
        self.publish_heads();
        self.look_after_links(now);
    }

    /// Merges frames, a few at a time, and shows their rows together.
    pub(super) fn take_frames(&mut self, first: Arrived) {
        let start = Instant::now();
        let mut next = Some(first);
        let (mut taken, mut news) = (0, News::default());
        while let Some(Arrived { from, link, frame }) = next {
            if !self.has_link(from, link) {
                // Its first frames may come before the news that it is open. What events make visible is newer.
                self.show(std::mem::take(&mut news));
                self.take_events();
            }
            if self.has_link(from, link)
                && let Some(cluster) = &mut self.cluster
            {
                cluster.exchange.handle_frame(start, from, frame, &mut self.replica);
            }
            self.follow_exchange(&mut news);
            taken += 1;
            let is_full = taken == MOST_FRAMES || news.rows >= MOST_SHOWN;
            let has_time = !is_full && start.elapsed() < MERGE_TIME;
            next = if has_time { self.net_frames.try_recv().ok() } else { None };
        }
        self.show(news);
    }

    fn has_link(&self, node: NodeId, link: u64) -> bool {
        let known = self.cluster.as_ref().and_then(|cluster| cluster.links.get(&node));
        known.is_some_and(|known| known.id == link)
    }

    /// Does what the exchange wants done. Rows are shown together.
    pub(super) fn perform_exchange(&mut self) {
        let mut news = News::default();
        self.follow_exchange(&mut news);
        self.show(news);
    }

    /// Does what the exchange wants done, but for what is better done for several frames together.
    fn follow_exchange(&mut self, news: &mut News) {
        while let Some(cluster) = &mut self.cluster
            && let Some(output) = cluster.exchange.poll_output()
        {
            match output {
                ExchangeOutput::Dial(peer) => cluster.context.dial(peer),
                ExchangeOutput::Close { node, reason } => {
                    debug!(%node, reason, "link closed");
                    cluster.drop_link(node);
                }
                ExchangeOutput::Ready(node) => _ = news.ready.insert(node),
                ExchangeOutput::Urgent { to, packet } => {
                    cluster.context.try_request(Request::Urgent { to, packet });
                }
                ExchangeOutput::Visible { origin, rows } => {
                    let keys = rows.iter().map(|row| row.key.clone());
                    cluster.unstored.note(Instant::now(), origin, keys);
                    cluster.note_news(origin);
                    if !rows.is_empty() {
                        news.rows += rows.len();
                        news.visible.push((origin, rows));
                    }
                }
                ExchangeOutput::Restate { above } => {
                    warn!(%above, "others know this node's rows otherwise; they are stated anew");
                    cluster.restate = cluster.restate.max(Some(above));
                }
                ExchangeOutput::Misbehaved { node, problem } => {
                    cluster.context.report(node, Fault::Rows, &problem);
                }
            }
        }
    }

    fn show(&mut self, news: News) {
        let (now, wall) = clocks();
        if !news.visible.is_empty() {
            self.catalog.handle_all(now, wall, &news.visible);
        }
        for node in news.ready {
            self.fill_link(node);
        }
        if let Some(cluster) = &self.cluster {
            cluster.context.set_summary(self.replica.summary());
        }
    }

    fn fill_link(&mut self, node: NodeId) {
        let Some(cluster) = &mut self.cluster else { return };
        let Some(link) = cluster.links.get(&node) else { return };
        let exchange = RefCell::new(&mut cluster.exchange);
        link.fill(
            || exchange.borrow_mut().next_urgent_frame(node),
            || exchange.borrow_mut().next_frame(node, &self.replica),
        );
    }

    /// Once a second: what an event may have been lost of.
    fn look_after_links(&mut self, now: Instant) {
        let Some(cluster) = &mut self.cluster else { return };
        let links: Vec<(NodeId, bool)> =
            cluster.links.iter().map(|(node, link)| (*node, link.is_closed())).collect();
        for (node, is_closed) in links {
            if is_closed && let Some(cluster) = &mut self.cluster {
                cluster.drop_link(node);
                cluster.exchange.handle_link_closed(now, node);
            } else {
                self.fill_link(node);
            }
        }
        self.perform_exchange();
    }

    /// Tells the others of a commit that is stored.
    pub(super) fn tell_cluster(&mut self, delta: Delta) {
        let (now, _) = clocks();
        let Some(cluster) = &mut self.cluster else { return };
        cluster.exchange.handle_commit(now, &Arc::new(delta));
        self.perform_exchange();
    }

    pub(super) fn handle_cluster_deadline(&mut self, now: Instant) {
        let Some(cluster) = &mut self.cluster else { return };
        if cluster.exchange.next_deadline() <= now {
            cluster.exchange.handle_deadline(now, &mut self.replica);
            self.perform_exchange();
        }
        if self.cluster.as_ref().is_some_and(|cluster| cluster.next_tidy <= now) {
            self.tidy(now);
        }
    }

    /// Puts into a batch what is to be stored for the cluster.
    pub(super) fn take_remote(&mut self, batch: &mut Batch) -> Remote {
        let Some(cluster) = &mut self.cluster else { return Remote::default() };
        let mut remote = Remote {
            restated: cluster.restate.take(),
            peers: cluster.peers.take(),
            forgotten: std::mem::take(&mut cluster.forgotten),
            has_gone_changed: std::mem::take(&mut cluster.has_gone_changed),
            ..Remote::default()
        };
        let (now, wall) = clocks();
        let since = |gone: &Gone| wall.before(gone.before + gone.seen_for(now));
        let gone = || cluster.gone.iter().map(|(node, gone)| (*node, since(gone))).collect();
        batch.gone = remote.has_gone_changed.then(gone);
        batch.forget.clone_from(&remote.forgotten);
        batch.peers.clone_from(&remote.peers);
        remote.pieces = cluster.unstored.take(now);
        batch.histories.extend(remote.pieces.iter().map(|piece| write_of(piece, &self.replica)));
        remote
    }

    /// The disk refused it: it is to be stored another time.
    pub(super) fn put_back(&mut self, remote: Remote) {
        let Some(cluster) = &mut self.cluster else { return };
        cluster.restate = cluster.restate.max(remote.restated);
        cluster.peers = cluster.peers.take().or(remote.peers);
        cluster.forgotten.extend(remote.forgotten);
        cluster.has_gone_changed |= remote.has_gone_changed;
        let is_known = |piece: &Piece| !self.replica.is_forgotten(piece.origin);
        // Which is after the driver's pause.
        cluster.unstored.put_back(Instant::now(), remote.pieces.into_iter().filter(is_known));
    }

    /// Looks for nodes that are gone for good, and for those that nobody knows any more.
    fn tidy(&mut self, now: Instant) {
        let Some(cluster) = &mut self.cluster else { return };
        cluster.next_tidy = now + TIDY_PERIOD;
        for (origin, keys) in self.replica.purge_as_others_did() {
            cluster.unstored.note(now, origin, keys);
        }
        // Alone, nobody can say who is gone: the last known good holds.
        let is_settled = now.saturating_duration_since(cluster.started) >= BELIEVED;
        if cluster.live.is_empty() || !is_settled {
            return;
        }
        let name_of = |origin: NodeId| match self.replica.row(origin, &RowKey::Node) {
            Some(Row::Node(row)) => Some(row.name.clone()),
            Some(_) | None => None,
        };
        let origins = self.replica.heads().map(|(origin, _)| origin);
        let (live, gone): (Vec<NodeId>, Vec<NodeId>) = origins
            .filter(|origin| *origin != self.own)
            .partition(|origin| cluster.live.contains(origin));
        let mut taken: BTreeSet<NodeName> = live.into_iter().filter_map(name_of).collect();
        taken.insert(self.shared.identity.node.clone());
        for origin in &gone {
            cluster.gone.entry(*origin).or_insert_with(|| {
                cluster.has_gone_changed = true;
                Gone { before: Duration::ZERO, seen: now }
            });
        }
        let is_replaced =
            |origin: &NodeId| name_of(*origin).is_some_and(|name| taken.contains(&name));
        let is_over = |origin: &NodeId| {
            let gone = cluster.gone.get(origin);
            gone.is_some_and(|gone| {
                let seen = gone.seen_for(now);
                let is_seen = seen >= SEEN_GONE.min(self.reap_after);
                is_seen && gone.before.saturating_add(seen) >= self.reap_after
            })
        };
        let (over, rest): (Vec<NodeId>, Vec<NodeId>) =
            gone.into_iter().partition(|origin| is_over(origin) || is_replaced(origin));
        let statuses: Vec<_> = rest.into_iter().map(|id| (id, NodeStatus::Down)).collect();
        self.show_statuses(&statuses);
        for origin in over {
            self.forget(origin);
        }
    }

    fn forget(&mut self, origin: NodeId) {
        let (now, wall) = clocks();
        info!(node = %origin, "a node is forgotten: it was gone for too long, or another took its place");
        let up_to = self.replica.newest(origin);
        self.replica.forget(origin);
        self.catalog.forget(now, wall, origin);
        if let Some(cluster) = &mut self.cluster {
            cluster.forgotten.push((origin, up_to));
            cluster.unstored.forget(origin);
            cluster.has_gone_changed |= cluster.gone.remove(&origin).is_some();
            cluster.generations.remove(&origin);
        }
    }

    /// Waits until what was handed to the links is with the kernel, then tells membership to leave.
    pub(super) async fn leave_cluster(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        let flushed = futures_util::future::join_all(cluster.links.values().map(Link::flushed));
        // Peers that do not read find out by themselves.
        let _ = tokio::time::timeout(Duration::from_millis(500), flushed).await;
        let (done, left) = tokio::sync::oneshot::channel();
        cluster.context.try_request(Request::Leave(done));
        let _ = tokio::time::timeout(Duration::from_millis(500), left).await;
    }
}

/// What is to be stored of some rows of a node, as they are now.
fn write_of(piece: &Piece, replica: &Replica) -> HistoryWrite {
    let mut write = HistoryWrite {
        origin: piece.origin,
        extent: piece.extent(replica),
        floor: piece.floor(replica),
        rows: Vec::new(),
        gone: Vec::new(),
        replaces_all: false,
    };
    for (key, entry) in piece.rows(replica) {
        match entry {
            Some(entry) => write.rows.push((key.clone(), entry)),
            None => write.gone.push(key.clone()),
        }
    }
    write
}

/// The queues of an agent without a cluster: closed.
pub(super) fn no_queues() -> (mpsc::Receiver<Event>, mpsc::Receiver<Arrived>) {
    (mpsc::channel(1).1, mpsc::channel(1).1)
}
