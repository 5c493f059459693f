//! Which members are alive: SWIM with suspicion (Das, Gupta, Motivala 2002), as implemented by [`foca`], with the
//! parts that foca leaves to its users: timers, a local health score (Lifeguard: Dadgar, Phillips, Currey 2018),
//! doubts, and a member list that survives a restart.
//!
//! What always holds:
//! - A member that answers is not declared down by an agent that is itself too slow: timers that fire late raise
//!   the health score, which stretches every timeout, and after a pause all timers are postponed.
//! - A member that was heard recently is not down just because another agent says so: it is pinged, and while it
//!   answers it has time to refute the claim itself.
//! - `Down` is final for one generation of a member; a member that was declared down by mistake comes back with the
//!   next one.

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

/// The number of pings that a doubted member may leave unanswered before it is declared down.
const DOUBT_PINGS: u8 = 3;
/// The worst local health score. Timeouts are multiplied by the score plus one.
const MAX_HEALTH: u32 = 8;
/// The number of members that an agent asks for their member lists after it was declared down by mistake.
const CATCH_UP_FROM: usize = 3;
/// The number of down members to which the agent announces itself at a time.
const CALLED: usize = 2;
/// The number of outputs for which space is kept while none wait.
const USUAL_OUTPUTS: usize = 64;
/// The limit of known members, live and down; beyond it new members are not taken from lists.
const MAX_MEMBERS: usize = 65_536;

/// How members watch each other. All agents of a cluster should have the same settings.
#[derive(Debug, Clone)]
pub struct MembershipSettings {
    /// The interval at which one random member is probed. A shorter one finds crashes sooner and costs more packets.
    /// The rest of it after `probe_timeout` has to suffice for two round trips. Otherwise indirect probes are answered
    /// too late, each lost packet causes a suspicion, and the packets of a thousand nodes are filled with suspicions
    /// and refutations.
    pub probe_interval: Duration,
    /// How long a member may take to answer before others are asked to probe it. It should exceed nearly every
    /// round-trip time.
    pub probe_timeout: Duration,
    /// How long a suspected member has to refute the suspicion in a cluster of ten; it grows with the logarithm of the
    /// cluster's size.
    pub suspicion_timeout: Duration,
    /// The interval at which the agent announces itself to members that are down, so that the sides of a healed
    /// partition join.
    pub announce_down_interval: Duration,
    /// The interval between the pings that a doubted member gets as its last chance.
    pub doubt_interval: Duration,
    /// How long a member that is down is remembered.
    pub forget_down_after: Duration,
    /// The limit of one packet in octets.
    pub packet_octets: usize,
}

impl Default for MembershipSettings {
    fn default() -> Self {
        Self {
            probe_interval: Duration::from_millis(1000),
            probe_timeout: Duration::from_millis(300),
            suspicion_timeout: Duration::from_millis(1000),
            announce_down_interval: Duration::from_secs(3),
            doubt_interval: Duration::from_millis(100),
            forget_down_after: Duration::from_secs(72 * 3600),
            packet_octets: 1_100,
        }
    }
}

/// The state of a member as membership sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// The member answers.
    Alive,
    /// The member did not answer a probe and may still refute the suspicion.
    Suspect,
    /// The member is down until it comes back with a higher generation.
    Down,
}

/// An effect to perform, or a change to report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MembershipOutput {
    /// Send this packet; the receiver passes it to its [`Membership::handle_packet`].
    Send {
        /// The member that receives the packet.
        to: Peer,
        /// The octets of the packet.
        packet: Vec<u8>,
    },
    /// Send a ping; anything that comes from the member counts as its answer.
    Ping {
        /// The member to ping.
        to: Peer,
    },
    /// A member has joined or has come back.
    Up(Peer),
    /// A member is down.
    Down(Peer),
    /// The agent has taken a new identity, because other members had declared the old one down.
    Renewed(Peer),
}

/// Why a packet was rejected. The sender is at fault; nothing was changed.
#[derive(Debug, Error, PartialEq)]
#[error("membership packet: {0:?}")]
pub struct PacketError(foca::Error);

/// A member whose agent may have died, because its host refused a connection or another member reports it down.
#[derive(Debug)]
struct Doubt {
    peer: Peer,
    pings_left: u8,
    next: Instant,
    /// Set if another member reports it down, which foca has believed.
    rumour: Option<Rumour>,
}

