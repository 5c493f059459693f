//! How rows spread: pushed along links as they are committed, found by digests when a push was lost.
//!
//! An agent keeps links (streams) to a few others, its *active view*. Along some of them, which form a tree, each
//! commit is pushed at once; a link on which something comes that came already is pruned from the tree, one that
//! had to be asked for news is grafted onto it (Plumtree: Leitão, Pereira, Rodrigues 2007). There are no
//! announcements on pruned links: every so often two agents compare a digest of eight octets, and only when those
//! differ do they compare groups, then heads, then send rows (Scuttlebutt reconciliation: van Renesse, Dumitriu,
//! Gough, Thomas 2008).
//!
//! Bad news (health lost, deregistered, draining, node left) also goes out in packets at once, so that no stream can
//! delay it: in a small cluster to all members, in a large one to random ones; each of them tells others once.
//!
//! What always holds:
//! - Nothing is queued twice: what a slow link has yet to be sent is a set of nodes, each with a version; the rows
//!   are read from the replica when the link has room. So every queue is bounded by the number of nodes.
//! - On a link, urgent commits leave before all else.
//! - The own history is nobody else's: whoever knows it further or otherwise than this agent itself makes it state
//!   its history anew ([`ExchangeOutput::Restate`]).

mod link;
mod recent;
mod roster;
mod spread;
mod sync;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use link::Link;
use recent::Recent;
use sync::Lacking;
use view::View;

use super::{Frame, Hello, Peer};
use crate::model::{NodeId, NodeName, ZoneName};
use crate::random::Random;
use crate::replica::{Extent, Replica, Row, RowChange, RowKey, Version};

/// Nodes whose rows are taken in at most.
const MOST_ORIGINS: usize = 65_536;
/// No honest history gets here: a million commits a second for a hundred thousand years.
const LAST_VERSION: Version = Version::new(1 << 61);

/// Links that live no longer than this were refused.
const SHORT_LIVED: Duration = Duration::from_secs(2);
/// What a peer may do wrong on one link before it is closed.
const MOST_FAULTS: u32 = 16;

/// How rows are spread. All agents of a cluster should have the same.
#[derive(Debug, Clone)]
pub struct ExchangeSettings {
    /// Links that an agent opens; about as many are opened to it.
    pub dials: usize,
    /// In clusters of up to this many other members, everyone links to everyone.
    pub mesh: usize,
    /// Links at most, whoever opened them.
    pub links: usize,
    /// Time between two comparisons of digests.
    pub sync_period: Duration,
    /// How long news may be on its way before it is asked for.
    pub grace: Duration,
    /// Time after which one of the own links is exchanged for another.
    pub rotation: Duration,
    /// Octets of rows that one frame holds at most, unless one commit is larger.
    pub frame_octets: usize,
    /// Octets of an urgent packet at most; larger commits go by links alone.
    pub packet_octets: usize,
}

impl Default for ExchangeSettings {
    fn default() -> Self {
        Self {
            dials: 4,
            mesh: 5,
            links: 24,
            sync_period: Duration::from_secs(1),
            grace: Duration::from_millis(150),
            rotation: Duration::from_secs(60),
            frame_octets: 64 * 1024,
            packet_octets: 1_100,
        }
    }
}

/// Which of a link's two lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Goes before everything else.
    Urgent,
    /// Everything else.
    Normal,
}

/// An encoded frame for a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// On which lane.
    pub lane: Lane,
    /// The frame's octets.
    pub octets: Vec<u8>,
}

/// What the exchange wants done, or has to tell.
#[derive(Debug, Clone, PartialEq)]
pub enum ExchangeOutput {
    /// Open a link to this member, unless there is one.
    Dial(Peer),
    /// Close the link to this node.
    Close {
        /// Which.
        node: NodeId,
        /// Why.
        reason: &'static str,
    },
    /// [`Exchange::next_frame`] has something for this link.
    Ready(NodeId),
    /// Send this packet to these members; what arrives goes to [`Exchange::handle_urgent`] there.
    Urgent {
        /// To whom.
        to: Vec<Peer>,
        /// An encoded [`Packet`](super::Packet).
        packet: Arc<[u8]>,
    },
    /// Rows became visible, or a head moved: show them, and store them with the head that the replica has.
    Visible {
        /// Whose.
        origin: NodeId,
        /// The rows, together.
        rows: Vec<RowChange>,
    },
    /// State the own history anew, above this version; see
    /// [`Replica::prepare_restatement`](crate::replica::Replica::prepare_restatement).
    Restate {
        /// What some peer knows of it.
        above: Version,
    },
    /// A peer sent what no sound peer sends.
    Misbehaved {
        /// Who.
        node: NodeId,
        /// What was wrong.
        problem: String,
    },
}

/// Numbers for people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExchangeStats {
    /// Links that are open.
    pub links: usize,
    /// Links along which news is pushed.
    pub tree_links: usize,
    /// Nodes of which something is known to be missing.
    pub lacking: usize,
    /// Octets of commits kept to be passed on.
    pub recent_octets: usize,
    /// Commits that came more than once by links.
    pub duplicates: u64,
    /// Comparisons of digests that found a difference.
    pub differences: u64,
    /// Nodes whose rows differed although their heads were equal.
    pub divergences: u64,
    /// Urgent packets sent.
    pub urgent_packets: u64,
}

