//! Batches: what is drafted, stored, applied and acknowledged together.

use std::collections::BTreeMap;
use std::time::Instant;

use dunlin_core::model::{InstanceId, ProviderId, Registration};
use dunlin_core::replica::{Change, Delta, Departure, RowKey, RowState};
use tracing::{error, info, warn};

use super::{Driver, RETRY_INTERVAL, Stored, clocks};
use crate::handle::{Command, Registered, Reply, RequestError};
use crate::registry::{Effect, Registry, RegistryError, stored_differences};
use crate::store::{Batch, ProviderWrite, StoreError};

/// The subject under which trouble with the disk is reported.
const SUBJECT: &str = "store";

type Acknowledge = Box<dyn FnOnce(Result<(), RequestError>) + Send>;

/// What a batch will do once it is stored.
#[derive(Default)]
pub(super) struct Draft {
    effects: Vec<Effect>,
    writes: Vec<ProviderWrite>,
    acknowledge: Vec<Acknowledge>,
    deadlines: Vec<(ProviderId, Option<Instant>)>,
}

/// A batch on its way to the disk.
pub(super) struct InFlight {
    pub(super) stored: Stored,
    draft: Draft,
    delta: Option<Delta>,
    /// The registry as it was, should the disk refuse.
    before: Registry,
    observed: BTreeMap<RowKey, RowState>,
    purged: Option<dunlin_core::replica::Version>,
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
            RegistryError::TooManyInstances { .. } | RegistryError::TooManyProviders => {
                Self::Invalid { error: text, hint: String::new() }
            }
        }
    }
}

impl Driver {
    /// Drafts a batch of all that waits and hands it to the store, unless one is under way.
    pub(super) async fn begin_batch(&mut self) {
        let (now, _) = clocks();
        let is_observed = !self.observed.is_empty() && self.retry_at.is_none();
        let is_due = self.provider_deadlines.values().any(|at| *at <= now);
        let is_wanted =
            !self.waiting.is_empty() || !self.expired.is_empty() || is_observed || is_due;
        if self.in_flight.is_some() || !is_wanted {
            return;
        }
        let before = self.registry.clone();
        let mut draft = Draft::default();
        self.expire(now, &mut draft);
        for command in std::mem::take(&mut self.waiting) {
            self.carry_out(command, &mut draft);
        }
        self.hand_over(before, draft).await;
    }

    async fn hand_over(&mut self, before: Registry, mut draft: Draft) {
        let mut changes = self.changes_of(&draft.effects);
        let observed = std::mem::take(&mut self.observed);
        let is_there = |key: &RowKey| match key {
            RowKey::Check(id, check) => self
                .registry
                .registration(id)
                .is_some_and(|r| r.checks.iter().any(|spec| spec.id == *check)),
            RowKey::Node | RowKey::Instance(_) => false,
        };
        let observed: BTreeMap<_, _> =
            observed.into_iter().filter(|(key, _)| is_there(key)).collect();
        changes.extend(
            observed.iter().map(|(key, state)| Change { key: key.clone(), state: state.clone() }),
        );
        let delta = self.replica.prepare(changes);
        let purged = self.purgeable();
        let batch = Batch {
            deltas: delta.iter().cloned().collect(),
            providers: std::mem::take(&mut draft.writes),
            purge: purged.map(|version| (self.own, version)),
        };
        if batch.is_empty() {
            self.apply(draft, None, None);
            return;
        }
        match self.store.begin(batch).await {
            Ok(stored) => {
                self.in_flight = Some(InFlight { stored, draft, delta, before, observed, purged });
            }
            Err(error) => self.give_up(before, draft, observed, &error),
        }
    }