/// The report of another member that a member is down which was heard recently. It may come from an agent that was cut
/// off from that member.
#[derive(Debug, Clone, Copy)]
struct Rumour {
    /// Until when the member may take a new identity, provided that it answers.
    until: Instant,
    has_answered: bool,
}

/// The state machine of one agent's membership.
pub struct Membership {
    foca: Foca<Peer, PostcardCodec, Random, NoCustomBroadcast>,
    settings: MembershipSettings,
    timers: BTreeMap<(Instant, u64), Timer<Peer>>,
    submitted: u64,
    doubts: BTreeMap<NodeId, Doubt>,
    /// When each member was last heard, for those that were heard recently.
    heard: BTreeMap<NodeId, Instant>,
    health: u32,
    /// Whether anything was heard since the last probe began. If not, this agent itself may be cut off.
    has_heard: bool,
    /// The cluster's size for which foca's configuration was made.
    sized_for: usize,
    /// When the end of a member is to be gossiped without waiting for the next probe.
    push_at: Option<Instant>,
    /// When to announce the agent to members that are down, if it knows no live member.
    call_at: Option<Instant>,
    /// The number of these announcements so far; their receivers take turns.
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

/// Collects the effects that foca asks for while one of its functions runs.
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
            // Both identities are alive: the member came back before anybody noticed that it was gone.
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
    /// The membership of an agent that knows no other member yet.
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

    /// The agent's present identity.
    #[must_use]
    pub fn own(&self) -> Peer {
        *self.foca.identity()
    }

    /// The number of other members that are alive or suspected.
    #[must_use]
    pub fn live_count(&self) -> usize {
        self.foca.num_members()
    }

    /// The local health score, from 0 (good) to 8. Every timeout is multiplied by the score plus one.
    #[must_use]
    pub fn health(&self) -> u32 {
        self.health
    }

