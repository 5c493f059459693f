//! How rows spread: each commit is pushed along links at once, and digests find the rows whose push was lost.
//!
//! An agent keeps links (streams) to a few other members, its *active view*. Along some of them, which form a tree,
//! each commit is pushed at once. A link that brings a commit for the second time is pruned from the tree; a link on
//! which missing rows had to be requested is grafted onto it (Plumtree: Leitão, Pereira, Rodrigues 2007). There are no
//! announcements on pruned links. Instead, two agents compare a digest of eight octets at regular intervals, and only
//! if it differs do they compare the digests of groups, then heads, then send rows (Scuttlebutt reconciliation: van
//! Renesse, Dumitriu, Gough, Thomas 2008).
//!
//! Bad news (health lost, deregistered, draining, node left) is also sent in packets at once, so that no stream can
//! delay it: in a small cluster to all members, in a large one to random ones. Each receiver forwards it once.
//!
//! What always holds:
//! - Nothing is queued twice. The backlog of a slow link is a set of nodes, each with a version; the rows are read from
//!   the replica when the link has room. So every queue is bounded by the number of nodes.
//! - On a link, urgent commits leave before everything else.
//! - Only the agent itself writes its own history. If a peer knows a later or different version of that history, the
//!   agent restates it ([`ExchangeOutput::Restate`]).

mod active_view;
mod link;
mod recent;
mod roster;
mod spread;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use active_view::ActiveView;
use link::Link;
use recent::Recent;
use sync::Lacking;

use super::{Frame, Hello, Peer};
use crate::model::{NodeId, NodeName, ZoneName};
use crate::random::Random;
use crate::replica::{Extent, Replica, Row, RowChange, RowKey, Version};

/// The limit of nodes whose rows are accepted.
const MAX_ORIGINS: usize = 65_536;
/// The limit of versions. An honest history would need a million commits per second for more than fifty thousand years
/// to reach it.
const MAX_VERSION: Version = Version::new(1 << 61);

/// A link that ends within this time counts as refused by the peer.
const MIN_LINK_LIFETIME: Duration = Duration::from_secs(2);
/// The number of faults of a peer on one link at which the link is closed.
const MAX_FAULTS: u32 = 16;

/// How rows are spread. All agents of a cluster should have the same settings.
#[derive(Debug, Clone)]
pub struct ExchangeSettings {
    /// The number of links that an agent opens; about as many are opened to it.
    pub dials: usize,
    /// In clusters of up to this many other members, every member links to every other.
    pub mesh: usize,
    /// The limit of links, no matter which side opened them.
    pub links: usize,
    /// The interval between two comparisons of digests.
    pub sync_interval: Duration,
    /// How long a commit may be on its way before it is requested.
    pub grace: Duration,
    /// The interval at which one of the links that this agent opened is replaced by another.
    pub rotation_interval: Duration,
    /// The limit of the rows in one frame in octets, unless a single commit is larger.
    pub frame_octets: usize,
    /// The limit of an urgent packet in octets; larger commits are sent by links alone.
    pub packet_octets: usize,
}

impl Default for ExchangeSettings {
    fn default() -> Self {
        Self {
            dials: 4,
            mesh: 5,
            links: 24,
            sync_interval: Duration::from_secs(1),
            grace: Duration::from_millis(150),
            rotation_interval: Duration::from_secs(60),
            frame_octets: 64 * 1024,
            packet_octets: 1_100,
        }
    }
}

/// One of the two lanes of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// The lane of urgent commits, which leave before everything else.
    Urgent,
    /// The lane of all other frames.
    Normal,
}

/// An encoded frame for a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The lane on which the frame is sent.
    pub lane: Lane,
    /// The octets of the frame.
    pub octets: Vec<u8>,
}

