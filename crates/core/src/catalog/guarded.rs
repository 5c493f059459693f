//! The guards of services: what they are told, and what becomes of what they want.

use std::net::SocketAddr;
use std::time::Instant;

use super::nodes::NodeRecord;
use super::refresh::{Changed, Rebuild};
use super::service::{Endpoint, GuardMark, Standing};
use super::{Catalog, CatalogOutput, EndpointKey};
use crate::guard::{Change, Fate, Guard, GuardOutput, Observation, Target};
use crate::model::{Health, Mode, NodeId, ServiceName, Timestamp};

/// A guard with what the catalog remembers for it.
#[derive(Debug, Default)]
pub(super) struct ServiceGuard {
    /// Endpoints are boxed, since a map's node has room for eleven.
    pub(super) guard: Guard<EndpointKey, Box<Endpoint>>,
    /// Set while the guard holds endpoints.
    pub(super) mark: Option<GuardMark>,
    /// The guard's deadline as it is among the catalog's.
    pub(super) noted_deadline: Option<Instant>,
}

impl Target for Box<Endpoint> {
    fn address(&self) -> SocketAddr {
        self.socket_address()
    }
}

impl ServiceGuard {
    /// Why an endpoint is in answers, or not.
    fn standing(&self, key: &EndpointKey) -> Standing {
        if self.guard.held(key).is_some() {
            Standing::Held
        } else if self.guard.answers_in_panic(key) {
            Standing::Panic
        } else {
            Standing::Regular
        }
    }
}

/// Where an endpoint listens that fails and has worked before: panic mode may ask about it.
fn failing_at(endpoint: &Endpoint) -> Option<SocketAddr> {
    let has_worked = || endpoint.checks.iter().all(|(_, row)| row.has_worked);
    let is_candidate = endpoint.health == Health::Critical && has_worked();
    is_candidate.then(|| endpoint.socket_address())
}

impl Catalog {
    /// Tells the guard of a service what changed, does what it asks for, and adds the endpoints whose
    /// standing it changed to those that changed.
    pub(super) fn consult_guard(&mut self, now: Instant, wall: Timestamp, rebuild: &mut Rebuild) {
        let is_now_healthy =
            |changed: &&Changed| changed.now.as_ref().is_some_and(|e| e.health.is_healthy());
        let registered = rebuild.changed.iter().filter(|changed| changed.now.is_some()).count();
        let healthy = rebuild.changed.iter().filter(is_now_healthy).count();
        let present = rebuild.unchanged + registered;
        let healthy = rebuild.unchanged_healthy + healthy;
        let rules = self.settings.of(&rebuild.service);
        let is_failing = rules.panic && healthy == 0 && present > 0;
        let is_needed = is_failing
            || self.guards.contains_key(&rebuild.service)
            || rebuild.changed.iter().any(|changed| self.vanished(rebuild, changed).is_some());
        if !is_needed {
            return;
        }
        let changes = rebuild.changed.iter().map(|changed| Change {
            key: changed.key.clone(),
            fate: self.fate(rebuild, changed),
            failing_at: changed.now.as_ref().and_then(failing_at),
        });
        let changes = changes.collect();
        let others = rebuild.unchanged().filter_map(|e| Some((e.key(), failing_at(e)?)));
        let observation = Observation { changes, others, present, healthy };
        let guarded = self.guards.entry(rebuild.service.clone()).or_default();
        guarded.guard.handle_change(now, &rules, observation);
        let touched = self.follow_guard(wall, &rebuild.service);
        self.add_touched(rebuild, touched);
    }

