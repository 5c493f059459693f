//! What a host shows: rows and liveness go to the catalog, and what follows from them goes out.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{
    Event, ExchangeOutput, Host, Measured, Moment, Output, Peer, PeerOutput, Place, RowChange,
    SeenMember,
};
use crate::catalog::{CatalogOutput, Endpoint, NodeStatus};
use crate::gossip::Liveness;
use crate::health::HealthOutput;
use crate::model::{CheckId, CheckRow, Health, Mode, NodeId, ServiceName, ZoneName};
use crate::replica::{RowKey, RowState};

impl Host {
    /// Shows rows of one node that became visible together.
    pub(super) fn show_rows(&mut self, moment: Moment, origin: NodeId, rows: Vec<RowChange>) {
        if !self.is_bare {
            self.catalog.handle_rows(moment.now, moment.wall, origin, &rows);
        }
        self.tell_rows(origin, rows);
    }

    fn tell_rows(&mut self, origin: NodeId, rows: Vec<RowChange>) {
        if self.settings.tells_rows {
            self.outputs.push_back(Output::Shown { origin, rows });
        }
    }

    /// Shows together what frames and peers told since the last time.
    pub(super) fn show_news(&mut self, moment: Moment) {
        let Some(peers) = &mut self.peers else { return };
        let news = std::mem::take(&mut peers.news);
        if !self.is_bare && !news.visible.is_empty() {
            self.catalog.handle_all(moment.now, moment.wall, &news.visible);
        }
        if !self.is_bare && !news.statuses.is_empty() {
            self.catalog.handle_statuses(moment.now, moment.wall, &news.statuses);
        }
        if self.settings.tells_rows {
            news.visible.into_iter().for_each(|(origin, rows)| self.tell_rows(origin, rows));
        }
        news.ready.into_iter().for_each(|node| self.peer(PeerOutput::Ready(node)));
    }

    /// Has the links filled for which the exchange has something.
    fn tell_ready(&mut self) {
        if let Some(peers) = &mut self.peers {
            let ready = std::mem::take(&mut peers.news.ready);
            ready.into_iter().for_each(|node| self.peer(PeerOutput::Ready(node)));
        }
    }

    /// Does what the exchange wants done, except for what is better done for several frames together.
    pub(super) fn follow_exchange(&mut self, moment: Moment) {
        while let Some(peers) = &mut self.peers
            && let Some(output) = peers.exchange.poll_output()
        {
            match output {
                ExchangeOutput::Dial(peer) => self.peer(PeerOutput::Dial(peer)),
                ExchangeOutput::Close { node, reason } => {
                    if let Some(link) = peers.drop_link(node) {
                        self.peer(PeerOutput::CloseLink { node, link, reason });
                    }
                }
                ExchangeOutput::Ready(node) => _ = peers.news.ready.insert(node),
                ExchangeOutput::Urgent { to, packet } => {
                    self.peer(PeerOutput::SendUrgent { to, packet });
                }
                ExchangeOutput::Visible { origin, rows } => {
                    let keys = rows.iter().map(|row| row.key.clone());
                    self.participants.remote.note(moment.now, origin, keys);
                    self.participants.lifetimes.handle_news(moment.now, origin);
                    peers.news.push(origin, rows);
                }
                ExchangeOutput::Restate { above } => {
                    self.participants.restatement.want(moment.now, above);
                    self.tell(Event::HistoryRestated { above });
                }
                ExchangeOutput::Misbehaved { node, problem } => {
                    self.peer(PeerOutput::Misbehaved { node, problem });
                }
            }
        }
    }

    pub(super) fn note_member(&mut self, now: std::time::Instant, peer: Peer, is_live: bool) {
        let Some(peers) = &mut self.peers else { return };
        peers.note_member(now, peer, is_live, &self.replica);
        if is_live {
            self.participants.lifetimes.handle_live(now, peer.id);
        }
    }

    pub(super) fn note_status(&mut self, node: NodeId, status: NodeStatus) {
        if let Some(peers) = &mut self.peers {
            peers.news.statuses.push((node, status));
        }
    }

