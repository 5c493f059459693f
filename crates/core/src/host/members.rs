//! Which other hosts are there: membership, round-trip times, and what follows when datagrams do not get through.
//!
//! This machine knows no rows, keys or sockets. It takes opened packets and hands out packets to be sealed; the
//! agent runs it on a thread of its own, since a host that does not answer a ping in time counts as dead.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::output::Moment;
use super::peers::{Measured, PeerEvent};
use crate::gossip::{
    Distances, Liveness, Membership, MembershipOutput, MembershipSettings, Packet, Peer,
};
use crate::model::{NodeId, Timestamp};
use crate::random::Random;
use crate::replica::MAX_AHEAD;

/// Members whose round-trip time is measured in each round, beside those that are linked.
const PINGS_PER_ROUND: usize = 3;
/// Time between two looks at what is to be stored of the members.
const STORE_INTERVAL: Duration = Duration::from_secs(5);
/// A member that came or went is stored this much later, with others that do: a host that starts again must not take
/// a member for down that has come back since.
const STORE_DELAY: Duration = Duration::from_millis(100);
/// The least time between two writes of the members.
const MIN_STORE_INTERVAL: Duration = Duration::from_secs(1);
/// Members that a peer is told of at most.
const MAX_TOLD: usize = 500;
/// A linked member from which no datagram came for this long is also sent packets on its link.
const TUNNEL_AFTER: Duration = Duration::from_millis(1500);
/// For how long datagrams of all linked members may be missing until a firewall is suspected.
const BLOCKED_AFTER: Duration = Duration::from_secs(10);

/// How members are found and watched.
#[derive(Debug, Clone)]
pub struct MembersSettings {
    /// How members watch each other.
    pub membership: MembershipSettings,
    /// Time between two rounds of pings.
    pub round_interval: Duration,
    /// Whether each round tells the host of all members, and what is to be stored of them. That costs time in
    /// proportion to their number; simulations of very large clusters do without.
    pub tells_all: bool,
    /// Randomness to begin with.
    pub seed: u64,
}

impl Default for MembersSettings {
    fn default() -> Self {
        Self {
            membership: MembershipSettings::default(),
            round_interval: Duration::from_secs(1),
            tells_all: true,
            seed: 0,
        }
    }
}

/// What the machine wants done.
#[derive(Debug)]
pub enum MembersOutput {
    /// Send this packet as a datagram.
    Send {
        /// The receiver.
        to: Peer,
        /// The encoded packet.
        packet: Vec<u8>,
        /// Whether it is to go on the link to the receiver, too: datagrams seem not to get through.
        also_by_link: bool,
    },
    /// Tell the host. What is lost of it is told again with the next round.
    Tell(PeerEvent),
    /// The own identity is a new one, since others had declared the old one down.
    Renewed(Peer),
    /// The members that new links are to be told of have changed.
    Known(Vec<(Peer, bool)>),
    /// A peer sent a malformed packet.
    Misbehaved {
        /// The peer.
        node: NodeId,
        /// What was wrong.
        problem: String,
    },
    /// Something is wrong that people should mend, or is not any more.
    Trouble(Trouble),
}

/// What people should hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Wall clocks of other hosts are far from the own one.
    Clocks {
        /// One of those nodes and how far its clock is off; `None` if all clocks are right.
        example: Option<(NodeId, Duration)>,
        /// How many nodes these are.
        count: usize,
    },
    /// Streams work and datagrams do not.
    Datagrams {
        /// Linked members from which no datagram comes, if it is all of them; zero otherwise.
        silent: usize,
    },
}

