//! What a change of the registry means for rows, checks and events.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use dunlin_api::Event;
use dunlin_core::catalog::{Endpoint, NodeStatus, Output as CatalogOutput};
use dunlin_core::health::{CheckKey, Outcome, RunId};
use dunlin_core::model::{
    CheckId, CheckRow, CheckSpec, CheckStatus, Health, InstanceId, Mode, NodeId, NodeName,
    NodePhase, NodeRow, ProviderId, Registration, ServiceName, Timestamp,
};
use dunlin_core::replica::{Change, Departure, Row, RowChange, RowKey, RowState, Version};
use futures_util::FutureExt;

use super::batch::InstanceChange;
use super::{Driver, Finished, clocks};
use crate::checks::Request;
use crate::handle::RequestError;
use crate::registry::{Effect, Registry, Report};

impl From<Report> for dunlin_api::Provider {
    fn from(report: Report) -> Self {
        let conflict = |(id, holder): &(InstanceId, ProviderId)| format!("{id} (held by {holder})");
        let taken_out = |id: &InstanceId| format!("{id} (taken out: critical for too long)");
        let conflicts = report.conflicts.iter().map(conflict);
        Self {
            provider: report.provider.to_string(),
            instances: report.instances,
            error: report.error.clone(),
            conflicts: conflicts.chain(report.suppressed.iter().map(taken_out)).collect(),
            changed: report.changed.to_string(),
        }
    }
}

fn present(key: RowKey, row: Row) -> Change {
    Change { key, state: RowState::Present(row) }
}

impl Driver {
    /// The rows that changes write.
    pub(super) fn rows_of_changes(&self, changes: &[InstanceChange]) -> Vec<Change> {
        let (_, wall) = clocks();
        let mut rows = Vec::new();
        for InstanceChange { effect, is_renewed } in changes {
            match effect {
                Effect::Upsert(registration) => {
                    self.upsert_rows(wall, registration, *is_renewed, &mut rows);
                }
                Effect::Remove(id, departure) => self.remove_rows(id, *departure, &mut rows),
            }
        }
        rows
    }

    /// The own node's row with another phase.
    pub(super) fn row_of_phase(&self, phase: NodePhase) -> Option<Change> {
        let row = self.replica.row(self.own, &RowKey::Node)?;
        let Row::Node(row) = row else { return None };
        let row = NodeRow { phase, ..(*row).clone() };
        Some(present(RowKey::Node, Row::Node(Arc::new(row))))
    }

    fn upsert_rows(
        &self,
        wall: Timestamp,
        registration: &Registration,
        is_renewed: bool,
        changes: &mut Vec<Change>,
    ) {
        let id = &registration.instance.id;
        let instance = Arc::new(registration.instance.clone());
        changes.push(present(RowKey::Instance(id.clone()), Row::Instance(instance)));
        for check in self.check_rows(id) {
            if !registration.checks.iter().any(|spec| spec.id == check) {
                let key = RowKey::Check(id.clone(), check);
                changes.push(Change { key, state: RowState::Gone(Departure::Dropped) });
            }
        }
        for spec in &registration.checks {
            let key = RowKey::Check(id.clone(), spec.id.clone());
            if is_renewed || self.replica.row(self.own, &key).is_none() {
                let row = Row::Check(Arc::new(CheckRow::unproven(wall)));
                changes.push(present(key, row));
            }
        }
    }

    fn remove_rows(&self, id: &InstanceId, departure: Departure, changes: &mut Vec<Change>) {
        let gone = RowState::Gone(departure);
        for check in self.check_rows(id) {
            let key = RowKey::Check(id.clone(), check);
            changes.push(Change { key, state: gone.clone() });
        }
        changes.push(Change { key: RowKey::Instance(id.clone()), state: gone });
    }

    /// The checks of an instance that have rows.
    fn check_rows(&self, id: &InstanceId) -> Vec<CheckId> {
        self.replica.checks_of(self.own, id).collect()
    }

    /// Starts, changes or ends the checks of an instance.
    pub(super) fn schedule(&mut self, now: Instant, wall: Timestamp, change: &InstanceChange) {
        let InstanceChange { effect, is_renewed } = change;
        let (id, specs): (&InstanceId, &[CheckSpec]) = match effect {
            Effect::Upsert(registration) => (&registration.instance.id, &registration.checks),
            Effect::Remove(id, _) => (id, &[]),
        };
        for check in self.checks.checks_of(id) {
            if *is_renewed || !specs.iter().any(|spec| spec.id == check) {
                self.checks.remove(&CheckKey { instance: id.clone(), check });
            }
        }
        if let Effect::Upsert(registration) = effect {
            self.recheck_if_moved(now, registration);
        }
        for spec in specs {
            let key = CheckKey { instance: id.clone(), check: spec.id.clone() };
            let row = RowKey::Check(id.clone(), spec.id.clone());
            let stored = match self.replica.row(self.own, &row) {
                Some(Row::Check(row)) => Some((*row).clone()),
                Some(Row::Node(_) | Row::Instance(_) | Row::Newer(_) | Row::Other(_)) | None => {
                    None
                }
            };
            self.checks.upsert(now, wall, key, spec.clone(), stored);
        }
        match effect {
            Effect::Upsert(_) => self.checks.set_instance(now, wall, id, true),
            Effect::Remove(..) => {
                self.targets.remove(id);
                self.checks.set_instance(now, wall, id, false);
            }
        }
    }

