//! Who is alive: SWIM with suspicion (Das, Gupta, Motivala 2002), by [`foca`], and around it what foca leaves
//! to its users: timers, a local health score (Lifeguard: Dadgar, Phillips, Currey 2018), doubts, and a member
//! list that survives a restart.
//!
//! What always holds:
//! - A member that answers is not declared down by an agent that is itself too slow: timers that fire late raise
//!   the health score, which stretches every timeout, and after a pause all timers are put off.
//! - A member that was heard only just now is not down because another agent says so: it is asked, and while it
//!   answers it has the time to say so itself.
//! - `Down` is final for one generation of a member; who was declared down by mistake comes back with the next.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::{Duration, Instant};

use foca::{Foca, Member, NoCustomBroadcast, Notification, PostcardCodec, Runtime, State, Timer};
use thiserror::Error;

use super::Peer;
use crate::model::NodeId;
use crate::random::Random;

/// How often an unanswered echo is repeated before a doubted member is declared down.
const DOUBT_ECHOES: u8 = 3;
/// The local health score at its worst: timeouts are this many times longer, and once more.
const WORST_HEALTH: u32 = 8;
/// Members that are asked who is there by an agent that was thought to be down.
const CATCH_UP_FROM: usize = 3;
/// Members that are down to which the cluster is announced at a time.
const CALLED: usize = 2;
/// Outputs that there is room for when none wait.
const USUAL_OUTPUTS: usize = 64;
/// Members that are remembered as down at most; the longest-known are kept.
const MOST_MEMBERS: usize = 65_536;

/// How members watch each other. All agents of a cluster should have the same.
#[derive(Debug, Clone)]
pub struct MembershipSettings {
    /// How often one random member is probed. Shorter finds crashes sooner and costs more packets. What is left of
    /// it after the timeout has to do for two round trips: else probes by way of others come too late, each lost
    /// packet is a suspicion, and a thousand nodes fill their packets with suspicions and refutations.
    pub probe_period: Duration,
    /// How long a direct answer may take before others are asked to probe; above nearly every round-trip time.
    pub probe_timeout: Duration,
    /// How long a suspected member has to refute in a cluster of ten; grows with the logarithm of the size.
    pub suspicion: Duration,
    /// How often members that are down are told that the cluster is here, so that a healed partition joins.
    pub announce_down: Duration,
    /// Time between the echoes by which a doubted member is given its last chance.
    pub doubt_period: Duration,
    /// How long a member that is down is remembered.
    pub forget_down_after: Duration,
    /// Octets of one packet.
    pub packet_octets: usize,
}

impl Default for MembershipSettings {
    fn default() -> Self {
        Self {
            probe_period: Duration::from_millis(1000),
            probe_timeout: Duration::from_millis(300),
            suspicion: Duration::from_millis(1000),
            announce_down: Duration::from_secs(3),
            doubt_period: Duration::from_millis(100),
            forget_down_after: Duration::from_secs(72 * 3600),
            packet_octets: 1_100,
        }
    }
}

/// What membership says of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// It answers.
    Alive,
    /// It did not answer lately and may still refute.
    Suspect,
    /// It is gone until it comes back with a higher generation.
    Down,
}

/// What membership wants done, or has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MembershipOutput {
    /// Send this packet; what arrives goes to [`Membership::handle_packet`] there.
    Send {
        /// To whom.
        to: Peer,
        /// The packet.
        packet: Vec<u8>,
    },
    /// Send an echo; whatever comes from that member counts as its answer.
    Echo {
        /// To whom.
        to: Peer,
    },
    /// A member is there, or has come back.
    Up(Peer),
    /// A member is gone.
    Down(Peer),
    /// The own identity is a new one, since others had declared the old one down.
    Renewed(Peer),
}

/// Why a packet was not taken in. The sender is at fault; nothing was changed.
#[derive(Debug, Error, PartialEq)]
#[error("membership packet: {0:?}")]
pub struct PacketError(foca::Error);

/// A member whose host refused a connection, or that others hold for down: perhaps its agent has died.
#[derive(Debug)]
struct Doubt {
    peer: Peer,
    echoes_left: u8,
    next: Instant,
    /// Set where others hold it for down, as foca does then.
    rumour: Option<Rumour>,
}

