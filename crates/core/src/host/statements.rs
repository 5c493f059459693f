//! What clients ask for and what providers state, on the way from a request to rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::event::Event;
use super::output::Moment;
use super::participant::{AtOnce, Draft, Participant, Refusal, Settling};
use super::registry::{Effect, InstanceChange, Registry, RegistryError, stored_differences};
use super::request::{Answer, Permitted, Request, RequestError, Ticket};
use super::stored::ProviderWrite;
use crate::model::{CheckRow, InstanceId, NodePhase, NodeRow, ProviderId, Registration, Timestamp};
use crate::replica::{Change, Departure, Row, RowKey, RowState};

/// The participant that carries requests out.
#[derive(Debug, Default)]
pub(super) struct Statements {
    pub(super) registry: Registry,
    waiting: Vec<Waiting>,
    /// What the node says of itself, from its start until that is stored; and since when.
    start: Option<(NodeRow, Instant)>,
    /// When providers are forgotten unless they state their set again.
    deadlines: BTreeMap<ProviderId, Instant>,
    /// Instances to take out since they were critical for too long, with the reason.
    expired: Vec<(InstanceId, String)>,
    /// When the first of them was noted.
    expired_since: Option<Instant>,
    in_flight: InFlight,
}

/// What waits for the next batch.
#[derive(Debug)]
enum Waiting {
    /// A request that has to be carried out.
    Asked(Ticket, Box<Request>, Permitted),
    /// A request that was carried out and is answered once its effect is stored.
    Done(Ticket),
    /// The node says that it leaves, unless an operator drains it: then it is being drained when it comes back.
    Departure,
}

/// What follows once the batch on its way is stored, or is put back if it is refused.
#[derive(Debug, Default)]
struct InFlight {
    /// The registry as it was.
    before: Registry,
    /// As the requests came; [`Statements::reduce`] makes one change per instance of them.
    effects: Vec<Effect>,
    changes: Vec<InstanceChange>,
    /// What the node is to say of itself.
    phase: Option<NodePhase>,
    start: Option<(NodeRow, Instant)>,
    /// Deadlines that the batch ends, and instances that it takes out.
    ended: Vec<(ProviderId, Instant)>,
    expired: Vec<(InstanceId, String)>,
    /// Statements that could not be read; noted whatever the disk does.
    failures: Vec<(ProviderId, String)>,
    writes: Vec<ProviderWrite>,
    answers: Vec<(Ticket, Answer)>,
    events: Vec<Event>,
}

impl Statements {
    /// Goes on with the registry of before; `providers` are those whose statements hold for a limited time.
    pub(super) fn restore(registry: Registry) -> Self {
        Self { registry, ..Self::default() }
    }

    /// Has the own rows say what the registry and the node's configuration say, with the next batch.
    pub(super) fn start(&mut self, now: Instant, node: NodeRow) {
        let limited = self.registry.providers().filter_map(|(id, ttl)| Some((id.clone(), ttl?)));
        self.deadlines = limited.map(|(provider, ttl)| (provider, now + ttl)).collect();
        self.start = Some((node, now));
    }

    pub(super) fn ask(&mut self, ticket: Ticket, request: Request, permit: Permitted) {
        self.waiting.push(Waiting::Asked(ticket, Box::new(request), permit));
    }

    /// Answers a request once what waits is stored.
    pub(super) fn answer_when_stored(&mut self, ticket: Ticket) {
        self.waiting.push(Waiting::Done(ticket));
    }

    pub(super) fn depart(&mut self) {
        self.waiting.push(Waiting::Departure);
    }

    /// Takes an instance out with the next batch.
    pub(super) fn expire(&mut self, now: Instant, instance: InstanceId, reason: String) {
        self.expired_since = self.expired_since.or(Some(now));
        self.expired.push((instance, reason));
    }

    /// Gives up all requests that wait.
    pub(super) fn give_up_waiting(&mut self) -> impl Iterator<Item = Ticket> {
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().filter_map(|waiting| match waiting {
            Waiting::Asked(ticket, ..) | Waiting::Done(ticket) => Some(ticket),
            Waiting::Departure => None,
        })
    }

    fn carry_out(&mut self, moment: Moment, ticket: Ticket, request: Request, done: &mut AtOnce) {
        match self.try_carry_out(moment, request) {
            Ok(answer) => self.in_flight.answers.push((ticket, answer)),
            Err(error) => done.answers.push((ticket, Err(error))),
        }
    }

