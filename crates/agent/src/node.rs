//! The composition root: from settings to a running agent, and back to nothing.

mod api;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use dunlin_core::catalog::{CatalogView, GuardOverride, GuardSettings};
use dunlin_core::config::{Config, GuardConfig, Reloadable};
use dunlin_core::dns::Domain;
use dunlin_core::gossip::{MembershipSettings, Peer};
use dunlin_core::host::{Host, HostSettings, known_members};
use dunlin_core::model::{NodeId, NodeName, NodePhase, NodeRow};
use dunlin_shell::metrics::Observer;
use dunlin_shell::{Nudge, systemd};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use self::api::ApiGuard;
use crate::access::TokensError;
use crate::checks::{self, Runner};
use crate::dns;
use crate::driver::{Driver, Queues, StartError, moment};
use crate::handle::{Handle, Identity, Shared};
use crate::http;
use crate::inherited::Inherited;
use crate::net;
use crate::net::fence::Fence;
use crate::net::tls::{SharedCredentials, TlsError};
use crate::providers::files::ServicesFolder;
use crate::store::{Store, StoreError};
use crate::watchdog::{self, Watchdog};

/// Watches and long polls at a time. More than the API grants, since one that lost its place to another client
/// ends a moment after that has begun.
const MAX_WATCHERS: usize = 32_768;
/// How long stopping may take before what is left is cut off.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// How long an agent waits for others to join before it is ready without them.
const JOIN_TIME: Duration = Duration::from_secs(5);

/// A configuration in which everything that depends on the machine is settled.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// As it was read.
    pub config: Config,
    /// The node's name.
    pub name: NodeName,
    /// The node's address.
    pub address: IpAddr,
    /// Where the state is kept.
    pub data_dir: PathBuf,
    /// Who may not talk to whom, to try out partitions; `None` in production.
    pub fence: Option<Arc<Fence>>,
    /// Starts the whole program anew, should a part of the agent hang; it does not return if it can help it.
    pub start_anew: Option<fn()>,
}

