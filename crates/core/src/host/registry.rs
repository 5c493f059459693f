//! What this host says: providers, their statements, and which instances follow from them.
//!
//! A provider always states its whole truth: what it no longer mentions is gone. An instance id belongs
//! to the provider that stated it first. Other providers that state it too wait in line and are reported.
//!
//! A registry is a persistent value: a clone costs nothing and shares what neither side changes. So the host clones
//! it before a change and puts the clone back if the change could not be stored, and readers hold clones of their own.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use thiserror::Error;

use super::stored::ProviderWrite;
use crate::model::limits::{
    MAX_INSTANCE_OCTETS_PER_NODE, MAX_INSTANCES_PER_NODE, MAX_STATED_OCTETS_PER_NODE,
    MAX_STATED_PER_NODE,
};
use crate::model::{Instance, InstanceId, Mode, ProviderId, Registration, Timestamp};
use crate::replica::Departure;

/// Providers that one host knows at a time.
pub const MAX_PROVIDERS: usize = 10_000;

/// Why a statement was not taken. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RegistryError {
    /// Two instances of one statement have the same id.
    #[error("instance id {0:?} is used twice")]
    DuplicateId(InstanceId),
    /// Another provider stated the id first.
    #[error("instance {id} is held by provider {holder}")]
    Held {
        /// The id.
        id: InstanceId,
        /// The provider that holds it.
        holder: ProviderId,
    },
    /// No such instance on this agent.
    #[error("no instance {0} on this agent")]
    UnknownInstance(InstanceId),
    /// No such provider.
    #[error("no provider {0}")]
    UnknownProvider(ProviderId),
    /// The node would have more instances than it may.
    #[error("the node would have {found} instances; at most {MAX_INSTANCES_PER_NODE} are allowed")]
    TooManyInstances {
        /// How many.
        found: usize,
    },
    /// The node's instances would be too large, all together.
    #[error(
        "the node's instances would take {found} octets; at most {MAX_INSTANCE_OCTETS_PER_NODE} are allowed"
    )]
    TooLargeInForce {
        /// How many.
        found: usize,
    },
    /// Providers would state too many instances together, though many of them the same.
    #[error(
        "the node's providers would state {found} instances together; at most {MAX_STATED_PER_NODE} are allowed"
    )]
    TooManyStated {
        /// How many.
        found: usize,
    },
    /// What providers state would be too large.
    #[error(
        "all that the node's providers state would take {found} octets, with 4 KiB for each check; \
         at most {MAX_STATED_OCTETS_PER_NODE} are allowed"
    )]
    TooLarge {
        /// How large.
        found: usize,
    },
    /// There are too many providers.
    #[error("more than {MAX_PROVIDERS} providers")]
    TooManyProviders,
}

/// A change of what this host says, to be turned into rows and checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// An instance is new or different.
    Upsert(Arc<Registration>),
    /// An instance is gone.
    Remove(InstanceId, Departure),
}

impl Effect {
    /// The instance it is about.
    #[must_use]
    pub fn id(&self) -> &InstanceId {
        match self {
            Self::Upsert(registration) => &registration.instance.id,
            Self::Remove(id, _) => id,
        }
    }
}

/// What a batch makes of one instance, however many requests named it.
#[derive(Debug)]
pub(super) struct InstanceChange {
    pub(super) effect: Effect,
    /// Whether the instance was gone in between, so that its checks know nothing of what is there now.
    pub(super) is_renewed: bool,
}

/// One provider's statement and how it fared.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Statement {
    wanted: OrdMap<InstanceId, Arc<Registration>>,
    /// Stated, yet taken out since they were critical for too long; until stated differently.
    suppressed: BTreeSet<InstanceId>,
    ttl: Option<Duration>,
    error: Option<String>,
    changed: Timestamp,
    /// Whether the provider is known on disk; one that only failed so far is not.
    is_stored: bool,
    /// Another number after each change of what [`Registry::report_of`] says.
    revision: u64,
}