    /// Takes all members as they are: also what an event was lost of.
    pub(super) fn handle_members(&mut self, moment: Moment, members: Vec<Measured>) {
        let mut seen = Vec::with_capacity(members.len());
        for Measured { peer, liveness, rtt } in members {
            let is_live = liveness != Liveness::Down;
            let was_live = self.peers.as_ref().is_some_and(|peers| peers.live.contains(&peer.id));
            if was_live != is_live {
                self.note_member(moment.now, peer, is_live);
            }
            self.note_status(peer.id, status_of(liveness));
            let newest_head =
                self.peers.as_ref().map_or(0, |peers| peers.exchange.newest_head(peer.id).as_u64());
            seen.push(SeenMember { peer, rtt, newest_head });
        }
        self.order_zones(&seen);
        self.peer(PeerOutput::ShowMembers(seen));
    }

    /// Rows say in which zone a member stands, whether there is a link to it or not.
    fn order_zones(&mut self, members: &[SeenMember]) {
        let Some(peers) = self.peers.as_mut().filter(|_| !self.is_bare) else { return };
        let view = self.catalog.view();
        let zones: BTreeMap<NodeId, &ZoneName> =
            view.nodes().map(|node| (node.id, &node.row.zone)).collect();
        let zone_of = |member: &SeenMember| Some((*zones.get(&member.peer.id)?, member.rtt?));
        let measured = members.iter().filter_map(zone_of);
        let order = peers.zones.update(&view.topology().own_zone, measured);
        self.catalog.set_nearest_zones(order);
    }

    /// Looks for nodes that are gone for good, and for those that no live member is.
    pub(super) fn tidy(&mut self, moment: Moment) {
        let Some(peers) = &self.peers else { return };
        for (origin, keys) in self.replica.purge_as_others_did() {
            self.participants.remote.note(moment.now, origin, keys);
        }
        let own = &self.settings.node.name;
        let lifetimes = &mut self.participants.lifetimes;
        let tidied = lifetimes.tidy(moment.now, own, &peers.live, &self.replica);
        let Some(tidied) = tidied else { return };
        for node in tidied.down {
            self.note_status(node, NodeStatus::Down);
        }
        self.show_news(moment);
        for node in tidied.over {
            self.forget(moment, node);
        }
    }

    fn forget(&mut self, moment: Moment, origin: NodeId) {
        let up_to = self.replica.newest(origin);
        let rows = self.replica.forget(origin);
        self.tell(Event::NodeForgotten { id: origin });
        if !self.is_bare {
            self.catalog.forget(moment.now, moment.wall, origin);
        }
        self.tell_rows(origin, rows);
        self.participants.lifetimes.forget(moment.now, origin, up_to);
        self.participants.remote.forget(origin);
        if let Some(peers) = &mut self.peers {
            peers.forget(origin);
        }
    }

    /// Instances of `run` end with their programs: those who still listen are told before the host stops. That is not
    /// stored, so that a restart changes no answer.
    pub(super) fn show_runs_draining(&mut self, moment: Moment) {
        let registry = self.registry();
        let is_run = |id: &&_| registry.holder(id).is_some_and(|p| p.kind().is_drained_at_stop());
        let runs = registry.instance_ids().filter(is_run);
        let draining = runs.filter_map(|id| registry.registration(id)).map(|registration| {
            let instance = registration.instance.clone().in_mode(Mode::Draining);
            let key = RowKey::Instance(instance.id.clone());
            RowChange { key, state: RowState::Present(instance.into()) }
        });
        let rows: Vec<RowChange> = draining.collect();
        self.catalog.handle_rows(moment.now, moment.wall, self.own, &rows);
    }

