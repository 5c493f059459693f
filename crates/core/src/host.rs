//! The engine: everything that one host decides.
//!
//! A [`Host`] takes what happens (requests, frames, results of checks and probes, news of the disk) and says what is
//! to be done about it, as [`Output`]s. The agent and the simulator are two drivers of this one engine: what the
//! simulator checks is what runs. Beside it stands [`Members`], which finds out which other hosts are there. It is a
//! machine of its own since the agent gives it a thread of its own, so that a host with much to do still answers
//! pings; the two tell each other [`PeerEvent`]s and a few outputs.
//!
//! To drive a host: call one of the `handle_*` functions, then do what [`Host::poll_output`] says until it says
//! nothing more. [`Host::next_deadline`] says when to call [`Host::handle_deadline`]. Three inputs gather until the next
//! [`Host::flush`] or other input: frames and peers' news are merged at once and shown together, and requests become one
//! batch.
//!
//! What always holds:
//! - What clients state is stored, then shown, then acknowledged. What checks observe is shown, then stored.
//! - One batch at a time is on its way to the disk. What comes meanwhile becomes the next one together.
//! - A refused batch changes nothing, and every request in it is told so.
//! - Bad news goes out to peers before anything else is done with it.

mod batch;
mod checks;
mod event;
mod known_members;
mod lifetimes;
mod members;
mod observed;
mod output;
mod participant;
mod peers;
mod purge;
mod registry;
mod remote;
mod request;
mod restatement;
mod restore;
mod show;
mod statements;
mod stored;
#[cfg(test)]
mod tests;
mod timer;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use batch::Participants;
use checks::Checks;
use participant::{Drafted, Refusal, Settling};
use peers::{Peers, Verdict};
use timer::Timer;

pub use self::event::{Event, Place};
pub use self::members::{Members, MembersOutput, MembersSettings, Trouble, known_members};
pub use self::output::{LinkId, Moment, Output, PeerOutput, SeenMember};
pub use self::peers::{Measured, PeerEvent};
pub use self::registry::{Effect, MAX_PROVIDERS, Registry, RegistryError, Report};
pub use self::request::{Answer, Permit, Permitted, Request, RequestError, Ticket};
pub use self::restore::load;
pub use self::stored::{
    Batch, HistoryWrite, ProviderWrite, Stored, StoredHistory, StoredProvider, rows_of,
};
use crate::catalog::{Catalog, CatalogView, EndpointKey, GuardSettings, NodeStatus};
use crate::gossip::{
    Exchange, ExchangeOutput, ExchangeSettings, ExchangeStats, Frame, Hello, Outgoing, Peer,
};
use crate::health::{CheckKey, CheckOutcome, RunId};
use crate::model::{CheckStatus, NodeId, NodeRow, ServiceName};
use crate::replica::{Delta, Replica, RowChange, Version};

/// Time between attempts to store what the disk did not take.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How a host behaves.
#[derive(Debug, Clone)]
pub struct HostSettings {
    /// What the node says of itself.
    pub node: NodeRow,
    /// When the guard steps in.
    pub guard: GuardSettings,
    /// How long the rows of a node that is gone are kept.
    pub reap_after: Duration,
    /// How long tombstones of the own history are kept, at least as long as a peer may be away.
    pub keep_tombstones: Duration,
    /// Time between the marks by which old tombstones are purged.
    pub purge_interval: Duration,
    /// Rows of other nodes that one batch stores at most, so that the own writes in it need not wait long.
    pub max_stored_rows: usize,
    /// How rows are exchanged with other hosts.
    pub exchange: ExchangeSettings,
    /// A random number, so that the checks of many hosts are spread.
    pub seed: u64,
    /// Whether stopping tells the others that this node leaves.
    pub leaves_on_stop: bool,
    /// Whether each change of rows is told as [`Output::Shown`].
    pub tells_rows: bool,
}

impl HostSettings {
    /// The usual behaviour for a node.
    #[must_use]
    pub fn new(node: NodeRow) -> Self {
        let reap_after = Duration::from_secs(72 * 3600);
        Self {
            node,
            guard: GuardSettings::default(),
            reap_after,
            keep_tombstones: reap_after,
            purge_interval: Duration::from_secs(3600),
            max_stored_rows: 2_000,
            exchange: ExchangeSettings::default(),
            seed: 0,
            leaves_on_stop: false,
            tells_rows: false,
        }
    }
}