/// The machine.
#[derive(Debug)]
pub struct Members {
    settings: MembersSettings,
    membership: Membership,
    distances: Distances,
    /// When a datagram last came from each node, or since when one is missing.
    heard: BTreeMap<NodeId, Instant>,
    linked: BTreeSet<NodeId>,
    /// Nodes whose wall clocks are far from the own one, and how far.
    wrong_clocks: BTreeMap<NodeId, Duration>,
    /// The summary of the own replica.
    summary: u64,
    start: Instant,
    next_round: Instant,
    next_store: Instant,
    last_stored: Option<Instant>,
    /// What the host was last told to store.
    stored: Vec<(NodeId, Vec<u8>)>,
    blocked: usize,
    random: Random,
    outputs: VecDeque<MembersOutput>,
}

/// Members as they were stored, and whether they were there. Entries of another encoding are passed over.
#[must_use]
pub fn known_members(stored: &[(NodeId, Vec<u8>)]) -> Vec<(Peer, bool)> {
    stored.iter().filter_map(|(_, body)| postcard::from_bytes(body).ok()).collect()
}

fn stored_member((peer, liveness): (Peer, Liveness)) -> Option<(NodeId, Vec<u8>)> {
    let body = postcard::to_allocvec(&(peer, liveness != Liveness::Down));
    Some((peer.id, body.ok()?))
}

impl Members {
    /// A host that knows the members it knew before it last stopped.
    #[must_use]
    pub fn new(
        now: Instant,
        own: Peer,
        settings: MembersSettings,
        known: impl IntoIterator<Item = (Peer, bool)>,
    ) -> Self {
        let mut membership = Membership::new(own, settings.membership.clone(), settings.seed);
        membership.introduce(now, known);
        Self {
            membership,
            distances: Distances::default(),
            heard: BTreeMap::new(),
            linked: BTreeSet::new(),
            wrong_clocks: BTreeMap::new(),
            summary: 0,
            start: now,
            next_round: now,
            next_store: now + settings.round_interval,
            last_stored: None,
            stored: Vec::new(),
            blocked: 0,
            random: Random::new(settings.seed ^ 0x6d65_6d62),
            outputs: VecDeque::new(),
            settings,
        }
    }

    /// What membership knows.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Takes the summary of the own replica: packets tell it, and those of others are compared with it.
    pub fn set_summary(&mut self, summary: u64) {
        self.summary = summary;
    }

    /// Takes the nodes to which there are links.
    pub fn set_linked(&mut self, linked: BTreeSet<NodeId>) {
        self.linked = linked;
    }

    /// Notes that a datagram came from a node whose seal was right.
    pub fn handle_heard(&mut self, now: Instant, from: NodeId) {
        self.heard.insert(from, now);
    }

    /// Takes a packet that came from a node, as a datagram or on a link.
    pub fn handle_packet(&mut self, moment: Moment, from: NodeId, packet: &[u8]) {
        let now = moment.now;
        if from == self.membership.own().id {
            return;
        }
        self.membership.handle_heard(now, from);
        match Packet::decode(packet) {
            Ok(Packet::Membership { summary, packet }) => {
                if let Err(error) = self.membership.handle_packet(now, from, &packet) {
                    self.misbehaved(from, error.to_string());
                }
                if summary != self.summary {
                    self.tell(PeerEvent::Summary { from, summary });
                }
            }
            Ok(Packet::Urgent(delta)) => self.tell(PeerEvent::Urgent { from, delta }),
            Ok(Packet::Ping { stamp }) => {
                if let Some((peer, _)) = self.membership.peer(from) {
                    self.send(now, peer, &Packet::Pong { stamp, wall: moment.wall });
                }
            }
            Ok(Packet::Pong { stamp, wall }) => {
                let since_start = now.saturating_duration_since(self.start);
                if let Some(rtt) = since_start.checked_sub(Duration::from_nanos(stamp)) {
                    self.compare_clocks(from, wall, moment.wall, rtt);
                    self.distances.handle_rtt(from, rtt);
                }
            }
            Err(error) => self.misbehaved(from, error.to_string()),
        }
        self.drain(now);
    }