/// What others say of a member that was heard only just now. One that was cut off from it may say so when it is
/// back.
#[derive(Debug, Clone, Copy)]
struct Rumour {
    /// Until when it may take a new identity, if it answers.
    until: Instant,
    has_answered: bool,
}

/// The state machine.
pub struct Membership {
    foca: Foca<Peer, PostcardCodec, Random, NoCustomBroadcast>,
    settings: MembershipSettings,
    timers: BTreeMap<(Instant, u64), Timer<Peer>>,
    submitted: u64,
    doubts: BTreeMap<NodeId, Doubt>,
    /// When something last came from each member from which something came lately.
    heard: BTreeMap<NodeId, Instant>,
    health: u32,
    /// Whether anything was heard since the last probe began: if not, the fault may be ours.
    has_heard: bool,
    /// The cluster's size that foca's configuration was made for.
    sized_for: usize,
    /// When news of a member's end is to be pushed to others without waiting for the next probe.
    push_at: Option<Instant>,
    /// When members that are down are called by an agent that knows no live one.
    call_at: Option<Instant>,
    /// Calls until now; who is called goes round.
    called: usize,
    has_left: bool,
    outputs: VecDeque<MembershipOutput>,
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership")
            .field("own", self.foca.identity())
            .field("live", &self.foca.num_members())
            .field("health", &self.health)
            .finish_non_exhaustive()
    }
}

/// Takes what foca wants done while one of its functions runs.
#[derive(Default)]
struct Effects {
    sends: Vec<(Peer, Vec<u8>)>,
    timers: Vec<(Duration, Timer<Peer>)>,
    news: Vec<News>,
}

enum News {
    Up(Peer),
    Down(Peer),
    Renewed(Peer),
}

impl Runtime<Peer> for Effects {
    fn notify(&mut self, notification: Notification<'_, Peer>) {
        match notification {
            Notification::MemberUp(peer) => self.news.push(News::Up(*peer)),
            Notification::MemberDown(peer) => self.news.push(News::Down(*peer)),
            // Both alive: the member came back before anybody noticed that it was gone.
            Notification::Rename(_, peer) => self.news.push(News::Up(*peer)),
            Notification::Rejoin(own) => self.news.push(News::Renewed(*own)),
            Notification::Active | Notification::Idle | Notification::Defunct => {}
        }
    }

    fn send_to(&mut self, to: Peer, data: &[u8]) {
        self.sends.push((to, data.to_vec()));
    }

    fn submit_after(&mut self, event: Timer<Peer>, after: Duration) {
        self.timers.push((after, event));
    }
}

impl Membership {
    /// An agent that knows nobody yet.
    #[must_use]
    pub fn new(own: Peer, settings: MembershipSettings, seed: u64) -> Self {
        let foca = Foca::new(own, configuration(&settings, 1), Random::new(seed), PostcardCodec);
        Self {
            foca,
            settings,
            timers: BTreeMap::new(),
            submitted: 0,
            doubts: BTreeMap::new(),
            heard: BTreeMap::new(),
            health: 0,
            has_heard: false,
            sized_for: 1,
            push_at: None,
            call_at: None,
            called: 0,
            has_left: false,
            outputs: VecDeque::new(),
        }
    }

    /// Who this agent is to the others, at present.
    #[must_use]
    pub fn own(&self) -> Peer {
        *self.foca.identity()
    }

    /// How many members are alive or suspected, without this one.
    #[must_use]
    pub fn live_count(&self) -> usize {
        self.foca.num_members()
    }

    /// The local health score: 0 is good; every timeout is this many times longer, and once more.
    #[must_use]
    pub fn health(&self) -> u32 {
        self.health
    }

    /// All members that are known, without this one. Costs time in proportion to their number.
    pub fn members(&self) -> impl Iterator<Item = (Peer, Liveness)> {
        // To foca, a former life of this node is a member that is down.
        let own = self.own().id;
        let others = self.foca.iter_membership_state().filter(move |member| member.id().id != own);
        others.map(|member| {
            let liveness = match member.state() {
                State::Alive => Liveness::Alive,
                State::Suspect => Liveness::Suspect,
                State::Down if self.is_rumoured(member.id()) => Liveness::Suspect,
                State::Down => Liveness::Down,
            };
            (*member.id(), liveness)
        })
    }

