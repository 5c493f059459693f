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
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::EndpointKey;
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
    pub(super) vanished: Vec<Arc<Endpoint>>,
    /// Endpoints of the guard that were meanwhile taken away on purpose.
    pub(super) withdrawn: Vec<EndpointKey>,
    /// All endpoints as the rows have them now.
    pub(super) present: &'a [Arc<Endpoint>],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    /// Asked for, no result yet.
    Pending,
    /// Has a result; asked again at this time.
    Done { answered: bool, again: Instant },
}

impl Probe {
    fn again(self) -> Option<Instant> {
        match self {
            Self::Done { again, .. } => Some(again),
            Self::Pending => None,
        }
    }

    /// Whether to ask again now; moves the time on. What it last said holds meanwhile.
    fn is_due(&mut self, now: Instant) -> bool {
        match self {
            Self::Done { again, .. } if *again <= now => {
                *again = now + PROBE_INTERVAL;
                true
            }
            Self::Done { .. } | Self::Pending => false,
        }
    }
}

#[derive(Debug)]
struct Vanished {
    at: Instant,
    endpoint: Arc<Endpoint>,
    /// Set while it is held.
    probe: Option<Probe>,
}

#[derive(Debug, Clone, Copy)]
struct Hold {
    mark: GuardMark,
    ends: Instant,
}

/// The guard of one service.
#[derive(Debug, Default)]
pub(super) struct Guard {
    vanished: BTreeMap<EndpointKey, Vanished>,
    hold: Option<Hold>,
    /// The failing ones that panic mode asks about.
    panic: BTreeMap<EndpointKey, (SocketAddr, Probe)>,
    window_ends: Option<Instant>,
    probes: Vec<(EndpointKey, SocketAddr)>,
    end: Option<&'static str>,
    /// The deadline that the catalog has noted for it.
    pub(super) noted_deadline: Option<Instant>,
}

impl Guard {
    /// Whether there is nothing to remember.
    pub(super) fn is_idle(&self) -> bool {
        self.vanished.is_empty() && self.hold.is_none() && self.panic.is_empty()
    }

    /// How many endpoints are held.
    pub(super) fn held(&self) -> usize {
        self.vanished.values().filter(|v| v.is_held()).count()
    }

    /// Set while endpoints are held.
    pub(super) fn mark(&self) -> Option<GuardMark> {
        self.hold.map(|hold| hold.mark)
    }

    /// Whether it holds this endpoint.
    pub(super) fn holds(&self, key: &EndpointKey) -> bool {
        self.vanished.get(key).is_some_and(Vanished::is_held)
    }

    /// The endpoints it remembers.
    pub(super) fn keys(&self) -> impl Iterator<Item = &EndpointKey> {
        self.vanished.keys()
    }

    /// The probes it wants, each once.
    pub(super) fn take_probes(&mut self) -> Vec<(EndpointKey, SocketAddr)> {
        std::mem::take(&mut self.probes)
    }

