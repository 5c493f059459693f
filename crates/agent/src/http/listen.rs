//! Takes connections: accepts them up to a limit, hands each to its own task, and ends all of them.

use std::io;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Limits;
use super::connection::Connection;
use crate::observe::{Collect, Metric, Observer, Sink, number};

/// Rest after a failed accept. Most often the process is out of file descriptors, and trying again at
/// once would only burn a processor until one is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Told to whoever comes when all places are taken.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
connection: close\r\nretry-after: 1\r\ncontent-length: 109\r\n\r\n\
{\"error\":\"the agent has too many open connections\",\"hint\":\"close watches that nobody reads, then try again\"}\n";

/// How many connections there are, and may be.
#[derive(Debug)]
pub(super) struct Connections {
    tcp: Places,
    unix: Places,
}

#[derive(Debug)]
struct Places {
    free: Arc<Semaphore>,
    all: usize,
    refused: AtomicU64,
}

impl Places {
    fn new(all: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(all)), all, refused: AtomicU64::new(0) }
    }
}

impl Connections {
    /// As many as the limits say, shown in the metrics.
    pub(super) fn register(observer: &Observer, limits: &Limits) -> Arc<Self> {
        let (tcp, unix) = (Places::new(limits.connections), Places::new(limits.local_connections));
        let connections = Arc::new(Self { tcp, unix });
        observer.collect(Shown(Arc::clone(&connections)));
        connections
    }
}

#[derive(Debug)]
struct Shown(Arc<Connections>);

impl Collect for Shown {
    fn collect(&self, sink: &mut Sink<'_>) {
        let all = [("tcp", &self.0.tcp), ("unix", &self.0.unix)];
        let open = Metric::gauge("http_connections", "Open connections, by transport");
        let count = |p: &Places| number((p.all - p.free.available_permits()) as u64);
        sink.values(&open, all.map(|(name, places)| ([("transport", name)], count(places))));
        let refused =
            Metric::counter("http_connections_refused", "Connections refused at the limit");
        let count = |p: &Places| number(p.refused.load(Ordering::Relaxed));
        sink.values(&refused, all.map(|(name, places)| ([("transport", name)], count(places))));
    }
}

/// The running API.
#[derive(Debug)]
pub struct Server {
    supervisor: JoinHandle<()>,
    abort: CancellationToken,
}

impl Server {
    /// Waits until the API has stopped: after `shutdown` was cancelled and open requests ended, at the latest
    /// after the drain timeout.
    pub async fn stopped(self) {
        if let Err(error) = self.supervisor.await {
            tracing::error!(%error, "the API ended by a panic");
        }
    }

    /// Ends open requests without an answer. `shutdown` still has to be cancelled.
    pub fn cut_off(&self) {
        self.abort.cancel();
    }

    pub(super) fn start(
        tcp: Vec<std::net::TcpListener>,
        unix: Option<StdUnixListener>,
        router: Router,
        connections: Arc<Connections>,
        limits: Limits,
        shutdown: CancellationToken,
    ) -> io::Result<Self> {
        let mut tcp_listeners = Vec::with_capacity(tcp.len());
        for listener in tcp {
            listener.set_nonblocking(true)?;
            tcp_listeners.push(TcpListener::from_std(listener)?);
        }
        let unix = unix.map(|listener| {
            listener.set_nonblocking(true)?;
            UnixListener::from_std(listener)
        });
        let unix = unix.transpose()?;
        let tasks = TaskTracker::new();
        let drain_timeout = limits.drain_timeout;
        let acceptor = Acceptor {
            connection: Arc::new(Connection::new(router, &limits, shutdown.clone())),
            tasks: tasks.clone(),
            connections,
        };
        for listener in tcp_listeners {
            tasks.spawn(acceptor.clone().accept_tcp(listener));
        }
        if let Some(listener) = unix {
            tasks.spawn(acceptor.clone().accept_unix(listener));
        }
        let abort = acceptor.connection.abort.clone();
        let cut_off = abort.clone();
        let supervisor = tokio::spawn(async move {
            shutdown.cancelled().await;
            tasks.close();
            if timeout(drain_timeout, tasks.wait()).await.is_err() {
                tracing::warn!(left = tasks.len(), "requests did not end in time and are cut off");
                cut_off.cancel();
                tasks.wait().await;
            }
        });
        Ok(Self { supervisor, abort })
    }
}

#[derive(Clone)]
struct Acceptor {
    connection: Arc<Connection>,
    tasks: TaskTracker,
    connections: Arc<Connections>,
}

impl Acceptor {
    async fn accept_tcp(self, listener: TcpListener) {
        while let Some(stream) = self.next(|| listener.accept()).await {
            // Answers are written whole; waiting for more to fill a packet would only delay them.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "a connection ended before it began");
                continue;
            }
            self.place(&self.connections.tcp, stream).await;
        }
    }

    async fn accept_unix(self, listener: UnixListener) {
        while let Some(stream) = self.next(|| listener.accept()).await {
            self.place(&self.connections.unix, stream).await;
        }
    }

    /// The next connection; none when the agent stops.
    async fn next<S, A, F>(&self, accept: impl Fn() -> F) -> Option<S>
    where
        F: Future<Output = io::Result<(S, A)>>,
    {
        loop {
            let accepted = tokio::select! {
                () = self.connection.shutdown.cancelled() => return None,
                accepted = accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => return Some(stream),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn place<S>(&self, places: &Places, mut stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match Arc::clone(&places.free).try_acquire_owned() {
            Ok(permit) => {
                // In a box of its own: within the task it would take its room twice, where it is made and where
                // it is waited for, and there may be many thousands.
                let serving = Box::pin(Arc::clone(&self.connection).serve(stream));
                self.tasks.spawn(async move {
                    serving.await;
                    drop(permit);
                });
            }
            Err(_) => {
                places.refused.fetch_add(1, Ordering::Relaxed);
                // A fresh socket's buffer takes this at once. If not, the client learns nothing.
                let _ = timeout(Duration::from_millis(10), stream.write_all(FULL)).await;
            }
        }
    }
}
