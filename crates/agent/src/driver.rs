//! The loop that feeds core and performs its outputs. It alone changes what this agent says and shows.
//!
//! Commands that arrive while a batch is being stored wait and become the next batch together (group
//! commit). A batch is stored first; then it is applied, shown and acknowledged. If it cannot be stored,
//! the registry is put back and every request in it is told so. What checks observe is different: it is
//! shown at once, since it is true whether or not the disk takes it, and stored with the next batch.

mod batch;
pub(crate) mod cluster;
mod effects;
mod permit;
mod probes;
mod startup;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use batch::InFlight;
use cluster::Cluster;
use dunlin_core::catalog::{Catalog, GuardSettings, Output as CatalogOutput};
use dunlin_core::health::{CheckKey, Outcome, Output as HealthOutput, RunId, Scheduler};
use dunlin_core::model::{InstanceId, NodeId, ProviderId, ServiceName, Timestamp};
use dunlin_core::replica::{Replica, RowChange, RowKey, RowState, Version};
use probes::{Probed, Probes, Wanted};
pub use startup::{Settings, StartError, load, restore, rows_of};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::checks::Runner;
use crate::handle::{Command, Shared};
use crate::net::event::{Arrived, Event as NetEvent};
use crate::registry::Registry;
use crate::store::{Store, StoreError};

/// Commands that may wait in the queue, and that one batch takes.
const COMMAND_QUEUE: usize = 1024;
/// Results of checks that may wait to be taken.
const RESULT_QUEUE: usize = 1024;
/// Time between attempts to store what a disk did not take.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// In clusters up to this size heads are published with every view, in larger ones every so often.
const SMALL: usize = 64;
const HEADS_PERIOD: Duration = Duration::from_millis(200);
/// An idle driver shows this often that it lives.
const BEAT: Duration = Duration::from_secs(1);
/// Time between the marks by which old tombstones are purged.
const PURGE_INTERVAL: Duration = Duration::from_secs(3600);

/// A check's run that ended.
#[derive(Debug)]
struct Finished {
    key: CheckKey,
    run: RunId,
    outcome: Outcome,
}

/// The owner of everything that changes.
#[derive(Debug)]
pub struct Driver {
    shared: Arc<Shared>,
    own: NodeId,
    store: Store,
    replica: Replica,
    catalog: Catalog,
    registry: Registry,
    checks: Scheduler,
    runner: Arc<Runner>,
    /// Runs of checks under way.
    runs: BTreeMap<RunId, AbortHandle>,
    commands: mpsc::Receiver<Command>,
    reloads: mpsc::Receiver<GuardSettings>,
    waiting: Vec<Command>,
    /// What the checks of each registered instance are about.
    targets: BTreeMap<InstanceId, (ServiceName, SocketAddr)>,
    /// Instances to take out since they were critical for too long, with the reason.
    expired: Vec<(InstanceId, String)>,
    /// What checks observed and the disk does not have yet.
    observed: BTreeMap<RowKey, RowState>,
    in_flight: Option<InFlight>,
    retry_at: Option<Instant>,
    provider_deadlines: BTreeMap<ProviderId, Instant>,
    tombstone_marks: VecDeque<(Instant, Version)>,
    reap_after: Duration,
    finished: (mpsc::Sender<Finished>, mpsc::Receiver<Finished>),
    probes: Probes,
    /// None while the agent stands alone.
    cluster: Option<Cluster>,
    seed: u64,
    net_events: mpsc::Receiver<NetEvent>,
    net_frames: mpsc::Receiver<Arrived>,
    /// Whether stopping tells the others that this node leaves.
    leaves_on_stop: bool,
    heads_published: Instant,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Both clocks: one to schedule by, one to show.
fn clocks() -> (Instant, Timestamp) {
    (Instant::now(), Timestamp::from_system(SystemTime::now()))
}

impl Driver {
    /// Runs until the token given at start is cancelled; then stores what is left and returns.
    pub async fn run(mut self) {
        let beat = self.shared.vitals.register("the driver");
        while !self.stop.is_cancelled() {
            beat.alive();
            self.take_events();
            self.perform_outputs();
            self.begin_batch().await;
            self.perform_outputs();
            self.step().await;
        }
        self.finish().await;
        beat.end();
    }

