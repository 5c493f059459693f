//! How the edges (HTTP, files, signals) reach the driver, and what they may read without it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use dunlin_core::catalog::CatalogView;
use dunlin_core::model::{
    CheckId, CheckStatus, InstanceId, Mode, NodeId, NodeName, NodePhase, ProviderId, Registration,
    ServiceName, ZoneName,
};
pub use dunlin_shell::Problems;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::access::Grant;
use crate::events::EventLog;
use crate::watchdog::Vitals;
use crate::watchers::Watchers;

/// Who this agent is and where it listens; fixed while it runs.
#[derive(Debug, Clone)]
pub struct Identity {
    /// This node's id.
    pub node_id: NodeId,
    /// This node's name.
    pub node: NodeName,
    /// This node's zone.
    pub zone: ZoneName,
    /// The suffix of all names in DNS, without a trailing dot.
    pub domain: String,
    /// Where the API listens.
    pub api: SocketAddr,
    /// Where DNS listens, if it does.
    pub dns: Option<SocketAddr>,
    /// The local socket.
    pub socket: PathBuf,
    /// Where the state is kept.
    pub data_dir: PathBuf,
    /// The services folder.
    pub services_dir: PathBuf,
    /// When the agent started.
    pub started: Instant,
}

/// What is measured of one other node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemberInfo {
    /// How long a question to it and its answer took lately.
    pub rtt: Option<Duration>,
    /// The newest version of its rows that anybody told of; 0 if nobody did.
    pub newest_head: u64,
    /// Where its agent speaks to other agents.
    pub cluster_address: Option<SocketAddr>,
}

/// What is measured of other nodes. Whoever speaks to them stores it anew; this agent itself is not in it.
#[derive(Debug, Default)]
pub struct Members(pub ArcSwap<BTreeMap<NodeId, MemberInfo>>);

/// What everybody may read without asking the driver.
#[derive(Debug)]
pub struct Shared {
    /// Who this agent is.
    pub identity: Identity,
    /// The newest published view.
    pub view: Arc<ArcSwap<CatalogView>>,
    /// Who waits for it to change.
    pub watchers: Arc<Watchers>,
    /// What happened.
    pub events: EventLog,
    /// What is wrong.
    pub problems: Problems,
    /// The last version this agent has of each node's rows. The driver stores it anew when it grows.
    pub heads: ArcSwap<BTreeMap<NodeId, u64>>,
    /// What is measured of other nodes.
    pub members: Members,
    /// When parts of the agent were last seen alive.
    pub vitals: Vitals,
    is_ready: AtomicBool,
}

impl Shared {
    /// Shares a first view; not ready until [`Shared::set_ready`].
    #[must_use]
    pub fn new(identity: Identity, view: Arc<ArcSwap<CatalogView>>, watchers: usize) -> Self {
        let watchers = Arc::new(Watchers::new(watchers));
        let (events, problems) = (EventLog::default(), Problems::default());
        let (heads, is_ready) = (ArcSwap::default(), AtomicBool::new(false));
        let members = Members::default();
        let vitals = Vitals::default();
        Self { identity, view, watchers, events, problems, heads, members, vitals, is_ready }
    }

    /// Whether lookups may be trusted: the first view is published, the agent is not stopping, and no part of it
    /// hangs.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire) && !self.vitals.is_stalled()
    }

    /// Says whether lookups may be trusted.
    pub fn set_ready(&self, is_ready: bool) {
        self.is_ready.store(is_ready, Ordering::Release);
    }
}

/// What came of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registered {
    /// The instance is new.
    Created,
    /// It was there; it may have changed.
    Updated,
}

/// Why a request to the driver was not carried out. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RequestError {
    /// The request itself is wrong.
    #[error("{error}")]
    Invalid {
        /// What was wrong, and where.
        error: String,
        /// What would be right.
        hint: String,
    },
    /// What it names is not there.
    #[error("{0}")]
    NotFound(String),
    /// It contradicts what somebody else stated first.
    #[error("{0}")]
    Conflict(String),
    /// Whoever asks may not do this.
    #[error("{0}")]
    Forbidden(String),
    /// The disk did not take it.
    #[error("the change could not be stored: {0}")]
    Storage(String),
    /// The driver has too much to do, or is stuck.
    #[error("the agent is too busy to take the request")]
    Busy,
    /// The agent is shutting down.
    #[error("the agent is shutting down")]
    Stopping,
}

