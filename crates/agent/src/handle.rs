//! How the edges (HTTP, files, signals) reach the driver, and what they may read without it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use dunlin_core::catalog::CatalogView;
use dunlin_core::host::{Answer, Permitted, Registry, Request, RequestError};
use dunlin_core::model::{NodeId, NodeName, ZoneName};
pub use dunlin_shell::Problems;
use tokio::sync::{mpsc, oneshot};

use crate::events::EventLog;
use crate::vitals::Vitals;
use crate::watchers::Watchers;

/// The identity of this agent and the places where it listens and stores, none of which change while it runs.
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
    /// The path of the Unix socket on which the API listens.
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
    /// The round-trip time of the last pings.
    pub rtt: Option<Duration>,
    /// The newest version of its rows that any node has reported; 0 if none has.
    pub newest_head: u64,
    /// The address at which its agent can be reached by other agents.
    pub cluster_address: Option<SocketAddr>,
}

/// What is measured of other nodes; this agent itself is not among them. The driver replaces the map.
#[derive(Debug, Default)]
pub struct Members(pub ArcSwap<BTreeMap<NodeId, MemberInfo>>);

/// What every part of the agent may read without asking the driver.
#[derive(Debug)]
pub struct Shared {
    /// The identity of this agent.
    pub identity: Identity,
    /// The newest published view.
    pub view: Arc<ArcSwap<CatalogView>>,
    /// The readers that wait for the view to change.
    pub watchers: Arc<Watchers>,
    /// What this host says, as it is stored: providers and their statements.
    pub registry: ArcSwap<Registry>,
    /// The events that are remembered.
    pub events: EventLog,
    /// What is wrong with the agent at the moment.
    pub problems: Problems,
    /// The newest version that this agent has of each node's rows. The driver replaces the map when one grows.
    pub heads: ArcSwap<BTreeMap<NodeId, u64>>,
    /// What is measured of other nodes.
    pub members: Members,
    /// When parts of the agent were last seen alive.
    pub vitals: Vitals,
    is_ready: AtomicBool,
}

impl Shared {
    /// Shares a first view. Lookups are not to be trusted before [`Shared::set_ready`] says so.
    #[must_use]
    pub fn new(identity: Identity, view: Arc<ArcSwap<CatalogView>>, watchers: usize) -> Self {
        Self {
            identity,
            view,
            watchers: Arc::new(Watchers::new(watchers)),
            registry: ArcSwap::default(),
            events: EventLog::default(),
            problems: Problems::default(),
            heads: ArcSwap::default(),
            members: Members::default(),
            vitals: Vitals::default(),
            is_ready: AtomicBool::new(false),
        }
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

/// The channel for the answer to a request.
pub type Reply = oneshot::Sender<Result<Answer, RequestError>>;

/// A request on its way to the driver.
#[derive(Debug)]
pub struct Command {
    /// What is asked for.
    pub request: Request,
    /// The services that the caller may state; `None` for a caller that may do everything.
    pub permit: Permitted,
    /// The channel for the answer.
    pub reply: Reply,
}

/// Takes requests to the driver. Cloning one costs two reference counts.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

impl Handle {
    /// How long a request waits for room in the driver's queue.
    const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);

    /// A handle that sends to this queue.
    #[must_use]
    pub fn new(commands: mpsc::Sender<Command>, shared: Arc<Shared>) -> Self {
        Self { commands, shared }
    }

    /// What can be read without asking the driver.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Asks the driver and waits for the answer.
    ///
    /// # Errors
    /// The request's own, or that the driver cannot take it.
    pub async fn ask(&self, request: Request) -> Result<Answer, RequestError> {
        self.ask_within(None, request).await
    }

    /// Asks the driver on behalf of a caller that may state some services only.
    ///
    /// # Errors
    /// As [`Handle::ask`], and that the request touches other services.
    pub async fn ask_within(
        &self,
        permit: Permitted,
        request: Request,
    ) -> Result<Answer, RequestError> {
        let (reply, answer) = oneshot::channel();
        let command = Command { request, permit, reply };
        let sent = self.commands.send_timeout(command, Self::QUEUE_TIMEOUT).await;
        sent.map_err(|error| match error {
            mpsc::error::SendTimeoutError::Timeout(_) => RequestError::Busy,
            mpsc::error::SendTimeoutError::Closed(_) => RequestError::Stopping,
        })?;
        answer.await.map_err(|_| RequestError::Stopping)?
    }
}