    /// Does what checks and catalog ask for, until they ask no more.
    pub(super) fn drain(&mut self, moment: Moment) {
        self.follow_exchange(moment);
        self.tell_ready();
        while let Some(output) = self.checks.scheduler.poll_output() {
            self.perform_health(moment, output);
        }
        let (mut services, mut is_published) = (Vec::new(), false);
        while let Some(output) = self.catalog.poll_output() {
            if let CatalogOutput::Publish { services: changed } = output {
                is_published = true;
                services.extend(changed);
            } else {
                self.perform_catalog(output);
            }
        }
        if is_published {
            self.outputs.push_back(Output::Publish { services });
        }
    }

    fn perform_health(&mut self, moment: Moment, output: HealthOutput) {
        match output {
            HealthOutput::Run { key, run, spec } => {
                // Targets and checks change together, when a batch is stored.
                if let Some((service, address)) = self.checks.target(&key.instance).cloned() {
                    self.outputs.push_back(Output::RunCheck { key, run, service, address, spec });
                }
            }
            HealthOutput::Cancel { run } => self.outputs.push_back(Output::CancelCheck { run }),
            HealthOutput::Changed { key, row, .. } => {
                let key = RowKey::Check(key.instance, key.check);
                let state = RowState::Present(row.into());
                self.participants.observed.note(moment.now, key.clone(), state.clone());
                self.show_rows(moment, self.own, vec![RowChange { key, state }]);
            }
            HealthOutput::DeregisterInstance { instance, reason } => {
                self.participants.statements.expire(moment.now, instance, reason);
            }
        }
    }

    fn perform_catalog(&mut self, output: CatalogOutput) {
        let event = match output {
            CatalogOutput::Publish { .. } => return,
            CatalogOutput::Probe { service, key, address } => {
                return self.outputs.push_back(Output::Probe { service, key, address });
            }
            CatalogOutput::HealthChanged { service, endpoint, from, to, .. } => {
                match self.health_event(service, &endpoint, from, to) {
                    Some(event) => event,
                    None => return,
                }
            }
            CatalogOutput::Guarded { service, held } => Event::ServiceGuarded { service, held },
            CatalogOutput::Released { service, reason } => {
                Event::ServiceReleased { service, reason }
            }
            CatalogOutput::NodeChanged { node, id, from, to } => {
                Event::NodeChanged { node, id, from, to }
            }
            CatalogOutput::NodeDraining { node, is_draining, .. } => {
                Event::NodeDraining { node, is_draining }
            }
            CatalogOutput::NameConflict { name, ids } => {
                Event::NodeNameConflict { node: name, ids }
            }
        };
        self.tell(event);
    }

    fn health_event(
        &self,
        service: ServiceName,
        endpoint: &Endpoint,
        from: Option<Health>,
        to: Option<Health>,
    ) -> Option<Event> {
        let (node, instance) = (endpoint.node.name.clone(), endpoint.instance.id.clone());
        let place = Place { node, service, instance };
        Some(match (from, to) {
            (None, Some(health)) => Event::InstanceRegistered { place, health },
            (Some(_), None) => {
                let has_node_left = self.has_left(endpoint);
                Event::InstanceDeregistered { place, has_node_left }
            }
            (Some(from), Some(to)) => {
                let is_by_checks = to <= Health::Critical;
                let why = is_by_checks.then(|| worst(&endpoint.checks)).flatten();
                Event::HealthChanged { place, from, to, why }
            }
            (None, None) => return None,
        })
    }

    fn has_left(&self, endpoint: &Endpoint) -> bool {
        let node = self.catalog.view().node(&endpoint.node.name);
        let node = node.filter(|node| node.id == endpoint.node_id);
        node.is_some_and(|node| node.status == NodeStatus::Left)
    }
}

fn status_of(liveness: Liveness) -> NodeStatus {
    match liveness {
        Liveness::Alive => NodeStatus::Alive,
        Liveness::Suspect => NodeStatus::Suspect,
        Liveness::Down => NodeStatus::Down,
    }
}

/// The worst check, with its output.
fn worst(checks: &[(CheckId, Arc<CheckRow>)]) -> Option<(CheckId, String)> {
    let worst = checks.iter().max_by_key(|(_, row)| row.status);
    worst.map(|(id, row)| (id.clone(), row.output.to_string()))
}
