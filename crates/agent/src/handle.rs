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
    /// Readers that wait for the view to change.
    pub watchers: Arc<Watchers>,
    /// What this host says, as it is stored: providers and their statements.
    pub registry: ArcSwap<Registry>,
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
        let registry = ArcSwap::default();
        Self {
            identity,
            view,
            watchers,
            registry,
            events,
            problems,
            heads,
            members,
            vitals,
            is_ready,
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

/// Where the answer to a request goes.
pub type Reply = oneshot::Sender<Result<Answer, RequestError>>;

/// A request on its way to the driver.
#[derive(Debug)]
pub struct Command {
    /// What is asked for.
    pub request: Request,
    /// The services that the caller may state; `None` for a caller that may do everything.
    pub permit: Permitted,
    /// Where the answer goes.
    pub reply: Reply,
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