/// The engine of one host.
#[derive(Debug)]
pub struct Host {
    settings: HostSettings,
    own: NodeId,
    replica: Replica,
    catalog: Catalog,
    checks: Checks,
    participants: Participants,
    /// `None` while the host stands alone.
    peers: Option<Peers>,
    /// Whether catalog, guard and health take part, see [`Host::bare`].
    is_bare: bool,
    /// The own commit of the batch that is on its way to the disk.
    in_flight: Option<Option<Delta>>,
    retry_at: Option<Instant>,
    stop: Stop,
    outputs: VecDeque<Output>,
}

/// How far a host has come with stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    No,
    /// What is left is being stored.
    Storing,
    /// That the node leaves is being stored, if it is to be.
    Leaving,
    Done,
}

impl Host {
    /// Joins the host with others. Members that were down when it last stopped still are until they say otherwise.
    pub fn join(&mut self, moment: Moment, down: impl IntoIterator<Item = NodeId>) {
        let Moment { now, wall } = moment;
        let HostSettings { node, exchange, seed, .. } = &self.settings;
        let exchange =
            Exchange::new(now, &self.replica, node.zone.clone(), exchange.clone(), *seed);
        self.peers = Some(Peers::new(exchange));
        if !self.is_bare {
            let statuses: Vec<_> = down.into_iter().map(|id| (id, NodeStatus::Down)).collect();
            self.catalog.handle_statuses(now, wall, &statuses);
        }
        self.drain(moment);
    }

    /// Begins: the first batch makes the own rows say what the registry and the settings say; checks are scheduled
    /// when it is stored.
    pub fn start(&mut self, moment: Moment) {
        let node = self.settings.node.clone();
        self.participants.statements.start(moment.now, node);
        self.go_on(moment);
    }

    /// Takes a client's request. It is carried out with the next [`Host::flush`], together with others that came before
    /// it. The answer comes as [`Output::Answer`]; until then the request waits here, so the caller bounds how many
    /// there are.
    pub fn handle_request(
        &mut self,
        moment: Moment,
        ticket: Ticket,
        request: Request,
        permit: Permitted,
    ) {
        if self.stop != Stop::No {
            return self.answer(ticket, Err(RequestError::Stopping));
        }
        match request {
            // These change no row, or one that is shown before it is stored.
            Request::ReleaseGuard(_) | Request::PushCheck { .. } => {
                let registry = &self.participants.statements.registry;
                match request.check(&permit, registry) {
                    Ok(()) => self.carry_out_at_once(moment, ticket, request),
                    Err(error) => self.answer(ticket, Err(error)),
                }
            }
            Request::Register(_)
            | Request::Deregister(_)
            | Request::SetMode(..)
            | Request::SetNodePhase(_)
            | Request::PutProvider { .. }
            | Request::ProviderFailed { .. }
            | Request::RemoveProvider(_) => {
                self.participants.statements.ask(ticket, request, permit);
            }
        }
    }

    fn carry_out_at_once(&mut self, moment: Moment, ticket: Ticket, request: Request) {
        if let Request::ReleaseGuard(service) = &request {
            let was_held = self.catalog.release(moment.now, moment.wall, service);
            self.drain(moment);
            let problem = || RequestError::NotFound(format!("service {service} is not guarded"));
            self.answer(ticket, was_held.then_some(Answer::Done).ok_or_else(problem));
        }
        if let Request::PushCheck { instance, check, status, output } = request {
            match self.push_check(moment, &CheckKey { instance, check }, status, &output) {
                // What was pushed is shown already; the client is told once it is stored.
                Ok(()) => self.participants.statements.answer_when_stored(ticket),
                Err(error) => self.answer(ticket, Err(error)),
            }
        }
    }

    fn push_check(
        &mut self,
        moment: Moment,
        key: &CheckKey,
        status: CheckStatus,
        output: &str,
    ) -> Result<(), RequestError> {
        let Moment { now, wall } = moment;
        let pushed = self.checks.scheduler.handle_push(now, wall, key, status, output);
        self.drain(moment);
        pushed.map_err(|error| {
            let hint = "give the instance a check of kind ttl to push to".to_owned();
            match self.participants.statements.registry.registration(&key.instance) {
                Some(r) if r.checks.iter().any(|spec| spec.id == key.check) => {
                    RequestError::Invalid { error: error.to_string(), hint }
                }
                Some(_) | None => RequestError::NotFound(format!(
                    "no check {} of an instance {} on this agent",
                    key.check, key.instance
                )),
            }
        })
    }

