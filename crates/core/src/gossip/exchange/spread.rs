//! Spreading commits: along the tree, and in packets if they hold bad news.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::{Frame, Packet, Peer};
use super::recent::Via;
use super::{Exchange, ExchangeOutput, Lane, MAX_ORIGINS, MAX_VERSION, Outgoing};
use crate::model::NodeId;
use crate::replica::{Delta, DeltaRequest, MergeError, Replica, Version};

/// In clusters of up to this many other members the origin sends an urgent commit to every member, and each receiver
/// forwards it once to its successor in id order. So a member that lost the origin's packet gets another one, unless its
/// predecessor lost the packet, too, or has just died; then the commit comes by links. In larger clusters the origin
/// sends the commit to some random members, each of which sends it to some more, at once and again after [`REPEATS`].
const MAX_SMALL_CLUSTER: usize = 16;
/// The times after the first packet at which an urgent commit is sent to random members again.
const REPEATS: [Duration; 2] = [Duration::from_millis(60), Duration::from_millis(180)];
/// The limit of packets that wait to be sent again. Beyond it, during a storm of bad news, commits rely on links.
const MAX_REPEATS: usize = 256;
/// The number of members in other zones to which the origin sends an urgent commit; each receiver sends it to one.
const FAR_BY_ORIGIN: usize = 4;

/// An urgent packet that is to be sent again.
#[derive(Debug)]
pub(super) struct Repeat {
    pub(super) at: Instant,
    rounds: usize,
    origin: NodeId,
    packet: Arc<[u8]>,
}

/// Whether a commit holds bad news: it must not wait behind anything.
#[must_use]
pub(super) fn is_urgent(delta: &Delta) -> bool {
    delta.rows.iter().any(|row| row.state.is_bad_news(&row.key))
}

impl Exchange {
    /// Takes a commit of the own history that is stored, and spreads it.
    pub fn handle_commit(&mut self, now: Instant, delta: &Arc<Delta>) {
        self.changed = now;
        self.recent.keep(delta, Via::Own);
        self.spread(now, delta, None);
    }

    /// Takes a commit that came in an urgent packet.
    pub fn handle_urgent(
        &mut self,
        now: Instant,
        from: NodeId,
        delta: Delta,
        replica: &mut Replica,
    ) {
        if !delta.is_one_whole_commit() {
            return self
                .misbehaved(from, "sent an urgent packet without a whole commit".to_owned());
        }
        self.take_in(now, from, delta, Via::Packet, replica);
    }

    pub(super) fn handle_push(
        &mut self,
        now: Instant,
        from: NodeId,
        deltas: Vec<Delta>,
        replica: &mut Replica,
    ) {
        for delta in deltas {
            self.take_in(now, from, delta, Via::Link(from), replica);
        }
    }

    /// Merges a commit and passes it on if it is new here.
    fn take_in(
        &mut self,
        now: Instant,
        from: NodeId,
        delta: Delta,
        via: Via,
        replica: &mut Replica,
    ) {
        if !self.admits(now, from, &delta, replica) {
            return;
        }
        if via == Via::Link(from)
            && let Some(link) = self.links.get_mut(&from)
        {
            link.note_passed(delta.origin, delta.to);
        }
        let first_via = self.recent.via(delta.origin, delta.to);
        if first_via.is_some() || replica.has(&delta) {
            if first_via == Some(Via::Packet) && via == Via::Link(from) && self.is_small() {
                return self.follow_packet(&delta, from);
            }
            return self.note_duplicate(from, first_via, via);
        }
        let head_before = replica.head(delta.origin);
        match replica.merge(&delta) {
            Ok(rows) => {
                let has_moved = replica.head(delta.origin) != head_before;
                if has_moved || !rows.is_empty() {
                    self.tell_visible(now, delta.origin, rows);
                }
                if replica.lacks(delta.origin, &delta.extent) {
                    let due = now + self.settings.grace;
                    self.lacking.add(delta.origin, &delta.extent, from, due);
                }
                if delta.is_one_whole_commit() {
                    let delta = Arc::new(delta);
                    self.recent.keep(&delta, via);
                    if via == Via::Packet && self.is_small() && self.strays.len() < MAX_REPEATS {
                        self.send_packets(now, &delta, Some(from));
                        let due = now + self.settings.grace;
                        self.strays.push_back((due, delta.origin, delta.to));
                    } else {
                        self.spread(now, &delta, Some(from));
                    }
                } else if has_moved {
                    self.pass_on(delta.origin, delta.from, Some(from));
                }
            }
            Err(MergeError::Gap { .. }) => {
                self.lacking.add(delta.origin, &delta.extent, from, now + self.settings.grace);
            }
            Err(error) => self.misbehaved(from, error.to_string()),
        }
    }

