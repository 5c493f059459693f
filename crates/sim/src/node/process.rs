//! A running process: the two machines of a host, fed and drained.

mod handshake;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dunlin_core::gossip::{Frame, Lane, Outgoing, Peer};
use dunlin_core::health::{CheckKey, CheckOutcome, RunId};
use dunlin_core::host::{
    Event, Host, LinkId, Members, MembersOutput, MembersSettings, Moment, Output, PeerEvent,
    PeerOutput, Request, Ticket,
};
use dunlin_core::model::{NodeId, ServiceName};

use self::handshake::Opening;
use super::{Action, Identity, index_of, sooner};
use crate::stream::StreamId;

/// Time between two attempts to reach the seeds while there is no link.
const SEED_INTERVAL: Duration = Duration::from_secs(1);
/// Requests that may wait; one that comes then is refused, as by the agent's queue.
const MAX_REQUESTS: usize = 1024;

#[derive(Debug)]
pub(crate) struct Process {
    pub(super) identity: Identity,
    pub(crate) host: Host,
    pub(crate) members: Members,
    /// This process as the others know it at present.
    pub(super) own: Peer,
    /// Members that new links are told of.
    pub(super) known: Vec<(Peer, bool)>,
    pub(super) opening: BTreeMap<StreamId, Opening>,
    /// Numbers the processes of this node.
    pub(super) life: u32,
    pub(super) dials: u32,
    /// Requests without an answer.
    asked: usize,
    next_seeds: Instant,
    has_links_changed: bool,
}

impl Process {
    pub(super) fn new(
        now: Instant,
        identity: &Identity,
        (own, life): (Peer, u32),
        host: Host,
        settings: MembersSettings,
        known: &[(Peer, bool)],
    ) -> Self {
        Self {
            identity: identity.clone(),
            host,
            members: Members::new(now, own, settings, known.iter().copied()),
            own,
            known: Vec::new(),
            opening: BTreeMap::new(),
            life,
            dials: 0,
            asked: 0,
            next_seeds: now,
            has_links_changed: false,
        }
    }

    /// Has the node join the others and state its own truth.
    pub(super) fn begin(
        &mut self,
        moment: Moment,
        members: &[(Peer, bool)],
        out: &mut Vec<Action>,
    ) {
        let down = members.iter().filter(|(_, is_live)| !is_live).map(|(peer, _)| peer.id);
        self.host.start(moment);
        self.host.join(moment, down);
        self.drain(moment, out);
    }

    /// Takes a datagram. The sender is known by its seal.
    pub(crate) fn handle_datagram(
        &mut self,
        moment: Moment,
        from: Peer,
        octets: &[u8],
        out: &mut Vec<Action>,
    ) {
        self.members.handle_heard(moment.now, from.id);
        self.members.handle_packet(moment, from.id, octets);
        self.drain(moment, out);
    }

    /// Takes a client's request. False if too many wait.
    pub(crate) fn ask(
        &mut self,
        moment: Moment,
        ticket: Ticket,
        request: Request,
        out: &mut Vec<Action>,
    ) -> bool {
        if self.asked >= MAX_REQUESTS {
            return false;
        }
        self.asked += 1;
        self.host.handle_request(moment, ticket, request, None);
        self.host.flush(moment);
        self.drain(moment, out);
        true
    }

    pub(crate) fn handle_checked(
        &mut self,
        moment: Moment,
        (key, run): (&CheckKey, RunId),
        outcome: CheckOutcome,
        out: &mut Vec<Action>,
    ) {
        self.host.handle_check(moment, key, run, outcome);
        self.drain(moment, out);
    }

    pub(crate) fn handle_probed(
        &mut self,
        moment: Moment,
        service: &ServiceName,
        key: &dunlin_core::catalog::EndpointKey,
        answered: bool,
        out: &mut Vec<Action>,
    ) {
        self.host.handle_probe(moment, service, key, answered);
        self.drain(moment, out);
    }

    /// The batch is on the disk, or was refused.
    pub(crate) fn handle_stored(&mut self, moment: Moment, is_stored: bool, out: &mut Vec<Action>) {
        let result = if is_stored { Ok(()) } else { Err("the disk is full".to_owned()) };
        self.host.handle_stored(moment, result);
        self.drain(moment, out);
    }

    /// Does what is due.
    pub(crate) fn handle_deadline(&mut self, moment: Moment, out: &mut Vec<Action>) {
        let now = moment.now;
        self.members.handle_deadline(moment);
        if self.host.next_deadline().is_some_and(|at| at <= now) {
            self.host.handle_deadline(moment);
        }
        self.give_up_openings(moment, out);
        if self.next_seeds <= now {
            self.next_seeds = now + SEED_INTERVAL;
            self.dial_seeds(now, out);
        }
        self.drain(moment, out);
    }

    fn dial_seeds(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.identity.is_bare || self.host.links().next().is_some() {
            return;
        }
        for seed in self.identity.seeds.clone() {
            if seed != self.identity.index {
                self.dial(now, seed, None, out);
            }
        }
    }

    /// When [`Process::handle_deadline`] is due next.
    pub(crate) fn next_deadline(&self) -> Instant {
        let at = self.members.next_deadline().min(self.next_seeds);
        sooner(sooner(at, self.host.next_deadline()), self.opening_deadline())
    }

    /// Stops in good order.
    pub(crate) fn stop(&mut self, moment: Moment, out: &mut Vec<Action>) {
        self.host.handle_stop(moment);
        self.drain(moment, out);
    }