    /// Waits for one thing to happen and takes it in.
    async fn step(&mut self) {
        let deadline = self.next_deadline().map(tokio::time::Instant::from_std);
        let room = COMMAND_QUEUE - self.waiting.len();
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            result = stored(&mut self.in_flight) => self.end_batch(result),
            Some(finished) = self.finished.1.recv() => {
                let (now, wall) = clocks();
                let Finished { key, run, outcome } = finished;
                self.runs.remove(&run);
                self.checks.handle_result(now, wall, &key, run, outcome);
            }
            Some(Probed { service, key, answered }) = self.probes.ended() => {
                let (now, wall) = clocks();
                self.catalog.handle_probe(now, wall, &service, &key, answered);
            }
            Some(event) = self.net_events.recv() => self.take_event(event),
            Some(frame) = self.net_frames.recv() => self.take_frames(frame),
            Some(guard) = self.reloads.recv() => self.catalog.set_guard(guard),
            1.. = self.commands.recv_many(&mut self.waiting, room), if room > 0 => {
                // What needs no disk does not wait for one.
                for command in std::mem::take(&mut self.waiting) {
                    let write = self.answer(command);
                    self.waiting.extend(write);
                }
            }
            () = at(deadline) => self.handle_deadline(),
            () = tokio::time::sleep(BEAT) => {}
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let is_blocked = self.in_flight.is_some() || self.retry_at.is_some();
        let silent = self.provider_deadlines.values().min().filter(|_| !is_blocked).copied();
        let mark = self.tombstone_marks.back().map(|(at, _)| *at + PURGE_INTERVAL);
        let cluster = self.cluster.as_ref().map(Cluster::next_deadline);
        let remote = self.cluster.as_ref().and_then(Cluster::store_at).filter(|_| !is_blocked);
        let core = [self.checks.next_deadline(), self.catalog.next_deadline(), cluster];
        core.into_iter().chain([self.retry_at, mark, silent, remote]).flatten().min()
    }

    fn handle_deadline(&mut self) {
        let (now, wall) = clocks();
        self.checks.handle_deadline(now, wall);
        self.catalog.handle_deadline(now, wall);
        self.handle_cluster_deadline(now);
        self.retry_at = self.retry_at.filter(|at| *at > now);
        let is_mark_due =
            self.tombstone_marks.back().is_none_or(|(at, _)| now >= *at + PURGE_INTERVAL);
        if is_mark_due {
            self.tombstone_marks.push_back((now, self.replica.head(self.own)));
        }
    }

    /// Does what the state machines ask for, until they ask no more.
    fn perform_outputs(&mut self) {
        while let Some(output) = self.checks.poll_output() {
            self.perform_health(output);
        }
        let mut changed = Vec::new();
        let mut is_published = false;
        while let Some(output) = self.catalog.poll_output() {
            match output {
                CatalogOutput::Publish { services } => {
                    is_published = true;
                    changed.extend(services);
                }
                CatalogOutput::Probe { service, key, address } => {
                    self.probes.want(Wanted { service, key, address });
                }
                told @ (CatalogOutput::HealthChanged { .. }
                | CatalogOutput::Guarded { .. }
                | CatalogOutput::Released { .. }
                | CatalogOutput::NodeChanged { .. }
                | CatalogOutput::NodeDraining { .. }
                | CatalogOutput::NameConflict { .. }) => self.tell(&told),
            }
        }
        if is_published {
            let is_small = self.shared.heads.load().len() <= SMALL;
            if is_small || self.heads_published.elapsed() >= HEADS_PERIOD {
                self.publish_heads();
            }
            self.shared.view.store(Arc::new(self.catalog.view().clone()));
            self.shared.watchers.wake(&changed);
        }
    }

    fn publish_heads(&mut self) {
        self.heads_published = Instant::now();
        let heads = self.replica.heads().map(|(node, head)| (node, head.as_u64()));
        self.shared.heads.store(Arc::new(heads.collect()));
    }

    fn perform_health(&mut self, output: HealthOutput) {
        match output {
            HealthOutput::Run { key, run, spec } => self.run_check(key, run, spec),
            HealthOutput::Cancel { run } => {
                // Dropping a run closes its connection, or kills its command.
                if let Some(task) = self.runs.remove(&run) {
                    task.abort();
                }
            }
            HealthOutput::Changed { key, row, .. } => {
                let (now, wall) = clocks();
                let key = RowKey::Check(key.instance, key.check);
                let state = RowState::Present(dunlin_core::replica::Row::Check(Arc::new(row)));
                let change = RowChange { key: key.clone(), state: state.clone() };
                self.catalog.handle_rows(now, wall, self.own, &[change]);
                self.observed.insert(key, state);
            }
            HealthOutput::DeregisterInstance { instance, reason } => {
                self.expired.push((instance, reason));
            }
        }
    }

    /// Stores what is left. What `run` announced is shown as draining to those who still listen; that
    /// is not stored, so that a restart changes no answer.
    async fn finish(&mut self) {
        self.commands.close();
        self.show_runs_draining();
        self.perform_outputs();
        if self.in_flight.is_some() {
            let result = stored(&mut self.in_flight).await;
            self.end_batch(result);
        }
        self.retry_at = None;
        self.waiting.clear();
        if let Some(cluster) = &mut self.cluster {
            cluster.store_soon(Instant::now());
        }
        self.begin_batch().await;
        if self.in_flight.is_some() {
            let result = stored(&mut self.in_flight).await;
            self.end_batch(result);
        }
        if self.leaves_on_stop {
            self.state_departure().await;
            self.leave_cluster().await;
        }
        self.tasks.close();
        self.finished.1.close();
        self.probes = Probes::default();
    }
}

/// Waits for a deadline; for ever if there is none.
async fn at(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Waits for the batch in flight; for ever if there is none.
async fn stored(in_flight: &mut Option<InFlight>) -> Result<(), StoreError> {
    match in_flight {
        Some(in_flight) => (&mut in_flight.stored).await.unwrap_or(Err(StoreError::Closed)),
        None => std::future::pending().await,
    }
}

type Stored = oneshot::Receiver<Result<(), StoreError>>;