impl Statement {
    fn empty(now: Timestamp) -> Self {
        let (wanted, suppressed) = (OrdMap::new(), BTreeSet::new());
        let (ttl, error) = (None, None);
        Self { wanted, suppressed, ttl, error, changed: now, is_stored: false, revision: 0 }
    }

    /// Takes a registration in force from its row. Only its checks are stored elsewhere, if it has any.
    fn restore_row(&mut self, row: &Instance) {
        let instance = row.clone().in_mode(Mode::Active);
        let checks = self.wanted.get(&row.id).map(|stored| stored.checks.clone());
        let registration = Registration { instance, checks: checks.unwrap_or_default() };
        self.wanted.insert(row.id.clone(), Arc::new(registration));
    }
}

/// All providers of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registry {
    statements: OrdMap<ProviderId, Statement>,
    holders: OrdMap<InstanceId, ProviderId>,
    modes: OrdMap<InstanceId, Mode>,
    /// About how many the instances in force take, all together.
    octets: usize,
    /// What all statements hold together, also of ids that another provider holds.
    stated: Load,
    /// The highest revision that a statement has had.
    revision: u64,
}

/// How much is stated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Load {
    instances: usize,
    octets: usize,
}

impl Load {
    fn of(statement: Option<&Statement>, ids: &BTreeSet<InstanceId>) -> Self {
        let wanted = ids.iter().filter_map(|id| statement?.wanted.get(id));
        wanted.fold(Self::default(), |load, registration| Self {
            instances: load.instances + 1,
            octets: load.octets + registration.octets(),
        })
    }

    fn replace(self, old: Self, new: Self) -> Self {
        Self {
            instances: self.instances + new.instances - old.instances,
            octets: self.octets + new.octets - old.octets,
        }
    }

    /// Whether there is more than may be. What was stored may be, and may always become less.
    fn check(self, before: Self) -> Result<(), RegistryError> {
        if self.instances > MAX_STATED_PER_NODE.max(before.instances) {
            return Err(RegistryError::TooManyStated { found: self.instances });
        }
        if self.octets > MAX_STATED_OCTETS_PER_NODE.max(before.octets) {
            return Err(RegistryError::TooLarge { found: self.octets });
        }
        Ok(())
    }
}

/// A provider's report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Which.
    pub provider: ProviderId,
    /// How many instances it holds.
    pub instances: usize,
    /// What is wrong with its last statement.
    pub error: Option<String>,
    /// Ids that it states and that were taken out since they were critical for too long.
    pub suppressed: Vec<InstanceId>,
    /// Ids that it states and another provider holds.
    pub conflicts: Vec<(InstanceId, ProviderId)>,
    /// When its statement last changed.
    pub changed: Timestamp,
}

impl Registry {
    /// The registration in force under an id, with the operator's mode.
    #[must_use]
    pub fn registration(&self, id: &InstanceId) -> Option<Arc<Registration>> {
        let holder = self.holders.get(id)?;
        let registration = self.statements.get(holder)?.wanted.get(id)?;
        Some(self.with_mode(registration))
    }

    /// The ids of all instances in force.
    pub fn instance_ids(&self) -> impl Iterator<Item = &InstanceId> {
        self.holders.keys()
    }

    /// The provider that holds an id.
    #[must_use]
    pub fn holder(&self, id: &InstanceId) -> Option<&ProviderId> {
        self.holders.get(id)
    }

    /// How many instances are in force.
    #[must_use]
    pub fn len(&self) -> usize {
        self.holders.len()
    }