/// An effect to perform, or a change to report.
#[derive(Debug, Clone, PartialEq)]
pub enum ExchangeOutput {
    /// Open a link to this member, unless there is one.
    Dial(Peer),
    /// Close the link to this node.
    Close {
        /// The node at the other end of the link.
        node: NodeId,
        /// The reason, for the log.
        reason: &'static str,
    },
    /// [`Exchange::next_frame`] has a frame for the link to this node.
    Ready(NodeId),
    /// Send this packet to these members; each receiver passes its commit to [`Exchange::handle_urgent`].
    Urgent {
        /// The members that receive the packet.
        to: Vec<Peer>,
        /// An encoded [`Packet`](super::Packet).
        packet: Arc<[u8]>,
    },
    /// Rows became visible, or a head moved: show the rows, and store them with the head that the replica has.
    Visible {
        /// The node whose rows they are.
        origin: NodeId,
        /// The rows, which become visible together.
        rows: Vec<RowChange>,
    },
    /// Restate the own history above this version; see
    /// [`Replica::prepare_restatement`](crate::replica::Replica::prepare_restatement).
    Restate {
        /// The newest version of the own history that some peer knows.
        above: Version,
    },
    /// A peer has sent something that no correct peer sends.
    Misbehaved {
        /// The peer at fault.
        node: NodeId,
        /// A description of the fault, for the log.
        problem: String,
    },
}

/// The figures of the exchange, for metrics and reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExchangeStats {
    /// The number of open links.
    pub links: usize,
    /// The number of links along which commits are pushed.
    pub tree_links: usize,
    /// The number of nodes of which rows are known to be missing.
    pub lacking: usize,
    /// The octets of commits that are kept to be passed on.
    pub recent_octets: usize,
    /// The number of commits that came more than once by links.
    pub duplicates: u64,
    /// The number of comparisons of digests that found a difference.
    pub differences: u64,
    /// The number of times that a node's rows differed although its heads were equal.
    pub divergences: u64,
    /// The number of urgent packets sent.
    pub urgent_packets: u64,
}

/// The state machine by which one agent exchanges rows with its peers.
#[derive(Debug)]
pub struct Exchange {
    own: NodeId,
    settings: ExchangeSettings,
    view: ActiveView,
    links: BTreeMap<NodeId, Link>,
    recent: Recent,
    lacking: Lacking,
    /// When a restatement of the own history was last requested, and above which version.
    restated: Option<(Instant, Version)>,
    next_sync: Instant,
    /// When the own catalog last changed.
    changed: Instant,
    repeats: VecDeque<spread::Repeat>,
    /// Commits that came in packets, each with the time at which it is passed on unless a link brings it before.
    strays: VecDeque<(Instant, NodeId, Version)>,
    unlinked: sync::UnlinkedMembers,
    random: Random,
    stats: ExchangeStats,
    outputs: VecDeque<ExchangeOutput>,
}

impl Exchange {
    /// The exchange of an agent without members and links. `replica` holds the rows that it has stored.
    #[must_use]
    pub fn new(
        now: Instant,
        replica: &Replica,
        zone: ZoneName,
        settings: ExchangeSettings,
        seed: u64,
    ) -> Self {
        Self {
            own: replica.own(),
            view: ActiveView::new(now, zone),
            links: BTreeMap::new(),
            recent: Recent::default(),
            lacking: Lacking::default(),
            restated: None,
            next_sync: now + settings.sync_interval,
            changed: now,
            repeats: VecDeque::new(),
            strays: VecDeque::new(),
            unlinked: sync::UnlinkedMembers::default(),
            random: Random::new(seed),
            stats: ExchangeStats::default(),
            outputs: VecDeque::new(),
            settings,
        }
    }

    /// The first frame for a peer on a link.
    #[must_use]
    pub fn hello(
        &self,
        replica: &Replica,
        own: Peer,
        name: NodeName,
        to: Option<NodeId>,
        your_generation: u64,
    ) -> Hello {
        let your_head = to.map_or(Version::ZERO, |to| replica.newest(to));
        let told = to.and_then(|to| replica.told(to));
        let is_all = |extent: &Extent| *extent == Extent::up_to(your_head);
        let your_digest = told.filter(|(extent, _)| is_all(extent)).map_or(0, |(_, digest)| digest);
        Hello {
            minor: 0,
            peer: own,
            name,
            zone: self.view.zone().clone(),
            your_generation,
            your_head,
            your_digest,
            has_forgotten_you: to.is_some_and(|to| replica.is_forgotten(to)),
            summary: replica.summary(),
            to,
        }
    }

