//! The DNS server: sockets and threads around [`dunlin_core::dns`].
//!
//! Over UDP, one thread serves each socket. All sockets are bound to one address (SO_REUSEPORT), and each thread has a
//! cache of encoded answers of its own: a hit takes no lock, allocates nothing and wakes no other thread. TCP streams
//! and questions to upstreams are tasks on the runtime. The server is not a recursive resolver: it passes questions to
//! upstreams as they are.
//!
//! What always holds: no client can make the server hold more than its limits; a worker waits for nothing but its
//! socket; [`Server::shutdown`] returns when every thread and task has ended.

mod cache;
mod datagrams;
mod forward;
mod rate_limit;
mod stats;
mod streams;
#[cfg(test)]
mod tests;
mod worker;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use arc_swap::ArcSwap;
use dunlin_core::catalog::CatalogView;
use dunlin_core::dns::DnsSettings;
use dunlin_shell::FairLimit;
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::forward::Forwarder;
pub use self::rate_limit::RateLimit;
pub use self::stats::{DnsStats, DnsTotals};
use self::streams::Streams;
#[doc(hidden)]
pub use self::worker::Bare;
use self::worker::DnsShared;

/// Attempts to find a port that is free for both UDP and TCP, when any port will do.
const MAX_BIND_ATTEMPTS: usize = 16;
/// Octets that the kernel may queue for one UDP socket: a burst of some thousand questions.
const RECEIVE_BUFFER_OCTETS: usize = 4 << 20;

/// Why the server does not start.
#[derive(Debug, Error)]
pub enum DnsError {
    /// The address cannot be listened on.
    #[error("cannot listen for DNS on {address} ({transport}): {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// `UDP` or `TCP`.
        transport: &'static str,
        /// The error of the system.
        source: io::Error,
    },
    /// A socket cannot be set up for serving.
    #[error("cannot set up a DNS socket: {0}")]
    Socket(#[source] io::Error),
    /// A thread cannot be started.
    #[error("cannot start a DNS worker: {0}")]
    Thread(#[source] io::Error),
}

/// Sockets that are bound and not served yet: from [`bind`], or handed over by systemd.
#[derive(Debug, Default)]
pub struct Listeners {
    /// The sockets for UDP, each of which gets a worker. A single socket that was handed over can serve several workers
    /// when it is cloned: they then take turns at one queue.
    pub udp: Vec<UdpSocket>,
    /// The listeners for TCP, usually one.
    pub tcp: Vec<TcpListener>,
}

/// What the server may hold at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Answers that each worker keeps.
    pub cache_entries: usize,
    /// Open TCP streams. At the limit, the client with the most streams loses the newest of them to a client with
    /// fewer; otherwise new streams are closed at once.
    pub tcp_connections: usize,
    /// How long a stream may be silent, take for one message, or leave a reply unread.
    pub tcp_idle: Duration,
    /// Questions that may be under way to upstreams; beyond this limit, clients get SERVFAIL.
    pub forwards: usize,
    /// How long one upstream may take to reply.
    pub forward_timeout: Duration,
    /// The limit of replies over UDP to one network; `None` for no limit.
    pub rate_limit: Option<RateLimit>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cache_entries: 65_536,
            tcp_connections: 1024,
            tcp_idle: Duration::from_secs(10),
            forwards: 1024,
            forward_timeout: Duration::from_secs(2),
            rate_limit: None,
        }
    }
}

/// The number of workers by default: as many as there are cores.
#[must_use]
pub fn default_workers() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Binds one UDP socket per worker and one TCP listener, all to one address; port 0 takes a free one.
///
/// # Errors
/// When the address cannot be listened on.
pub fn bind(listen: SocketAddr, workers: usize) -> Result<Listeners, DnsError> {
    let mut tries = if listen.port() == 0 { MAX_BIND_ATTEMPTS } else { 1 };
    loop {
        tries -= 1;
        match bind_all(listen, workers) {
            Err(_) if tries > 0 => {}
            result => return result,
        }
    }
}

fn bind_all(listen: SocketAddr, workers: usize) -> Result<Listeners, DnsError> {
    let failed = |address, transport| move |source| DnsError::Bind { address, transport, source };
    // The TCP listener comes first and without SO_REUSEPORT: a second agent on this address must be
    // told so, not share the questions.
    let tcp = bind_one(listen, Type::STREAM).map_err(failed(listen, "TCP"))?;
    tcp.listen(1024).map_err(failed(listen, "TCP"))?;
    let tcp = TcpListener::from(tcp);
    let address = tcp.local_addr().map_err(DnsError::Socket)?;
    let udp = (0..workers.max(1))
        .map(|_| bind_one(address, Type::DGRAM).map(UdpSocket::from))
        .collect::<io::Result<_>>()
        .map_err(failed(address, "UDP"))?;
    Ok(Listeners { udp, tcp: vec![tcp] })
}

