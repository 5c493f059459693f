//! The drop guard: some drops are lies.
//!
//! A truncated file, a broken health endpoint or a partition seen from the wrong side makes many
//! instances vanish at once. If more than `max_drop` of a service's healthy instances, and at least
//! `min_instances`, vanish within `window`, the guard goes on serving them while it probes each; those
//! that do not answer are let go at once, the others when they return, when they fail a later probe,
//! after `hold`, or at an operator's word. What was taken away on purpose (drained, in maintenance,
//! deregistered by name) never counts.
//!
//! Panic mode is the same idea for the last ones: when no instance is healthy, those that worked once
//! and still accept connections are served rather than none.
//!
//! One [`Guard`] watches one service. It opens no connections; it asks for probes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::EndpointKey;
use super::refresh::Changed;
use super::view::{Endpoint, GuardMark, Standing};
use crate::model::{Health, ServiceName, Timestamp};

/// Time between probes of an endpoint that answered.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// When the guard steps in.
#[derive(Debug, Clone, PartialEq)]
pub struct GuardSettings {
    /// The share of a service's healthy instances, 0 to 1, that may vanish unquestioned. Too low, and
    /// ordinary restarts are held back; too high, and a broken health endpoint empties answers.
    pub max_drop: f64,
    /// How many must vanish at least. Too low, and small services are held at every restart.
    pub min_instances: usize,
    /// Vanishings within this time count together.
    pub window: Duration,
    /// The longest hold.
    pub hold: Duration,
    /// Whether instances that accept connections are served when none is healthy.
    pub panic: bool,
    /// Other settings for some services.
    pub services: BTreeMap<ServiceName, GuardOverride>,
}

/// Other settings for one service; what is absent stays as it is for all.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct GuardOverride {
    /// See [`GuardSettings::max_drop`]; 1 switches the guard off.
    pub max_drop: Option<f64>,
    /// See [`GuardSettings::panic`].
    pub panic: Option<bool>,
}

impl Default for GuardSettings {
    fn default() -> Self {
        Self {
            max_drop: 0.5,
            min_instances: 3,
            window: Duration::from_secs(30),
            hold: Duration::from_secs(600),
            panic: true,
            services: BTreeMap::new(),
        }
    }
}

impl GuardSettings {
    /// The settings that hold for one service.
    pub(super) fn of(&self, service: &ServiceName) -> Self {
        let over = self.services.get(service).copied().unwrap_or_default();
        Self {
            max_drop: over.max_drop.unwrap_or(self.max_drop),
            panic: over.panic.unwrap_or(self.panic),
            services: BTreeMap::new(),
            ..*self
        }
    }
}

/// What the catalog shows the guard at each change of a service.
pub(super) struct Observation<'a> {
    /// Endpoints that were healthy and are not any more, as they were.
    pub(super) vanished: Vec<Endpoint>,
    /// Endpoints that are healthy again or were taken away on purpose: nothing to remember of them.
    pub(super) settled: Vec<EndpointKey>,
    /// Endpoints that changed, as the rows have them now; `None` is not registered.
    pub(super) changed: &'a [Changed],
    /// All others that are registered. Read only when panic mode begins.
    pub(super) unchanged: Box<dyn Iterator<Item = &'a Endpoint> + 'a>,
    /// How many endpoints the rows have, and how many of them are healthy.
    pub(super) registered: usize,
    pub(super) healthy: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    /// Asked for, no result yet.
    Pending,
    /// Has a result; asked again at this time, and none while it is.
    Done { answered: bool, again: Option<Instant> },
}

impl Probe {
    fn again(self) -> Option<Instant> {
        match self {
            Self::Done { again, .. } => again,
            Self::Pending => None,
        }
    }

    fn is_answered(self) -> bool {
        matches!(self, Self::Done { answered: true, .. })
    }
}

#[derive(Debug)]
struct Vanished {
    /// When it is forgotten unless more follows.
    window_ends: Instant,
    /// Apart, since a map's node has room for eleven.
    endpoint: Box<Endpoint>,
    /// Set while it is held; a probe that fails ends that by removal.
    probe: Option<Probe>,
}

#[derive(Debug, Clone, Copy)]
struct Hold {
    mark: GuardMark,
    ends: Instant,
}

/// The guard of one service. A step costs as much as changed, however many endpoints there are.
#[derive(Debug, Default)]
pub(super) struct Guard {
    vanished: BTreeMap<EndpointKey, Vanished>,
    /// [`Vanished::window_ends`] of all that is not held.
    windows: BTreeSet<(Instant, EndpointKey)>,
    /// Set while all that vanished is held.
    hold: Option<Hold>,
    /// Whether panic mode asks about the failing ones, and about which.
    is_panicking: bool,
    panic: BTreeMap<EndpointKey, (SocketAddr, Probe)>,
    /// [`Probe::again`] of all probes.
    agains: BTreeSet<(Instant, EndpointKey)>,
    probes: Vec<(EndpointKey, SocketAddr)>,
    touched: Vec<EndpointKey>,
    end: Option<&'static str>,
    /// The deadline that the catalog has noted for it.
    pub(super) noted_deadline: Option<Instant>,
}

