//! From what is stored to a host that answers as it did before it stopped.

use std::sync::Arc;

use super::batch::Participants;
use super::checks::Checks;
use super::known_members::KnownMembers;
use super::lifetimes::Lifetimes;
use super::observed::Observed;
use super::purge::Purge;
use super::remote::Remote;
use super::restatement::Restatement;
use super::statements::Statements;
use super::{Host, HostSettings, Moment, Registry, Stop, Stored, StoredHistory, rows_of};
use crate::catalog::{Catalog, Topology};
use crate::model::{Instance, NodeId, NodePhase, NodeRow};
use crate::replica::{Replica, Row, RowKey, RowState};

impl Host {
    /// A host with what was stored. Its view shows the last known answers at once; [`Host::start`] has it state its
    /// own truth.
    #[must_use]
    pub fn restore(moment: Moment, settings: HostSettings, own: NodeId, stored: Stored) -> Self {
        let zone = settings.node.zone.clone();
        let topology = Topology { own_zone: zone, nearest_zones: Vec::new() };
        let mut catalog = Catalog::new(topology, settings.guard.clone(), stored.index);
        load(&mut catalog, own, &stored.histories);
        let own_instances = own_instances(own, &stored.histories);
        let providers = stored.providers.into_iter();
        let statements = providers.map(|p| (p.provider, p.ttl, p.registrations));
        let registry = Registry::restore(moment.wall, statements, &own_instances);
        let mut replica = Replica::new(own);
        for (origin, up_to) in stored.forgotten {
            replica.restore_forgotten(origin, up_to);
        }
        for StoredHistory { origin, extent, floor, rows } in stored.histories {
            replica.restore(origin, extent, floor, rows);
        }
        let lifetimes = Lifetimes::new(moment, settings.reap_after, &stored.gone);
        Self::assemble(settings, replica, catalog, registry, lifetimes)
    }

    /// A host without catalog, guard and health, for simulations of clusters that are too large for them: it
    /// exchanges rows, stores and forgets them, and its view stays empty.
    #[must_use]
    pub fn bare(moment: Moment, settings: HostSettings, replica: Replica) -> Self {
        let zone = settings.node.zone.clone();
        let topology = Topology { own_zone: zone, nearest_zones: Vec::new() };
        let catalog = Catalog::new(topology, settings.guard.clone(), 0);
        let lifetimes = Lifetimes::new(moment, settings.reap_after, &[]);
        let host = Self::assemble(settings, replica, catalog, Registry::default(), lifetimes);
        Self { is_bare: true, ..host }
    }

    fn assemble(
        settings: HostSettings,
        replica: Replica,
        catalog: Catalog,
        registry: Registry,
        lifetimes: Lifetimes,
    ) -> Self {
        let participants = Participants {
            statements: Statements::restore(registry),
            observed: Observed::default(),
            restatement: Restatement::default(),
            remote: Remote::new(settings.max_stored_rows),
            lifetimes,
            known_members: KnownMembers::default(),
            purge: Purge::new(settings.keep_tombstones, settings.purge_interval),
        };
        Self {
            own: replica.own(),
            checks: Checks::new(settings.seed),
            settings,
            replica,
            catalog,
            participants,
            peers: None,
            is_bare: false,
            in_flight: None,
            retry_at: None,
            stop: Stop::No,
            outputs: std::collections::VecDeque::new(),
        }
    }
}

/// Shows what was stored. That the own node left ended with its restart: it changes no answer.
pub fn load(catalog: &mut Catalog, own: NodeId, histories: &[StoredHistory]) {
    catalog.set_own_node(own);
    catalog.load(rows_of(histories));
    let is_own = |(origin, key, _): &(NodeId, &RowKey, _)| *origin == own && **key == RowKey::Node;
    let own_row = rows_of(histories).find(is_own);
    if let Some((_, key, state)) = own_row
        && let Some(row) = state.present().and_then(Row::node)
        && row.phase == NodePhase::Left
    {
        let row = NodeRow { phase: NodePhase::Active, ..(**row).clone() };
        let state = RowState::Present(row.into());
        catalog.load([(own, key, &state)]);
    }
}

fn own_instances(own: NodeId, histories: &[StoredHistory]) -> Vec<Arc<Instance>> {
    let rows = rows_of(histories).filter(|(origin, ..)| *origin == own);
    rows.filter_map(|(_, _, state)| state.present()?.instance().cloned()).collect()
}