    /// All other members that are known. The cost is proportional to their number.
    pub fn members(&self) -> impl Iterator<Item = (Peer, Liveness)> {
        // Foca lists former lives of this node as members that are down.
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

    /// Whether a member is only reported down by others and may still refute it.
    fn is_rumoured(&self, peer: &Peer) -> bool {
        let doubt = self.doubts.get(&peer.id);
        doubt.is_some_and(|doubt| doubt.rumour.is_some() && doubt.peer == *peer)
    }

    /// The identity and state of one node. The cost is proportional to the number of members.
    #[must_use]
    pub fn peer(&self, node: NodeId) -> Option<(Peer, Liveness)> {
        self.members().find(|(peer, _)| peer.id == node)
    }

    /// Takes members that were known before a restart, or a peer's list of members. The live ones are verified by the
    /// probes that follow; the agent announces itself to the others from time to time.
    pub fn introduce(&mut self, now: Instant, members: impl IntoIterator<Item = (Peer, bool)>) {
        let own = self.own();
        let room = MAX_MEMBERS.saturating_sub(self.foca.iter_membership_state().len());
        let members: Vec<(Peer, bool)> =
            members.into_iter().filter(|(peer, _)| peer.id != own.id).take(room).collect();
        let known: BTreeSet<NodeId> =
            self.foca.iter_membership_state().map(|member| member.id().id).collect();
        let member = |(peer, is_live): &(Peer, bool)| {
            if *is_live { Member::alive(*peer) } else { Member::down(*peer) }
        };
        let updates = members.iter().map(member);
        // The peer that sent the list has told others, too, so foca need not spread it.
        self.with_foca(now, |foca, effects| foca.apply_many(updates, false, effects));
        // Foca does not report the end of members that it did not know to be alive.
        let unknown =
            members.iter().filter(|(peer, is_live)| !is_live && !known.contains(&peer.id));
        self.outputs.extend(unknown.map(|(peer, _)| MembershipOutput::Down(*peer)));
    }

    /// Takes a peer with which a stream was opened: it is alive, whatever was known of its former lives.
    /// `known_generation` is the generation under which that peer knows this agent. If it exceeds the present one, it
    /// belongs to a former life, and the agent takes a higher one.
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

    /// Asks a member for its member list.
    pub fn ask(&mut self, now: Instant, node: NodeId) {
        if let Some((peer, Liveness::Alive | Liveness::Suspect)) = self.peer(node) {
            self.with_foca(now, |foca, effects| foca.announce(peer, effects));
        }
    }

    /// Takes a packet from a peer's [`MembershipOutput::Send`].
    ///
    /// # Errors
    /// When the packet is malformed, or foca cannot accept it.
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

    /// Records that something came from a member, which shows that it is alive.
    pub fn handle_heard(&mut self, now: Instant, from: NodeId) {
        self.has_heard = true;
        self.heard.insert(from, now);
        let Some(doubt) = self.doubts.get_mut(&from) else { return };
        match &mut doubt.rumour {
            Some(rumour) => rumour.has_answered = true,
            None => _ = self.doubts.remove(&from),
        }
    }

    /// For how long a member counts as heard recently.
    fn recently(&self) -> Duration {
        self.settings.probe_interval * 2
    }

    /// Takes reports that a recently heard member is down out of the news of a packet, and pings these members.
    fn take_rumours(&mut self, now: Instant, from: NodeId, news: &mut Vec<News>) {
        let recently = self.recently();
        let until = now + self.stretched(self.settings.suspicion_timeout * 2);
        news.retain(|news| {
            let News::Down(peer) = news else { return true };
            let heard = self.heard.get(&peer.id);
            let is_recent = heard.is_some_and(|at| now.saturating_duration_since(*at) < recently);
            let doubt = self.doubts.get(&peer.id);
            let is_refused = doubt.is_some_and(|doubt| doubt.rumour.is_none());
            // A member that reports itself down leaves; one whose host has refused a connection is down indeed.
            if !is_recent || peer.id == from || is_refused {
                return true;
            }
            let rumour = Some(Rumour { until, has_answered: false });
            let doubt = Doubt { peer: *peer, pings_left: DOUBT_PINGS, next: now, rumour };
            self.doubts.insert(peer.id, doubt);
            // The member has to hear the report to be able to refute it.
            self.push_at = self.push_at.or(Some(now));
            false
        });
    }

    /// Takes the news that a member's host refused a connection to its agent. The member gets some pings as its last
    /// chance; if it answers none of them, it is down.
    pub fn doubt(&mut self, now: Instant, node: NodeId) {
        let Some((peer, Liveness::Alive | Liveness::Suspect)) = self.peer(node) else { return };
        let doubt = Doubt { peer, pings_left: DOUBT_PINGS, next: now, rumour: None };
        self.doubts.entry(node).or_insert(doubt);
        self.handle_deadline(now);
    }

    /// Tells the other members that this agent stops in good order.
    pub fn leave(&mut self, now: Instant) {
        self.has_left = true;
        self.with_foca(now, |foca, effects| foca.leave_cluster(effects));
    }

    /// Handles all timers that are due.
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
        self.ping_doubted(now);
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

    /// The next effect to perform or change to report.
    pub fn poll_output(&mut self) -> Option<MembershipOutput> {
        let output = self.outputs.pop_front();
        if output.is_none() {
            // Thousands of members may have joined at once.
            self.outputs.shrink_to(USUAL_OUTPUTS);
        }
        output
    }

    /// Postpones all timers if they are late by more than a probe's interval: this process stood still, not the others,
    /// and their packets of that time are yet to be read.
    fn forgive_pause(&mut self, now: Instant) {
        let Some(((due, _), _)) = self.timers.first_key_value() else { return };
        let late = now.saturating_duration_since(*due);
        if late > self.settings.probe_timeout / 2 {
            self.worsen();
        }
        if late <= self.settings.probe_interval {
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
        self.health = (self.health + 1).min(MAX_HEALTH);
    }

    fn stretched(&self, time: Duration) -> Duration {
        time * (self.health + 1)
    }

    /// Updates the health score when one probe ends and the next begins: if nothing was heard meanwhile, this agent may
    /// be the one that is cut off.
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

    /// Whether the suspicion that this timer ends was refuted meanwhile. Foca would leave the member alive, too, but
    /// would tell it that it is down, so that it took a new identity of which the whole cluster has to hear.
    fn is_refuted(&self, timer: &Timer<Peer>) -> bool {
        let Timer::ChangeSuspectToDown { member_id, incarnation, .. } = timer else { return false };
        !self.foca.iter_members().any(|member| {
            let is_same = (member.id(), member.incarnation()) == (member_id, *incarnation);
            is_same && member.state() == State::Suspect
        })
    }

    fn ping_doubted(&mut self, now: Instant) {
        let period = self.stretched(self.settings.doubt_interval);
        let mut gone = Vec::new();
        for doubt in self.doubts.values_mut().filter(|doubt| doubt.next <= now) {
            if doubt.pings_left == 0 {
                match &mut doubt.rumour {
                    // The answer may have been sent before the member died, so it has to answer again.
                    Some(Rumour { until, has_answered }) if *has_answered && now < *until => {
                        *has_answered = false;
                        doubt.pings_left = DOUBT_PINGS;
                    }
                    Some(_) | None => {
                        gone.push((doubt.peer, doubt.rumour.is_some()));
                        continue;
                    }
                }
            }
            doubt.pings_left -= 1;
            doubt.next = now + period;
            self.outputs.push_back(MembershipOutput::Ping { to: doubt.peer });
        }
        for (peer, is_rumoured) in gone {
            self.doubts.remove(&peer.id);
            if is_rumoured {
                // Foca has believed the report already.
                self.heard.remove(&peer.id);
                self.outputs.push_back(MembershipOutput::Down(peer));
                continue;
            }
            let down = std::iter::once(Member::down(peer));
            self.with_foca(now, |foca, effects| foca.apply_many(down, true, effects));
        }
    }

    /// Calls foca, then performs the effects that it asks for.
    fn with_foca<E>(
        &mut self,
        now: Instant,
        act: impl FnOnce(
            &mut Foca<Peer, PostcardCodec, Random, NoCustomBroadcast>,
            &mut Effects,
        ) -> Result<(), E>,
    ) {
        let mut effects = Effects::default();
        // The only errors here are inconsistencies of foca's own bookkeeping after a pause, from which it recovers.
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
        let call_at = self.call_at.unwrap_or(now + self.settings.announce_down_interval);
        self.call_at = (is_alone && !self.has_left).then_some(call_at);
        if is_renewed {
            self.trust_suspects(now);
            self.catch_up(now);
        }
    }

    /// Withdraws the suspicions of the agent's former identity. The fault may have been this agent's, and foca stops the
    /// timers that would end the suspicions, so that healthy members would stay suspect forever. A member that is gone
    /// fails its next probe.
    ///
    /// It is called even if no member is suspected, because it makes foca notice that there are live members. With a new
    /// identity foca looks at them only when the next packet comes, so two agents that renew at the same time and lose
    /// the packets about it would wait for each other forever.
    fn trust_suspects(&mut self, now: Instant) {
        let suspects = self.foca.iter_members().filter(|member| member.state() == State::Suspect);
        // Only a higher incarnation overrides a suspicion. The member itself can override this one in turn.
        let trusted = |member: &Member<Peer>| {
            Member::new(*member.id(), member.incarnation().saturating_add(1), State::Alive)
        };
        let trusted: Vec<Member<Peer>> = suspects.map(trusted).collect();
        self.with_foca(now, |foca, effects| foca.apply_many(trusted.into_iter(), false, effects));
    }

    /// Asks some members for their member lists. Nobody sent anything to this agent while it was thought to be down,
    /// and members repeat each piece of news only for a short time.
    fn catch_up(&mut self, now: Instant) {
        let live: Vec<Peer> = self.foca.iter_members().map(|member| *member.id()).collect();
        let first = usize::try_from(self.submitted).unwrap_or(0);
        for at in (first..).take(live.len().min(CATCH_UP_FROM)) {
            let peer = live[at % live.len()];
            self.with_foca(now, |foca, effects| foca.announce(peer, effects));
        }
    }

    /// Announces the agent to members that are down, as foca itself does while some member is live. Without a live
    /// member foca's timers stop, so two agents that lost each other and know no other would wait for each other
    /// forever.
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

    /// Adjusts the suspicion timeout and the number of repetitions, which grow with the logarithm of the cluster's size.
    fn follow_size(&mut self) {
        let size = self.foca.num_members() + 1;
        if size <= self.sized_for * 2 && size * 4 >= self.sized_for {
            return;
        }
        self.sized_for = size;
        let configuration = configuration(&self.settings, size);
        self.foca.set_config(configuration).expect("neither intervals nor announcements change");
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
        probe_period: settings.probe_interval,
        probe_rtt: settings.probe_timeout,
        num_indirect_probes: count(3),
        max_transmissions: NonZeroU8::new(transmissions).unwrap_or(NonZeroU8::MIN),
        suspect_to_down_after: settings.suspicion_timeout * (digits - 1),
        remove_down_after: Some(settings.forget_down_after),
        max_packet_size: count(settings.packet_octets),
        notify_down_members: true,
        periodic_announce: periodic(Duration::from_secs(30), 1),
        periodic_announce_to_down_members: periodic(settings.announce_down_interval, CALLED),
        periodic_gossip: periodic(Duration::from_millis(200), 3),
    }
}