    /// Takes what the members' machine or the transport tells. What it makes visible is shown by the next
    /// [`Host::flush`], together with what else came meanwhile.
    pub fn handle_peer(&mut self, moment: Moment, event: PeerEvent) {
        let Some(peers) = &mut self.peers else { return };
        let (now, replica) = (moment.now, &mut self.replica);
        match event {
            PeerEvent::Linked { hello, is_dialed, link } => {
                self.handle_linked(moment, &hello, is_dialed, link);
            }
            PeerEvent::LinkClosed { node, link } => peers.handle_link_closed(now, node, link),
            PeerEvent::DialFailed(node) => peers.exchange.handle_dial_failed(now, node),
            PeerEvent::Member { peer, is_live } => {
                self.note_member(now, peer, is_live);
                let status = if is_live { NodeStatus::Alive } else { NodeStatus::Down };
                self.note_status(peer.id, status);
            }
            PeerEvent::Members(members) => self.handle_members(moment, members),
            PeerEvent::Urgent { from, delta } => {
                peers.exchange.handle_urgent(now, from, delta, replica);
            }
            PeerEvent::Summary { from, summary } => {
                peers.exchange.handle_summary(now, from, summary, replica);
            }
            PeerEvent::KnownMembers(entries) => {
                self.participants.known_members.note(now, entries);
            }
        }
        self.follow_exchange(moment);
    }

    fn handle_linked(&mut self, moment: Moment, hello: &Hello, is_dialed: bool, link: LinkId) {
        let Some(peers) = &mut self.peers else { return };
        let node = hello.peer.id;
        let reason = "another link takes its place";
        match peers.judge(self.own, hello, is_dialed, link) {
            Verdict::Refused => {
                let reason = "there is a link already";
                self.peer(PeerOutput::CloseLink { node, link, reason });
            }
            Verdict::Kept { replaced } => {
                peers.exchange.handle_link(moment.now, hello, is_dialed, &self.replica);
                if let Some(link) = replaced {
                    self.peer(PeerOutput::CloseLink { node, link, reason });
                }
                let (peer, known_generation) = (hello.peer, hello.your_generation);
                self.peer(PeerOutput::Met { peer, known_generation });
                let (node, zone, address) =
                    (hello.name.clone(), hello.zone.clone(), hello.peer.address);
                self.tell(Event::LinkOpened { node, zone, address, is_dialed });
            }
        }
    }

    /// Takes a frame that came on a link. A frame of a link that is not known (any more) is passed over. What it makes
    /// visible is shown by the next [`Host::flush`]; true if that should come before further frames.
    pub fn handle_frame(
        &mut self,
        moment: Moment,
        from: NodeId,
        link: LinkId,
        frame: Frame,
    ) -> bool {
        if !self.has_link(from, link) {
            return false;
        }
        if let Some(peers) = &mut self.peers {
            peers.exchange.handle_frame(moment.now, from, frame, &mut self.replica);
        }
        self.follow_exchange(moment);
        self.peers.as_ref().is_some_and(|peers| peers.news.is_full())
    }

    /// Whether this is the link to a node.
    #[must_use]
    pub fn has_link(&self, node: NodeId, link: LinkId) -> bool {
        self.peers.as_ref().is_some_and(|peers| peers.link(node) == Some(link))
    }

    /// Shows what frames and peers told since the last time, and begins a batch if one is due or awaited.
    pub fn flush(&mut self, moment: Moment) {
        self.show_news(moment);
        self.go_on(moment);
    }

    /// Takes the result of [`Output::RunCheck`].
    pub fn handle_check(
        &mut self,
        moment: Moment,
        key: &CheckKey,
        run: RunId,
        outcome: CheckOutcome,
    ) {
        self.checks.scheduler.handle_result(moment.now, moment.wall, key, run, outcome);
        self.flush(moment);
    }

    /// Takes the result of [`Output::Probe`].
    pub fn handle_probe(
        &mut self,
        moment: Moment,
        service: &ServiceName,
        key: &EndpointKey,
        answered: bool,
    ) {
        self.catalog.handle_probe(moment.now, moment.wall, service, key, answered);
        self.flush(moment);
    }

    /// Takes whether the batch of [`Output::Store`] is on the disk, or what the disk said if it is not.
    pub fn handle_stored(&mut self, moment: Moment, result: Result<(), String>) {
        let Some(delta) = self.in_flight.take() else { return };
        self.show_news(moment);
        match result {
            Ok(()) => {
                if self.retry_at.take().is_some() {
                    self.tell(Event::DiskAccepts);
                }
                self.settle(moment, delta);
            }
            Err(error) => self.put_back(moment, &error),
        }
        self.go_on(moment);
    }