    /// Takes in whether the batch in flight is on disk.
    pub(super) fn end_batch(&mut self, result: Result<(), StoreError>) {
        let Some(in_flight) = self.in_flight.take() else { return };
        let InFlight { draft, delta, before, observed, purged, .. } = in_flight;
        match result {
            Ok(()) => {
                if self.retry_at.take().is_some() {
                    info!("the disk takes changes again");
                }
                self.shared.problems.clear(SUBJECT);
                self.apply(draft, delta.as_ref(), purged);
            }
            Err(error) => self.give_up(before, draft, observed, &error),
        }
    }

    /// Shows what is stored, then acknowledges it.
    fn apply(
        &mut self,
        draft: Draft,
        delta: Option<&Delta>,
        purged: Option<dunlin_core::replica::Version>,
    ) {
        let (now, wall) = clocks();
        if let Some(version) = purged {
            self.replica.purge_tombstones(self.own, version);
        }
        if let Some(delta) = delta {
            let rows = self.replica.commit(delta);
            self.catalog.handle_rows(now, wall, self.own, &rows);
        }
        for effect in &draft.effects {
            self.schedule(now, wall, effect);
        }
        for (provider, deadline) in draft.deadlines {
            match deadline {
                Some(deadline) => self.provider_deadlines.insert(provider, deadline),
                None => self.provider_deadlines.remove(&provider),
            };
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
        for (key, state) in observed {
            // What was observed since is newer.
            self.observed.entry(key).or_insert(state);
        }
        self.retry_at = Some(clocks().0 + RETRY_INTERVAL);
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
            draft.deadlines.push((provider, None));
        }
        for (instance, reason) in std::mem::take(&mut self.expired) {
            let before = self.registry.clone();
            let Some(provider) = self.registry.holder(&instance).cloned() else { continue };
            let effects = self.registry.suppress(wall, &instance);
            warn!(%instance, %provider, reason, "instance deregistered");
            self.tell_instance("InstanceExpired", &instance, &reason);
            self.note(draft, &before, &provider, effects);
        }
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
                        self.tell_provider(&provider, &before, &effects);
                        self.note(draft, &before, &provider, effects);
                        draft.deadlines.push((provider, ttl.map(|ttl| now + ttl)));
                        draft.acknowledge.push(later(reply, ()));
                    }
                    Err(error) => refuse(reply, error.into()),
                }
            }
            Command::ProviderFailed { provider, error } => {
                self.tell_failure(&provider, &error);
                self.registry.fail(clocks().1, &provider, error);
            }
            Command::RemoveProvider(provider, reply) => {
                self.remove_provider(provider, reply, draft);
            }
            Command::Providers(reply) => {
                let _ =
                    reply.send(Ok(self.registry.reports().into_iter().map(Into::into).collect()));
            }
            Command::LocalInstances(reply) => {
                let _ = reply.send(Ok(self.registry.instance_ids().cloned().collect()));
            }
            Command::ReleaseGuard(service, reply) => {
                let (now, wall) = clocks();
                let answer = match self.catalog.release(now, wall, &service) {
                    true => Ok(()),
                    false => {
                        Err(RequestError::NotFound(format!("service {service} is not guarded")))
                    }
                };
                self.perform_outputs();
                let _ = reply.send(answer);
            }
        }
    }

    fn register(
        &mut self,
        registration: Registration,
        reply: Reply<Registered>,
        draft: &mut Draft,
    ) {
        let before = self.registry.clone();
        let provider = registration.instance.provider.clone();
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
        // A run that ends says so itself; a file or a set that is gone may be a lie.
        let departure = match provider.kind() {
            dunlin_core::model::ProviderKind::Run => Departure::Deregistered,
            dunlin_core::model::ProviderKind::File
            | dunlin_core::model::ProviderKind::Http
            | dunlin_core::model::ProviderKind::Api => Departure::Dropped,
        };
        match self.registry.remove(&provider, departure) {
            Ok(effects) => {
                self.tell_provider(&provider, &before, &effects);
                self.note(draft, &before, &provider, effects);
                draft.deadlines.push((provider, None));
                draft.acknowledge.push(later(reply, ()));
            }
            Err(error) => refuse(reply, error.into()),
        }
    }
}