    /// Whether a peer may send this delta: rows of another node, within the limits.
    pub(super) fn admits(
        &mut self,
        now: Instant,
        from: NodeId,
        delta: &Delta,
        replica: &Replica,
    ) -> bool {
        if delta.extent.newest() > MAX_VERSION {
            self.misbehaved(from, format!("commits {:?} cannot be", delta.extent));
            return false;
        }
        if delta.origin == self.own {
            if delta.to > replica.head(self.own) {
                self.compare_own(now, from, delta.extent.newest(), 0, replica);
            }
            return false;
        }
        if !replica.knows(delta.origin) && replica.known() >= MAX_ORIGINS {
            self.misbehaved(from, format!("more than {MAX_ORIGINS} nodes have rows"));
            return false;
        }
        true
    }

    /// Counts a commit that came again. If it came first by another link, this link is pruned from the tree.
    fn note_duplicate(&mut self, from: NodeId, first: Option<Via>, again: Via) {
        self.stats.duplicates += 1;
        let is_needless = match (first, again) {
            (Some(Via::Own), Via::Link(_)) => true,
            (Some(Via::Link(first)), Via::Link(again)) => first != again,
            _ => false,
        };
        if is_needless
            && let Some(link) = self.links.get_mut(&from)
            && link.is_in_tree
        {
            link.is_in_tree = false;
            self.send(from, Frame::Prune);
        }
    }

    /// Sends a commit that is new here to other members.
    fn spread(&mut self, now: Instant, delta: &Arc<Delta>, from: Option<NodeId>) {
        if is_urgent(delta) {
            self.send_packets(now, delta, from);
        }
        self.pass_commit_on(delta, from);
    }

    /// Passes on a commit that comes along the tree after a packet has brought it. So each link of the tree carries the
    /// commit once, in one direction. If every receiver of the packet passed it on, most links would carry it in both.
    fn follow_packet(&mut self, delta: &Delta, from: NodeId) {
        if let Some(delta) = self.recent.comes_by(delta.origin, delta.to, Via::Link(from)) {
            self.pass_commit_on(&delta, Some(from));
        }
    }

    /// Passes on commits that packets have brought and no link has yet: a stream of the tree is stalled, or the origin
    /// has died. They go along all links, since the tree may have been built around the lost one.
    pub(super) fn pass_strays_on(&mut self, now: Instant) {
        while let Some((_, origin, version)) = self.strays.pop_front_if(|(due, ..)| *due <= now) {
            let Some((Via::Packet, delta)) = self.recent.get(origin, version) else { continue };
            for (node, link) in self.links.iter_mut().filter(|(node, _)| **node != origin) {
                link.push_urgent(&delta);
                link.add_news(origin, delta.from);
                self.outputs.push_back(ExchangeOutput::Ready(*node));
            }
        }
    }

    /// Passes a commit on along the tree.
    fn pass_commit_on(&mut self, delta: &Arc<Delta>, from: Option<NodeId>) {
        if is_urgent(delta) {
            for (node, link) in &mut self.links {
                if link.is_in_tree && Some(*node) != from && *node != delta.origin {
                    link.push_urgent(delta);
                }
            }
        }
        self.pass_on(delta.origin, delta.from, from);
    }

    /// Whether the cluster is so small that urgent commits are sent to every member.
    fn is_small(&self) -> bool {
        self.view.roster().len() <= MAX_SMALL_CLUSTER
    }

    /// Records on every link of the tree that a node has new commits.
    pub(super) fn pass_on(&mut self, origin: NodeId, above: Version, from: Option<NodeId>) {
        for (node, link) in &mut self.links {
            if link.is_in_tree && Some(*node) != from && *node != origin {
                link.add_news(origin, above);
                self.outputs.push_back(ExchangeOutput::Ready(*node));
            }
        }
    }