    fn try_carry_out(&mut self, moment: Moment, request: Request) -> Result<Answer, RequestError> {
        let wall = moment.wall;
        match request {
            Request::Register(registration) => return self.register(wall, *registration),
            Request::Deregister(id) => {
                let before = self.registry.clone();
                let effects = self.registry.deregister(wall, &id)?;
                self.note(&before, &ProviderId::api(), effects);
            }
            Request::SetMode(id, mode) => {
                let effects = self.registry.set_mode(&id, mode)?;
                self.in_flight.effects.extend(effects);
            }
            Request::SetNodePhase(phase) => self.in_flight.phase = Some(phase),
            Request::PutProvider { provider, instances, ttl } => {
                self.put_provider(moment, provider, instances, ttl)?;
            }
            Request::ProviderFailed { provider, error } => {
                self.registry.fail(wall, &provider, error.clone());
                self.in_flight.failures.push((provider, error));
            }
            Request::RemoveProvider(provider) => self.remove_provider(&provider)?,
            // The host carries these out when they come.
            Request::PushCheck { .. } | Request::ReleaseGuard(_) => {}
        }
        Ok(Answer::Done)
    }

    fn register(
        &mut self,
        wall: Timestamp,
        registration: Registration,
    ) -> Result<Answer, RequestError> {
        let before = self.registry.clone();
        let provider = registration.instance.profile.provider.clone();
        let (is_new, effects) = self.registry.put_one(wall, &provider, registration)?;
        self.note(&before, &provider, effects);
        Ok(if is_new { Answer::Created } else { Answer::Done })
    }

    fn put_provider(
        &mut self,
        moment: Moment,
        provider: ProviderId,
        instances: Vec<Registration>,
        ttl: Option<Duration>,
    ) -> Result<(), RegistryError> {
        let before = self.registry.clone();
        let effects = self.registry.state(moment.wall, &provider, instances, ttl)?;
        self.tell_changed(&before, &provider, &effects);
        self.note(&before, &provider, effects);
        match ttl {
            // In memory alone, and right whether or not the disk takes the rest.
            Some(ttl) => _ = self.deadlines.insert(provider, moment.now + ttl),
            None => self.end_deadline(&provider),
        }
        Ok(())
    }

    fn remove_provider(&mut self, provider: &ProviderId) -> Result<(), RegistryError> {
        let before = self.registry.clone();
        // A client that removes a provider by name means it; a file that is gone may be a lie.
        let is_meant = provider.kind().is_removed_on_purpose();
        let departure = if is_meant { Departure::Deregistered } else { Departure::Dropped };
        let effects = self.registry.remove(provider, departure)?;
        self.tell_changed(&before, provider, &effects);
        self.note(&before, provider, effects);
        self.end_deadline(provider);
        Ok(())
    }

    /// Forgets providers whose time is over, and takes out instances that were critical for too long.
    fn expire_due(&mut self, moment: Moment, done: &mut AtOnce) {
        let due = self.deadlines.iter().filter(|(_, at)| **at <= moment.now);
        for provider in due.map(|(provider, _)| provider.clone()).collect::<Vec<_>>() {
            let before = self.registry.clone();
            if let Ok(effects) = self.registry.remove(&provider, Departure::Dropped) {
                done.events.push(Event::ProviderExpired { provider: provider.clone() });
                self.note(&before, &provider, effects);
            }
            self.end_deadline(&provider);
        }
        self.expired_since = None;
        for (instance, reason) in std::mem::take(&mut self.expired) {
            let before = self.registry.clone();
            let Some(provider) = self.registry.holder(&instance).cloned() else { continue };
            let effects = self.registry.suppress(moment.wall, &instance);
            self.note(&before, &provider, effects);
            let (id, why) = (instance.clone(), reason.clone());
            let told = Event::InstanceExpired { instance: id, provider, reason: why };
            self.in_flight.events.push(told);
            self.in_flight.expired.push((instance, reason));
        }
    }

    /// Ends a provider's deadline, unless the disk refuses the batch that does.
    fn end_deadline(&mut self, provider: &ProviderId) {
        self.in_flight.ended.extend(self.deadlines.remove_entry(provider));
    }

    /// Adds what a change of one provider means to the batch.
    fn note(&mut self, before: &Registry, provider: &ProviderId, effects: Vec<Effect>) {
        self.in_flight.writes.extend(stored_differences(before, &self.registry, provider));
        self.in_flight.effects.extend(effects);
    }