/// Where the driver puts its answer.
pub type Reply<T> = oneshot::Sender<Result<T, RequestError>>;

/// What the driver can be asked to do.
#[derive(Debug)]
pub enum Command {
    /// Register or replace one instance of the `api` provider.
    Register(Box<Registration>, Reply<Registered>),
    /// Deregister an instance that was registered by id; what a file, a set or a run states is theirs.
    Deregister(InstanceId, Reply<()>),
    /// Take an instance out of answers, or put it back.
    SetMode(InstanceId, Mode, Reply<()>),
    /// Say of the own node whether it wants to be asked. Draining survives restarts; left does not.
    SetNodePhase(NodePhase, Reply<()>),
    /// Push the status of a TTL check.
    PushCheck {
        /// The instance.
        instance: InstanceId,
        /// Its check.
        check: CheckId,
        /// The status.
        status: CheckStatus,
        /// What to show beside it.
        output: String,
        /// The answer.
        reply: Reply<()>,
    },
    /// Replace a provider's complete set.
    PutProvider {
        /// Which provider.
        provider: ProviderId,
        /// All its instances.
        instances: Vec<Registration>,
        /// Forget it when it is not put again within this time.
        ttl: Option<Duration>,
        /// How it fares then.
        reply: Reply<dunlin_api::Provider>,
    },
    /// A provider's last statement could not be read; its last good state holds.
    ProviderFailed {
        /// Which provider.
        provider: ProviderId,
        /// What was wrong.
        error: String,
    },
    /// Forget a provider and its instances.
    RemoveProvider(ProviderId, Reply<()>),
    /// The providers and how they fare.
    Providers(Reply<Vec<dunlin_api::Provider>>),
    /// One provider and how it fares; `None` if there is none of this name.
    Provider(ProviderId, Reply<Option<dunlin_api::Provider>>),
    /// The ids of the instances registered on this agent.
    LocalInstances(Reply<Vec<InstanceId>>),
    /// End the guard's hold of a service.
    ReleaseGuard(ServiceName, Reply<()>),
    /// Do this if it touches only services that the grant names: those that are stated, and those that stand
    /// in their place now. For callers who may not do everything.
    Within(Grant, Box<Command>),
}

impl Command {
    /// Answers without doing anything.
    pub(crate) fn refuse(self, error: RequestError) {
        // Whoever asked may have gone.
        match self {
            Self::Register(_, reply) => _ = reply.send(Err(error)),
            Self::Deregister(_, reply)
            | Self::SetMode(_, _, reply)
            | Self::SetNodePhase(_, reply)
            | Self::PushCheck { reply, .. }
            | Self::RemoveProvider(_, reply)
            | Self::ReleaseGuard(_, reply) => _ = reply.send(Err(error)),
            Self::PutProvider { reply, .. } => _ = reply.send(Err(error)),
            Self::Providers(reply) => _ = reply.send(Err(error)),
            Self::Provider(_, reply) => _ = reply.send(Err(error)),
            Self::LocalInstances(reply) => _ = reply.send(Err(error)),
            Self::ProviderFailed { .. } => {}
            Self::Within(_, command) => command.refuse(error),
        }
    }
}

/// Talks to the driver. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

impl Handle {
    /// How long a request waits for a place in the driver's queue.
    const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);

    /// A handle that sends to this queue.
    #[must_use]
    pub fn new(commands: mpsc::Sender<Command>, shared: Arc<Shared>) -> Self {
        Self { commands, shared }
    }

    /// What can be read without asking.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Sends a command without waiting for its outcome.
    ///
    /// # Errors
    /// When the queue stays full, or the driver has stopped.
    pub async fn send(&self, command: Command) -> Result<(), RequestError> {
        let sent = self.commands.send_timeout(command, Self::QUEUE_TIMEOUT).await;
        sent.map_err(|error| match error {
            mpsc::error::SendTimeoutError::Timeout(_) => RequestError::Busy,
            mpsc::error::SendTimeoutError::Closed(_) => RequestError::Stopping,
        })
    }

    /// Sends a command and waits for its outcome: `handle.ask(|reply| Command::Providers(reply))`.
    ///
    /// # Errors
    /// As the command's own, or when the driver cannot take it.
    pub async fn ask<T>(
        &self,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, RequestError> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply)).await?;
        answer.await.map_err(|_| RequestError::Stopping)?
    }
}