    fn send_packets(&mut self, now: Instant, delta: &Delta, from: Option<NodeId>) {
        // A restatement cannot be shown by itself as a commit can, so it is sent by links.
        if !delta.is_one_whole_commit() {
            return;
        }
        let mut packet = Vec::new();
        Packet::encode_urgent(delta, &mut packet);
        if packet.len() > self.settings.packet_octets {
            return;
        }
        let packet: Arc<[u8]> = packet.into();
        if self.is_small() {
            let roster = self.view.roster();
            let (near_side, far_side) = roster.sides();
            let to = match from {
                None => [near_side, far_side].concat(),
                Some(_) => roster.next_after(self.own, delta.origin).into_iter().collect(),
            };
            return self.output_packet(to, &packet);
        }
        let far = if from.is_none() { FAR_BY_ORIGIN } else { 1 };
        self.send_to_some(&packet, far, &[Some(delta.origin), from]);
        if self.repeats.len() < MAX_REPEATS {
            let at = now + REPEATS[0];
            self.queue_repeat(Repeat { at, rounds: 1, origin: delta.origin, packet });
        }
    }

    fn queue_repeat(&mut self, repeat: Repeat) {
        let place = self.repeats.partition_point(|other| other.at <= repeat.at);
        self.repeats.insert(place, repeat);
    }

    pub(super) fn repeat_urgent(&mut self, now: Instant) {
        while self.repeats.front().is_some_and(|repeat| repeat.at <= now) {
            let Some(repeat) = self.repeats.pop_front() else { break };
            self.send_to_some(&repeat.packet, 1, &[Some(repeat.origin)]);
            if let Some(pause) = REPEATS.get(repeat.rounds) {
                let at = now + (*pause - REPEATS[repeat.rounds - 1]);
                self.queue_repeat(Repeat { at, rounds: repeat.rounds + 1, ..repeat });
            }
        }
    }

    /// Sends a packet to random members, `far` of them outside of the own zone, except those in `but`.
    fn send_to_some(&mut self, packet: &Arc<[u8]>, far: usize, but: &[Option<NodeId>]) {
        let (near_side, far_side) = self.view.roster().sides();
        let is_origin = far > 1;
        let near = fanout(near_side.len(), is_origin);
        let mut to = Vec::with_capacity(near + far);
        for (side, wanted) in [(near_side, near), (far_side, far)] {
            for at in distinct(side.len(), wanted + but.len(), &mut self.random) {
                if to.len() < near + far && !but.contains(&Some(side[at].id)) {
                    to.push(side[at]);
                }
            }
        }
        self.output_packet(to, packet);
    }

    fn output_packet(&mut self, to: Vec<Peer>, packet: &Arc<[u8]>) {
        self.stats.urgent_packets += to.len() as u64;
        if !to.is_empty() {
            let packet = Arc::clone(packet);
            self.outputs.push_back(ExchangeOutput::Urgent { to, packet });
        }
    }

    /// Adds a link to the tree again, so that commits are pushed along it in both directions.
    pub(super) fn graft(&mut self, node: NodeId) {
        if let Some(link) = self.links.get_mut(&node)
            && !link.is_in_tree
        {
            link.is_in_tree = true;
            self.send(node, Frame::Graft);
        }
    }

    /// The next frame for a link that has room: urgent commits, then control frames, then new commits, then rows that
    /// the peer asked for.
    pub fn next_frame(&mut self, to: NodeId, replica: &Replica) -> Option<Outgoing> {
        if let Some(octets) = self.urgent_frame(to) {
            return Some(Outgoing { lane: Lane::Urgent, octets });
        }
        let octets = self.control_frame(to).or_else(|| self.news_frame(to, replica));
        let octets = octets.or_else(|| self.wanted_frame(to, replica))?;
        Some(Outgoing { lane: Lane::Normal, octets })
    }

    /// The next frame for a link that has no room. It holds urgent commits only, so that they wait behind nothing that
    /// has not been sent yet.
    pub fn next_urgent_frame(&mut self, to: NodeId) -> Option<Outgoing> {
        self.urgent_frame(to).map(|octets| Outgoing { lane: Lane::Urgent, octets })
    }

    /// Whether urgent commits wait for this link.
    #[must_use]
    pub fn has_urgent(&self, to: NodeId) -> bool {
        self.links.get(&to).is_some_and(|link| !link.urgent.is_empty())
    }

    fn control_frame(&mut self, to: NodeId) -> Option<Vec<u8>> {
        self.links.get_mut(&to)?.control.pop_front().map(|frame| frame.encode())
    }

