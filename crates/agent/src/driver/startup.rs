//! From what is stored to a running driver.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use dunlin_core::catalog::{Catalog, GuardSettings, NodeStatus, Topology};
use dunlin_core::gossip::{Exchange, ExchangeSettings};
use dunlin_core::health::Scheduler;
use dunlin_core::model::{Instance, NodeId, NodePhase, NodeRow, ProviderId, Timestamp};
use dunlin_core::replica::{Change, Departure, Replica, Row, RowKey, RowState};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info};

use super::batch::InstanceChange;
use super::cluster::Cluster;
use super::probes::Probes;
use super::{COMMAND_QUEUE, Driver, RESULT_QUEUE, clocks};
use crate::checks::Runner;
use crate::handle::{Command, Shared};
use crate::net::Net;
use crate::registry::{Effect, Registry};
use crate::store::{Batch, Store, StoreError, Stored, StoredHistory, StoredProvider};

/// What the driver needs to know of its node.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What the node says of itself.
    pub node: NodeRow,
    /// When the guard steps in.
    pub guard: GuardSettings,
    /// How long tombstones are kept.
    pub reap_after: Duration,
    /// A random number, so that checks of many hosts are spread.
    pub seed: u64,
    /// Whether stopping tells the others that this node leaves.
    pub leaves_on_stop: bool,
}

/// Why the driver cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The store did not take the node's own state.
    #[error("the node's own state could not be stored: {0}")]
    Store(#[from] StoreError),
}

/// What was stored, put in order: rows, catalog and registry of before.
#[derive(Debug)]
pub struct Restored {
    replica: Replica,
    /// Shows the last known answers already.
    pub catalog: Catalog,
    registry: Registry,
    providers: Vec<(ProviderId, Option<Duration>)>,
}

/// Builds the last known state from what was stored.
#[must_use]
pub fn restore(settings: &Settings, own: NodeId, stored: Stored) -> Restored {
    if let Some(problem) = &stored.moved_aside {
        error!(problem, "the database was damaged; starting with an empty one");
    }
    let topology = Topology { own_zone: settings.node.zone.clone(), nearest_zones: Vec::new() };
    let mut catalog = Catalog::new(topology, settings.guard.clone(), stored.index);
    load(&mut catalog, own, &stored.histories);
    let own_instances = own_instances(own, &stored.histories);
    let providers = stored.providers.iter().map(|p| (p.provider.clone(), p.ttl)).collect();
    let registry = Registry::restore(
        clocks().1,
        stored
            .providers
            .into_iter()
            .map(|StoredProvider { provider, ttl, registrations }| (provider, ttl, registrations)),
        &own_instances,
    );
    let mut replica = Replica::new(own);
    for (origin, up_to) in stored.forgotten {
        replica.restore_forgotten(origin, up_to);
    }
    for StoredHistory { origin, extent, floor, rows } in stored.histories {
        replica.restore(origin, extent, floor, rows);
    }
    Restored { replica, catalog, registry, providers }
}

/// Shows what was stored. That the own node left ended with its restart: it changes no answer.
pub fn load(catalog: &mut Catalog, own: NodeId, histories: &[StoredHistory]) {
    catalog.set_own_node(own);
    catalog.load(rows_of(histories));
    let is_own = |(origin, key, _): &(NodeId, &RowKey, _)| *origin == own && **key == RowKey::Node;
    let own_row = rows_of(histories).find(is_own);
    if let Some((_, key, RowState::Present(Row::Node(row)))) = own_row
        && row.phase == NodePhase::Left
    {
        let row = NodeRow { phase: NodePhase::Active, ..(**row).clone() };
        let state = RowState::Present(Row::Node(Arc::new(row)));
        catalog.load([(own, key, &state)]);
    }
}

/// Rows of stored histories, as the catalog loads them.
pub fn rows_of(histories: &[StoredHistory]) -> impl Iterator<Item = (NodeId, &RowKey, &RowState)> {
    histories.iter().flat_map(|h| h.rows.iter().map(|(key, e)| (h.origin, key, &e.state)))
}

fn own_instances(own: NodeId, histories: &[StoredHistory]) -> Vec<Arc<Instance>> {
    let rows = rows_of(histories).filter(|(origin, ..)| *origin == own);
    rows.filter_map(|(_, _, state)| {
        let Some(Row::Instance(instance)) = state.present() else { return None };
        Some(instance.clone())
    })
    .collect()
}