    /// Whether only others say that a member is down.
    fn is_rumoured(&self, peer: &Peer) -> bool {
        let doubt = self.doubts.get(&peer.id);
        doubt.is_some_and(|doubt| doubt.rumour.is_some() && doubt.peer == *peer)
    }

    /// What is known of one node. Costs time in proportion to the number of members.
    #[must_use]
    pub fn peer(&self, node: NodeId) -> Option<(Peer, Liveness)> {
        self.members().find(|(peer, _)| peer.id == node)
    }

    /// Takes members from before a restart, or from a peer's list: those who are alive are made sure of by the
    /// probes that follow, those who are down are announced to from time to time.
    pub fn introduce(&mut self, now: Instant, members: impl IntoIterator<Item = (Peer, bool)>) {
        let own = self.own();
        let room = MOST_MEMBERS.saturating_sub(self.foca.iter_membership_state().len());
        let members: Vec<(Peer, bool)> =
            members.into_iter().filter(|(peer, _)| peer.id != own.id).take(room).collect();
        let known: BTreeSet<NodeId> =
            self.foca.iter_membership_state().map(|member| member.id().id).collect();
        let member = |(peer, is_live): &(Peer, bool)| {
            if *is_live { Member::alive(*peer) } else { Member::down(*peer) }
        };
        let updates = members.iter().map(member);
        // Whoever told of them has told others.
        self.with_foca(now, |foca, effects| foca.apply_many(updates, false, effects));
        // Foca says nothing of the end of members that it did not know alive.
        let unknown =
            members.iter().filter(|(peer, is_live)| !is_live && !known.contains(&peer.id));
        self.outputs.extend(unknown.map(|(peer, _)| MembershipOutput::Down(*peer)));
    }

    /// Greets a peer with which a stream was opened: it is alive, whatever was thought of its former lives.
    /// `known_generation` is what that peer knows of this agent's generation; a higher one than the own is of a
    /// former life, which the own has to outdo.
    pub fn meet(&mut self, now: Instant, peer: Peer, known_generation: u64) {
        let own = self.own();
        if known_generation > own.generation {
            let renewed = Peer { generation: known_generation.saturating_add(1), ..own };
            self.with_foca(now, |foca, effects| foca.change_identity(renewed, effects));
            self.outputs.push_back(MembershipOutput::Renewed(renewed));
            self.trust_suspects(now);
        }
        // A rumour ends with the generation that it is about.
        if self.doubts.get(&peer.id).is_some_and(|doubt| doubt.rumour.is_none()) {
            self.doubts.remove(&peer.id);
        }
        let alive = std::iter::once(Member::alive(peer));
        self.with_foca(now, |foca, effects| foca.apply_many(alive, true, effects));
        self.with_foca(now, |foca, effects| foca.announce(peer, effects));
    }

    /// Asks a member who is there; its answer names others.
    pub fn ask(&mut self, now: Instant, node: NodeId) {
        if let Some((peer, Liveness::Alive | Liveness::Suspect)) = self.peer(node) {
            self.with_foca(now, |foca, effects| foca.announce(peer, effects));
        }
    }