    /// The endpoint as it was, if it was healthy, is not any more, and nobody meant that.
    fn vanished<'a>(&self, rebuild: &'a Rebuild, changed: &Changed) -> Option<&'a Endpoint> {
        if changed.now.as_ref().is_some_and(|e| e.health.is_healthy()) {
            return None;
        }
        let old = rebuild.old_of(changed)?;
        let was_healthy = old.health.is_healthy() && old.standing == Standing::Regular;
        (was_healthy && !self.is_deliberate(changed)).then_some(old)
    }

    fn fate(&self, rebuild: &Rebuild, changed: &Changed) -> Fate<Box<Endpoint>> {
        if let Some(old) = self.vanished(rebuild, changed) {
            return Fate::Vanished(Box::new(old.clone()));
        }
        let is_healthy = changed.now.as_ref().is_some_and(|e| e.health.is_healthy());
        if is_healthy || self.is_deliberate(changed) { Fate::Settled } else { Fate::Open }
    }

    /// Whether somebody takes an endpoint away on purpose.
    fn is_deliberate(&self, changed: &Changed) -> bool {
        self.deliberate.contains(&changed.key)
            || changed.now.as_ref().is_some_and(|e| e.instance.profile.mode != Mode::Active)
            || self.nodes.get(&changed.key.0).is_some_and(NodeRecord::is_leaving)
    }

    fn add_touched(&self, rebuild: &mut Rebuild, mut touched: Vec<EndpointKey>) {
        touched.sort_unstable();
        touched.dedup();
        touched.retain(|key| rebuild.changed.binary_search_by(|c| c.key.cmp(key)).is_err());
        if touched.is_empty() {
            return;
        }
        rebuild.changed.extend(touched.into_iter().map(Changed::new));
        rebuild.changed.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        rebuild.locate();
        for at in 0..rebuild.changed.len() {
            if rebuild.changed[at].now.is_none() {
                rebuild.changed[at].now = self.endpoint(rebuild, &rebuild.changed[at]);
            }
        }
    }

    /// Marks the changed endpoints that are in answers against their health, and adds those that are held
    /// although nobody registers them any more.
    pub(super) fn stand(&mut self, rebuild: &mut Rebuild) {
        let guarded = self.guards.get(&rebuild.service);
        for Changed { key, now, .. } in &mut rebuild.changed {
            let standing = guarded.map_or(Standing::Regular, |guarded| guarded.standing(key));
            let ghost = guarded.and_then(|guarded| guarded.guard.held(key));
            if let Some(ghost) = ghost.filter(|_| now.is_none()) {
                *now = Some(Endpoint::clone(ghost));
                if rebuild.ghosts.insert(key.clone()) {
                    self.ghosts.note(&rebuild.service, key, true);
                    self.recount.push(key.0);
                }
            } else if !rebuild.ghosts.is_empty() && rebuild.ghosts.remove(key) {
                self.ghosts.note(&rebuild.service, key, false);
                self.recount.push(key.0);
            }
            if let Some(endpoint) = now.as_mut().filter(|e| e.standing != standing) {
                endpoint.standing = standing;
            }
        }
    }

    /// Has the guards let go of what a node no longer registers: it goes on purpose.
    pub(super) fn withdraw_ghosts(&mut self, node: NodeId) {
        for (service, instance) in self.ghosts.on(node) {
            let key = (node, instance.clone());
            self.deliberate.insert(key.clone());
            self.dirty.endpoint(service, key);
        }
    }

    /// Does what a guard asks for after a call that the catalog did not make for a change, and has the
    /// endpoints looked at again whose standing it changed.
    pub(super) fn after_guard(&mut self, wall: Timestamp, service: &ServiceName) {
        for key in self.follow_guard(wall, service) {
            self.dirty.endpoint(service, key);
        }
    }

    /// Does what a guard asks for. Returns the endpoints whose standing may be another than before.
    fn follow_guard(&mut self, wall: Timestamp, service: &ServiceName) -> Vec<EndpointKey> {
        let mut touched = Vec::new();
        let Some(guarded) = self.guards.get_mut(service) else { return touched };
        while let Some(output) = guarded.guard.poll_output() {
            let service = || service.clone();
            match output {
                GuardOutput::Reconsider { key } => touched.push(key),
                GuardOutput::Probe { key, address } => {
                    self.outputs.push_back(CatalogOutput::Probe {
                        service: service(),
                        key,
                        address,
                    });
                }
                GuardOutput::Began { held } => {
                    guarded.mark = Some(GuardMark { since: wall });
                    self.outputs.push_back(CatalogOutput::Guarded { service: service(), held });
                }
                GuardOutput::Ended { reason } => {
                    guarded.mark = None;
                    self.outputs.push_back(CatalogOutput::Released { service: service(), reason });
                }
            }
        }
        let due = guarded.guard.next_deadline();
        let noted = std::mem::replace(&mut guarded.noted_deadline, due);
        if guarded.guard.is_idle() {
            self.guards.remove(service);
        }
        if noted != due {
            noted.into_iter().for_each(|at| _ = self.deadlines.remove(&(at, service.clone())));
            self.deadlines.extend(due.map(|at| (at, service.clone())));
        }
        touched
    }
}