impl Driver {
    /// Starts from what was restored: stores what the node says of itself now, then schedules checks.
    ///
    /// # Errors
    /// When the node's own state cannot be stored.
    pub async fn start(
        settings: Settings,
        restored: Restored,
        store: Store,
        shared: Arc<Shared>,
        runner: Arc<Runner>,
        stop: CancellationToken,
    ) -> Result<(Self, mpsc::Sender<Command>, mpsc::Sender<GuardSettings>), StartError> {
        let (commands, queue) = mpsc::channel(COMMAND_QUEUE);
        let (reload, reloads) = mpsc::channel(1);
        let Restored { replica, catalog, registry, providers } = restored;
        let (now, _) = clocks();
        let (net_events, net_frames) = super::cluster::no_queues();
        let mut driver = Self {
            own: shared.identity.node_id,
            shared,
            store,
            replica,
            catalog,
            registry,
            checks: Scheduler::new(settings.seed),
            seed: settings.seed,
            runner,
            runs: BTreeMap::new(),
            commands: queue,
            reloads,
            waiting: Vec::new(),
            targets: BTreeMap::new(),
            expired: Vec::new(),
            observed: BTreeMap::new(),
            in_flight: None,
            retry_at: None,
            provider_deadlines: providers
                .into_iter()
                .filter_map(|(provider, ttl)| Some((provider, now + ttl?)))
                .collect(),
            tombstone_marks: VecDeque::new(),
            reap_after: settings.reap_after,
            finished: mpsc::channel(RESULT_QUEUE),
            probes: Probes::default(),
            cluster: None,
            net_events,
            net_frames,
            leaves_on_stop: settings.leaves_on_stop,
            heads_published: now,
            tasks: TaskTracker::new(),
            stop,
        };
        driver.state_own(settings.node).await?;
        Ok((driver, commands, reload))
    }

    /// Joins the driver with the network. Members that were down when the agent last stopped still are until they
    /// say otherwise.
    pub(crate) fn join(&mut self, net: Net, down: &[NodeId], gone: &[(NodeId, Timestamp)]) {
        let (now, wall) = clocks();
        let zone = self.shared.identity.zone.clone();
        let settings = ExchangeSettings::default();
        let exchange = Exchange::new(now, &self.replica, zone, settings, self.seed);
        let context = Arc::clone(net.context());
        context.set_summary(self.replica.summary());
        self.cluster = Some(Cluster::new(context, exchange, gone, (now, wall)));
        (self.net_events, self.net_frames) = (net.events, net.frames);
        let statuses: Vec<_> = down.iter().map(|id| (*id, NodeStatus::Down)).collect();
        self.catalog.handle_statuses(now, wall, &statuses);
    }

    /// Randomness that differs from node to node.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// Says as the last thing that the node leaves.
    pub(super) async fn state_departure(&mut self) {
        let Some(Row::Node(node)) = self.replica.row(self.own, &RowKey::Node) else {
            return;
        };
        // A node that is being drained goes on being drained when it comes back.
        if node.phase != NodePhase::Active {
            return;
        }
        let node = NodeRow { phase: NodePhase::Left, ..(*node).clone() };
        let state = RowState::Present(Row::Node(Arc::new(node)));
        let Some(delta) = self.replica.prepare([Change { key: RowKey::Node, state }]) else {
            return;
        };
        let batch = Batch { deltas: vec![delta.clone()], ..Batch::default() };
        if let Err(error) = self.store.write(batch).await {
            return error!(%error, "the others are not told that this node leaves");
        }
        self.replica.commit(&delta);
        self.tell_cluster(delta);
    }

    /// Draining is an operator's wish and outlives a restart; having left ends with one.
    fn stored_phase(&self) -> NodePhase {
        match self.replica.row(self.own, &RowKey::Node) {
            Some(Row::Node(row)) if row.phase == NodePhase::Draining => NodePhase::Draining,
            Some(_) | None => NodePhase::Active,
        }
    }

    /// Makes the own rows say what the registry and the configuration say.
    async fn state_own(&mut self, node: NodeRow) -> Result<(), StartError> {
        let (now, wall) = clocks();
        let registrations: Vec<_> =
            self.registry.instance_ids().filter_map(|id| self.registry.registration(id)).collect();
        let mut effects: Vec<Effect> = registrations.into_iter().map(Effect::Upsert).collect();
        let orphans =
            self.replica.rows(self.own).filter_map(|(key, entry)| match (key, &entry.state) {
                (RowKey::Instance(id), RowState::Present(_))
                    if self.registry.holder(&id).is_none() =>
                {
                    Some(Effect::Remove(id, Departure::Dropped))
                }
                _ => None,
            });
        effects.extend(orphans.collect::<Vec<_>>());
        let effects: Vec<InstanceChange> = effects
            .into_iter()
            .map(|effect| InstanceChange { effect, is_renewed: false })
            .collect();
        let mut changes = self.rows_of_changes(&effects);
        let node = NodeRow { phase: self.stored_phase(), ..node };
        let state = RowState::Present(Row::Node(Arc::new(node)));
        changes.push(Change { key: RowKey::Node, state });
        if let Some(delta) = self.replica.prepare(changes) {
            let batch = Batch { deltas: vec![delta.clone()], ..Batch::default() };
            self.store.write(batch).await?;
            let rows = self.replica.commit(&delta);
            self.catalog.handle_rows(now, wall, self.own, &rows);
        }
        for effect in &effects {
            self.schedule(now, wall, effect);
        }
        self.checks.settle_aliases(now, wall);
        self.catalog.reconsider(now, wall);
        self.tombstone_marks.push_back((now, self.replica.head(self.own)));
        info!(instances = self.registry.len(), "own state restored");
        self.perform_outputs();
        Ok(())
    }
}
