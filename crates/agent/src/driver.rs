//! The driver runs the engine, [`Host`]: it feeds the engine from queues, disk and clocks, and performs the outputs.
//!
//! The driver decides nothing. It is one task and the only owner of the engine, so the engine needs no lock.

mod links;
mod probes;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use dunlin_core::catalog::GuardSettings;
use dunlin_core::health::{CheckKey, CheckOutcome, RunId};
use dunlin_core::host::{Batch, Event, Host, Moment, Output, Ticket};
use dunlin_core::model::{CheckStatus, NodeId, Timestamp};
use futures_util::FutureExt;
use futures_util::future::OptionFuture;
use links::Links;
use probes::{Probed, Probes, Wanted};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::checks::{CheckRequest, Runner};
use crate::events::words;
use crate::handle::{Command, Handle, Reply, Shared};
use crate::net::Net;
use crate::store::{Store, StoreError};

/// Requests that may wait in the queue, and as many again in the engine.
const MAX_REQUESTS: usize = 1024;
/// Results of checks that may wait to be taken.
const MAX_RESULTS: usize = 1024;
/// In clusters of up to this many nodes heads are published with every view, in larger ones at an interval.
const MAX_SMALL_CLUSTER: usize = 64;
const HEADS_INTERVAL: Duration = Duration::from_millis(200);
/// Time between two beats of an idle driver.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);
/// The subject under which trouble with the disk is reported.
const STORE_SUBJECT: &str = "store";

/// Why the driver cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The store did not take the node's own state.
    #[error("the node's own state could not be stored: {0}")]
    Store(#[from] StoreError),
}

/// A check's run that ended.
#[derive(Debug)]
struct Finished {
    key: CheckKey,
    run: RunId,
    outcome: CheckOutcome,
}

/// The engine, and everything that its outputs are performed with.
#[derive(Debug)]
pub struct Driver {
    host: Host,
    shared: Arc<Shared>,
    store: Store,
    /// Resolves when the batch that is being stored is on the disk.
    storing: Option<oneshot::Receiver<Result<(), StoreError>>>,
    runner: Arc<Runner>,
    /// Runs of checks under way.
    runs: BTreeMap<RunId, AbortHandle>,
    finished: (mpsc::Sender<Finished>, mpsc::Receiver<Finished>),
    probes: Probes,
    commands: mpsc::Receiver<Command>,
    guard: watch::Receiver<GuardSettings>,
    /// Where the answers to requests go.
    replies: BTreeMap<Ticket, Reply>,
    next_ticket: u64,
    links: Links,
    heads_published: Instant,
    has_stopped: bool,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// The present moment on both clocks.
pub(crate) fn moment() -> Moment {
    Moment { now: Instant::now(), wall: Timestamp::from_system(SystemTime::now()) }
}

impl Driver {
    /// Lets a restored host state what is true of its node now, which is stored and shown when this returns. Requests
    /// reach the driver by the handle, new settings of the guard by the channel.
    ///
    /// # Errors
    /// When the node's own state cannot be stored.
    pub async fn start(
        host: Host,
        store: Store,
        shared: Arc<Shared>,
        runner: Arc<Runner>,
        stop: CancellationToken,
    ) -> Result<(Self, Handle, watch::Sender<GuardSettings>), StartError> {
        let (commands, command_queue) = mpsc::channel(MAX_REQUESTS);
        let (guard, guard_settings) = watch::channel(host.settings().guard.clone());
        let mut driver = Self {
            host,
            shared,
            store,
            storing: None,
            runner,
            runs: BTreeMap::new(),
            finished: mpsc::channel(MAX_RESULTS),
            probes: Probes::default(),
            commands: command_queue,
            guard: guard_settings,
            replies: BTreeMap::new(),
            next_ticket: 0,
            links: Links::default(),
            heads_published: Instant::now(),
            has_stopped: false,
            tasks: TaskTracker::new(),
            stop,
        };
        driver.host.start(moment());
        driver.perform().await;
        while driver.storing.is_some() {
            let result = stored(&mut driver.storing).await;
            driver.storing = None;
            result?;
            driver.host.handle_stored(moment(), Ok(()));
            driver.perform().await;
        }
        let handle = Handle::new(commands, Arc::clone(&driver.shared));
        Ok((driver, handle, guard))
    }