    /// What was seen at the old address says nothing of the new one.
    fn recheck_if_moved(&mut self, now: Instant, registration: &Registration) {
        let instance = &registration.instance;
        let address = SocketAddr::new(instance.address, instance.port.get());
        let target = (instance.service.clone(), address);
        let before = self.targets.insert(instance.id.clone(), target);
        if before.is_some_and(|(_, before)| before != address) {
            self.checks.recheck(now, &instance.id);
        }
    }

    pub(super) fn run_check(&mut self, key: CheckKey, run: RunId, spec: Arc<CheckSpec>) {
        // Targets and checks change together, when a batch is stored.
        let Some((service, address)) = self.targets.get(&key.instance).cloned() else { return };
        let request = Request { instance: key.instance.clone(), service, address, spec };
        let (runner, results, stop) =
            (Arc::clone(&self.runner), self.finished.0.clone(), self.stop.clone());
        let task = self.tasks.spawn(async move {
            // A check whose run never ends would never run again, so even a bug must have an outcome.
            let outcome = AssertUnwindSafe(runner.run(request)).catch_unwind();
            let Some(outcome) = stop.run_until_cancelled(outcome).await else { return };
            let outcome = outcome.unwrap_or_else(|_| Outcome {
                status: CheckStatus::Critical,
                output: "the agent failed at this check; its log says more".to_owned(),
            });
            // An error means that the driver has stopped.
            let _ = results.send(Finished { key, run, outcome }).await;
        });
        self.runs.insert(run, task.abort_handle());
    }

    pub(super) fn push_check(
        &mut self,
        instance: InstanceId,
        check: CheckId,
        status: CheckStatus,
        output: &str,
    ) -> Result<(), RequestError> {
        let (now, wall) = clocks();
        let key = CheckKey { instance, check };
        self.checks.handle_push(now, wall, &key, status, output).map_err(|error| {
            let hint = "give the instance a check of kind ttl to push to".to_owned();
            match self.registry.registration(&key.instance) {
                Some(r) if r.checks.iter().any(|spec| spec.id == key.check) => {
                    RequestError::Invalid { error: error.to_string(), hint }
                }
                Some(_) | None => RequestError::NotFound(format!(
                    "no check {} of an instance {} on this agent",
                    key.check, key.instance
                )),
            }
        })?;
        self.perform_outputs();
        Ok(())
    }

    /// Up to where tombstones are old enough to be forgotten, if anywhere.
    pub(super) fn purgeable(&mut self) -> Option<Version> {
        let (now, _) = clocks();
        let mut version = None;
        while let Some((at, head)) = self.tombstone_marks.front().copied()
            && now.saturating_duration_since(at) >= self.reap_after
        {
            self.tombstone_marks.pop_front();
            version = Some(head);
        }
        version.filter(|v| *v > self.replica.floor(self.own))
    }

    pub(super) fn show_runs_draining(&mut self) {
        let (now, wall) = clocks();
        let is_run = |id: &&InstanceId| {
            self.registry.holder(id).is_some_and(|p| p.kind().is_drained_at_stop())
        };
        let rows: Vec<RowChange> = self
            .registry
            .instance_ids()
            .filter(is_run)
            .filter_map(|id| self.registry.registration(id))
            .map(|registration| {
                let instance = registration.instance.clone().in_mode(Mode::Draining);
                let key = RowKey::Instance(instance.id.clone());
                RowChange { key, state: RowState::Present(Row::Instance(Arc::new(instance))) }
            })
            .collect();
        self.catalog.handle_rows(now, wall, self.own, &rows);
    }
}

/// What people are told.
impl Driver {
    fn event(&self, kind: &str, reason: String) -> Event {
        Event {
            id: 0,
            time: clocks().1.to_string(),
            kind: kind.to_owned(),
            node: self.shared.identity.node.to_string(),
            service: None,
            instance: None,
            provider: None,
            reason,
        }
    }