    /// Shows what is stored, then acknowledges it.
    fn settle(&mut self, moment: Moment, delta: Option<Delta>) {
        if let Some(delta) = delta {
            let mut rows = self.replica.commit(&delta);
            if let Some(peers) = &mut self.peers {
                peers.exchange.handle_commit(moment.now, &Arc::new(delta));
                self.follow_exchange(moment);
            }
            // What was observed while the batch was on its way is newer, and shown already.
            rows.retain(|row| !self.participants.observed.has_overtaken(row));
            self.show_rows(moment, self.own, rows);
        }
        let (mut answers, mut events) = (Vec::new(), Vec::new());
        let mut settling = Settling {
            own: self.own,
            replica: &mut self.replica,
            checks: &mut self.checks,
            answers: &mut answers,
            events: &mut events,
            has_registry_changed: false,
            has_started: false,
        };
        self.participants.settle(moment, &mut settling);
        let Settling { has_registry_changed, has_started, .. } = settling;
        if has_started {
            self.have_started(moment);
        }
        self.drain(moment);
        self.conclude(has_registry_changed, events, answers);
    }

    /// Publishes the registry if it has changed, then tells what happened, then answers, so that a
    /// client that has its answer reads what it asked for.
    fn conclude(
        &mut self,
        has_registry_changed: bool,
        events: Vec<Event>,
        answers: Vec<(Ticket, Result<Answer, RequestError>)>,
    ) {
        if has_registry_changed {
            self.outputs.push_back(Output::PublishRegistry);
        }
        events.into_iter().for_each(|event| self.tell(event));
        answers.into_iter().for_each(|(ticket, result)| self.answer(ticket, result));
    }

    /// The first batch after a start is stored.
    fn have_started(&mut self, moment: Moment) {
        if !self.is_bare {
            self.catalog.reconsider(moment.now, moment.wall);
        }
        self.participants.purge.mark(moment.now, self.replica.head(self.own));
    }

    /// The disk refused the batch: everything is as it was, and all that wait are told.
    fn put_back(&mut self, moment: Moment, error: &str) {
        if self.retry_at.is_none() {
            self.tell(Event::DiskRefuses { error: error.to_owned() });
        }
        let retry_at = moment.now + RETRY_INTERVAL;
        self.retry_at = Some(retry_at);
        let (mut answers, mut events) = (Vec::new(), Vec::new());
        let mut refusal = Refusal {
            error,
            retry_at,
            replica: &self.replica,
            answers: &mut answers,
            events: &mut events,
            has_registry_changed: false,
        };
        self.participants.put_back(moment, &mut refusal);
        let has_registry_changed = refusal.has_registry_changed;
        self.conclude(has_registry_changed, events, answers);
    }

    /// Does what is due.
    pub fn handle_deadline(&mut self, moment: Moment) {
        self.show_news(moment);
        for timer in Timer::ALL {
            if self.due(timer).is_some_and(|at| at <= moment.now) {
                self.ring(moment, timer);
            }
        }
        self.go_on(moment);
    }