    /// Whether nothing has changed since the other one was a clone of this one.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.revision == other.revision && self.modes.ptr_eq(&other.modes)
    }

    /// Whether no instance is in force.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.holders.is_empty()
    }

    /// All providers and for how long their statements hold.
    pub fn providers(&self) -> impl Iterator<Item = (&ProviderId, Option<Duration>)> {
        self.statements.iter().map(|(id, statement)| (id, statement.ttl))
    }

    /// What a provider states, in force or not.
    pub fn stated(&self, provider: &ProviderId) -> impl Iterator<Item = &Arc<Registration>> {
        self.statements.get(provider).into_iter().flat_map(|s| s.wanted.values())
    }

    /// The operator's mode of an instance.
    #[must_use]
    pub fn mode(&self, id: &InstanceId) -> Mode {
        self.modes.get(id).cloned().unwrap_or_default()
    }

    /// Whether the node's own row says all of a registration, so that it need not be stored once more.
    fn is_told_by_row(&self, provider: &ProviderId, registration: &Registration) -> bool {
        let Registration { instance, checks } = registration;
        checks.is_empty()
            && instance.profile.provider == *provider
            && instance.profile.mode == Mode::Active
            && self.holders.get(&instance.id) == Some(provider)
    }

    /// Puts back stored statements, with the registrations, holders and modes that the node's own rows tell.
    #[must_use]
    pub fn restore(
        now: Timestamp,
        statements: impl IntoIterator<Item = (ProviderId, Option<Duration>, Vec<Registration>)>,
        rows: &[Arc<Instance>],
    ) -> Self {
        let mut registry = Self::default();
        for (provider, ttl, registrations) in statements {
            let wanted: OrdMap<_, _> =
                registrations.into_iter().map(|r| (r.instance.id.clone(), Arc::new(r))).collect();
            let statement = Statement { ttl, wanted, is_stored: true, ..Statement::empty(now) };
            registry.statements.insert(provider, statement);
        }
        for row in rows {
            if let Some(statement) = registry.statements.get_mut(&row.profile.provider) {
                statement.restore_row(row);
            }
            registry.holders.insert(row.id.clone(), row.profile.provider.clone());
            if row.profile.mode != Mode::Active {
                registry.modes.insert(row.id.clone(), row.profile.mode.clone());
            }
        }
        for statement in registry.statements.values() {
            let ids = statement.wanted.keys().cloned().collect();
            let load = Load::of(Some(statement), &ids);
            registry.stated = registry.stated.replace(Load::default(), load);
        }
        let stated = registry.statements.values().flat_map(|s| s.wanted.keys());
        let ids: BTreeSet<_> = stated.chain(registry.holders.keys()).cloned().collect();
        for id in &ids {
            registry.settle_holder(id);
        }
        registry.octets = ids.iter().map(|id| octets_of(registry.registration(id).as_ref())).sum();
        registry
    }

    /// Replaces a provider's complete set.
    ///
    /// # Errors
    /// When two instances share an id, or a limit is exceeded.
    pub fn state(
        &mut self,
        now: Timestamp,
        provider: &ProviderId,
        registrations: Vec<Registration>,
        ttl: Option<Duration>,
    ) -> Result<Vec<Effect>, RegistryError> {
        let mut wanted = OrdMap::new();
        for registration in registrations {
            let id = registration.instance.id.clone();
            if wanted.insert(id.clone(), Arc::new(registration)).is_some() {
                return Err(RegistryError::DuplicateId(id));
            }
        }
        let old = self.statements.get(provider).cloned();
        if old.is_none() && self.statements.len() >= MAX_PROVIDERS {
            return Err(RegistryError::TooManyProviders);
        }
        let is_same = old.as_ref().is_some_and(|old| old.wanted == wanted);
        let changed = old.as_ref().filter(|_| is_same).map_or(now, |old| old.changed);
        let suppressed = match &old {
            Some(_) if provider.kind().speaks_only_on_change() => BTreeSet::new(),
            Some(old) => {
                let is_same = |id: &&InstanceId| old.wanted.get(*id) == wanted.get(*id);
                old.suppressed.iter().filter(is_same).cloned().collect()
            }
            None => BTreeSet::new(),
        };
        let (error, is_stored, revision) = (None, true, 0);
        let statement = Statement { wanted, suppressed, ttl, error, changed, is_stored, revision };
        self.replace(provider, Some(statement), Departure::Dropped)
    }

    /// Adds or replaces one instance of a provider's set. True if it is new.
    ///
    /// # Errors
    /// When another provider holds the id, or a limit is exceeded.
    pub fn put_one(
        &mut self,
        now: Timestamp,
        provider: &ProviderId,
        registration: Registration,
    ) -> Result<(bool, Vec<Effect>), RegistryError> {
        let id = registration.instance.id.clone();
        let held = self.holders.get(&id).filter(|holder| *holder != provider);
        if let Some(holder) = held.cloned() {
            return Err(RegistryError::Held { id, holder });
        }
        let known = self.statements.get(provider).cloned();
        let mut statement = known.unwrap_or_else(|| Statement::empty(now));
        statement.suppressed.remove(&id);
        statement.is_stored = true;
        let registration = Arc::new(registration);
        let old = statement.wanted.insert(id, registration.clone());
        if old.as_ref() != Some(&registration) {
            statement.changed = now;
        }
        let effects = self.replace(provider, Some(statement), Departure::Dropped)?;
        Ok((old.is_none(), effects))
    }

    /// Deregisters one instance at somebody's word.
    ///
    /// # Errors
    /// When there is none, or its provider would state it again: files, HTTP sets and runs are asked.
    pub fn deregister(
        &mut self,
        now: Timestamp,
        id: &InstanceId,
    ) -> Result<Vec<Effect>, RegistryError> {
        let holder = self.holders.get(id).cloned();
        let holder = holder.ok_or_else(|| RegistryError::UnknownInstance(id.clone()))?;
        if !holder.kind().takes_single_instances() {
            return Err(RegistryError::Held { id: id.clone(), holder });
        }
        let mut statement = self.statements[&holder].clone();
        statement.wanted.remove(id);
        statement.changed = now;
        self.replace(&holder, Some(statement), Departure::Deregistered)
    }

    /// Takes an instance out since it was critical for too long, whichever provider states it. It returns when its
    /// provider states it differently.
    pub fn suppress(&mut self, now: Timestamp, id: &InstanceId) -> Vec<Effect> {
        let Some(holder) = self.holders.get(id).cloned() else { return Vec::new() };
        let mut statement = self.statements[&holder].clone();
        if holder.kind().takes_single_instances() {
            statement.wanted.remove(id);
            statement.changed = now;
        } else {
            statement.suppressed.insert(id.clone());
        }
        self.replace(&holder, Some(statement), Departure::Dropped).unwrap_or_default()
    }

    /// Forgets a provider with all its instances.
    ///
    /// # Errors
    /// When there is none.
    pub fn remove(
        &mut self,
        provider: &ProviderId,
        departure: Departure,
    ) -> Result<Vec<Effect>, RegistryError> {
        if !self.statements.contains_key(provider) {
            return Err(RegistryError::UnknownProvider(provider.clone()));
        }
        self.replace(provider, None, departure)
    }

    /// Notes that a provider's last statement could not be read. What it stated before holds.
    pub fn fail(&mut self, now: Timestamp, provider: &ProviderId, error: String) {
        let fresh = Statement::empty(now);
        if self.statements.len() < MAX_PROVIDERS || self.statements.contains_key(provider) {
            self.statements.entry(provider.clone()).or_insert(fresh).error = Some(error);
            self.note_report(provider);
        }
    }

    /// Notes that what is reported of a provider may have changed.
    fn note_report(&mut self, provider: &ProviderId) {
        self.revision += 1;
        if let Some(statement) = self.statements.get_mut(provider) {
            statement.revision = self.revision;
        }
    }

    /// A number that differs whenever what [`Registry::report_of`] says of a provider differs, so that a reader need
    /// not make a report twice.
    #[must_use]
    pub fn revision_of(&self, provider: &ProviderId) -> Option<u64> {
        self.statements.get(provider).map(|statement| statement.revision)
    }

    /// Takes an instance out of answers, or puts it back.
    ///
    /// # Errors
    /// When there is none.
    pub fn set_mode(&mut self, id: &InstanceId, mode: Mode) -> Result<Vec<Effect>, RegistryError> {
        if !self.holders.contains_key(id) {
            return Err(RegistryError::UnknownInstance(id.clone()));
        }
        match mode {
            Mode::Active => self.modes.remove(id),
            mode @ (Mode::Draining | Mode::Maintenance { .. }) => {
                self.modes.insert(id.clone(), mode)
            }
        };
        Ok(self.registration(id).map(Effect::Upsert).into_iter().collect())
    }

    /// Whether a provider's last statement could not be read.
    #[must_use]
    pub fn has_failed(&self, provider: &ProviderId) -> bool {
        self.statements.get(provider).is_some_and(|s| s.error.is_some())
    }

    /// How every provider fares.
    #[must_use]
    pub fn reports(&self) -> Vec<Report> {
        self.statements
            .iter()
            .map(|(provider, statement)| self.report(provider, statement))
            .collect()
    }

    /// How one provider fares.
    #[must_use]
    pub fn report_of(&self, provider: &ProviderId) -> Option<Report> {
        let statement = self.statements.get(provider)?;
        Some(self.report(provider, statement))
    }

    fn report(&self, provider: &ProviderId, statement: &Statement) -> Report {
        let held_by_other =
            |id: &&InstanceId| self.holders.get(*id).filter(|holder| *holder != provider).is_some();
        let conflicts: Vec<_> = statement
            .wanted
            .keys()
            .filter(held_by_other)
            .map(|id| (id.clone(), self.holders[id].clone()))
            .collect();
        let is_held = |id: &&InstanceId| self.holders.get(*id) == Some(provider);
        Report {
            provider: provider.clone(),
            instances: statement.wanted.keys().filter(is_held).count(),
            suppressed: statement.suppressed.iter().cloned().collect(),
            error: statement.error.clone(),
            conflicts,
            changed: statement.changed,
        }
    }

    /// Puts a provider's statement in force and works out what follows.
    fn replace(
        &mut self,
        provider: &ProviderId,
        statement: Option<Statement>,
        departure: Departure,
    ) -> Result<Vec<Effect>, RegistryError> {
        let before = self.clone();
        let old = match statement {
            Some(new) => self.statements.insert(provider.clone(), new),
            None => self.statements.remove(provider),
        };
        let touched = touched(old.as_ref(), self.statements.get(provider));
        let of = |statement: Option<&Statement>| Load::of(statement, &touched);
        self.stated = self.stated.replace(of(old.as_ref()), of(self.statements.get(provider)));
        if let Err(error) = self.stated.check(before.stated) {
            *self = before;
            return Err(error);
        }
        self.note_report(provider);
        let mut effects = Vec::new();
        for id in touched {
            self.settle_holder(&id);
            let (old, new) = (before.registration(&id), self.registration(&id));
            self.octets = self.octets + octets_of(new.as_ref()) - octets_of(old.as_ref());
            match (old, new) {
                (Some(old), Some(new)) if old == new => {}
                (_, Some(new)) => effects.push(Effect::Upsert(new)),
                (Some(_), None) => {
                    self.modes.remove(&id);
                    effects.push(Effect::Remove(id, departure));
                }
                (None, None) => {}
            }
        }
        if self.holders.len() > MAX_INSTANCES_PER_NODE {
            let found = self.holders.len();
            *self = before;
            return Err(RegistryError::TooManyInstances { found });
        }
        // A node states all it has in one piece when it must, and a piece has a limit.
        if self.octets > MAX_INSTANCE_OCTETS_PER_NODE.max(before.octets) {
            let found = self.octets;
            *self = before;
            return Err(RegistryError::TooLargeInForce { found });
        }
        Ok(effects)
    }

    /// The holder keeps an id while it states it; then the next provider in order has it.
    fn settle_holder(&mut self, id: &InstanceId) {
        let states = |provider: &ProviderId| {
            self.statements
                .get(provider)
                .is_some_and(|s| s.wanted.contains_key(id) && !s.suppressed.contains(id))
        };
        if self.holders.get(id).is_some_and(states) {
            return;
        }
        let stating = self.statements.iter().filter(|(_, s)| s.wanted.contains_key(id));
        let stating: Vec<ProviderId> = stating.map(|(provider, _)| provider.clone()).collect();
        let former = match stating.iter().find(|provider| states(provider)).cloned() {
            Some(heir) => self.holders.insert(id.clone(), heir),
            None => self.holders.remove(id),
        };
        // Each of them is told of the holder.
        for provider in stating.iter().chain(&former) {
            self.note_report(provider);
        }
    }

    fn with_mode(&self, registration: &Arc<Registration>) -> Arc<Registration> {
        match self.modes.get(&registration.instance.id) {
            None => registration.clone(),
            Some(mode) => {
                let Registration { instance, checks } = (**registration).clone();
                Arc::new(Registration { instance: instance.in_mode(mode.clone()), checks })
            }
        }
    }
}

