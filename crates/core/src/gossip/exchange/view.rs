//! Whom to talk to: live members, how near they are, and which of them to link to.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::super::Peer;
use super::ExchangeSettings;
use crate::model::{NodeId, ZoneName};
use crate::random::Random;

/// Time between two looks at the active view when nothing happens.
const PERIOD: Duration = Duration::from_secs(1);
/// How long a link beyond the active view is kept, to sync.
const SYNC_TIME: Duration = Duration::from_secs(10);
/// How long an answer to a dial is waited for before another may be dialled in its place.
const DIAL_TIME: Duration = Duration::from_secs(5);
/// The shortest and the longest time after which a member that could not be dialled is tried again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

#[derive(Debug)]
struct Known {
    peer: Peer,
    zone: Option<ZoneName>,
    dialled: Option<Instant>,
    failures: u32,
    not_before: Instant,
    /// A link is wanted beyond the active view, to sync.
    is_sought: bool,
}

#[derive(Debug)]
pub(super) struct View {
    zone: ZoneName,
    members: BTreeMap<NodeId, Known>,
    /// Those in the own zone, and those elsewhere or nobody knows where; none when a member changed.
    sides: Option<(Vec<Peer>, Vec<Peer>)>,
    /// Whether some link may be sought.
    has_sought: bool,
    next: Instant,
    rotated: Instant,
}

/// How many links this agent opens.
#[derive(Debug, Clone, Copy)]
struct Aim {
    /// The cluster is small enough for links between all.
    is_mesh: bool,
    links: usize,
}

/// What is to be done for the active view.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) dial: Vec<Peer>,
    pub(super) close: Option<NodeId>,
}

impl View {
    pub(super) fn new(now: Instant, zone: ZoneName) -> Self {
        Self {
            zone,
            members: BTreeMap::new(),
            sides: None,
            has_sought: false,
            next: now + PERIOD,
            rotated: now,
        }
    }

    pub(super) fn zone(&self) -> &ZoneName {
        &self.zone
    }

    pub(super) fn next_deadline(&self) -> Instant {
        self.next
    }

    pub(super) fn add(&mut self, now: Instant, peer: Peer, zone: Option<ZoneName>) {
        self.sides = None;
        self.next = self.next.min(now);
        let known = self.members.entry(peer.id).or_insert_with(|| Known {
            peer,
            zone: None,
            dialled: None,
            failures: 0,
            not_before: now,
            is_sought: false,
        });
        if known.peer.generation <= peer.generation {
            known.peer = peer;
        }
        known.zone = zone.or(known.zone.take());
    }

    pub(super) fn remove(&mut self, peer: Peer) {
        let is_of_later_life =
            self.members.get(&peer.id).is_some_and(|known| known.peer.generation > peer.generation);
        if !is_of_later_life && self.members.remove(&peer.id).is_some() {
            self.sides = None;
        }
    }

    pub(super) fn note_zone(&mut self, node: NodeId, zone: &ZoneName) {
        if let Some(known) = self.members.get_mut(&node)
            && known.zone.as_ref() != Some(zone)
        {
            known.zone = Some(zone.clone());
            self.sides = None;
        }
    }

    pub(super) fn note_linked(&mut self, node: NodeId) {
        if let Some(known) = self.members.get_mut(&node) {
            known.dialled = None;
            known.failures = 0;
            known.is_sought = false;
        }
    }

    pub(super) fn note_unlinked(&mut self, now: Instant, node: NodeId) {
        self.next = self.next.min(now);
        if let Some(known) = self.members.get_mut(&node) {
            known.dialled = None;
        }
    }

    pub(super) fn note_failed(&mut self, now: Instant, node: NodeId, random: &mut Random) {
        if let Some(known) = self.members.get_mut(&node) {
            let doubled = BACKOFF.0 * 2_u32.pow(known.failures.min(10));
            let pause = doubled.min(BACKOFF.1).mul_f64(0.5 + random.fraction());
            known.failures += 1;
            known.dialled = None;
            known.not_before = now + pause;
            self.next = self.next.min(known.not_before);
        }
    }