    /// Tells members that this process is about to end.
    pub(crate) fn leave(&mut self, moment: Moment, out: &mut Vec<Action>) {
        self.members.leave(moment.now);
        self.drain(moment, out);
    }

    /// Handshakes that are under way.
    pub(crate) fn openings(&self) -> usize {
        self.opening.len()
    }

    /// Performs what both machines want done, until they want no more.
    pub(super) fn drain(&mut self, moment: Moment, out: &mut Vec<Action>) {
        loop {
            if let Some(output) = self.members.poll_output() {
                self.perform_members(moment, output, out);
            } else if let Some(output) = self.host.poll_output() {
                self.perform_host(moment, output, out);
            } else {
                break;
            }
        }
        self.members.set_summary(self.host.replica().summary());
        if std::mem::take(&mut self.has_links_changed) {
            self.members.set_linked(self.host.links().map(|(node, _)| node).collect());
        }
    }

    fn perform_members(&mut self, moment: Moment, output: MembersOutput, out: &mut Vec<Action>) {
        match output {
            MembersOutput::Send { to, packet, also_by_link } => {
                let link = self.host.link(to.id).filter(|_| also_by_link);
                let by_link = link.map(|LinkId(stream)| {
                    let octets = Frame::Packet(packet.clone()).encode();
                    Action::Push { stream, lane: Lane::Urgent, octets }
                });
                out.push(Action::Datagram { to: index_of(to.address), octets: packet.into() });
                out.extend(by_link);
            }
            MembersOutput::Tell(event) => {
                let is_rare = matches!(event, PeerEvent::Member { .. });
                self.note(out, || is_rare.then(|| format!("{event:?}")));
                self.tell(moment, event);
            }
            MembersOutput::Renewed(own) => self.own = own,
            MembersOutput::Known(known) => self.known = known,
            MembersOutput::Misbehaved { node, problem } => {
                out.push(Action::Misbehaved { peer: node, problem });
            }
            MembersOutput::Trouble(_) => {}
        }
    }

    pub(super) fn tell(&mut self, moment: Moment, event: PeerEvent) {
        self.host.handle_peer(moment, event);
        self.host.flush(moment);
    }

    fn perform_host(&mut self, moment: Moment, output: Output, out: &mut Vec<Action>) {
        match output {
            Output::Store(batch) => out.push(Action::Store(batch)),
            Output::Answer { ticket, result } => {
                self.asked = self.asked.saturating_sub(1);
                out.push(Action::Answered { ticket, result });
            }
            Output::RunCheck { key, run, .. } => out.push(Action::Check { key, run }),
            Output::Probe { service, key, .. } => out.push(Action::Probe { service, key }),
            Output::Tell(event) => {
                self.note(out, || Some(format!("{event:?}")));
                if matches!(event, Event::NodeForgotten { .. }) {
                    out.push(Action::Happened(event));
                }
            }
            Output::Peers(output) => self.perform_for_peers(moment, output, out),
            Output::Shown { origin, rows } => out.push(Action::Visible { origin, rows }),
            Output::Stopped => out.push(Action::Stopped),
            Output::Publish { .. } | Output::PublishRegistry | Output::CancelCheck { .. } => {}
        }
    }

    fn perform_for_peers(&mut self, moment: Moment, output: PeerOutput, out: &mut Vec<Action>) {
        match output {
            PeerOutput::Dial(peer) => self.dial_member(moment.now, peer, out),
            PeerOutput::CloseLink { link: LinkId(stream), reason, .. } => {
                self.note(out, || Some(format!("closes {stream:x}: {reason}")));
                self.has_links_changed = true;
                out.push(Action::Close(stream));
            }
            PeerOutput::Ready(node) => {
                let link = self.host.link(node);
                out.extend(link.map(|LinkId(stream)| Action::Ready(stream)));
            }
            PeerOutput::SendUrgent { to, packet } => {
                for peer in to {
                    let octets = packet.clone();
                    out.push(Action::Datagram { to: index_of(peer.address), octets });
                }
            }
            PeerOutput::Met { peer, known_generation } => {
                self.has_links_changed = true;
                self.members.handle_met(moment.now, peer, known_generation);
            }
            PeerOutput::Misbehaved { node, problem } => {
                out.push(Action::Misbehaved { peer: node, problem });
            }
            PeerOutput::ShowMembers(_) => {}
        }
    }

    pub(super) fn note(&self, out: &mut Vec<Action>, note: impl FnOnce() -> Option<String>) {
        if self.identity.is_traced {
            out.extend(note().map(Action::Note));
        }
    }

    /// The next frame for a stream whose buffer has room.
    pub(crate) fn next_frame(&mut self, stream: StreamId) -> Option<Outgoing> {
        let node = self.node_of(stream)?;
        self.host.next_frame(node)
    }

    /// The next urgent frame for a stream whose buffer is full.
    pub(crate) fn next_urgent_frame(&mut self, stream: StreamId) -> Option<Outgoing> {
        let node = self.node_of(stream)?;
        self.host.next_urgent_frame(node)
    }

    /// To which node a stream leads, once both have said hello.
    pub(crate) fn node_of(&self, stream: StreamId) -> Option<NodeId> {
        self.host.links().find(|(_, link)| *link == LinkId(stream)).map(|(node, _)| node)
    }

    /// A stream to a node has ended on which both had said hello.
    pub(super) fn handle_link_closed(&mut self, moment: Moment, node: NodeId, stream: StreamId) {
        self.has_links_changed = true;
        self.tell(moment, PeerEvent::LinkClosed { node, link: LinkId(stream) });
    }
}
