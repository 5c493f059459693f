//! Batches: what is drafted, stored, applied and acknowledged together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use dunlin_api::Event;
use dunlin_core::model::{InstanceId, NodePhase, ProviderId, Registration};
use dunlin_core::replica::{
    Change, Delta, DeltaRow, Departure, Entry, Extent, RowChange, RowKey, RowState, Version,
};
use tracing::{error, info, warn};

use super::cluster::Remote;
use super::{Driver, RETRY_INTERVAL, Stored, clocks};
use crate::handle::{Command, Registered, Reply, RequestError};
use crate::registry::{Effect, Registry, RegistryError, stored_differences};
use crate::store::{Batch, HistoryWrite, ProviderWrite, StoreError};

/// The subject under which trouble with the disk is reported.
const SUBJECT: &str = "store";

type Acknowledge = Box<dyn FnOnce(Result<(), RequestError>) + Send>;

/// What a batch will do once it is stored.
#[derive(Default)]
pub(super) struct Draft {
    /// As the commands came; [`Driver::reduce`] makes one change per instance of them.
    effects: Vec<Effect>,
    changes: Vec<InstanceChange>,
    /// What the node is to say of itself.
    phase: Option<NodePhase>,
    /// Deadlines that this batch ends, and instances that were critical for too long: back as they were if
    /// the disk refuses.
    ended: Vec<(ProviderId, Instant)>,
    expired: Vec<(InstanceId, String)>,
    /// Statements that could not be read; noted whatever the disk does.
    failures: Vec<(ProviderId, String)>,
    writes: Vec<ProviderWrite>,
    acknowledge: Vec<Acknowledge>,
    events: Vec<Event>,
}

/// What a batch makes of one instance, however many commands named it.
pub(super) struct InstanceChange {
    pub(super) effect: Effect,
    /// It was gone in between, so its checks know nothing of what is there now.
    pub(super) is_renewed: bool,
}

/// A batch on its way to the disk.
pub(super) struct InFlight {
    pub(super) stored: Stored,
    draft: Draft,
    delta: Option<Delta>,
    remote: Remote,
    /// The registry as it was, should the disk refuse.
    before: Registry,
    observed: BTreeMap<RowKey, RowState>,
    purged: Option<Version>,
}

impl std::fmt::Debug for InFlight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InFlight").field("delta", &self.delta).finish_non_exhaustive()
    }
}

/// Answers a request once its batch is stored.
fn later<T: Send + 'static>(reply: Reply<T>, value: T) -> Acknowledge {
    Box::new(move |result| {
        // Whoever asked may have gone; what was asked is done all the same.
        let _ = reply.send(result.map(|()| value));
    })
}

/// A history that is stated anew, as it replaces what is on disk.
fn whole_history(delta: &Delta) -> HistoryWrite {
    let entry = |row: &DeltaRow| {
        (row.key.clone(), Entry { version: row.version, state: row.state.clone() })
    };
    HistoryWrite {
        origin: delta.origin,
        extent: Some(Extent::up_to(delta.to)),
        floor: delta.floor,
        rows: delta.rows.iter().map(entry).collect(),
        gone: Vec::new(),
        replaces_all: true,
    }
}

fn refuse<T>(reply: Reply<T>, error: RequestError) {
    // Whoever asked may have gone.
    let _ = reply.send(Err(error));
}

impl From<RegistryError> for RequestError {
    fn from(error: RegistryError) -> Self {
        let text = error.to_string();
        match error {
            RegistryError::UnknownInstance(_) | RegistryError::UnknownProvider(_) => {
                Self::NotFound(text)
            }
            RegistryError::Held { holder, .. } => {
                Self::Conflict(format!("{text}; change it where it is stated, {holder}"))
            }
            RegistryError::DuplicateId(_) => {
                Self::Invalid { error: text, hint: "give each instance its own id".to_owned() }
            }
            RegistryError::TooManyInstances { .. }
            | RegistryError::TooManyStated { .. }
            | RegistryError::TooLargeInForce { .. }
            | RegistryError::TooLarge { .. }
            | RegistryError::TooManyProviders => Self::Invalid { error: text, hint: String::new() },
        }
    }
}

