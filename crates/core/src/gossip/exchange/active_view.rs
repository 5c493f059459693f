//! The active view: the live members, whether they are near, and the members to which this agent opens links.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::super::Peer;
use super::ExchangeSettings;
use super::roster::Roster;
use crate::model::{NodeId, ZoneName};
use crate::random::Random;

/// The interval between two plans for the active view when nothing happens.
const PLAN_INTERVAL: Duration = Duration::from_secs(1);
/// How long a link beyond the active view is kept for synchronisation.
const EXTRA_LINK_LIFETIME: Duration = Duration::from_secs(10);
/// How long a dial may go unanswered before another member may be dialled instead.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// The time after which a member that could not be dialled is dialled again; it doubles with each failure.
const MIN_BACKOFF: Duration = Duration::from_millis(250);
/// The limit of this time.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// The attempts to open a link to one member.
#[derive(Debug, Default)]
struct Attempt {
    /// When the member was dialled, while there is no answer.
    dialled: Option<Instant>,
    failures: u32,
    not_before: Option<Instant>,
    /// Whether a link beyond the active view is wanted for synchronisation.
    is_sought: bool,
}

impl Attempt {
    fn is_dialling(&self, now: Instant) -> bool {
        self.dialled.is_some_and(|at| now < at + DIAL_TIMEOUT)
    }

    fn can_dial(&self, now: Instant) -> bool {
        !self.is_dialling(now) && self.not_before.is_none_or(|at| at <= now)
    }
}

#[derive(Debug)]
pub(super) struct ActiveView {
    zone: ZoneName,
    roster: Roster,
    /// The attempts for members that were dialled, could not be dialled, or are sought.
    attempts: BTreeMap<NodeId, Attempt>,
    next: Instant,
    rotated: Instant,
}

/// How many links this agent should open.
#[derive(Debug, Clone, Copy)]
struct Aim {
    /// Whether the cluster is small enough for links between all members.
    is_mesh: bool,
    links: usize,
}

/// The links to open and to close for the active view.
#[derive(Debug, Default)]
pub(super) struct LinkPlan {
    pub(super) dial: Vec<Peer>,
    pub(super) close: Option<NodeId>,
}

impl ActiveView {
    pub(super) fn new(now: Instant, zone: ZoneName) -> Self {
        let (roster, attempts) = (Roster::default(), BTreeMap::new());
        Self { zone, roster, attempts, next: now + PLAN_INTERVAL, rotated: now }
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
            let doubled = MIN_BACKOFF * 2_u32.pow(attempt.failures.min(10));
            let not_before = now + doubled.min(MAX_BACKOFF).mul_f64(0.5 + random.fraction());
            attempt.failures += 1;
            attempt.dialled = None;
            attempt.not_before = Some(not_before);
            self.next = self.next.min(not_before);
        }
    }

    /// Requests a link to a member beyond the active view.
    pub(super) fn seek(&mut self, now: Instant, node: NodeId) {
        if self.roster.peer(node).is_some() {
            self.attempts.entry(node).or_default().is_sought = true;
            self.next = now;
        }
    }

    /// The members to dial and the link to close. `dialed` are the links that this agent has opened, youngest first.
    pub(super) fn plan(
        &mut self,
        now: Instant,
        settings: &ExchangeSettings,
        dialed: &[(Instant, NodeId)],
        is_linked: impl Fn(NodeId) -> bool,
        random: &mut Random,
    ) -> LinkPlan {
        self.next = now + PLAN_INTERVAL;
        let aim = self.aim(settings);
        let is_full = !aim.is_mesh && dialed.len() >= aim.links;
        let is_sought = self.attempts.values().any(|attempt| attempt.is_sought);
        let dial = if is_full && !is_sought {
            Vec::new()
        } else {
            self.plan_dials(now, aim, dialed.len(), is_linked, random)
        };
        let is_turn = now.saturating_duration_since(self.rotated) >= settings.rotation_interval;
        let has_too_many = dialed.len() > aim.links;
        if is_turn && !aim.is_mesh && !dialed.is_empty() {
            self.rotated = now;
            return LinkPlan { dial, close: Some(dialed[random.below(dialed.len())].1) };
        }
        // A link beyond the aim was opened for synchronisation; the youngest that has had time for it is closed.
        let has_served = |(since, _): &&(Instant, NodeId)| {
            now.saturating_duration_since(*since) >= EXTRA_LINK_LIFETIME
        };
        let close = if has_too_many { dialed.iter().find(has_served) } else { None };
        LinkPlan { dial, close: close.map(|(_, node)| *node) }
    }

    fn aim(&self, settings: &ExchangeSettings) -> Aim {
        let is_mesh = self.roster.len() <= settings.mesh;
        Aim { is_mesh, links: if is_mesh { self.roster.len() } else { settings.dials } }
    }

    /// The members to dial. The cost is proportional to the number of members.
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
        // Three near members for each far one: zones are connected by many links, and most pushes stay near.
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