    /// A link to a peer is open. `known_generation` is what the peer knows of this host's generation.
    pub fn handle_met(&mut self, now: Instant, peer: Peer, known_generation: u64) {
        self.heard.insert(peer.id, now);
        self.membership.meet(now, peer, known_generation);
        self.drain(now);
    }

    /// A peer tells of members.
    pub fn handle_introduced(&mut self, now: Instant, members: Vec<(Peer, bool)>) {
        self.membership.introduce(now, members);
        self.drain(now);
    }

    /// A member's host refused a connection to its agent.
    pub fn handle_refused(&mut self, now: Instant, node: NodeId) {
        self.membership.doubt(now, node);
        self.drain(now);
    }

    /// Asks a member who is there: what was asked before could not be read there.
    pub fn ask(&mut self, now: Instant, node: NodeId) {
        self.membership.ask(now, node);
        self.drain(now);
    }

    /// Tells the others that this host stops in good order.
    pub fn leave(&mut self, now: Instant) {
        self.membership.leave(now);
        self.drain(now);
    }

    /// Does what is due.
    pub fn handle_deadline(&mut self, moment: Moment) {
        let now = moment.now;
        self.membership.handle_deadline(now);
        self.drain(now);
        if self.next_round <= now {
            self.round(now);
        }
        if self.next_store <= now {
            self.store(now);
        }
    }

    /// When [`Members::handle_deadline`] is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Instant {
        let store = self.settings.tells_all.then_some(self.next_store);
        let others = [self.membership.next_deadline(), store];
        others.into_iter().flatten().fold(self.next_round, Instant::min)
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<MembersOutput> {
        self.outputs.pop_front()
    }

    fn tell(&mut self, event: PeerEvent) {
        self.outputs.push_back(MembersOutput::Tell(event));
    }

    fn misbehaved(&mut self, node: NodeId, problem: String) {
        self.outputs.push_back(MembersOutput::Misbehaved { node, problem });
    }

    /// Does what membership wants done.
    fn drain(&mut self, now: Instant) {
        let mut has_come = false;
        while let Some(output) = self.membership.poll_output() {
            match output {
                MembershipOutput::Send { to, packet } => {
                    let summary = self.summary;
                    self.send(now, to, &Packet::Membership { summary, packet });
                }
                MembershipOutput::Ping { to } => self.ping(now, to),
                MembershipOutput::Up(peer) => {
                    has_come = true;
                    self.hasten_store(now);
                    self.tell(PeerEvent::Member { peer, is_live: true });
                }
                MembershipOutput::Down(peer) => {
                    self.hasten_store(now);
                    self.heard.remove(&peer.id);
                    self.wrong_clocks.remove(&peer.id);
                    self.distances.forget(peer.id);
                    self.tell(PeerEvent::Member { peer, is_live: false });
                }
                MembershipOutput::Renewed(own) => {
                    self.outputs.push_back(MembersOutput::Renewed(own));
                }
            }
        }
        // A newcomer is told of the one that came right before it. In a large cluster each round has to do.
        if has_come && self.membership.live_count() <= MAX_TOLD {
            self.tell_known();
        }
    }

    fn ping(&mut self, now: Instant, to: Peer) {
        let since_start = now.saturating_duration_since(self.start).as_nanos();
        let stamp = u64::try_from(since_start).unwrap_or_default();
        self.send(now, to, &Packet::Ping { stamp });
    }

    /// Sends a packet; also on the link, if there is one and datagrams seem not to get through.
    fn send(&mut self, now: Instant, to: Peer, packet: &Packet) {
        // To membership a former life of this host is a member that is down.
        if to.id == self.membership.own().id {
            return;
        }
        let mut octets = Vec::new();
        packet.encode(&mut octets);
        let also_by_link = self.linked.contains(&to.id) && {
            let heard = *self.heard.entry(to.id).or_insert(now);
            now.saturating_duration_since(heard) > TUNNEL_AFTER
        };
        self.outputs.push_back(MembersOutput::Send { to, packet: octets, also_by_link });
    }