/// Why an agent cannot start.
#[derive(Debug, Error)]
pub enum NodeError {
    /// The data directory cannot be used.
    #[error("data directory: {0}")]
    Store(#[from] StoreError),
    /// The driver cannot start.
    #[error(transparent)]
    Driver(#[from] StartError),
    /// A listener cannot be opened.
    #[error("{what} cannot listen on {address}: {source}{}", hint(source))]
    Listen {
        /// For what.
        what: &'static str,
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// DNS cannot start.
    #[error("DNS: {0}")]
    Dns(#[from] dns::DnsError),
    /// The domain cannot be served.
    #[error("dns.domain {0:?} is too long to make names in it")]
    Domain(String),
    /// The certificates cannot be used.
    #[error("cluster.tls: {0}")]
    Tls(#[from] TlsError),
    /// The file of tokens cannot be used.
    #[error("api.tokens_file: {0}")]
    Tokens(#[from] TokensError),
    /// The API's certificate cannot be used.
    #[error("api.tls: {0}")]
    ApiTls(#[from] http::ApiTlsError),
    /// The API would listen where strangers reach it.
    #[error("api.listen {0}")]
    Exposed(String),
    /// Something else that the system refused.
    #[error("{0}")]
    Io(#[from] io::Error),
}

fn hint(source: &io::Error) -> &'static str {
    let kind = source.kind();
    if kind == io::ErrorKind::AddrInUse {
        return "; another program has it: stop that one, or configure another address";
    }
    if kind == io::ErrorKind::PermissionDenied {
        return "; ports below 1024 need privileges";
    }
    ""
}

/// A running agent.
#[derive(Debug)]
pub struct Node {
    handle: Handle,
    settings: NodeSettings,
    guard: mpsc::Sender<GuardSettings>,
    rescan: mpsc::Sender<()>,
    /// Has the files be looked at that say who may use the API.
    api_files: Vec<Nudge>,
    dns: Option<dns::Server>,
    http: http::Server,
    driver: tokio::task::JoinHandle<()>,
    driver_ended: CancellationToken,
    net: Option<Cluster>,
    watchdog: Option<Watchdog>,
    tasks: TaskTracker,
    /// Ends what serves clients; the driver goes on.
    stop_serving: CancellationToken,
    /// Ends the driver.
    stop_driver: CancellationToken,
}

/// What is left of the network when the driver has taken its end.
#[derive(Debug)]
struct Cluster {
    context: Arc<net::Context>,
    stop: CancellationToken,
}

/// Should the rest of a start fail, the network ends.
impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Sockets that are bound, and where.
struct Bound {
    cluster: Option<net::Bound>,
    api: Vec<TcpListener>,
    api_address: SocketAddr,
    local: UnixListener,
    dns: Option<dns::Listeners>,
}

impl Bound {
    fn api_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.api.iter().map(TcpListener::local_addr).collect()
    }
}

impl Node {
    /// The local socket's name in the data directory.
    pub const SOCKET: &str = "agent.sock";

    /// Starts an agent and returns when it is ready: last known answers are served as soon as they are
    /// read from disk, then the node states its own truth.
    ///
    /// # Errors
    /// When something that it needs is not to be had; then nothing of it keeps running.
    pub async fn start(settings: NodeSettings, inherited: Inherited) -> Result<Self, NodeError> {
        let (store, node_id, stored) = Store::open(&settings.data_dir)?;
        let damage = stored.moved_aside.clone();
        if let Some(problem) = &damage {
            error!(problem, "the database was damaged; starting with an empty one");
        }
        let peers = known_members(&stored.peers);
        let credentials = credentials(&settings)?;
        let host = Host::restore(moment(), host_settings(&settings, node_id), node_id, stored);
        let view = Arc::new(ArcSwap::from_pointee(host.view().clone()));
        let bound = bind(&settings, inherited)?;
        let guard_of_api = ApiGuard::load(&settings.config.api, &bound.api_addresses()?)?;
        let dns = start_dns(&settings, bound.dns, &view)?;
        let dns_address = dns.as_ref().and_then(dns::Server::local_addr);
        let identity = identity(&settings, node_id, bound.api_address, dns_address);
        let shared = Arc::new(Shared::new(identity, view, MAX_WATCHERS));
        if let Some(damage) = damage {
            shared.problems.set("database", format!("was damaged and replaced: {damage}"));
        }
        let (stop_serving, stop_driver) = (CancellationToken::new(), CancellationToken::new());
        let runner = Arc::new(Runner::new(checks::Limits::default()));
        let started =
            Driver::start(host, store, Arc::clone(&shared), runner, stop_driver.clone()).await?;
        let (mut driver, Queues { commands, guard }) = started;
        let watched = credentials.clone();
        let net = match (bound.cluster, credentials) {
            (Some(sockets), Some(credentials)) => {
                let sources = ClusterSources { sockets, credentials, peers };
                Some(join(&settings, sources, &shared, &mut driver)?)
            }
            _ => None,
        };
        // Should the rest of the start fail, the driver ends and lets go of the directory.
        let driver_guard = stop_driver.clone().drop_guard();
        let (driver, driver_ended) = spawn(driver);
        let handle = Handle::new(commands, Arc::clone(&shared));
        let observer = observer(&shared, net.as_ref(), watched.as_ref(), dns.as_ref());
        let front = guard_of_api.front(&settings.config.api, bound.api, bound.local)?;
        let limits = http::Limits::of(&settings.config.api);
        let http = http::serve(front, handle.clone(), observer, limits, stop_serving.clone())?;
        driver_guard.disarm();
        let (rescan, rescans) = mpsc::channel(1);
        let tasks = TaskTracker::new();
        let api_files = guard_of_api.watch(&shared, &tasks, &stop_serving);
        let mut node = Self {
            handle,
            settings,
            guard,
            rescan,
            api_files,
            dns,
            http,
            driver,
            driver_ended,
            net,
            watchdog: None,
            tasks,
            stop_serving,
            stop_driver,
        };
        node.watch_certificate(watched);
        node.watch_folder(rescans).await;
        node.be_watched()?;
        node.get_ready();
        Ok(node)
    }

    /// Lets the watchdogs look after the agent: the own one, and systemd's.
    fn be_watched(&mut self) -> io::Result<()> {
        self.feed_watchdog();
        let (shared, stop) = (Arc::clone(self.shared()), self.stop_driver.clone());
        self.tasks.spawn(watchdog::beat_for_runtime(Arc::clone(&shared), stop));
        self.watchdog = Some(Watchdog::start(shared, self.settings.start_anew)?);
        Ok(())
    }

    /// What can be read without asking.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        self.handle.shared()
    }

    /// A handle to ask the agent.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// An agent that is to join others is ready when it has, or when they cannot be reached: then it answers
    /// what it knows.
    fn get_ready(&self) {
        let shared = Arc::clone(self.shared());
        let name = self.settings.name.clone();
        let Some(cluster) =
            self.net.as_ref().filter(|_| !self.settings.config.cluster.join.is_empty())
        else {
            shared.set_ready(true);
            return info!(node = %name, api = %shared.identity.api, "agent is ready");
        };
        let (context, stop) = (Arc::clone(&cluster.context), self.stop_driver.clone());
        self.tasks.spawn(async move {
            let joined = tokio::time::timeout(JOIN_TIME, context.joined());
            if stop.run_until_cancelled(joined).await.is_some() {
                shared.set_ready(true);
                info!(node = %name, api = %shared.identity.api, "agent is ready");
            }
        });
    }

    /// Waits until the driver has ended, which it does by itself only by a bug.
    pub async fn failed(&self) {
        self.driver_ended.cancelled().await;
    }

    /// Takes new certificates as they come, and tells people when they end.
    fn watch_certificate(&self, credentials: Option<Arc<SharedCredentials>>) {
        let Some(credentials) = credentials else { return };
        let shared = Arc::clone(self.shared());
        let report = move |problem: Option<String>| match problem {
            Some(problem) => shared.problems.set("certificate", problem),
            None => shared.problems.clear("certificate"),
        };
        self.tasks.spawn(net::tls::watch(credentials, report, self.stop_serving.clone()));
    }

    async fn watch_folder(&self, rescans: mpsc::Receiver<()>) {
        let (dir, address) = (self.settings.config.providers.dir.clone(), self.settings.address);
        let mut folder = ServicesFolder::new(dir, address, self.handle.clone());
        // An error means that the driver has stopped, which it will say itself.
        let _ = folder.scan().await;
        self.tasks.spawn(folder.watch(self.stop_serving.clone(), rescans));
    }

    /// Tells systemd that the agent is alive, as long as no part of it hangs.
    fn feed_watchdog(&self) {
        let Some(interval) = systemd::watchdog_interval() else { return };
        let (shared, stop) = (Arc::clone(self.shared()), self.stop_driver.clone());
        self.tasks.spawn(async move {
            let mut ticks = tokio::time::interval(interval);
            while stop.run_until_cancelled(ticks.tick()).await.is_some() {
                if shared.vitals.is_stalled() {
                    warn!("a part of the agent hangs; systemd is not told that the agent lives");
                } else {
                    systemd::alive();
                }
            }
        });
    }

    /// Takes from a new configuration what can change while the agent runs, and looks at the services
    /// folder again.
    pub async fn reload(&mut self, config: Config) {
        // The log belongs to the program, which takes its filter over by itself.
        let Reloadable { guard, dns_ttl, log_filter: _ } = config.reloadable();
        // Either queue is full only when the same is already on its way, or closed when all ends.
        let _ = self.guard.send(guard_settings(&guard)).await;
        let _ = self.rescan.try_send(());
        self.api_files.iter().for_each(Nudge::now);
        self.settings.config.guard = guard;
        self.settings.config.dns.ttl = dns_ttl;
        if let (Some(dns), Ok(settings)) = (&self.dns, dns_settings(&self.settings)) {
            dns.reload(settings);
        }
    }

    /// Stops: what `run` announced is shown as draining, watches and open requests end, what is pending
    /// is stored. Returns when nothing of the agent runs any more.
    pub async fn stop(self) {
        info!("agent is stopping");
        self.shared().set_ready(false);
        self.stop_driver.cancel();
        let finished = async {
            if self.driver.await.is_err() {
                warn!("the driver ended by a panic");
            }
            self.stop_serving.cancel();
            if let Some(cluster) = &self.net {
                cluster.stop.cancel();
                cluster.context.stopped().await;
            }
            self.http.stopped().await;
            self.tasks.close();
            self.tasks.wait().await;
        };
        if tokio::time::timeout(STOP_TIMEOUT, finished).await.is_err() {
            warn!("not everything ended in time; cutting it off");
        }
        if let Some(dns) = self.dns {
            dns.shutdown().await;
        }
        // A stale socket is no harm; the next start replaces it.
        let _ = std::fs::remove_file(self.settings.data_dir.join(Self::SOCKET));
    }

    /// Ends everything at once without telling anybody, as a crash would: nothing that is pending is
    /// stored, no client is told. Ports and data directory are free when this returns.
    pub async fn kill(self) {
        info!("agent is killed");
        self.shared().set_ready(false);
        if let Some(cluster) = &self.net {
            cluster.context.cut_off();
        }
        self.driver.abort();
        if let Some(cluster) = &self.net {
            cluster.stop.cancel();
        }
        self.http.cut_off();
        self.stop_serving.cancel();
        // Cancelled by our own word, or ended by itself; either way the store is closed with it.
        let _ = self.driver.await;
        // Only now, as the driver would have ended in good order. What it had begun ends by this.
        self.stop_driver.cancel();
        if let Some(cluster) = &self.net {
            cluster.context.stopped().await;
        }
        self.http.stopped().await;
        if let Some(dns) = self.dns {
            dns.shutdown().await;
        }
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Runs the driver; the token is cancelled when it has ended, in whatever way.
fn spawn(driver: Driver) -> (tokio::task::JoinHandle<()>, CancellationToken) {
    let ended = CancellationToken::new();
    let guard = ended.clone().drop_guard();
    let task = tokio::spawn(async move {
        driver.run().await;
        drop(guard);
    });
    (task, ended)
}

/// All that is measured.
fn observer(
    shared: &Arc<Shared>,
    net: Option<&Cluster>,
    credentials: Option<&Arc<SharedCredentials>>,
    dns: Option<&dns::Server>,
) -> Arc<Observer> {
    let observer = crate::observe::observer(Arc::clone(shared));
    if let Some(cluster) = net {
        observer.collect(crate::observe::Cluster::new(Arc::clone(&cluster.context)));
    }
    if let Some(credentials) = credentials {
        observer.collect(crate::observe::Certificate::new(Arc::clone(credentials)));
    }
    if let Some(dns) = dns {
        observer.collect(crate::observe::Dns::new(dns.stats()));
    }
    Arc::new(observer)
}

fn credentials(settings: &NodeSettings) -> Result<Option<Arc<SharedCredentials>>, NodeError> {
    let Some(files) = settings.config.cluster.tls.clone() else { return Ok(None) };
    let zone = settings.config.node.zone.clone();
    Ok(Some(Arc::new(SharedCredentials::load(files, settings.name.clone(), zone)?)))
}

/// What the network is made of.
struct ClusterSources {
    sockets: net::Bound,
    credentials: Arc<SharedCredentials>,
    peers: Vec<(Peer, bool)>,
}

/// Starts the network and joins the driver with it.
fn join(
    settings: &NodeSettings,
    sources: ClusterSources,
    shared: &Arc<Shared>,
    driver: &mut Driver,
) -> Result<Cluster, NodeError> {
    let ClusterSources { sockets, credentials, peers } = sources;
    let config = &settings.config.cluster;
    let listen = sockets.local_addr()?;
    let own = shared.identity.node_id;
    let former = peers.iter().find(|(peer, _)| peer.id == own).map_or(0, |(own, _)| own.generation);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let advertise = SocketAddr::new(settings.address, listen.port());
    let down: Vec<NodeId> =
        peers.iter().filter(|(_, is_live)| !is_live).map(|(peer, _)| peer.id).collect();
    let net_settings = net::Settings {
        id: own,
        listen,
        advertise: config.advertise.unwrap_or(advertise),
        join: config.join.clone(),
        data_dir: settings.data_dir.clone(),
        peers,
        generation: u64::try_from(now).unwrap_or_default().max(former.saturating_add(1)),
        seed: driver.seed(),
        membership: MembershipSettings {
            forget_down_after: config.reap_after,
            ..MembershipSettings::default()
        },
    };
    let stop = CancellationToken::new();
    let net = net::Net::start(
        net_settings,
        sockets,
        credentials,
        settings.fence.clone(),
        Arc::clone(shared),
        stop.clone(),
    )?;
    let context = Arc::clone(net.context());
    driver.join(net, &down);
    info!(%listen, "agents can reach this one");
    Ok(Cluster { context, stop })
}

fn identity(
    settings: &NodeSettings,
    node_id: NodeId,
    api: SocketAddr,
    dns: Option<SocketAddr>,
) -> Identity {
    Identity {
        node_id,
        node: settings.name.clone(),
        zone: settings.config.node.zone.clone(),
        domain: settings.config.dns.domain.as_str().to_owned(),
        api,
        dns,
        socket: settings.data_dir.join(Node::SOCKET),
        data_dir: settings.data_dir.clone(),
        services_dir: settings.config.providers.dir.clone(),
        started: Instant::now(),
    }
}

fn host_settings(settings: &NodeSettings, node_id: NodeId) -> HostSettings {
    let config = &settings.config;
    let meta = config.node.meta.iter().map(|(k, v)| (k.as_str().into(), v.as_str().into()));
    let node = NodeRow {
        name: settings.name.clone(),
        zone: config.node.zone.clone(),
        address: settings.address,
        serves_dns: config.dns.enabled,
        meta: meta.collect(),
        phase: NodePhase::Active,
    };
    let [a, b, c, d, e, f, g, h, ..] = *node_id.as_bytes();
    HostSettings {
        guard: guard_settings(&config.guard),
        reap_after: config.cluster.reap_after,
        keep_tombstones: config.cluster.reap_after,
        seed: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        leaves_on_stop: config.cluster.tls.is_some() && config.cluster.leave_on_stop,
        ..HostSettings::new(node)
    }
}

fn guard_settings(guard: &GuardConfig) -> GuardSettings {
    let over = guard.service.iter().map(|(name, over)| {
        (name.clone(), GuardOverride { max_drop: over.max_drop, panic: over.panic })
    });
    GuardSettings {
        max_drop: guard.max_drop,
        min_instances: usize::try_from(guard.min_instances).unwrap_or(usize::MAX),
        window: guard.window,
        hold: guard.hold,
        panic: guard.panic,
        services: over.collect(),
    }
}

fn dns_settings(settings: &NodeSettings) -> Result<dunlin_core::dns::DnsSettings, NodeError> {
    let config = &settings.config.dns;
    let domain = Domain::parse(config.domain.as_str())
        .map_err(|_| NodeError::Domain(config.domain.as_str().to_owned()))?;
    let mut dns = dunlin_core::dns::DnsSettings::new(domain, settings.name.clone());
    dns.ttl = config.ttl;
    dns.udp_payload = config.udp_payload;
    dns.upstreams = config.upstreams.clone();
    Ok(dns)
}

fn start_dns(
    settings: &NodeSettings,
    listeners: Option<dns::Listeners>,
    view: &Arc<ArcSwap<CatalogView>>,
) -> Result<Option<dns::Server>, NodeError> {
    let Some(listeners) = listeners else { return Ok(None) };
    let config = &settings.config.dns;
    let rate_limit = (config.rate_limit > 0).then_some(dns::RateLimit {
        replies_per_second: config.rate_limit,
        slip: config.rate_limit_slip,
    });
    let limits = dns::Limits { rate_limit, ..dns::Limits::default() };
    Ok(Some(dns::Server::start(listeners, dns_settings(settings)?, limits, Arc::clone(view))?))
}

fn bind(settings: &NodeSettings, mut inherited: Inherited) -> Result<Bound, NodeError> {
    let config = &settings.config;
    if inherited.api.is_empty() {
        let address = config.api.listen;
        let listen =
            |source| NodeError::Listen { what: "the API", address: address.to_string(), source };
        inherited.api.push(TcpListener::bind(address).map_err(listen)?);
    }
    let api_address = inherited.api[0].local_addr()?;
    let local = match inherited.local {
        Some(local) => local,
        None => {
            let mode = config.api.socket_mode.bits();
            bind_local(&settings.data_dir.join(Node::SOCKET), mode)?
        }
    };
    let workers = config.dns.workers.map_or_else(dns::default_workers, usize::from);
    let (mut udp, tcp) = (inherited.dns_udp, inherited.dns_tcp);
    let dns = if !config.dns.enabled {
        None
    } else if udp.is_empty() && tcp.is_empty() {
        Some(dns::bind(config.dns.listen, workers)?)
    } else {
        // Workers take turns at the one socket that systemd has bound.
        if let [first] = &udp[..] {
            let clones = (1..workers).map(|_| first.try_clone()).collect::<Result<Vec<_>, _>>()?;
            udp.extend(clones);
        }
        Some(dns::Listeners { udp, tcp })
    };
    let cluster = match &config.cluster.tls {
        None => None,
        Some(_) => {
            let address = config.cluster.listen;
            let listen = |source| {
                let (what, address) = ("the cluster", address.to_string());
                NodeError::Listen { what, address, source }
            };
            Some(net::bind(address).map_err(listen)?)
        }
    };
    Ok(Bound { api: inherited.api, api_address, local, dns, cluster })
}

/// Binds the local socket. One that is there already is stale: the data directory is ours alone.
fn bind_local(path: &Path, mode: u32) -> Result<UnixListener, NodeError> {
    let listen = |source| NodeError::Listen {
        what: "the local socket",
        address: path.display().to_string(),
        source,
    };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(listen(error)),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(listen)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(listen)?;
    Ok(listener)
}