    /// Why the hold ended, once after it did.
    pub(super) fn take_end(&mut self) -> Option<&'static str> {
        self.end.take()
    }

    /// When [`Guard::handle_deadline`] is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let probes = self.vanished.values().filter_map(|v| v.probe?.again());
        let panic = self.panic.values().filter_map(|(_, probe)| probe.again());
        let hold = self.hold.map(|h| h.ends);
        probes.chain(panic).chain(hold).chain(self.window_ends).min()
    }

    /// Takes a change of the service.
    pub(super) fn observe(
        &mut self,
        now: Instant,
        wall: Timestamp,
        settings: &GuardSettings,
        observation: Observation<'_>,
    ) {
        let Observation { vanished, withdrawn, present } = observation;
        let back = present.iter().filter(|e| e.health.is_healthy()).map(|e| e.key());
        let mut is_returned = false;
        for key in withdrawn.into_iter().chain(back) {
            is_returned |= self.vanished.remove(&key).is_some();
        }
        for endpoint in vanished {
            let vanished = Vanished { at: now, endpoint, probe: None };
            self.vanished.insert(vanished.endpoint.key(), vanished);
        }
        let healthy = present.iter().filter(|e| e.health.is_healthy()).count();
        if self.hold.is_none() {
            let window = settings.window;
            self.vanished.retain(|_, v| now.saturating_duration_since(v.at) < window);
            self.begin_if_sharp(now, wall, settings, healthy);
        }
        if self.hold.is_some() {
            self.hold_new();
            if self.held() == 0 {
                self.release(if is_returned { "all returned" } else { "none answered a probe" });
            }
        }
        let oldest = self.vanished.values().filter(|v| v.probe.is_none()).map(|v| v.at).min();
        self.window_ends = oldest.map(|at| at + settings.window);
        self.consider_panic(settings.panic && healthy == 0 && self.hold.is_none(), present);
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
        for (key, vanished) in &mut self.vanished {
            if vanished.probe.is_none() {
                vanished.probe = Some(Probe::Pending);
                self.probes.push((key.clone(), vanished.endpoint.socket_address()));
            }
        }
    }

    /// Lets go of everything held. False if nothing was.
    pub(super) fn release(&mut self, reason: &'static str) -> bool {
        if self.hold.take().is_none() {
            return false;
        }
        self.vanished.clear();
        self.end = Some(reason);
        true
    }

    /// With no healthy instance left, asks which of the failing ones still accept connections.
    fn consider_panic(&mut self, is_wanted: bool, present: &[Arc<Endpoint>]) {
        let is_candidate = |e: &Endpoint| {
            let has_worked = e.checks.iter().all(|(_, row)| row.has_worked);
            e.health == Health::Critical && has_worked
        };
        let candidates: BTreeMap<EndpointKey, SocketAddr> = present
            .iter()
            .filter(|e| is_wanted && is_candidate(e))
            .map(|e| (e.key(), e.socket_address()))
            .collect();
        self.panic.retain(|key, (address, _)| candidates.get(key) == Some(address));
        for (key, address) in candidates {
            self.panic.entry(key.clone()).or_insert_with(|| {
                self.probes.push((key, address));
                (address, Probe::Pending)
            });
        }
    }

    /// Takes the result of a probe.
    pub(super) fn handle_probe(&mut self, now: Instant, key: &EndpointKey, answered: bool) {
        let result = Probe::Done { answered, again: now + PROBE_INTERVAL };
        let is_held = self.holds(key);
        if is_held && !answered {
            self.vanished.remove(key);
        } else if is_held && let Some(vanished) = self.vanished.get_mut(key) {
            vanished.probe = Some(result);
        }
        if let Some((_, probe)) = self.panic.get_mut(key) {
            *probe = result;
        }
    }

    /// Ends the hold if its time is over, and probes again what answered a while ago.
    pub(super) fn handle_deadline(&mut self, now: Instant, settings: &GuardSettings) {
        if self.hold.is_some_and(|hold| hold.ends <= now) {
            self.release("its time was over");
        }
        if self.hold.is_none() {
            let window = settings.window;
            self.vanished.retain(|_, v| now.saturating_duration_since(v.at) < window);
        }
        for (key, vanished) in &mut self.vanished {
            if vanished.probe.as_mut().is_some_and(|probe| probe.is_due(now)) {
                self.probes.push((key.clone(), vanished.endpoint.socket_address()));
            }
        }
        for (key, (address, probe)) in &mut self.panic {
            if probe.is_due(now) {
                self.probes.push((key.clone(), *address));
            }
        }
    }

    /// Marks the endpoints that are in answers against their health, and adds those that are held
    /// although nobody registers them any more.
    pub(super) fn apply(&self, endpoints: &mut Vec<Arc<Endpoint>>) {
        for endpoint in endpoints.iter_mut() {
            let standing = self.standing(&endpoint.key());
            if standing != Standing::Regular {
                Arc::make_mut(endpoint).standing = standing;
            }
        }
        let known: BTreeSet<EndpointKey> = endpoints.iter().map(|e| e.key()).collect();
        let missing = self
            .vanished
            .iter()
            .filter(|(key, vanished)| vanished.is_held() && !known.contains(*key))
            .map(|(_, v)| Endpoint { standing: Standing::Held, ..(*v.endpoint).clone() })
            .map(Arc::new)
            .collect::<Vec<_>>();
        endpoints.extend(missing);
    }

    fn standing(&self, key: &EndpointKey) -> Standing {
        if self.holds(key) {
            return Standing::Held;
        }
        match self.panic.get(key) {
            Some((_, Probe::Done { answered: true, .. })) => Standing::Panic,
            Some((_, Probe::Pending | Probe::Done { .. })) | None => Standing::Regular,
        }
    }
}

impl Vanished {
    /// Held from the first probe on; one that fails ends it by removal.
    fn is_held(&self) -> bool {
        self.probe.is_some()
    }
}