impl Driver {
    /// Drafts a batch of all that waits and hands it to the store, unless one is under way.
    pub(super) async fn begin_batch(&mut self) {
        let (now, _) = clocks();
        // What nobody waits for is not tried again before the disk had a rest.
        let is_rested = self.retry_at.is_none();
        let is_due = self.provider_deadlines.values().any(|at| *at <= now);
        let has_remote = self.cluster.as_ref().is_some_and(|c| c.wants_to_store(now));
        let is_own_wish =
            !self.observed.is_empty() || !self.expired.is_empty() || has_remote || is_due;
        let is_wanted = !self.waiting.is_empty() || (is_own_wish && is_rested);
        if self.in_flight.is_some() || !is_wanted {
            return;
        }
        let before = self.registry.clone();
        let mut draft = Draft::default();
        for command in std::mem::take(&mut self.waiting) {
            self.carry_out(command, &mut draft);
        }
        if is_rested {
            // After the commands: a provider that has just stated its set again is not silent.
            self.expire(now, &mut draft);
        }
        self.hand_over(before, draft).await;
    }

    /// One change per instance: what the registry says of it in the end.
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

    async fn hand_over(&mut self, before: Registry, mut draft: Draft) {
        draft.changes = self.reduce(std::mem::take(&mut draft.effects));
        let mut changes = self.rows_of_changes(&draft.changes);
        changes.extend(draft.phase.and_then(|phase| self.row_of_phase(phase)));
        let observed = std::mem::take(&mut self.observed);
        let renewed: BTreeSet<InstanceId> =
            draft.changes.iter().filter(|c| c.is_renewed).map(|c| c.effect.id().clone()).collect();
        let is_of_now = |key: &RowKey| match key {
            RowKey::Check(id, check) => {
                let registration = self.registry.registration(id);
                registration.is_some_and(|r| r.checks.iter().any(|spec| spec.id == *check))
                    && !renewed.contains(id)
            }
            RowKey::Node | RowKey::Instance(_) | RowKey::Other(_) => false,
        };
        changes.extend(
            observed
                .iter()
                .filter(|(key, _)| is_of_now(key))
                .map(|(key, state)| Change { key: key.clone(), state: state.clone() }),
        );
        let mut batch = Batch::default();
        let remote = self.take_remote(&mut batch);
        let delta = match remote.restated {
            Some(above) => Some(self.replica.prepare_restatement(above, changes)),
            None => self.replica.prepare(changes),
        };
        let purged = self.purgeable();
        batch.providers = std::mem::take(&mut draft.writes);
        batch.purge = purged.map(|version| (self.own, version));
        match &delta {
            Some(delta) if remote.restated.is_some() => {
                batch.histories.push(whole_history(delta));
            }
            Some(delta) => batch.deltas.push(delta.clone()),
            None => {}
        }
        if batch.is_empty() {
            self.apply(draft, None, None);
            return;
        }
        match self.store.begin(batch).await {
            Ok(stored) => {
                self.shared.vitals.set_storing(true);
                self.in_flight =
                    Some(InFlight { stored, draft, delta, remote, before, observed, purged });
            }
            Err(error) => {
                self.put_back(remote);
                self.give_up(before, draft, observed, &error);
            }
        }
    }

    /// Takes in whether the batch in flight is on disk.
    pub(super) fn end_batch(&mut self, result: Result<(), StoreError>) {
        let Some(in_flight) = self.in_flight.take() else { return };
        self.shared.vitals.set_storing(false);
        let InFlight { draft, delta, remote, before, observed, purged, .. } = in_flight;
        match result {
            Ok(()) => {
                if self.retry_at.take().is_some() {
                    info!("the disk takes changes again");
                }
                self.shared.problems.clear(SUBJECT);
                self.apply(draft, delta, purged);
            }
            Err(error) => {
                self.put_back(remote);
                self.give_up(before, draft, observed, &error);
            }
        }
    }

    /// Shows what is stored, then acknowledges it.
    fn apply(&mut self, draft: Draft, delta: Option<Delta>, purged: Option<Version>) {
        let (now, wall) = clocks();
        if let Some(version) = purged {
            self.replica.purge_tombstones(self.own, version);
        }
        if let Some(delta) = delta {
            let mut rows = self.replica.commit(&delta);
            self.tell_cluster(delta);
            // What was observed while the batch was on its way is newer, and shown already.
            let is_outdated = |row: &RowChange| {
                matches!(row.state, RowState::Present(_)) && self.observed.contains_key(&row.key)
            };
            rows.retain(|row| !is_outdated(row));
            self.catalog.handle_rows(now, wall, self.own, &rows);
        }
        for change in &draft.changes {
            self.schedule(now, wall, change);
        }
        for event in draft.events {
            self.shared.events.push(event);
        }
        self.perform_outputs();
        for acknowledge in draft.acknowledge {
            acknowledge(Ok(()));
        }
    }