fn bind_one(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let is_stream = kind == Type::STREAM;
    let protocol = if is_stream { Protocol::TCP } else { Protocol::UDP };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if is_stream {
        socket.set_reuse_address(true)?;
    } else {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    local_addr: Option<SocketAddr>,
    shared: Arc<DnsShared>,
    workers: Vec<JoinHandle<()>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Server {
    /// Serves bound sockets from the views that come through `view`. Must be called within a runtime.
    ///
    /// # Errors
    /// When a socket cannot be set up or a thread not be started; nothing keeps running then.
    pub fn start(
        listeners: Listeners,
        settings: DnsSettings,
        limits: Limits,
        view: Arc<ArcSwap<CatalogView>>,
    ) -> Result<Self, DnsError> {
        let local_addr = local_addr(&listeners).map_err(DnsError::Socket)?;
        let settings = without_self(settings, local_addr);
        let (forward, jobs) = mpsc::channel(limits.forwards.max(1));
        let shared = Arc::new(DnsShared {
            view,
            settings: Arc::new(ArcSwap::from_pointee(settings)),
            stats: Arc::new(DnsStats::new(listeners.udp.len())),
            forward,
            rate_limit: limits.rate_limit,
            stop: AtomicBool::new(false),
        });
        let mut server = Self {
            local_addr,
            shared: Arc::clone(&shared),
            workers: Vec::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        let forwarder = Forwarder {
            settings: Arc::clone(&shared.settings),
            stats: Arc::clone(&shared.stats),
            timeout: limits.forward_timeout,
            in_flight: Arc::new(Semaphore::new(limits.forwards)),
            tasks: server.tasks.clone(),
            stop: server.stop.clone(),
        };
        let streams = Streams {
            shared,
            connections: FairLimit::new(limits.tcp_connections),
            idle: limits.tcp_idle,
            tasks: server.tasks.clone(),
            stop: server.stop.clone(),
        };
        for listener in listeners.tcp {
            let listener = streams::to_async(listener).map_err(DnsError::Socket)?;
            server.tasks.spawn(streams.clone().listen(listener));
        }
        server.tasks.spawn(forwarder.run(jobs));
        for (index, socket) in listeners.udp.into_iter().enumerate() {
            server.start_worker(index, socket, limits)?;
        }
        Ok(server)
    }

    fn start_worker(
        &mut self,
        index: usize,
        socket: UdpSocket,
        limits: Limits,
    ) -> Result<(), DnsError> {
        prepare(&socket).map_err(DnsError::Socket)?;
        let (socket, shared) = (Arc::new(socket), Arc::clone(&self.shared));
        // Several agents in one process are told apart in the log by the span they start in.
        let span = tracing::Span::current();
        let thread = thread::Builder::new()
            .name(format!("dns-{index}"))
            .spawn(move || {
                span.in_scope(|| worker::serve(&socket, index, limits.cache_entries, &shared));
            })
            .map_err(DnsError::Thread)?;
        self.workers.push(thread);
        Ok(())
    }

    /// The address on which questions arrive; `None` without any listener.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addr
    }

    /// The counters of the server.
    #[must_use]
    pub fn stats(&self) -> Arc<DnsStats> {
        Arc::clone(&self.shared.stats)
    }

    /// Answers by other settings from now on. Workers drop the answers that they kept.
    pub fn reload(&self, settings: DnsSettings) {
        let settings = without_self(settings, self.local_addr);
        self.shared.settings.store(Arc::new(settings));
    }

    /// Stops, and returns when every thread and task has ended: within a fraction of a second.
    pub async fn shutdown(mut self) {
        self.halt();
        self.tasks.wait().await;
        let workers = std::mem::take(&mut self.workers);
        let joined = tokio::task::spawn_blocking(move || {
            for worker in workers {
                if worker.join().is_err() {
                    tracing::error!("a DNS worker had panicked");
                }
            }
        });
        // Only a runtime that is itself ending refuses the join; then the threads end by their flag.
        drop(joined.await);
    }

    pub(crate) fn halt(&self) {
        self.shared.stop.store(true, Relaxed);
        self.stop.cancel();
        self.tasks.close();
    }
}

impl Drop for Server {
    /// Without [`Server::shutdown`], threads and tasks are told to end and not waited for.
    fn drop(&mut self) {
        self.halt();
    }
}

pub(crate) fn local_addr(listeners: &Listeners) -> io::Result<Option<SocketAddr>> {
    match (listeners.udp.first(), listeners.tcp.first()) {
        (Some(udp), _) => udp.local_addr().map(Some),
        (None, Some(tcp)) => tcp.local_addr().map(Some),
        (None, None) => Ok(None),
    }
}

/// An agent that is its own upstream would ask itself the same question until its limit is reached.
fn without_self(mut settings: DnsSettings, local_addr: Option<SocketAddr>) -> DnsSettings {
    let before = settings.upstreams.len();
    settings.upstreams.retain(|upstream| Some(*upstream) != local_addr);
    if settings.upstreams.len() < before {
        tracing::warn!(?local_addr, "dns.upstreams names this agent itself: left out");
    }
    settings
}

fn prepare(socket: &UdpSocket) -> io::Result<()> {
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(worker::STOP_POLL_INTERVAL))?;
    // The system may grant less; a smaller queue only drops bursts earlier.
    drop(socket2::SockRef::from(socket).set_recv_buffer_size(RECEIVE_BUFFER_OCTETS));
    if socket.local_addr()?.ip().is_unspecified() {
        datagrams::announce_local_address(socket)?;
    }
    Ok(())
}

/// A number that nobody outside can guess: the output of a hash whose key the system drew.
fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}