impl Guard {
    /// Whether there is nothing to remember.
    pub(super) fn is_idle(&self) -> bool {
        self.vanished.is_empty() && self.hold.is_none() && !self.is_panicking
    }

    /// How many endpoints are held.
    pub(super) fn held(&self) -> usize {
        if self.hold.is_some() { self.vanished.len() } else { 0 }
    }

    /// Set while endpoints are held.
    pub(super) fn mark(&self) -> Option<GuardMark> {
        self.hold.map(|hold| hold.mark)
    }

    /// The endpoint as it was, if it is held.
    pub(super) fn held_endpoint(&self, key: &EndpointKey) -> Option<&Endpoint> {
        self.hold?;
        self.vanished.get(key).map(|vanished| &*vanished.endpoint)
    }

    /// Why an endpoint is in answers, or not.
    pub(super) fn standing(&self, key: &EndpointKey) -> Standing {
        if self.held_endpoint(key).is_some() {
            return Standing::Held;
        }
        let is_panic = self.panic.get(key).is_some_and(|(_, probe)| probe.is_answered());
        if is_panic { Standing::Panic } else { Standing::Regular }
    }

    /// The probes it wants, each once.
    pub(super) fn take_probes(&mut self) -> Vec<(EndpointKey, SocketAddr)> {
        std::mem::take(&mut self.probes)
    }

    /// The endpoints whose [`standing`](Self::standing) may be another than before, each at least once.
    pub(super) fn take_touched(&mut self) -> Vec<EndpointKey> {
        std::mem::take(&mut self.touched)
    }

