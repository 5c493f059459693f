//! A running process: core's state machines, fed and drained.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dunlin_core::gossip::{
    Distances, Exchange, ExchangeOutput, Membership, MembershipOutput, Packet, Peer,
};
use dunlin_core::model::NodeId;
use dunlin_core::random::Random;
use dunlin_core::replica::{Replica, RowKey, RowState, Unstored, Version};

use super::commits::{Batch, MOST_STORED, STORE_DELAY};
use super::links::{Link, Opening};
use super::{Action, Identity, Op, index_of};
use crate::stream::StreamId;

/// Time between two measurements of round-trip times.
const ECHO_PERIOD: Duration = Duration::from_secs(5);
/// Time between two purges of tombstones, of some nodes each: far more often than an agent does it, so that nodes
/// that were away meet histories whose tombstones are gone.
const PURGE_PERIOD: Duration = Duration::from_secs(4);
/// Time between two attempts to reach the seeds while nobody else is known.
const SEED_PERIOD: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) identity: Identity,
    pub(crate) membership: Membership,
    pub(crate) exchange: Exchange,
    pub(crate) replica: Replica,
    pub(super) distances: Distances,
    pub(super) links: BTreeMap<NodeId, Link>,
    pub(super) opening: BTreeMap<StreamId, Opening>,
    /// Numbers the processes of this node.
    pub(super) life: u32,
    pub(super) dials: u32,
    pub(super) queued: VecDeque<Op>,
    pub(super) writing: Option<Batch>,
    pub(super) unstored: Unstored,
    /// When the disk is tried again that has refused something.
    pub(super) retry_at: Option<Instant>,
    pub(super) restate: Option<Version>,
    pub(super) refused_until: Option<Instant>,
    next_seeds: Instant,
    next_echo: Instant,
    next_purge: Instant,
    random: Random,
    started: Instant,
}

impl Agent {
    /// A process with what its disk has, before it has heard anything.
    pub(super) fn new(
        now: Instant,
        identity: &Identity,
        (peer, life): (Peer, u32),
        replica: Replica,
        seed: u64,
    ) -> Self {
        let zone = identity.zone.clone();
        Self {
            exchange: Exchange::new(now, &replica, zone, identity.exchange.clone(), seed ^ 1),
            identity: identity.clone(),
            membership: Membership::new(peer, identity.membership.clone(), seed),
            replica,
            distances: Distances::default(),
            links: BTreeMap::new(),
            opening: BTreeMap::new(),
            life,
            dials: 0,
            queued: VecDeque::new(),
            writing: None,
            unstored: Unstored::new(MOST_STORED, STORE_DELAY),
            retry_at: None,
            restate: None,
            refused_until: None,
            next_seeds: now,
            next_echo: now + ECHO_PERIOD,
            next_purge: now + PURGE_PERIOD,
            random: Random::new(seed ^ 2),
            started: now,
        }
    }

    /// All present rows, as a catalog shows them after a start.
    pub(super) fn catalog(&self) -> BTreeMap<NodeId, BTreeMap<RowKey, RowState>> {
        let origins: Vec<NodeId> = self.replica.heads().map(|(origin, _)| origin).collect();
        let present = |origin: &NodeId| {
            let rows = self.replica.rows(*origin);
            let rows = rows.filter(|(_, entry)| matches!(entry.state, RowState::Present(_)));
            rows.map(|(key, entry)| (key, entry.state)).collect()
        };
        origins.iter().map(|origin| (*origin, present(origin))).collect()
    }

    /// Takes a datagram; who sent it is known by its seal.
    pub(crate) fn handle_datagram(
        &mut self,
        now: Instant,
        from: Peer,
        octets: &[u8],
        out: &mut Vec<Action>,
    ) {
        match Packet::decode(octets) {
            Ok(Packet::Membership { summary, packet }) => {
                // What foca refuses is of former lives, which say nothing.
                let _ = self.membership.handle_packet(now, from.id, &packet);
                self.exchange.handle_summary(now, from.id, summary, &self.replica);
            }
            Ok(Packet::Urgent(delta)) => {
                self.membership.handle_heard(now, from.id);
                self.exchange.handle_urgent(now, from.id, delta, &mut self.replica);
            }
            Ok(Packet::Echo { stamp }) => {
                self.membership.handle_heard(now, from.id);
                out.push(datagram(
                    from,
                    &Packet::EchoReply {
                        stamp,
                        wall: dunlin_core::model::Timestamp::from_millis(0),
                    },
                ));
            }
            Ok(Packet::EchoReply { stamp, .. }) => {
                self.membership.handle_heard(now, from.id);
                let sent = self.started + Duration::from_nanos(stamp);
                let rtt = now.saturating_duration_since(sent);
                self.distances.handle_rtt(from.id, rtt);
            }
            Err(error) => {
                let problem = error.to_string();
                out.push(Action::Misbehaved { peer: from.id, problem });
            }
        }
        self.drain(now, out);
    }