    /// Puts everything back as it was and tells everyone who waits.
    fn give_up(
        &mut self,
        before: Registry,
        draft: Draft,
        observed: BTreeMap<RowKey, RowState>,
        error: &StoreError,
    ) {
        if self.retry_at.is_none() {
            error!(%error, "the disk does not take changes; registrations are refused meanwhile");
        }
        let problem = format!("changes cannot be stored: {error}; make room or mend the disk");
        self.shared.problems.set(SUBJECT, problem);
        self.registry = before;
        let (now, wall) = clocks();
        for (provider, problem) in draft.failures {
            self.registry.fail(wall, &provider, problem);
        }
        for (provider, deadline) in draft.ended {
            self.provider_deadlines.entry(provider).or_insert(deadline);
        }
        self.expired.extend(draft.expired);
        for (key, state) in observed {
            // What was observed since is newer.
            self.observed.entry(key).or_insert(state);
        }
        self.retry_at = Some(now + RETRY_INTERVAL);
        for acknowledge in draft.acknowledge {
            acknowledge(Err(RequestError::Storage(error.to_string())));
        }
    }

    /// Forgets providers whose time is over, and takes out instances that were critical for too long.
    fn expire(&mut self, now: Instant, draft: &mut Draft) {
        let (_, wall) = clocks();
        let due = self.provider_deadlines.iter().filter(|(_, at)| **at <= now);
        for provider in due.map(|(provider, _)| provider.clone()).collect::<Vec<_>>() {
            let before = self.registry.clone();
            if let Ok(effects) = self.registry.remove(&provider, Departure::Dropped) {
                info!(%provider, "provider did not state its set again in time; forgotten");
                self.note(draft, &before, &provider, effects);
            }
            self.end_deadline(&provider, draft);
        }
        for (instance, reason) in std::mem::take(&mut self.expired) {
            let before = self.registry.clone();
            let Some(provider) = self.registry.holder(&instance).cloned() else { continue };
            let effects = self.registry.suppress(wall, &instance);
            warn!(%instance, %provider, reason, "instance deregistered");
            draft.events.push(self.instance_event("InstanceExpired", &instance, &reason));
            self.note(draft, &before, &provider, effects);
            draft.expired.push((instance, reason));
        }
    }

    /// Ends a provider's deadline, unless the disk refuses the batch that does.
    fn end_deadline(&mut self, provider: &ProviderId, draft: &mut Draft) {
        draft.ended.extend(self.provider_deadlines.remove_entry(provider));
    }

    /// Adds what a change of one provider means to the draft.
    fn note(
        &self,
        draft: &mut Draft,
        before: &Registry,
        provider: &ProviderId,
        effects: Vec<Effect>,
    ) {
        draft.writes.extend(stored_differences(before, &self.registry, provider));
        draft.effects.extend(effects);
    }