    /// Tells of a provider's new statement once it is stored, if it changes anything.
    fn tell_changed(&mut self, before: &Registry, provider: &ProviderId, effects: &[Effect]) {
        if effects.is_empty() && !before.has_failed(provider) {
            return;
        }
        let stated = effects.iter().filter(|e| matches!(e, Effect::Upsert(_))).count();
        let gone = effects.len() - stated;
        let event = Event::ProviderChanged { provider: provider.clone(), stated, gone };
        self.in_flight.events.push(event);
    }

    /// One change for each instance: what the registry says of it in the end.
    fn reduce(&self, effects: Vec<Effect>) -> Vec<InstanceChange> {
        let mut touched: BTreeMap<InstanceId, (Departure, bool)> = BTreeMap::new();
        for effect in effects {
            match effect {
                Effect::Upsert(registration) => {
                    let id = registration.instance.id.clone();
                    touched.entry(id).or_insert((Departure::Dropped, false));
                }
                Effect::Remove(id, departure) => {
                    touched.insert(id, (departure, true));
                }
            }
        }
        let change = |(id, (departure, was_removed)): (InstanceId, (Departure, bool))| match self
            .registry
            .registration(&id)
        {
            Some(registration) => {
                let effect = Effect::Upsert(registration);
                InstanceChange { effect, is_renewed: was_removed }
            }
            None => InstanceChange { effect: Effect::Remove(id, departure), is_renewed: false },
        };
        touched.into_iter().map(change).collect()
    }

    /// All that the node has to say after a start: its instances, and that what it no longer has is gone.
    fn changes_at_start(&self, draft: &Draft<'_>) -> Vec<InstanceChange> {
        let ids = self.registry.instance_ids();
        let registrations = ids.filter_map(|id| self.registry.registration(id));
        let is_orphan = |key: RowKey, state: &RowState| match (key, state) {
            (RowKey::Instance(id), RowState::Present(_)) => {
                self.registry.holder(&id).is_none().then_some(id)
            }
            _ => None,
        };
        let rows = draft.replica.rows(draft.own);
        let orphans = rows.filter_map(|(key, entry)| is_orphan(key, &entry.state));
        let gone = orphans.map(|id| Effect::Remove(id, Departure::Dropped));
        let effects = registrations.map(Effect::Upsert).chain(gone);
        effects.map(|effect| InstanceChange { effect, is_renewed: false }).collect()
    }

    /// Carries out what waits, and works out one change for each instance.
    fn carry_out_waiting(&mut self, moment: Moment, draft: &mut Draft<'_>) {
        let mut done = AtOnce::default();
        for waiting in std::mem::take(&mut self.waiting) {
            match waiting {
                Waiting::Asked(ticket, request, permit) => {
                    match request.check(&permit, &self.registry) {
                        Ok(()) => self.carry_out(moment, ticket, *request, &mut done),
                        Err(error) => done.answers.push((ticket, Err(error))),
                    }
                }
                Waiting::Done(ticket) => self.in_flight.answers.push((ticket, Answer::Done)),
                Waiting::Departure => {
                    let is_active = phase_of(draft) == Some(NodePhase::Active);
                    self.in_flight.phase = is_active.then_some(NodePhase::Left);
                }
            }
        }
        if draft.is_rested {
            // After the requests: a provider that has just stated its set again is not silent.
            self.expire_due(moment, &mut done);
        }
        draft.at_once = done;
        let effects = std::mem::take(&mut self.in_flight.effects);
        self.in_flight.changes = self.reduce(effects);
    }

    /// What the node says of itself, if that is to change. Draining is an operator's wish and outlives a restart;
    /// that the node had left ends with one.
    fn node_row(&self, draft: &Draft<'_>) -> Option<Change> {
        let row = match (&self.in_flight.start, self.in_flight.phase) {
            (Some((node, _)), phase) => {
                let stored = phase_of(draft).filter(|phase| *phase == NodePhase::Draining);
                let phase = phase.or(stored).unwrap_or(NodePhase::Active);
                NodeRow { phase, ..node.clone() }
            }
            (None, Some(phase)) => NodeRow { phase, ..(*own_node(draft)?).clone() },
            (None, None) => return None,
        };
        Some(present(RowKey::Node, row.into()))
    }
}