fn octets_of(registration: Option<&Arc<Registration>>) -> usize {
    registration.map_or(0, |registration| registration.instance.approx_octets())
}

/// What must be stored so that a provider's statement is found again after a restart: all that rows do not
/// tell. What is no longer stated is always removed, since it may still be stored from when rows did not tell.
#[must_use]
pub(super) fn stored_differences(
    before: &Registry,
    after: &Registry,
    provider: &ProviderId,
) -> Vec<ProviderWrite> {
    let (old, new) = (before.statements.get(provider), after.statements.get(provider));
    let Some(new) = new else {
        return old.map(|_| ProviderWrite::Remove(provider.clone())).into_iter().collect();
    };
    let mut writes = Vec::new();
    if old.is_none_or(|old| !old.is_stored || old.ttl != new.ttl) {
        writes.push(ProviderWrite::Put(provider.clone(), new.ttl));
    }
    let was_stored = |id: &InstanceId| {
        let old = old.and_then(|old| old.wanted.get(id));
        old.is_some_and(|old| !before.is_told_by_row(provider, old))
    };
    for id in touched(old, Some(new)) {
        match new.wanted.get(&id) {
            Some(registration) if !after.is_told_by_row(provider, registration) => {
                let registration = Box::new((**registration).clone());
                writes.push(ProviderWrite::PutRegistration(provider.clone(), registration));
            }
            Some(_) if !was_stored(&id) => {}
            Some(_) | None => writes.push(ProviderWrite::RemoveRegistration(provider.clone(), id)),
        }
    }
    writes
}

/// The ids that two statements of one provider treat differently. What they share costs nothing.
fn touched(old: Option<&Statement>, new: Option<&Statement>) -> BTreeSet<InstanceId> {
    let (nothing, nobody) = (OrdMap::new(), BTreeSet::new());
    let wanted = |s: Option<&Statement>| s.map_or(nothing.clone(), |s| s.wanted.clone());
    let suppressed = |s: Option<&'_ Statement>| s.map_or(nobody.clone(), |s| s.suppressed.clone());
    let mut ids: BTreeSet<InstanceId> =
        suppressed(old).symmetric_difference(&suppressed(new)).cloned().collect();
    ids.extend(wanted(old).diff(&wanted(new)).map(|item| match item {
        DiffItem::Add(id, _) | DiffItem::Remove(id, _) | DiffItem::Update { new: (id, _), .. } => {
            id.clone()
        }
    }));
    ids
}