    pub(super) fn tell(&self, output: &CatalogOutput) {
        match output {
            CatalogOutput::HealthChanged { service, endpoint, from, to, .. } => {
                self.tell_health(service, endpoint, *from, *to);
            }
            CatalogOutput::Guarded { service, held } => {
                let reason = format!(
                    "{held} instances vanished together; they are served while they answer"
                );
                tracing::warn!(%service, held, "service guarded");
                let event = self.event("ServiceGuarded", reason);
                self.shared.events.push(Event { service: Some(service.to_string()), ..event });
            }
            CatalogOutput::Released { service, reason } => {
                tracing::info!(%service, reason, "guard released");
                let event = self.event("ServiceReleased", (*reason).to_owned());
                self.shared.events.push(Event { service: Some(service.to_string()), ..event });
            }
            CatalogOutput::NodeChanged { node, id, from, to } => {
                self.tell_node(node, *id, *from, *to);
            }
            CatalogOutput::NodeDraining { node, is_draining, .. } => {
                let (kind, reason) = if *is_draining {
                    ("NodeDraining", "its instances get no new clients")
                } else {
                    ("NodeUndrained", "its instances are in answers again if healthy")
                };
                tracing::info!(%node, is_draining, "node drained or put back");
                self.shared.events.push(self.node_event(kind, node, reason.to_owned()));
            }
            CatalogOutput::NameConflict { name, ids } => {
                let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
                let ids = ids.join(", ");
                tracing::warn!(node = %name, ids, "several live nodes have one name");
                let reason =
                    format!("several live nodes have this name: {ids}; the first is shown");
                self.shared.events.push(self.node_event("NodeNameConflict", name, reason));
            }
            CatalogOutput::Publish { .. } | CatalogOutput::Probe { .. } => {}
        }
    }

    fn node_event(&self, kind: &str, node: &NodeName, reason: String) -> Event {
        Event { node: node.to_string(), ..self.event(kind, reason) }
    }

    fn tell_node(&self, node: &NodeName, id: NodeId, from: Option<NodeStatus>, to: NodeStatus) {
        let word = from.map_or("unknown", NodeStatus::as_str);
        let kind = match (from, to) {
            (None, NodeStatus::Alive | NodeStatus::Suspect) => "NodeJoined",
            (Some(NodeStatus::Down | NodeStatus::Left), status) if status.is_live() => {
                "NodeReturned"
            }
            (_, NodeStatus::Down) => "NodeDown",
            (_, NodeStatus::Left) => "NodeLeft",
            (_, NodeStatus::Alive | NodeStatus::Suspect) => {
                tracing::debug!(%node, %id, from = word, to = to.as_str(), "node suspected or cleared");
                return;
            }
        };
        tracing::info!(%node, %id, from = word, to = to.as_str(), "node changed");
        let reason = format!("{word} to {}, id {id}", to.as_str());
        self.shared.events.push(self.node_event(kind, node, reason));
    }

    fn tell_health(
        &self,
        service: &ServiceName,
        endpoint: &Endpoint,
        from: Option<Health>,
        to: Option<Health>,
    ) {
        let (kind, reason) = match (from, to) {
            (None, Some(health)) => ("InstanceRegistered", format!("now {health}")),
            (Some(_), None) => ("InstanceDeregistered", self.why_gone(endpoint).to_owned()),
            (from, to) => {
                let word = |h: Option<Health>| h.map_or("none", Health::as_str);
                let is_by_checks = to.is_some_and(|health| health <= Health::Critical);
                let why = if is_by_checks { explain(&endpoint.checks) } else { String::new() };
                ("HealthChanged", format!("{} to {}{why}", word(from), word(to)))
            }
        };
        let event = self.node_event(kind, &endpoint.node.name, reason);
        self.shared.events.push(Event {
            service: Some(service.to_string()),
            instance: Some(endpoint.instance.id.to_string()),
            ..event
        });
    }

    fn why_gone(&self, endpoint: &Endpoint) -> &'static str {
        match self.catalog.view().node(&endpoint.node.name) {
            Some(node) if node.id == endpoint.node_id && node.status == NodeStatus::Left => {
                "its node left"
            }
            Some(_) | None => "no longer registered",
        }
    }

    pub(super) fn instance_event(&self, kind: &str, id: &InstanceId, reason: &str) -> Event {
        let event = self.event(kind, reason.to_owned());
        Event { instance: Some(id.to_string()), ..event }
    }

    /// What to tell of a provider's new statement once it is stored, if it changes anything.
    pub(super) fn provider_event(
        &self,
        provider: &ProviderId,
        before: &Registry,
        effects: &[Effect],
    ) -> Option<Event> {
        if effects.is_empty() && !before.has_failed(provider) {
            return None;
        }
        let upserts = effects.iter().filter(|e| matches!(e, Effect::Upsert(_))).count();
        let removed = effects.len() - upserts;
        let reason = format!("{upserts} instances stated new or different, {removed} gone");
        let event = self.event("ProviderChanged", reason);
        Some(Event { provider: Some(provider.to_string()), ..event })
    }

    pub(super) fn tell_failure(&self, provider: &ProviderId, error: &str) {
        let reason = format!("{error}; its last good state holds");
        let event = self.event("ProviderFailed", reason);
        self.shared.events.push(Event { provider: Some(provider.to_string()), ..event });
    }
}

/// What the worst check says.
fn explain(checks: &[(CheckId, Arc<CheckRow>)]) -> String {
    let worst = checks.iter().max_by_key(|(_, row)| row.status);
    worst.map(|(id, row)| format!(": {id}: {}", row.output)).unwrap_or_default()
}