impl Participant for Statements {
    fn is_awaited(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn due(&self) -> Option<Instant> {
        let start = self.start.as_ref().map(|(_, since)| *since);
        let silent = self.deadlines.values().min().copied();
        [start, self.expired_since, silent].into_iter().flatten().min()
    }

    fn draft(&mut self, moment: Moment, draft: &mut Draft<'_>) {
        self.in_flight = InFlight { before: self.registry.clone(), ..InFlight::default() };
        self.carry_out_waiting(moment, draft);
        self.in_flight.start = self.start.take();
        if self.in_flight.start.is_some() {
            self.in_flight.changes = self.changes_at_start(draft);
        }
        for change in &self.in_flight.changes {
            rows_of(moment.wall, change, draft);
        }
        draft.changes.extend(self.node_row(draft));
        draft.batch.providers = std::mem::take(&mut self.in_flight.writes);
        let renewed = self.in_flight.changes.iter().filter(|change| change.is_renewed);
        draft.renewed = renewed.map(|change| change.effect.id().clone()).collect::<BTreeSet<_>>();
        draft.registry = self.registry.clone();
    }

    fn settle(&mut self, moment: Moment, settling: &mut Settling<'_>) {
        let InFlight { before, changes, start, failures, answers, events, .. } =
            std::mem::take(&mut self.in_flight);
        for change in &changes {
            settling.checks.follow(moment, settling.own, settling.replica, change);
        }
        if start.is_some() {
            settling.checks.scheduler.settle_aliases(moment.now, moment.wall);
            settling.events.push(Event::OwnStateRestored { instances: self.registry.len() });
        }
        settling.has_started = start.is_some();
        settling.has_registry_changed |= !self.registry.is_same(&before) || start.is_some();
        settling.events.extend(failures.into_iter().map(failed));
        settling.events.extend(events);
        settling.answers.extend(answers.into_iter().map(|(ticket, answer)| (ticket, Ok(answer))));
    }

    fn put_back(&mut self, moment: Moment, refusal: &mut Refusal<'_>) {
        let InFlight { before, start, ended, expired, failures, answers, .. } =
            std::mem::take(&mut self.in_flight);
        self.registry = before;
        refusal.has_registry_changed |= !failures.is_empty();
        for (provider, problem) in failures {
            self.registry.fail(moment.wall, &provider, problem.clone());
            refusal.events.push(failed((provider, problem)));
        }
        for (provider, deadline) in ended {
            self.deadlines.entry(provider).or_insert(deadline);
        }
        for (instance, reason) in expired {
            self.expire(moment.now, instance, reason);
        }
        self.start = self.start.take().or(start);
        let error = || RequestError::Storage(refusal.error.to_owned());
        refusal.answers.extend(answers.into_iter().map(|(ticket, _)| (ticket, Err(error()))));
    }
}

fn failed((provider, error): (ProviderId, String)) -> Event {
    Event::ProviderFailed { provider, error }
}

fn present(key: RowKey, row: Row) -> Change {
    Change { key, state: RowState::Present(row) }
}

fn own_node(draft: &Draft<'_>) -> Option<Arc<NodeRow>> {
    draft.replica.row(draft.own, &RowKey::Node)?.node().cloned()
}

fn phase_of(draft: &Draft<'_>) -> Option<NodePhase> {
    own_node(draft).map(|row| row.phase)
}

/// Adds the rows that a change writes.
fn rows_of(wall: Timestamp, change: &InstanceChange, draft: &mut Draft<'_>) {
    let InstanceChange { effect, is_renewed } = change;
    match effect {
        Effect::Upsert(registration) => upsert_rows(wall, registration, *is_renewed, draft),
        Effect::Remove(id, departure) => {
            let gone = RowState::Gone(*departure);
            let checks = draft.replica.checks_of(draft.own, id);
            let checks = checks.map(|check| RowKey::Check(id.clone(), check));
            let keys = checks.chain([RowKey::Instance(id.clone())]);
            draft.changes.extend(keys.map(|key| Change { key, state: gone.clone() }));
        }
    }
}

fn upsert_rows(
    wall: Timestamp,
    registration: &Registration,
    is_renewed: bool,
    draft: &mut Draft<'_>,
) {
    let Draft { own, replica, changes, .. } = draft;
    let id = &registration.instance.id;
    changes.push(present(RowKey::Instance(id.clone()), registration.instance.clone().into()));
    for check in replica.checks_of(*own, id) {
        if !registration.checks.iter().any(|spec| spec.id == check) {
            let key = RowKey::Check(id.clone(), check);
            changes.push(Change { key, state: RowState::Gone(Departure::Dropped) });
        }
    }
    for spec in &registration.checks {
        let key = RowKey::Check(id.clone(), spec.id.clone());
        if is_renewed || replica.row(*own, &key).is_none() {
            changes.push(present(key, CheckRow::unproven(wall).into()));
        }
    }
}