    /// Connects the driver with the network. Members that were down when the agent last stopped count as down until
    /// they say otherwise.
    pub(crate) fn join(&mut self, net: Net, down: &[NodeId]) {
        net.context().set_summary(self.host.replica().summary());
        self.host.join(moment(), down.iter().copied());
        self.links = Links::new(net);
    }

    /// A seed for random choices that differs from node to node.
    pub(crate) fn seed(&self) -> u64 {
        self.host.settings().seed
    }

    /// Runs until the token given at start is cancelled; then stores what is left and returns.
    pub async fn run(mut self) {
        let beat = self.shared.vitals.register("the driver");
        while !self.stop.is_cancelled() {
            beat.alive();
            // Events come first, since bad news is among them.
            self.take_events();
            self.perform().await;
            self.step().await;
        }
        // An agent that is killed aborts this task and then cancels the token, so the task ends here.
        tokio::task::yield_now().await;
        self.finish().await;
        beat.end();
    }

    /// Waits for one input and hands it to the engine.
    async fn step(&mut self) {
        let deadline = self.host.next_deadline().map(|at| sleep_until(at.into()));
        let room = MAX_REQUESTS.saturating_sub(self.replies.len());
        let mut commands = Vec::new();
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            result = stored(&mut self.storing) => self.end_batch(result),
            Some(Finished { key, run, outcome }) = self.finished.1.recv() => {
                self.runs.remove(&run);
                self.host.handle_check(moment(), &key, run, outcome);
            }
            Some(Probed { service, key, answered }) = self.probes.ended() => {
                self.host.handle_probe(moment(), &service, &key, answered);
            }
            Some(event) = self.links.events.recv() => self.take_event(event),
            Some(frame) = self.links.frames.recv() => self.take_frames(frame),
            Ok(()) = self.guard.changed() => {
                self.host.set_guard(self.guard.borrow_and_update().clone());
            }
            1.. = self.commands.recv_many(&mut commands, room), if room > 0 => {
                commands.into_iter().for_each(|command| self.take_command(command));
                self.host.flush(moment());
            }
            Some(()) = OptionFuture::from(deadline) => self.host.handle_deadline(moment()),
            () = sleep(BEAT_INTERVAL) => {}
        }
    }

    fn take_command(&mut self, command: Command) {
        let Command { request, permit, reply } = command;
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.replies.insert(ticket, reply);
        self.host.handle_request(moment(), ticket, request, permit);
    }

    fn end_batch(&mut self, result: Result<(), StoreError>) {
        self.storing = None;
        self.shared.vitals.set_storing(false);
        self.host.handle_stored(moment(), result.map_err(|error| error.to_string()));
    }

    /// Performs what the engine wants done, until it wants no more.
    async fn perform(&mut self) {
        while let Some(output) = self.host.poll_output() {
            if let Output::Store(batch) = output {
                self.begin_storing(*batch).await;
            } else {
                self.perform_one(output);
            }
        }
        self.after_outputs();
    }

    async fn begin_storing(&mut self, batch: Batch) {
        match self.store.begin(batch).await {
            Ok(storing) => {
                self.shared.vitals.set_storing(true);
                self.storing = Some(storing);
            }
            Err(error) => self.host.handle_stored(moment(), Err(error.to_string())),
        }
    }

