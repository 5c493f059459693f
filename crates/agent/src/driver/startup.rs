//! From what is stored to a running driver.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use dunlin_core::catalog::{Catalog, GuardSettings, Topology};
use dunlin_core::health::Scheduler;
use dunlin_core::model::{Instance, NodeId, NodeRow, ProviderId};
use dunlin_core::replica::{Change, Departure, Replica, Row, RowKey, RowState};
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info};

use super::batch::InstanceChange;
use super::{COMMAND_QUEUE, Driver, PROBES, RESULT_QUEUE, clocks};
use crate::checks::Runner;
use crate::handle::{Command, Shared};
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
    catalog.load(rows_of(&stored.histories));
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
    for StoredHistory { origin, head, floor, rows } in stored.histories {
        replica.restore(origin, head, floor, rows);
    }
    Restored { replica, catalog, registry, providers }
}

/// Rows of stored histories, as the catalog loads them.
pub fn rows_of(histories: &[StoredHistory]) -> impl Iterator<Item = (NodeId, &RowKey, &RowState)> {
    histories.iter().flat_map(|h| h.rows.iter().map(|(key, e)| (h.origin, key, &e.state)))
}

fn own_instances(own: NodeId, histories: &[StoredHistory]) -> Vec<Arc<Instance>> {
    let rows = rows_of(histories).filter(|(origin, ..)| *origin == own);
    rows.filter_map(|(_, _, state)| match state {
        RowState::Present(Row::Instance(instance)) => Some(instance.clone()),
        RowState::Present(Row::Node(_) | Row::Check(_)) | RowState::Gone(_) => None,
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
        let mut driver = Self {
            own: shared.identity.node_id,
            shared,
            store,
            replica,
            catalog,
            registry,
            checks: Scheduler::new(settings.seed),
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
            probed: mpsc::channel(RESULT_QUEUE),
            probes: Arc::new(Semaphore::new(PROBES)),
            tasks: TaskTracker::new(),
            stop,
        };
        driver.state_own(settings.node).await?;
        Ok((driver, commands, reload))
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
                    if self.registry.holder(id).is_none() =>
                {
                    Some(Effect::Remove(id.clone(), Departure::Dropped))
                }
                _ => None,
            });
        effects.extend(orphans.collect::<Vec<_>>());
        let effects: Vec<InstanceChange> = effects
            .into_iter()
            .map(|effect| InstanceChange { effect, is_renewed: false })
            .collect();
        let mut changes = self.rows_of_changes(&effects);
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