    /// Takes the state of a member from membership.
    pub fn handle_member(&mut self, now: Instant, peer: Peer, is_live: bool, replica: &Replica) {
        if !is_live {
            self.view.remove(peer);
            if self.links.contains_key(&peer.id) {
                self.close(now, peer.id, "the member is down");
            }
            return;
        }
        let row = replica.row(peer.id, &RowKey::Node);
        let zone = row.as_ref().and_then(Row::node).map(|node| node.zone.clone());
        // The links are planned with the next deadline, which is now, since thousands of members may join at once.
        self.view.add(now, peer, zone.as_ref());
    }

    /// Takes a link on which both sides have sent their hello. It replaces an older link to the same node.
    pub fn handle_link(&mut self, now: Instant, hello: &Hello, is_dialed: bool, replica: &Replica) {
        let node = hello.peer.id;
        self.view.add(now, hello.peer, Some(&hello.zone));
        self.view.note_linked(node);
        if self.links.insert(node, Link::new(now, is_dialed)).is_some() {
            self.lacking.handle_peer_gone(now, node);
        }
        // An address may now belong to another node than before, whose history is not meant.
        if hello.to == Some(self.own) {
            self.compare_own(now, node, hello.your_head, hello.your_digest, replica);
            if hello.has_forgotten_you {
                self.restate(now, hello.your_head.max(replica.head(self.own)));
            }
        }
        // Only the side that dialled begins; otherwise both would send the same.
        if is_dialed && hello.summary != replica.summary() {
            self.send(node, Frame::Buckets(sync::buckets_of(replica)));
        }
    }