    /// Takes a packet that a peer's [`MembershipOutput::Send`] made.
    ///
    /// # Errors
    /// When the packet is malformed, or cannot have been meant.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        from: NodeId,
        packet: &[u8],
    ) -> Result<(), PacketError> {
        self.handle_heard(now, from);
        let mut effects = Effects::default();
        let result = self.foca.handle_data(packet, &mut effects);
        self.take_rumours(now, from, &mut effects.news);
        self.perform(now, effects);
        result.map_err(PacketError)
    }

    /// Notes that something came from a member: it lives.
    pub fn handle_heard(&mut self, now: Instant, from: NodeId) {
        self.has_heard = true;
        self.heard.insert(from, now);
        let Some(doubt) = self.doubts.get_mut(&from) else { return };
        match &mut doubt.rumour {
            Some(rumour) => rumour.has_answered = true,
            None => _ = self.doubts.remove(&from),
        }
    }

    /// For how long it counts that something came from a member.
    fn recently(&self) -> Duration {
        self.settings.probe_period * 2
    }

    /// Takes out of what a packet told the ends of members that were heard only just now, and asks these members.
    fn take_rumours(&mut self, now: Instant, from: NodeId, news: &mut Vec<News>) {
        let recently = self.recently();
        let until = now + self.stretched(self.settings.suspicion * 2);
        news.retain(|news| {
            let News::Down(peer) = news else { return true };
            let heard = self.heard.get(&peer.id);
            let is_recent = heard.is_some_and(|at| now.saturating_duration_since(*at) < recently);
            let doubt = self.doubts.get(&peer.id);
            let is_refused = doubt.is_some_and(|doubt| doubt.rumour.is_none());
            // Who says so of itself leaves; of whom its host says so, too, it is true.
            if !is_recent || peer.id == from || is_refused {
                return true;
            }
            let rumour = Some(Rumour { until, has_answered: false });
            let doubt = Doubt { peer: *peer, echoes_left: DOUBT_ECHOES, next: now, rumour };
            self.doubts.insert(peer.id, doubt);
            // It has to hear of it, to say that it lives.
            self.push_at = self.push_at.or(Some(now));
            false
        });
    }

    /// Takes the news that a member's host refused a connection to its agent. It gets some echoes as its last
    /// chance; if it answers none, nobody lives there.
    pub fn doubt(&mut self, now: Instant, node: NodeId) {
        let Some((peer, Liveness::Alive | Liveness::Suspect)) = self.peer(node) else { return };
        let doubt = Doubt { peer, echoes_left: DOUBT_ECHOES, next: now, rumour: None };
        self.doubts.entry(node).or_insert(doubt);
        self.handle_deadline(now);
    }

    /// Tells the others that this agent stops in good order.
    pub fn leave(&mut self, now: Instant) {
        self.has_left = true;
        self.with_foca(now, |foca, effects| foca.leave_cluster(effects));
    }

    /// Does what is due.
    pub fn handle_deadline(&mut self, now: Instant) {
        self.forgive_pause(now);
        while let Some((key, _)) = self.timers.first_key_value()
            && key.0 <= now
        {
            let Some((_, timer)) = self.timers.pop_first() else { break };
            self.note_probe(now, &timer);
            if !self.is_refuted(&timer) {
                self.with_foca(now, |foca, effects| foca.handle_timer(timer, effects));
            }
        }
        self.echo_doubted(now);
        if self.push_at.is_some_and(|at| at <= now) {
            self.push_at = None;
            self.with_foca(now, |foca, effects| foca.gossip(effects));
        }
        if self.call_at.is_some_and(|at| at <= now) {
            self.call_the_lost(now);
        }
    }

    /// When [`Membership::handle_deadline`] is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let timer = self.timers.first_key_value().map(|((at, _), _)| *at);
        let doubt = self.doubts.values().map(|doubt| doubt.next).min();
        [timer, doubt, self.push_at, self.call_at].into_iter().flatten().min()
    }

    /// The next thing to do or to tell.
    pub fn poll_output(&mut self) -> Option<MembershipOutput> {
        let output = self.outputs.pop_front();
        if output.is_none() {
            // Thousands of members may have come at once.
            self.outputs.shrink_to(USUAL_OUTPUTS);
        }
        output
    }

    /// If timers are late by more than a probe's period, this process stood still, not the others: what they
    /// sent meanwhile is yet to be read.
    fn forgive_pause(&mut self, now: Instant) {
        let Some(((due, _), _)) = self.timers.first_key_value() else { return };
        let late = now.saturating_duration_since(*due);
        if late > self.settings.probe_timeout / 2 {
            self.worsen();
        }
        if late <= self.settings.probe_period {
            return;
        }
        self.worsen();
        let grace = late + self.stretched(self.settings.probe_timeout);
        let timers = std::mem::take(&mut self.timers);
        self.timers = timers.into_iter().map(|((at, n), timer)| ((at + grace, n), timer)).collect();
        for doubt in self.doubts.values_mut() {
            doubt.next += grace;
            if let Some(rumour) = &mut doubt.rumour {
                rumour.until += grace;
            }
        }
    }

    fn worsen(&mut self) {
        self.health = (self.health + 1).min(WORST_HEALTH);
    }

    fn stretched(&self, time: Duration) -> Duration {
        time * (self.health + 1)
    }

    /// A probe ends and the next begins: if all was silent meanwhile, this agent may be the one that is cut off.
    fn note_probe(&mut self, now: Instant, timer: &Timer<Peer>) {
        if matches!(timer, Timer::ProbeRandomMember(_)) {
            if self.has_heard {
                self.health = self.health.saturating_sub(1);
            } else {
                self.worsen();
            }
            self.has_heard = false;
            let recently = self.recently();
            self.heard.retain(|_, at| now.saturating_duration_since(*at) < recently);
        }
    }

    /// Whether a suspicion that ends here was refuted meanwhile. Foca leaves such a member alive too, yet tells it that
    /// it is down, and it takes a new identity, of which the whole cluster has to hear.
    fn is_refuted(&self, timer: &Timer<Peer>) -> bool {
        let Timer::ChangeSuspectToDown { member_id, incarnation, .. } = timer else { return false };
        !self.foca.iter_members().any(|member| {
            let is_same = (member.id(), member.incarnation()) == (member_id, *incarnation);
            is_same && member.state() == State::Suspect
        })
    }

    fn echo_doubted(&mut self, now: Instant) {
        let period = self.stretched(self.settings.doubt_period);
        let mut gone = Vec::new();
        for doubt in self.doubts.values_mut().filter(|doubt| doubt.next <= now) {
            if doubt.echoes_left == 0 {
                match &mut doubt.rumour {
                    // Perhaps that was sent before it died.
                    Some(Rumour { until, has_answered }) if *has_answered && now < *until => {
                        *has_answered = false;
                        doubt.echoes_left = DOUBT_ECHOES;
                    }
                    Some(_) | None => {
                        gone.push((doubt.peer, doubt.rumour.is_some()));
                        continue;
                    }
                }
            }
            doubt.echoes_left -= 1;
            doubt.next = now + period;
            self.outputs.push_back(MembershipOutput::Echo { to: doubt.peer });
        }
        for (peer, is_rumoured) in gone {
            self.doubts.remove(&peer.id);
            if is_rumoured {
                // foca believed it before.
                self.heard.remove(&peer.id);
                self.outputs.push_back(MembershipOutput::Down(peer));
                continue;
            }
            let down = std::iter::once(Member::down(peer));
            self.with_foca(now, |foca, effects| foca.apply_many(down, true, effects));
        }
    }

    /// Lets foca do something, then performs what it wants done.
    fn with_foca<E>(
        &mut self,
        now: Instant,
        act: impl FnOnce(
            &mut Foca<Peer, PostcardCodec, Random, NoCustomBroadcast>,
            &mut Effects,
        ) -> Result<(), E>,
    ) {
        let mut effects = Effects::default();
        // What foca can complain of here are its own bookkeeping's hiccups after a pause; it goes on by itself.
        let _ = act(&mut self.foca, &mut effects);
        self.perform(now, effects);
    }

    fn perform(&mut self, now: Instant, effects: Effects) {
        for (to, packet) in effects.sends {
            self.outputs.push_back(MembershipOutput::Send { to, packet });
        }
        for (after, timer) in effects.timers {
            self.submitted += 1;
            let is_stretched = matches!(
                timer,
                Timer::ProbeRandomMember(_)
                    | Timer::SendIndirectProbe { .. }
                    | Timer::ChangeSuspectToDown { .. }
            );
            let after = if is_stretched { self.stretched(after) } else { after };
            self.timers.insert((now + after, self.submitted), timer);
        }
        let is_renewed = effects.news.iter().any(|news| matches!(news, News::Renewed(_)));
        for news in effects.news {
            self.outputs.push_back(match news {
                News::Up(peer) => {
                    self.doubts.remove(&peer.id);
                    MembershipOutput::Up(peer)
                }
                News::Down(peer) => {
                    self.doubts.remove(&peer.id);
                    self.heard.remove(&peer.id);
                    self.push_at = self.push_at.or(Some(now));
                    MembershipOutput::Down(peer)
                }
                News::Renewed(own) => MembershipOutput::Renewed(own),
            });
        }
        self.follow_size();
        let is_alone = self.live_count() == 0 && self.foca.iter_membership_state().len() > 0;
        let call_at = self.call_at.unwrap_or(now + self.settings.announce_down);
        self.call_at = (is_alone && !self.has_left).then_some(call_at);
        if is_renewed {
            self.trust_suspects(now);
            self.catch_up(now);
        }
    }

    /// Takes the suspicions of a former identity back: the fault may have been this agent's, and foca stops the
    /// timers that would end them, so that members which are well would stay suspect for ever. A member that is
    /// gone fails its next probe.
    ///
    /// Also where nobody is suspected, since it lets foca notice that it has live members: with a new identity foca
    /// looks at them only when the next packet comes, and two that renew at the same time and lose what they have to
    /// say of it would wait for each other for ever.
    fn trust_suspects(&mut self, now: Instant) {
        let suspects = self.foca.iter_members().filter(|member| member.state() == State::Suspect);
        // Only a higher incarnation outdoes a suspicion; the member itself outdoes this one when it has to.
        let trusted = |member: &Member<Peer>| {
            Member::new(*member.id(), member.incarnation().saturating_add(1), State::Alive)
        };
        let trusted: Vec<Member<Peer>> = suspects.map(trusted).collect();
        self.with_foca(now, |foca, effects| foca.apply_many(trusted.into_iter(), false, effects));
    }

    /// While this agent was thought to be down nobody told it anything, and what members tell each other is soon
    /// told no more: asks some of them who is there.
    fn catch_up(&mut self, now: Instant) {
        let live: Vec<Peer> = self.foca.iter_members().map(|member| *member.id()).collect();
        let first = usize::try_from(self.submitted).unwrap_or(0);
        for at in (first..).take(live.len().min(CATCH_UP_FROM)) {
            let peer = live[at % live.len()];
            self.with_foca(now, |foca, effects| foca.announce(peer, effects));
        }
    }

    /// Announces the agent to members that are down, as foca does while some are live. Without any, foca's clocks
    /// stand still: two that lost each other and know nobody else would wait for each other for ever.
    fn call_the_lost(&mut self, now: Instant) {
        self.call_at = None;
        let own = self.own().id;
        // A former life of this agent may be among them.
        let lost: Vec<Peer> =
            self.members().map(|(peer, _)| peer).filter(|peer| peer.id != own).collect();
        for _ in 0..lost.len().min(CALLED) {
            let peer = lost[self.called % lost.len()];
            self.called = self.called.wrapping_add(1);
            self.with_foca(now, |foca, effects| foca.announce(peer, effects));
        }
    }

    /// Suspicion and repetition grow with the logarithm of the cluster's size.
    fn follow_size(&mut self) {
        let size = self.foca.num_members() + 1;
        if size <= self.sized_for * 2 && size * 4 >= self.sized_for {
            return;
        }
        self.sized_for = size;
        let configuration = configuration(&self.settings, size);
        self.foca.set_config(configuration).expect("neither periods nor announcements change");
    }
}

fn configuration(settings: &MembershipSettings, size: usize) -> foca::Config {
    let count = |n: usize| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
    let digits = size.max(10).ilog10() + 1;
    let transmissions = u8::try_from(4 * digits).unwrap_or(u8::MAX);
    let periodic = |frequency, num_members| {
        Some(foca::PeriodicParams { frequency, num_members: count(num_members) })
    };
    foca::Config {
        probe_period: settings.probe_period,
        probe_rtt: settings.probe_timeout,
        num_indirect_probes: count(3),
        max_transmissions: NonZeroU8::new(transmissions).unwrap_or(NonZeroU8::MIN),
        suspect_to_down_after: settings.suspicion * (digits - 1),
        remove_down_after: Some(settings.forget_down_after),
        max_packet_size: count(settings.packet_octets),
        notify_down_members: true,
        periodic_announce: periodic(Duration::from_secs(30), 1),
        periodic_announce_to_down_members: periodic(settings.announce_down, CALLED),
        periodic_gossip: periodic(Duration::from_millis(200), 3),
    }
}