    /// Asks for a link to a member beyond the active view.
    pub(super) fn seek(&mut self, now: Instant, node: NodeId) {
        if let Some(known) = self.members.get_mut(&node) {
            known.is_sought = true;
            self.has_sought = true;
            self.next = now;
        }
    }

    /// Live members in the own zone, and all others.
    pub(super) fn sides(&mut self) -> (&[Peer], &[Peer]) {
        let (near, far) = self.sides.get_or_insert_with(|| {
            let is_near = |known: &&Known| known.zone.as_ref() == Some(&self.zone);
            let (near, far): (Vec<&Known>, Vec<&Known>) = self.members.values().partition(is_near);
            let peers = |side: Vec<&Known>| side.into_iter().map(|known| known.peer).collect();
            (peers(near), peers(far))
        });
        (near, far)
    }

    /// Whom to dial and which link to close, given the links that this agent opened.
    pub(super) fn plan(
        &mut self,
        now: Instant,
        settings: &ExchangeSettings,
        dialed: &[(Instant, NodeId)],
        is_linked: impl Fn(NodeId) -> bool,
        random: &mut Random,
    ) -> Plan {
        self.next = now + PERIOD;
        let aim = self.aim(settings);
        let is_full = !aim.is_mesh && dialed.len() >= aim.links;
        let dial = if is_full && !self.has_sought {
            Vec::new()
        } else {
            self.plan_dials(now, aim, dialed.len(), is_linked, random)
        };
        let is_turn = now.saturating_duration_since(self.rotated) >= settings.rotation;
        let has_too_many = dialed.len() > aim.links;
        if is_turn && !aim.is_mesh && !dialed.is_empty() {
            self.rotated = now;
            return Plan { dial, close: Some(dialed[random.below(dialed.len())].1) };
        }
        // One too many was opened to sync, and is the youngest of those that have had time for it.
        let has_served =
            |(since, _): &&(Instant, NodeId)| now.saturating_duration_since(*since) >= SYNC_TIME;
        let close = if has_too_many { dialed.iter().find(has_served) } else { None };
        Plan { dial, close: close.map(|(_, node)| *node) }
    }

    fn aim(&self, settings: &ExchangeSettings) -> Aim {
        let is_mesh = self.members.len() <= settings.mesh;
        Aim { is_mesh, links: if is_mesh { self.members.len() } else { settings.dials } }
    }

    /// Whom to dial. Looks at every member.
    fn plan_dials(
        &mut self,
        now: Instant,
        aim: Aim,
        dialed: usize,
        is_linked: impl Fn(NodeId) -> bool,
        random: &mut Random,
    ) -> Vec<Peer> {
        let is_dialling = |known: &Known| known.dialled.is_some_and(|at| now < at + DIAL_TIME);
        let under_way = self.members.values().filter(|known| is_dialling(known)).count();
        let missing = aim.links.saturating_sub(under_way + dialed);
        let can_dial = |known: &&Known| {
            !is_linked(known.peer.id) && !is_dialling(known) && known.not_before <= now
        };
        let (mut near, mut far, mut dial) = (Vec::new(), Vec::new(), Vec::new());
        for known in self.members.values().filter(can_dial) {
            if known.is_sought {
                dial.push(known.peer);
            } else if known.zone.as_ref() == Some(&self.zone) {
                near.push(known.peer);
            } else {
                far.push(known.peer);
            }
        }
        // Three near for one far, so that zones hang together by many links and most news stays near.
        let wanted_far = if near.is_empty() { missing } else { missing.div_ceil(4) };
        let far = random.choose(far, if aim.is_mesh { missing } else { wanted_far });
        let near =
            random.choose(near, missing.saturating_sub(if aim.is_mesh { 0 } else { far.len() }));
        dial.extend(near.into_iter().chain(far));
        for peer in &dial {
            if let Some(known) = self.members.get_mut(&peer.id) {
                known.dialled = Some(now);
            }
        }
        self.has_sought = self.members.values().any(|known| known.is_sought);
        dial
    }
}