    fn perform_one(&mut self, output: Output) {
        match output {
            Output::Answer { ticket, result } => {
                // The client may have gone; what it asked for is done all the same.
                drop(self.replies.remove(&ticket).map(|reply| reply.send(result)));
            }
            Output::Publish { services } => {
                self.publish_heads_if_due();
                self.shared.view.store(Arc::new(self.host.view().clone()));
                self.shared.watchers.wake(&services);
            }
            Output::PublishRegistry => {
                self.shared.registry.store(Arc::new(self.host.registry().clone()));
            }
            Output::RunCheck { key, run, service, address, spec } => {
                let request =
                    CheckRequest { instance: key.instance.clone(), service, address, spec };
                self.run_check(key, run, request);
            }
            Output::CancelCheck { run } => {
                // Dropping a run closes its connection, or kills its command.
                if let Some(task) = self.runs.remove(&run) {
                    task.abort();
                }
            }
            Output::Probe { service, key, address } => {
                self.probes.want(Wanted { service, key, address });
            }
            Output::Tell(event) => self.tell(&event),
            Output::Peers(output) => self.perform_for_peers(output),
            Output::Stopped => self.has_stopped = true,
            // Rows are not told here, and batches are begun by the caller.
            Output::Shown { .. } | Output::Store(_) => {}
        }
    }

    fn run_check(&mut self, key: CheckKey, run: RunId, request: CheckRequest) {
        let (runner, results, stop) =
            (Arc::clone(&self.runner), self.finished.0.clone(), self.stop.clone());
        let task = self.tasks.spawn(async move {
            // A check whose run never ends would never run again, so even a bug must have an outcome.
            let outcome = AssertUnwindSafe(runner.run(request)).catch_unwind();
            let Some(outcome) = stop.run_until_cancelled(outcome).await else { return };
            let outcome = outcome.unwrap_or_else(|_| CheckOutcome {
                status: CheckStatus::Critical,
                output: "the agent failed at this check; its log says more".to_owned(),
            });
            // An error means that the driver has stopped.
            let _ = results.send(Finished { key, run, outcome }).await;
        });
        self.runs.insert(run, task.abort_handle());
    }

    fn tell(&self, event: &Event) {
        words::log(event);
        if let Event::DiskRefuses { error } = event {
            let problem = format!("changes cannot be stored: {error}; make room or mend the disk");
            self.shared.problems.set(STORE_SUBJECT, problem);
        }
        if matches!(event, Event::DiskAccepts) {
            self.shared.problems.clear(STORE_SUBJECT);
        }
        let told = words::of(event, &self.shared.identity.node, moment().wall);
        told.into_iter().for_each(|told| self.shared.events.push(told));
    }

    fn publish_heads_if_due(&mut self) {
        let is_small = self.shared.heads.load().len() <= MAX_SMALL_CLUSTER;
        if is_small || self.heads_published.elapsed() >= HEADS_INTERVAL {
            self.publish_heads();
        }
    }

    fn publish_heads(&mut self) {
        self.heads_published = Instant::now();
        let heads = self.host.heads().map(|(node, head)| (node, head.as_u64()));
        self.shared.heads.store(Arc::new(heads.collect()));
    }

    /// Stores what is pending, and tells other agents that this node leaves if it is configured to.
    async fn finish(&mut self) {
        self.commands.close();
        self.host.handle_stop(moment());
        self.perform().await;
        while !self.has_stopped {
            if self.storing.is_none() {
                debug!("the engine waits for a batch that is not under way");
                break;
            }
            let result = stored(&mut self.storing).await;
            self.end_batch(result);
            self.perform().await;
        }
        if self.host.settings().leaves_on_stop {
            self.links.leave().await;
        }
    }
}

/// Waits until the batch that is being stored is on the disk; never returns if there is none.
async fn stored(
    storing: &mut Option<oneshot::Receiver<Result<(), StoreError>>>,
) -> Result<(), StoreError> {
    match storing {
        Some(storing) => storing.await.unwrap_or(Err(StoreError::Closed)),
        None => std::future::pending().await,
    }
}