    /// Why the hold ended, once after it did.
    pub(super) fn take_end(&mut self) -> Option<&'static str> {
        self.end.take()
    }

    /// When [`Guard::handle_deadline`] is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let again = self.agains.first().map(|(at, _)| *at);
        let window = self.windows.first().map(|(at, _)| *at);
        [again, window, self.hold.map(|h| h.ends)].into_iter().flatten().min()
    }

    /// Takes a change of the service.
    pub(super) fn observe(
        &mut self,
        now: Instant,
        wall: Timestamp,
        settings: &GuardSettings,
        mut observation: Observation<'_>,
    ) {
        let mut is_returned = false;
        for key in &observation.settled {
            is_returned |= self.forget(key);
        }
        let window_ends = now + settings.window;
        for endpoint in std::mem::take(&mut observation.vanished) {
            let key = endpoint.key();
            self.forget(&key);
            self.windows.insert((window_ends, key.clone()));
            let vanished = Vanished { window_ends, endpoint: endpoint.into(), probe: None };
            self.vanished.insert(key, vanished);
        }
        if self.hold.is_none() {
            self.end_windows(now);
            self.begin_if_sharp(now, wall, settings, observation.healthy);
        }
        if self.hold.is_some() {
            self.hold_new();
            if self.vanished.is_empty() {
                self.release(if is_returned { "all returned" } else { "none answered a probe" });
            }
        }
        let is_failing = observation.healthy == 0 && observation.registered > 0;
        if settings.panic && is_failing && self.hold.is_none() {
            self.panic(observation);
        } else {
            self.end_panic();
        }
    }

    /// Gives back the memory of what is empty: a map keeps a node of some hundred octets, and when half a cluster is gone,
    /// many services have a guard with nothing left to hold.
    pub(super) fn give_back(&mut self) {
        let Self { vanished, windows, panic, agains, .. } = self;
        give_back(vanished, BTreeMap::is_empty);
        give_back(windows, BTreeSet::is_empty);
        give_back(panic, BTreeMap::is_empty);
        give_back(agains, BTreeSet::is_empty);
    }

    fn begin_if_sharp(
        &mut self,
        now: Instant,
        wall: Timestamp,
        settings: &GuardSettings,
        healthy: usize,
    ) {
        let vanished = self.vanished.len();
        #[allow(
            clippy::cast_precision_loss,
            reason = "counts of instances stay far below the 52 bits that a float holds exactly"
        )]
        let is_sharp = vanished as f64 > settings.max_drop * (healthy + vanished) as f64;
        if vanished >= settings.min_instances.max(1) && is_sharp {
            let mark = GuardMark { since: wall };
            self.hold = Some(Hold { mark, ends: now + settings.hold });
        }
    }

    /// Holds whatever vanished and is not held yet, and asks for its probe.
    fn hold_new(&mut self) {
        for (_, key) in std::mem::take(&mut self.windows) {
            if let Some(vanished) = self.vanished.get_mut(&key) {
                vanished.probe = Some(Probe::Pending);
                self.probes.push((key.clone(), vanished.endpoint.socket_address()));
                self.touched.push(key);
            }
        }
    }

    /// Forgets that an endpoint vanished. False if it did not.
    fn forget(&mut self, key: &EndpointKey) -> bool {
        let Some(vanished) = self.vanished.remove(key) else { return false };
        self.windows.remove(&(vanished.window_ends, key.clone()));
        if let Some(again) = vanished.probe.and_then(Probe::again) {
            self.agains.remove(&(again, key.clone()));
        }
        self.touched.push(key.clone());
        true
    }

    /// Forgets what vanished too long ago to count.
    fn end_windows(&mut self, now: Instant) {
        while let Some((_, key)) = self.windows.first().filter(|(at, _)| *at <= now).cloned() {
            self.forget(&key);
        }
    }

    /// Lets go of everything held. False if nothing was.
    pub(super) fn release(&mut self, reason: &'static str) -> bool {
        if self.hold.take().is_none() {
            return false;
        }
        for key in self.vanished.keys().cloned().collect::<Vec<_>>() {
            self.forget(&key);
        }
        self.end = Some(reason);
        true
    }

    /// With no healthy endpoint left, asks which of the failing ones still accept connections.
    fn panic(&mut self, observation: Observation<'_>) {
        if !std::mem::replace(&mut self.is_panicking, true) {
            for endpoint in observation.unchanged {
                self.consider(endpoint.key(), Some(endpoint));
            }
        }
        for Changed { key, now, .. } in observation.changed {
            self.consider(key.clone(), now.as_ref());
        }
    }

    fn consider(&mut self, key: EndpointKey, endpoint: Option<&Endpoint>) {
        let is_candidate = |e: &&Endpoint| {
            let has_worked = e.checks.iter().all(|(_, row)| row.has_worked);
            e.health == Health::Critical && has_worked
        };
        let address = endpoint.filter(is_candidate).map(Endpoint::socket_address);
        if self.panic.get(&key).map(|(known, _)| *known) == address {
            return;
        }
        self.calm(&key);
        if let Some(address) = address {
            self.probes.push((key.clone(), address));
            self.panic.insert(key, (address, Probe::Pending));
        }
    }

    fn calm(&mut self, key: &EndpointKey) {
        let Some((_, probe)) = self.panic.remove(key) else { return };
        if let Some(again) = probe.again() {
            self.agains.remove(&(again, key.clone()));
        }
        self.touched.push(key.clone());
    }

    fn end_panic(&mut self) {
        self.is_panicking = false;
        while let Some((key, _)) = self.panic.first_key_value() {
            self.calm(&key.clone());
        }
    }

    /// Takes the result of a probe.
    pub(super) fn handle_probe(&mut self, now: Instant, key: &EndpointKey, answered: bool) {
        let again = now + PROBE_INTERVAL;
        let result = Probe::Done { answered, again: Some(again) };
        let is_held = self.held_endpoint(key).is_some();
        if is_held && !answered {
            self.forget(key);
            return;
        }
        let vanished = self.vanished.get_mut(key).filter(|_| is_held);
        let before = if let Some(vanished) = vanished {
            vanished.probe.replace(result)
        } else if let Some((_, probe)) = self.panic.get_mut(key) {
            if probe.is_answered() != answered {
                self.touched.push(key.clone());
            }
            Some(std::mem::replace(probe, result))
        } else {
            return;
        };
        if let Some(before) = before.and_then(Probe::again) {
            self.agains.remove(&(before, key.clone()));
        }
        self.agains.insert((again, key.clone()));
    }

    /// Ends the hold if its time is over, and probes again what answered a while ago.
    pub(super) fn handle_deadline(&mut self, now: Instant) {
        if self.hold.is_some_and(|hold| hold.ends <= now) {
            self.release("its time was over");
        }
        self.end_windows(now);
        while let Some((_, key)) = self.agains.first().filter(|(at, _)| *at <= now).cloned() {
            self.agains.pop_first();
            self.probe_again(key);
        }
    }

    /// What a probe last said holds until its next result, and until then no other is asked for: they may take longer
    /// than the time between them.
    fn probe_again(&mut self, key: EndpointKey) {
        let held = self.vanished.get_mut(&key).map(|v| (v.endpoint.socket_address(), &mut v.probe));
        let panic = self.panic.get_mut(&key);
        let (address, probe) = match (held, panic) {
            (Some((address, Some(probe))), _) => (address, probe),
            (_, Some((address, probe))) => (*address, probe),
            (_, None) => return,
        };
        if let Probe::Done { again, .. } = probe {
            *again = None;
        }
        self.probes.push((key, address));
    }
}

/// Replaces a collection that is empty by one that has never had anything.
fn give_back<T: Default>(collection: &mut T, is_empty: impl Fn(&T) -> bool) {
    if is_empty(collection) {
        *collection = T::default();
    }
}