    /// Whether another link can be accepted; a member that is refused dials others.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.links.len() < self.settings.links
    }

    /// Takes the news that a link has ended.
    pub fn handle_link_closed(&mut self, now: Instant, node: NodeId) {
        let Some(link) = self.links.remove(&node) else { return };
        self.lacking.handle_peer_gone(now, node);
        if now.saturating_duration_since(link.since) < MIN_LINK_LIFETIME {
            // The peer refused it right after it was open; dialling again at once would go on forever.
            self.view.note_failed(now, node, &mut self.random);
        } else {
            self.view.note_unlinked(now, node);
        }
        // The tree may be torn, so commits are pushed along every link until it is whole again.
        let others: Vec<NodeId> = self.links.keys().copied().collect();
        for node in others {
            self.graft(node);
        }
        self.maintain_view(now);
    }

    /// Takes the news that dialling a member has failed.
    pub fn handle_dial_failed(&mut self, now: Instant, node: NodeId) {
        self.view.note_failed(now, node, &mut self.random);
    }

    /// Takes a frame that came on a link.
    pub fn handle_frame(
        &mut self,
        now: Instant,
        from: NodeId,
        frame: Frame,
        replica: &mut Replica,
    ) {
        if !self.links.contains_key(&from) {
            return;
        }
        match frame {
            Frame::Hello(_) => self.misbehaved(from, "said hello twice".to_owned()),
            Frame::Push(deltas) => self.handle_push(now, from, deltas, replica),
            Frame::Rows(deltas) => self.handle_rows(now, from, deltas, replica),
            Frame::Summary(summary) => self.handle_summary(now, from, summary, replica),
            Frame::Buckets(buckets) => self.handle_buckets(now, from, &buckets, replica),
            Frame::Heads { buckets, wants_reply, heads } => {
                self.handle_heads(now, from, &heads, replica);
                if wants_reply && self.may_compare(now, from) {
                    self.reply_heads(from, buckets, &heads, replica);
                }
            }
            Frame::Want(wants) => self.handle_wants(from, wants),
            Frame::Prune => {
                if let Some(link) = self.links.get_mut(&from) {
                    link.is_in_tree = false;
                }
            }
            Frame::Graft => {
                if let Some(link) = self.links.get_mut(&from) {
                    link.is_in_tree = true;
                }
            }
            // Membership and the network handle these.
            Frame::Members(_) | Frame::Keys(_) | Frame::Packet(_) => {}
        }
    }

    /// Handles everything that is due.
    pub fn handle_deadline(&mut self, now: Instant, replica: &mut Replica) {
        self.repeat_urgent(now);
        self.pass_strays_on(now);
        self.ask_for_lacking(now, replica);
        if self.next_sync <= now {
            let jitter = 0.75 + self.random.fraction() / 2.0;
            self.next_sync = now + self.settings.sync_interval.mul_f64(jitter);
            self.compare_with_someone(replica);
        }
        if self.view.next_deadline() <= now {
            self.maintain_view(now);
        }
    }

    /// When [`Exchange::handle_deadline`] is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Instant {
        let repeat = self.repeats.front().map(|repeat| repeat.at);
        let stray = self.strays.front().map(|(due, ..)| *due);
        let due = [self.lacking.next_deadline(), repeat, stray].into_iter().flatten().min();
        let periodic = self.next_sync.min(self.view.next_deadline());
        due.map_or(periodic, |due| due.min(periodic))
    }

    /// The next effect to perform or change to report.
    pub fn poll_output(&mut self) -> Option<ExchangeOutput> {
        self.outputs.pop_front()
    }

    /// The figures of the exchange at present.
    #[must_use]
    pub fn stats(&self) -> ExchangeStats {
        ExchangeStats {
            links: self.links.len(),
            tree_links: self.links.values().filter(|link| link.is_in_tree).count(),
            lacking: self.lacking.len(),
            recent_octets: self.recent.octets(),
            ..self.stats
        }
    }

    /// The newest version of a node's history that a peer has and this agent lacks; zero if there is none.
    #[must_use]
    pub fn newest_head(&self, origin: NodeId) -> Version {
        self.lacking.newest_head(origin)
    }

    /// The nodes to which there are links, each with whether this agent opened the link.
    pub fn links(&self) -> impl Iterator<Item = (NodeId, bool)> {
        self.links.iter().map(|(node, link)| (*node, link.is_dialed))
    }

    fn send(&mut self, to: NodeId, frame: Frame) {
        if let Some(link) = self.links.get_mut(&to)
            && link.push_control(frame)
        {
            self.outputs.push_back(ExchangeOutput::Ready(to));
        }
    }

    fn misbehaved(&mut self, node: NodeId, problem: String) {
        self.outputs.push_back(ExchangeOutput::Misbehaved { node, problem });
        if let Some(link) = self.links.get_mut(&node) {
            link.faults += 1;
            if link.faults == MAX_FAULTS {
                let reason = "the peer does not do right";
                self.outputs.push_back(ExchangeOutput::Close { node, reason });
            }
        }
    }

    fn close(&mut self, now: Instant, node: NodeId, reason: &'static str) {
        self.outputs.push_back(ExchangeOutput::Close { node, reason });
        self.handle_link_closed(now, node);
    }

    /// Opens and closes links so that the active view has its size and changes over time.
    fn maintain_view(&mut self, now: Instant) {
        // The youngest come first: a link beyond the active view can be closed when it is some seconds old.
        let mut dialed: Vec<(Instant, NodeId)> = self
            .links
            .iter()
            .filter(|(_, link)| link.is_dialed)
            .map(|(node, link)| (link.since, *node))
            .collect();
        dialed.sort_unstable_by(|a, b| b.cmp(a));
        let is_linked = |node: NodeId| self.links.contains_key(&node);
        let plan = self.view.plan(now, &self.settings, &dialed, is_linked, &mut self.random);
        for peer in plan.dial {
            self.outputs.push_back(ExchangeOutput::Dial(peer));
        }
        if let Some(node) = plan.close {
            self.close(now, node, "links take turns");
        }
    }

    /// Reports the rows that a merge made visible, and notes the zones of nodes that they state.
    fn tell_visible(&mut self, now: Instant, origin: NodeId, rows: Vec<RowChange>) {
        self.changed = now;
        for row in &rows {
            if let Some(node) = row.state.present().and_then(Row::node) {
                self.view.note_zone(origin, &node.zone);
            }
        }
        self.outputs.push_back(ExchangeOutput::Visible { origin, rows });
    }
}
