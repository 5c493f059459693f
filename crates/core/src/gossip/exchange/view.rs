//! Whom to talk to: live members, how near they are, and which of them to link to.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::super::Peer;
use super::ExchangeSettings;
use super::roster::Roster;
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

/// What is remembered of attempts to link to a member.
#[derive(Debug, Default)]
struct Attempt {
    /// When it was dialled, while the answer is waited for.
    dialled: Option<Instant>,
    failures: u32,
    not_before: Option<Instant>,
    /// A link is wanted beyond the active view, to sync.
    is_sought: bool,
}

impl Attempt {
    fn is_dialling(&self, now: Instant) -> bool {
        self.dialled.is_some_and(|at| now < at + DIAL_TIME)
    }

    fn can_dial(&self, now: Instant) -> bool {
        !self.is_dialling(now) && self.not_before.is_none_or(|at| at <= now)
    }
}

#[derive(Debug)]
pub(super) struct View {
    zone: ZoneName,
    roster: Roster,
    /// Of members alone, and of those that could not be linked to at once.
    attempts: BTreeMap<NodeId, Attempt>,
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
        let (roster, attempts) = (Roster::default(), BTreeMap::new());
        Self { zone, roster, attempts, next: now + PERIOD, rotated: now }
    }

    pub(super) fn zone(&self) -> &ZoneName {
        &self.zone
    }

    pub(super) fn roster(&self) -> &Roster {
        &self.roster
    }

    pub(super) fn next_deadline(&self) -> Instant {
        self.next
    }

    pub(super) fn add(&mut self, now: Instant, peer: Peer, zone: Option<&ZoneName>) {
        self.next = self.next.min(now);
        self.roster.add(peer, zone.map(|zone| *zone == self.zone));
    }

    pub(super) fn remove(&mut self, peer: Peer) {
        if self.roster.peer(peer.id).is_some_and(|known| known.generation <= peer.generation) {
            self.roster.remove(peer.id);
            self.attempts.remove(&peer.id);
        }
    }

    pub(super) fn note_zone(&mut self, node: NodeId, zone: &ZoneName) {
        if let Some(peer) = self.roster.peer(node) {
            self.roster.add(peer, Some(*zone == self.zone));
        }
    }

    pub(super) fn note_linked(&mut self, node: NodeId) {
        self.attempts.remove(&node);
    }

    pub(super) fn note_unlinked(&mut self, now: Instant, node: NodeId) {
        self.next = self.next.min(now);
        if let Some(attempt) = self.attempts.get_mut(&node) {
            attempt.dialled = None;
        }
    }

    pub(super) fn note_failed(&mut self, now: Instant, node: NodeId, random: &mut Random) {
        if self.roster.peer(node).is_some() {
            let attempt = self.attempts.entry(node).or_default();
            let doubled = BACKOFF.0 * 2_u32.pow(attempt.failures.min(10));
            let not_before = now + doubled.min(BACKOFF.1).mul_f64(0.5 + random.fraction());
            attempt.failures += 1;
            attempt.dialled = None;
            attempt.not_before = Some(not_before);
            self.next = self.next.min(not_before);
        }
    }

    /// Asks for a link to a member beyond the active view.
    pub(super) fn seek(&mut self, now: Instant, node: NodeId) {
        if self.roster.peer(node).is_some() {
            self.attempts.entry(node).or_default().is_sought = true;
            self.next = now;
        }
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
        let is_sought = self.attempts.values().any(|attempt| attempt.is_sought);
        let dial = if is_full && !is_sought {
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
        let is_mesh = self.roster.len() <= settings.mesh;
        Aim { is_mesh, links: if is_mesh { self.roster.len() } else { settings.dials } }
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
        let under_way = self.attempts.values().filter(|attempt| attempt.is_dialling(now)).count();
        let missing = aim.links.saturating_sub(under_way + dialed);
        let mut dial = Vec::new();
        let mut candidates = |side: &[Peer]| {
            let mut candidates = Vec::new();
            for peer in side.iter().filter(|peer| !is_linked(peer.id)) {
                match self.attempts.get(&peer.id) {
                    Some(attempt) if !attempt.can_dial(now) => {}
                    Some(Attempt { is_sought: true, .. }) => dial.push(*peer),
                    Some(_) | None => candidates.push(*peer),
                }
            }
            candidates
        };
        let (near, far) = self.roster.sides();
        let (near, far) = (candidates(near), candidates(far));
        // Three near for one far, so that zones hang together by many links and most news stays near.
        let wanted_far = if near.is_empty() { missing } else { missing.div_ceil(4) };
        let far = random.choose(far, if aim.is_mesh { missing } else { wanted_far });
        let near =
            random.choose(near, missing.saturating_sub(if aim.is_mesh { 0 } else { far.len() }));
        dial.extend(near.into_iter().chain(far));
        for peer in &dial {
            self.attempts.entry(peer.id).or_default().dialled = Some(now);
        }
        dial
    }
}