    /// When [`Host::handle_deadline`] is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        Timer::ALL.into_iter().filter_map(|timer| self.due(timer)).min()
    }

    /// Stops in good order: what waits is stored, instances of `run` are shown as draining to those who still listen,
    /// and the others are told that the node leaves if the settings say so. [`Output::Stopped`] tells the end.
    pub fn handle_stop(&mut self, moment: Moment) {
        self.show_news(moment);
        self.show_runs_draining(moment);
        for ticket in self.participants.statements.give_up_waiting().collect::<Vec<_>>() {
            self.answer(ticket, Err(RequestError::Stopping));
        }
        self.participants.remote.set_due(moment.now);
        self.retry_at = None;
        self.stop = Stop::Storing;
        self.go_on(moment);
    }

    /// Performs what the machines inside want done, and begins a batch if one is due.
    fn go_on(&mut self, moment: Moment) {
        self.drain(moment);
        while self.in_flight.is_none() {
            self.begin_batch(moment);
            self.drain(moment);
            if self.in_flight.is_some() || !self.go_on_stopping() {
                return;
            }
        }
    }

    /// Takes the next step of stopping, once nothing is on its way to the disk. Whether there was one.
    fn go_on_stopping(&mut self) -> bool {
        match self.stop {
            Stop::No | Stop::Done => false,
            Stop::Storing => {
                self.stop = Stop::Leaving;
                if self.settings.leaves_on_stop {
                    self.participants.statements.depart();
                }
                true
            }
            Stop::Leaving => {
                self.stop = Stop::Done;
                self.outputs.push_back(Output::Stopped);
                false
            }
        }
    }

    /// Drafts a batch of all that waits and has it stored, unless one is under way.
    fn begin_batch(&mut self, moment: Moment) {
        // What no client waits for is not tried again before the disk had a pause.
        let is_rested = self.retry_at.is_none();
        let is_due = self.participants.due().is_some_and(|at| at <= moment.now);
        if self.in_flight.is_some() || !(self.participants.is_awaited() || is_due && is_rested) {
            return;
        }
        let drafted = self.participants.draft(moment, &self.replica, is_rested);
        let Drafted { batch, delta, at_once } = drafted;
        at_once.events.into_iter().for_each(|event| self.tell(event));
        at_once.answers.into_iter().for_each(|(ticket, result)| self.answer(ticket, result));
        if batch.is_empty() {
            return self.settle(moment, None);
        }
        self.in_flight = Some(delta);
        self.outputs.push_back(Output::Store(Box::new(batch)));
    }

    fn answer(&mut self, ticket: Ticket, result: Result<Answer, RequestError>) {
        self.outputs.push_back(Output::Answer { ticket, result });
    }

    fn peer(&mut self, output: PeerOutput) {
        self.outputs.push_back(Output::Peers(output));
    }

    fn tell(&mut self, event: Event) {
        self.outputs.push_back(Output::Tell(event));
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        // When half a cluster is gone there is an output for each of its instances.
        if output.is_none() && self.outputs.capacity() > MAX_IDLE_OUTPUTS {
            self.outputs = VecDeque::new();
        }
        output
    }
}

/// Outputs for which room is kept once all are taken.
const MAX_IDLE_OUTPUTS: usize = 1024;

/// What readers and drivers may look at.
impl Host {
    /// The present view of the catalog.
    #[must_use]
    pub fn view(&self) -> &CatalogView {
        self.catalog.view()
    }

    /// The registry, with what is on its way to the disk.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.participants.statements.registry
    }

    /// The rows of all nodes.
    #[must_use]
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Each known node's head.
    pub fn heads(&self) -> impl Iterator<Item = (NodeId, Version)> {
        self.replica.heads()
    }

    /// The settings that the host goes by.
    #[must_use]
    pub fn settings(&self) -> &HostSettings {
        &self.settings
    }

    /// Takes another guard configuration; holds that are under way go on under it.
    pub fn set_guard(&mut self, settings: GuardSettings) {
        self.catalog.set_guard(settings);
    }

    /// What to say first on a link, `own` being who this host is at present. `None` when no further link is taken, or
    /// the host stands alone.
    #[must_use]
    pub fn hello(&self, own: Peer, to: Option<NodeId>) -> Option<Hello> {
        let peers = self.peers.as_ref().filter(|peers| peers.exchange.has_room())?;
        let known = to.map_or(0, |to| peers.generation(to));
        let name = self.settings.node.name.clone();
        Some(peers.exchange.hello(&self.replica, own, name, to, known))
    }

    /// The next frame for a link that has room.
    pub fn next_frame(&mut self, node: NodeId) -> Option<Outgoing> {
        self.peers.as_mut()?.exchange.next_frame(node, &self.replica)
    }

    /// The next frame for a link that has room for urgent frames only.
    pub fn next_urgent_frame(&mut self, node: NodeId) -> Option<Outgoing> {
        self.peers.as_mut()?.exchange.next_urgent_frame(node)
    }

    /// Whether urgent news waits for a link.
    #[must_use]
    pub fn has_urgent(&self, node: NodeId) -> bool {
        self.peers.as_ref().is_some_and(|peers| peers.exchange.has_urgent(node))
    }

    /// Numbers of the exchange, for people to read; `None` while the host stands alone.
    #[must_use]
    pub fn exchange_stats(&self) -> Option<ExchangeStats> {
        self.peers.as_ref().map(|peers| peers.exchange.stats())
    }

    /// The link to a node, if there is one.
    #[must_use]
    pub fn link(&self, node: NodeId) -> Option<LinkId> {
        self.peers.as_ref()?.link(node)
    }

    /// The nodes to which there are links.
    pub fn links(&self) -> impl Iterator<Item = (NodeId, LinkId)> {
        self.peers.iter().flat_map(|peers| peers.links())
    }
}