    /// Does what is due.
    pub(crate) fn handle_deadline(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.membership.handle_deadline(now);
        self.exchange.handle_deadline(now, &mut self.replica);
        self.give_up_openings(now, out);
        if self.membership.live_count() == 0 && self.next_seeds <= now {
            self.next_seeds = now + SEED_PERIOD;
            for seed in self.identity.seeds.clone() {
                if seed != self.identity.index {
                    self.dial(now, seed, None, out);
                }
            }
        }
        if self.next_echo <= now {
            self.next_echo = now + ECHO_PERIOD;
            let stamp = self.stamp(now);
            let to: Vec<Peer> = self.links.values().map(|link| link.peer).collect();
            out.extend(to.into_iter().map(|peer| datagram(peer, &Packet::Echo { stamp })));
        }
        if self.identity.stores && self.next_purge <= now {
            self.next_purge = now + PURGE_PERIOD;
            self.purge_some(now);
        }
        self.drain(now, out);
    }

    /// Drops tombstones of some nodes, up to some version.
    fn purge_some(&mut self, now: Instant) {
        let heads: Vec<(NodeId, Version)> = self.replica.heads().collect();
        for (origin, head) in self.random.choose(heads, 2) {
            let most = usize::try_from(head.as_u64()).unwrap_or(usize::MAX);
            let up_to = Version::new(self.random.below(most.saturating_add(1)) as u64);
            let keys = self.replica.purge_tombstones(origin, up_to);
            self.note_unstored_keys(now, origin, keys);
        }
    }

    /// When [`Agent::handle_deadline`] is due next.
    pub(crate) fn next_deadline(&self) -> Instant {
        let is_alone = self.membership.live_count() == 0;
        let others = [
            self.membership.next_deadline(),
            self.opening_deadline(),
            is_alone.then_some(self.next_seeds),
            self.store_deadline().filter(|_| self.writing.is_none()),
            Some(self.next_echo),
            self.identity.stores.then_some(self.next_purge),
        ];
        others.into_iter().flatten().fold(self.exchange.next_deadline(), Instant::min)
    }

    /// Tells members that this agent stops in good order.
    pub(crate) fn leave(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.membership.leave(now);
        self.drain(now, out);
    }

    /// Handshakes that are under way.
    pub(crate) fn openings(&self) -> usize {
        self.opening.len()
    }

    /// Performs what the state machines want done, until they want no more.
    pub(super) fn drain(&mut self, now: Instant, out: &mut Vec<Action>) {
        loop {
            if let Some(output) = self.membership.poll_output() {
                self.perform_membership(now, output, out);
            } else if let Some(output) = self.exchange.poll_output() {
                self.perform_exchange(now, output, out);
            } else {
                break;
            }
        }
        self.begin_batch(now, out);
    }

    fn perform_membership(
        &mut self,
        now: Instant,
        output: MembershipOutput,
        out: &mut Vec<Action>,
    ) {
        let is_packet =
            matches!(output, MembershipOutput::Send { .. } | MembershipOutput::Echo { .. });
        if self.identity.is_traced && !is_packet {
            out.push(Action::Note(format!("{output:?}, health {}", self.membership.health())));
        }
        match output {
            MembershipOutput::Send { to, packet } => {
                let summary = self.replica.summary();
                out.push(datagram(to, &Packet::Membership { summary, packet }));
            }
            MembershipOutput::Echo { to } => {
                let stamp = self.stamp(now);
                out.push(datagram(to, &Packet::Echo { stamp }));
            }
            MembershipOutput::Up(peer) => {
                self.exchange.handle_member(now, peer, true, &self.replica);
            }
            MembershipOutput::Down(peer) => {
                self.distances.forget(peer.id);
                self.exchange.handle_member(now, peer, false, &self.replica);
            }
            MembershipOutput::Renewed(_) => {}
        }
    }

    fn perform_exchange(&mut self, now: Instant, output: ExchangeOutput, out: &mut Vec<Action>) {
        let is_rare = matches!(
            output,
            ExchangeOutput::Dial(_) | ExchangeOutput::Close { .. } | ExchangeOutput::Restate { .. }
        );
        if self.identity.is_traced && is_rare {
            out.push(Action::Note(format!("{output:?}")));
        }
        match output {
            ExchangeOutput::Dial(peer) => self.dial_member(now, peer, out),
            ExchangeOutput::Close { node, reason: _ } => {
                if let Some(link) = self.links.remove(&node) {
                    out.push(Action::Close(link.stream));
                }
            }
            ExchangeOutput::Ready(node) => {
                if let Some(link) = self.links.get(&node) {
                    out.push(Action::Ready(link.stream));
                }
            }
            ExchangeOutput::Urgent { to, packet } => {
                for peer in to {
                    let octets = Arc::clone(&packet);
                    out.push(Action::Datagram { to: index_of(peer.address), octets });
                }
            }
            ExchangeOutput::Visible { origin, rows } => {
                self.note_unstored_keys(now, origin, rows.iter().map(|row| row.key.clone()));
                out.push(Action::Visible { origin, rows });
            }
            ExchangeOutput::Restate { above } => {
                self.restate = Some(self.restate.map_or(above, |known| known.max(above)));
            }
            ExchangeOutput::Misbehaved { node, problem } => {
                out.push(Action::Misbehaved { peer: node, problem });
            }
        }
    }

    fn stamp(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.started).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX)
    }
}

fn datagram(to: Peer, packet: &Packet) -> Action {
    let mut octets = Vec::new();
    packet.encode(&mut octets);
    Action::Datagram { to: index_of(to.address), octets: octets.into() }
}