    fn carry_out(&mut self, command: Command, draft: &mut Draft) {
        match command {
            Command::Register(registration, reply) => self.register(*registration, reply, draft),
            Command::Deregister(id, reply) => self.deregister(&id, reply, draft),
            Command::SetMode(id, mode, reply) => match self.registry.set_mode(&id, mode) {
                Ok(effects) => {
                    draft.effects.extend(effects);
                    draft.acknowledge.push(later(reply, ()));
                }
                Err(error) => refuse(reply, error.into()),
            },
            Command::SetNodePhase(phase, reply) => {
                draft.phase = Some(phase);
                draft.acknowledge.push(later(reply, ()));
            }
            Command::PushCheck { instance, check, status, output, reply } => {
                match self.push_check(instance, check, status, &output) {
                    Ok(()) => draft.acknowledge.push(later(reply, ())),
                    Err(error) => refuse(reply, error),
                }
            }
            Command::PutProvider { provider, instances, ttl, reply } => {
                let (now, wall) = clocks();
                let before = self.registry.clone();
                match self.registry.state(wall, &provider, instances, ttl) {
                    Ok(effects) => {
                        draft.events.extend(self.provider_event(&provider, &before, &effects));
                        self.note(draft, &before, &provider, effects);
                        let fares = self.registry.report_of(&provider).map(Into::into);
                        let fares = fares.expect("it has just made a statement");
                        // In memory alone, and right whether or not the disk takes the rest.
                        match ttl {
                            Some(ttl) => _ = self.provider_deadlines.insert(provider, now + ttl),
                            None => self.end_deadline(&provider, draft),
                        }
                        draft.acknowledge.push(later(reply, fares));
                    }
                    Err(error) => refuse(reply, error.into()),
                }
            }
            Command::ProviderFailed { provider, error } => {
                self.tell_failure(&provider, &error);
                self.registry.fail(clocks().1, &provider, error.clone());
                draft.failures.push((provider, error));
            }
            Command::RemoveProvider(provider, reply) => {
                self.remove_provider(provider, reply, draft);
            }
            read @ (Command::Providers(_)
            | Command::Provider(..)
            | Command::LocalInstances(_)
            | Command::ReleaseGuard(..)) => drop(self.answer(read)),
            Command::Within(grant, command) => {
                match super::permit::check(&grant, &command, &self.registry) {
                    Ok(()) => self.carry_out(*command, draft),
                    Err(error) => command.refuse(error),
                }
            }
        }
    }

    /// Answers what needs no disk at once; hands everything else back.
    pub(super) fn answer(&mut self, command: Command) -> Option<Command> {
        match command {
            Command::Providers(reply) => {
                let reports = self.registry.reports().into_iter().map(Into::into);
                let _ = reply.send(Ok(reports.collect()));
                None
            }
            Command::Provider(id, reply) => {
                let _ = reply.send(Ok(self.registry.report_of(&id).map(Into::into)));
                None
            }
            Command::LocalInstances(reply) => {
                let _ = reply.send(Ok(self.registry.instance_ids().cloned().collect()));
                None
            }
            Command::ReleaseGuard(service, reply) => {
                let (now, wall) = clocks();
                let problem = format!("service {service} is not guarded");
                let was_held = self.catalog.release(now, wall, &service);
                self.perform_outputs();
                let answer = was_held.then_some(()).ok_or(RequestError::NotFound(problem));
                let _ = reply.send(answer);
                None
            }
            write @ (Command::Register(..)
            | Command::Deregister(..)
            | Command::SetMode(..)
            | Command::SetNodePhase(..)
            | Command::PushCheck { .. }
            | Command::PutProvider { .. }
            | Command::ProviderFailed { .. }
            | Command::RemoveProvider(..)
            | Command::Within(..)) => Some(write),
        }
    }

    fn register(
        &mut self,
        registration: Registration,
        reply: Reply<Registered>,
        draft: &mut Draft,
    ) {
        let before = self.registry.clone();
        let provider = registration.instance.profile.provider.clone();
        match self.registry.put_one(clocks().1, &provider, registration) {
            Ok((is_new, effects)) => {
                self.note(draft, &before, &provider, effects);
                let registered = if is_new { Registered::Created } else { Registered::Updated };
                draft.acknowledge.push(later(reply, registered));
            }
            Err(error) => refuse(reply, error.into()),
        }
    }

    fn deregister(&mut self, id: &InstanceId, reply: Reply<()>, draft: &mut Draft) {
        let before = self.registry.clone();
        match self.registry.deregister(clocks().1, id) {
            Ok(effects) => {
                self.note(draft, &before, &ProviderId::api(), effects);
                draft.acknowledge.push(later(reply, ()));
            }
            Err(error) => refuse(reply, error.into()),
        }
    }

    fn remove_provider(&mut self, provider: ProviderId, reply: Reply<()>, draft: &mut Draft) {
        let before = self.registry.clone();
        let is_on_purpose = provider.kind().is_removed_on_purpose();
        let departure = if is_on_purpose { Departure::Deregistered } else { Departure::Dropped };
        match self.registry.remove(&provider, departure) {
            Ok(effects) => {
                draft.events.extend(self.provider_event(&provider, &before, &effects));
                self.note(draft, &before, &provider, effects);
                self.end_deadline(&provider, draft);
                draft.acknowledge.push(later(reply, ()));
            }
            Err(error) => refuse(reply, error.into()),
        }
    }
}