    /// Pings for round-trip times, and tells the host who is there.
    fn round(&mut self, now: Instant) {
        self.next_round = now + self.settings.round_interval;
        let is_live = |(_, liveness): &(Peer, Liveness)| *liveness != Liveness::Down;
        let live = self.membership.members().filter(is_live).map(|(peer, _)| peer);
        let (linked, others): (Vec<Peer>, Vec<Peer>) =
            live.partition(|peer| self.linked.contains(&peer.id));
        // Linked members are pinged each time, so that their silence means something.
        for peer in linked.into_iter().chain(self.random.choose(others, PINGS_PER_ROUND)) {
            self.ping(now, peer);
        }
        self.tell_known();
        if self.settings.tells_all {
            let measured = |(peer, liveness): (Peer, Liveness)| Measured {
                peer,
                liveness,
                rtt: self.distances.rtt(peer.id),
            };
            let members = self.membership.members().map(measured).collect();
            self.tell(PeerEvent::Members(members));
        }
        self.look_for_firewall(now);
    }

    /// Tells whom new links are to be told of.
    fn tell_known(&mut self) {
        // That a member is down is news of its time, not to be told later: it may be back.
        let is_alive = |(_, liveness): &(Peer, Liveness)| *liveness == Liveness::Alive;
        let alive = self.membership.members().filter(is_alive);
        let known: Vec<(Peer, bool)> = alive.map(|(peer, _)| (peer, true)).collect();
        let known = self.random.choose(known, MAX_TOLD);
        self.outputs.push_back(MembersOutput::Known(known));
    }

    fn hasten_store(&mut self, now: Instant) {
        let least = self.last_stored.map_or(now, |at| at + MIN_STORE_INTERVAL);
        self.next_store = self.next_store.min((now + STORE_DELAY).max(least));
    }

    /// Has the members stored, if they are others than before.
    fn store(&mut self, now: Instant) {
        self.next_store = now + STORE_INTERVAL;
        self.last_stored = Some(now);
        if !self.settings.tells_all {
            return;
        }
        let own = (self.membership.own(), Liveness::Alive);
        let all = self.membership.members().chain([own]);
        let mut members: Vec<(NodeId, Vec<u8>)> = all.filter_map(stored_member).collect();
        members.sort_unstable();
        if members != self.stored {
            self.stored.clone_from(&members);
            self.tell(PeerEvent::KnownMembers(members));
        }
    }

    /// Has the members stored again: the host was not told.
    pub fn handle_untold(&mut self) {
        self.stored.clear();
    }

    /// A wrong clock misleads all readers of its times, so people should hear of it.
    fn compare_clocks(&mut self, node: NodeId, theirs: Timestamp, own: Timestamp, rtt: Duration) {
        let apart = theirs.since(own).max(own.since(theirs));
        let is_wrong = apart > MAX_AHEAD + rtt;
        if is_wrong == self.wrong_clocks.contains_key(&node) {
            return;
        }
        if is_wrong {
            self.wrong_clocks.insert(node, apart);
        } else {
            self.wrong_clocks.remove(&node);
        }
        let example = self.wrong_clocks.first_key_value().map(|(node, apart)| (*node, *apart));
        let count = self.wrong_clocks.len();
        self.outputs.push_back(MembersOutput::Trouble(Trouble::Clocks { example, count }));
    }

    /// Streams work and datagrams do not: people should hear of it.
    fn look_for_firewall(&mut self, now: Instant) {
        let is_silent = |node: &&NodeId| {
            let heard = self.heard.get(node);
            heard.is_some_and(|at| now.saturating_duration_since(*at) > BLOCKED_AFTER)
        };
        let silent = self.linked.iter().filter(is_silent).count();
        let silent = if silent < self.linked.len() { 0 } else { silent };
        if std::mem::replace(&mut self.blocked, silent) != silent {
            self.outputs.push_back(MembersOutput::Trouble(Trouble::Datagrams { silent }));
        }
    }
}