/// The state machine.
#[derive(Debug)]
pub struct Exchange {
    own: NodeId,
    settings: ExchangeSettings,
    view: View,
    links: BTreeMap<NodeId, Link>,
    recent: Recent,
    lacking: Lacking,
    /// When the own history was last to be stated anew, and above what.
    restated: Option<(Instant, Version)>,
    next_sync: Instant,
    /// When the own catalog last changed.
    changed: Instant,
    repeats: VecDeque<spread::Repeat>,
    /// Commits that packets brought, each with when it is passed on unless a link has brought it, too.
    strays: VecDeque<(Instant, NodeId, Version)>,
    strangers: sync::Strangers,
    random: Random,
    stats: ExchangeStats,
    outputs: VecDeque<ExchangeOutput>,
}

impl Exchange {
    /// An agent without members and links. `replica` is what it has stored.
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
            view: View::new(now, zone),
            links: BTreeMap::new(),
            recent: Recent::default(),
            lacking: Lacking::default(),
            restated: None,
            next_sync: now + settings.sync_period,
            changed: now,
            repeats: VecDeque::new(),
            strays: VecDeque::new(),
            strangers: sync::Strangers::default(),
            random: Random::new(seed),
            stats: ExchangeStats::default(),
            outputs: VecDeque::new(),
            settings,
        }
    }

    /// What to tell a peer first on a link.
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

    /// Takes what membership says of a member.
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
        // Links are looked at with the next deadline, which is now: members may come by the thousand.
        self.view.add(now, peer, zone.as_ref());
    }

    /// Takes a link on which both sides have said hello. It takes the place of an older one to the same node.
    pub fn handle_link(&mut self, now: Instant, hello: &Hello, is_dialed: bool, replica: &Replica) {
        let node = hello.peer.id;
        self.view.add(now, hello.peer, Some(&hello.zone));
        self.view.note_linked(node);
        if self.links.insert(node, Link::new(now, is_dialed)).is_some() {
            self.lacking.handle_peer_gone(now, node);
        }
        // An address may have another node behind it than before, whose history is not meant.
        if hello.to == Some(self.own) {
            self.compare_own(now, node, hello.your_head, hello.your_digest, replica);
            if hello.has_forgotten_you {
                self.restate(now, hello.your_head.max(replica.head(self.own)));
            }
        }
        // One side begins, or both would send the same.
        if is_dialed && hello.summary != replica.summary() {
            self.send(node, Frame::Buckets(sync::buckets_of(replica)));
        }
    }

    /// Whether another link can be taken; who is turned away tries others.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.links.len() < self.settings.links
    }

    /// Takes the news that a link has ended.
    pub fn handle_link_closed(&mut self, now: Instant, node: NodeId) {
        let Some(link) = self.links.remove(&node) else { return };
        self.lacking.handle_peer_gone(now, node);
        if now.saturating_duration_since(link.since) < SHORT_LIVED {
            // Refused right after it was open: to try again at once would go on for ever.
            self.view.note_failed(now, node, &mut self.random);
        } else {
            self.view.note_unlinked(now, node);
        }
        // The tree may be torn: push along every link until it has grown again.
        let others: Vec<NodeId> = self.links.keys().copied().collect();
        for node in others {
            self.graft(node);
        }
        self.maintain_view(now);
    }

    /// Takes the news that a member could not be dialled.
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
            // These are for membership and for the network.
            Frame::Members(_) | Frame::Keys(_) | Frame::Packet(_) => {}
        }
    }

    /// Does what is due.
    pub fn handle_deadline(&mut self, now: Instant, replica: &mut Replica) {
        self.repeat_urgent(now);
        self.pass_strays_on(now);
        self.ask_for_lacking(now, replica);
        if self.next_sync <= now {
            let jitter = 0.75 + self.random.fraction() / 2.0;
            self.next_sync = now + self.settings.sync_period.mul_f64(jitter);
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

    /// The next thing to do or to tell.
    pub fn poll_output(&mut self) -> Option<ExchangeOutput> {
        self.outputs.pop_front()
    }

    /// Numbers for people.
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

    /// The newest version of a node's history that some peer is known to have and this agent has not; zero if
    /// there is none.
    #[must_use]
    pub fn newest_head(&self, origin: NodeId) -> Version {
        self.lacking.newest_head(origin)
    }

    /// The nodes that are linked, and whether this agent opened the link.
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
            if link.faults == MOST_FAULTS {
                let reason = "the peer does not do right";
                self.outputs.push_back(ExchangeOutput::Close { node, reason });
            }
        }
    }

    fn close(&mut self, now: Instant, node: NodeId, reason: &'static str) {
        self.outputs.push_back(ExchangeOutput::Close { node, reason });
        self.handle_link_closed(now, node);
    }

    /// Opens and closes links so that the active view is as large as it should be, and changes.
    fn maintain_view(&mut self, now: Instant) {
        // The youngest first: a link beyond the active view has served when it is some seconds old.
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

    /// Tells what a merge made visible, and notes what it says of nodes.
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