    fn urgent_frame(&mut self, to: NodeId) -> Option<Vec<u8>> {
        let link = self.links.get_mut(&to)?;
        let mut frame = Vec::new();
        let mut octets = 0;
        while octets < self.settings.frame_octets
            && let Some(delta) = link.urgent.pop_front()
        {
            let passed = link.passed.get(&delta.origin).copied();
            if passed.is_some_and(|passed| delta.to <= passed) {
                continue;
            }
            // A commit ahead of its turn is not recorded as passed: it is sent once more, after the commits before it.
            let is_next = match (passed, link.news.get(&delta.origin)) {
                (Some(passed), _) => passed == delta.from,
                (None, Some(above)) => *above == delta.from,
                (None, None) => true,
            };
            if is_next {
                link.note_passed(delta.origin, delta.to);
            }
            octets += delta.approx_octets();
            frame.push(delta);
        }
        (!frame.is_empty()).then(|| Frame::encode_push(frame.iter().map(AsRef::as_ref)))
    }

    fn news_frame(&mut self, to: NodeId, replica: &Replica) -> Option<Vec<u8>> {
        let link = self.links.get_mut(&to)?;
        let mut frame: Vec<Arc<Delta>> = Vec::new();
        let mut octets = 0;
        while octets < self.settings.frame_octets
            && let Some((origin, above)) = take_next(&mut link.news, &mut link.turn)
        {
            let mut passed = link.passed.get(&origin).copied().unwrap_or(above);
            for delta in self.recent.after(origin, passed) {
                if octets >= self.settings.frame_octets {
                    break;
                }
                octets += delta.approx_octets();
                passed = delta.to;
                frame.push(Arc::clone(delta));
            }
            let request = DeltaRequest { above: passed, floor: Version::ZERO };
            if passed < replica.floor(origin) {
                // The peer needs a restatement from zero. One that takes several frames continues only if it is wanted.
                link.wanted.entry(origin).or_insert(request);
                continue;
            }
            if octets < self.settings.frame_octets && passed < replica.head(origin) {
                let room = self.settings.frame_octets - octets;
                if let Some(delta) = replica.delta(origin, request, room) {
                    octets += delta.approx_octets();
                    passed = delta.to;
                    frame.push(Arc::new(delta));
                }
            }
            link.note_passed(origin, passed);
            if passed < replica.head(origin) {
                link.add_news(origin, passed);
            }
        }
        (!frame.is_empty()).then(|| Frame::encode_push(frame.iter().map(AsRef::as_ref)))
    }

    fn wanted_frame(&mut self, to: NodeId, replica: &Replica) -> Option<Vec<u8>> {
        let link = self.links.get_mut(&to)?;
        let mut frame = Vec::new();
        let mut octets = 0;
        while octets < self.settings.frame_octets
            && let Some((origin, request)) = take_next(&mut link.wanted, &mut link.turn)
        {
            let room = self.settings.frame_octets - octets;
            let Some(delta) = replica.delta(origin, request, room) else { continue };
            octets += delta.approx_octets();
            link.note_passed(origin, delta.to);
            if delta.to < delta.extent.head() {
                let is_restated = delta.from < delta.floor || request.floor > Version::ZERO;
                let floor = if is_restated { delta.floor } else { Version::ZERO };
                link.wanted.insert(origin, DeltaRequest { above: delta.to, floor });
            }
            frame.push(delta);
        }
        (!frame.is_empty()).then(|| Frame::Rows(frame).encode())
    }
}

/// Takes the entry after the one that was taken last, so that no node waits forever behind a busy one.
fn take_next<T>(map: &mut BTreeMap<NodeId, T>, turn: &mut NodeId) -> Option<(NodeId, T)> {
    use std::ops::Bound::{Excluded, Unbounded};
    let after = map.range((Excluded(*turn), Unbounded)).next().map(|(node, _)| *node);
    let node = after.or_else(|| map.first_key_value().map(|(node, _)| *node))?;
    *turn = node;
    map.remove(&node).map(|value| (node, value))
}

/// The number of members of the own zone to which an urgent commit is sent, given the number of members there: enough
/// that, with the help of links, every member receives it.
fn fanout(size: usize, is_origin: bool) -> usize {
    match size {
        0..=3 => size,
        4..=15 if is_origin => 3,
        4..=15 => 1,
        16..=127 => 3,
        _ => 4,
    }
}

/// Up to `wanted` different numbers below `end`.
fn distinct(end: usize, wanted: usize, random: &mut crate::random::Random) -> Vec<usize> {
    if wanted >= end {
        return random.choose((0..end).collect(), end);
    }
    let mut chosen = Vec::with_capacity(wanted);
    while chosen.len() < wanted {
        let at = random.below(end);
        if !chosen.contains(&at) {
            chosen.push(at);
        }
    }
    chosen
}
