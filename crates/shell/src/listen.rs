//! Takes connections: accepts them up to a limit that clients share, hands each to its own task, and ends
//! all of them.

use std::io;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Limits;
use super::authorize::Peer;
use super::connection::Connection;
use super::shed::{Shed, Sheds, ShownSheds};
use super::stall::Impatient;
use super::tls::ApiCredentials;
use crate::access::Caller;
use crate::observe::{Collect, Metric, Observer, Sink, number};
use crate::shares::{Place, Shares};

/// Rest after a failed accept. Most often the process is out of file descriptors, and trying again at
/// once would only burn a processor until one is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// After which silence, how often, and how many times at most a client's host is asked whether it is still
/// there.
const PROBE_AFTER: Duration = Duration::from_secs(30);
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
const PROBES: u32 = 3;

/// Told to whoever comes when all places are taken.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
connection: close\r\nretry-after: 1\r\ncontent-length: 109\r\n\r\n\
{\"error\":\"the agent has too many open connections\",\"hint\":\"close watches that nobody reads, then try again\"}\n";

/// How many connections there are, and may be.
#[derive(Debug)]
pub(super) struct Connections {
    tcp: Arc<Shares>,
    unix: Arc<Shares>,
    sheds: Arc<Sheds>,
}

impl Connections {
    /// As many as the limits say, shown in the metrics.
    pub(super) fn register(observer: &Observer, limits: &Limits) -> Arc<Self> {
        let tcp = Shares::with_most(limits.connections, limits.connections_per_client);
        let unix = Shares::new(limits.local_connections);
        let sheds = Arc::new(Sheds::default());
        observer.collect(ShownSheds(Arc::clone(&sheds)));
        let connections = Arc::new(Self { tcp, unix, sheds });
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
        let count = |shares: &Shares| number(shares.taken() as u64);
        sink.values(&open, all.map(|(name, shares)| ([("transport", name)], count(shares))));
        let refused =
            Metric::counter("http_connections_refused", "Connections refused at the limit");
        let count = |shares: &Shares| number(shares.refused());
        sink.values(&refused, all.map(|(name, shares)| ([("transport", name)], count(shares))));
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
        (tcp, unix): (Vec<std::net::TcpListener>, Option<StdUnixListener>),
        router: Router,
        connections: Arc<Connections>,
        credentials: Option<Arc<ApiCredentials>>,
        limits: Limits,
        shutdown: CancellationToken,
    ) -> io::Result<Self> {
        let (tcp_listeners, unix) = to_async(tcp, unix)?;
        let tasks = TaskTracker::new();
        let drain_timeout = limits.drain_timeout;
        let acceptor = Acceptor {
            connection: Arc::new(Connection::new(router, &limits, shutdown.clone())),
            tasks: tasks.clone(),
            connections,
            credentials,
            write_timeout: limits.write_timeout,
            handshake_timeout: limits.handshake_timeout,
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

/// Listeners of the runtime.
fn to_async(
    tcp: Vec<std::net::TcpListener>,
    unix: Option<StdUnixListener>,
) -> io::Result<(Vec<TcpListener>, Option<UnixListener>)> {
    let mut listeners = Vec::with_capacity(tcp.len());
    for listener in tcp {
        listener.set_nonblocking(true)?;
        listeners.push(TcpListener::from_std(listener)?);
    }
    let unix = unix.map(|listener| {
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    });
    Ok((listeners, unix.transpose()?))
}

#[derive(Clone)]
struct Acceptor {
    connection: Arc<Connection>,
    tasks: TaskTracker,
    connections: Arc<Connections>,
    credentials: Option<Arc<ApiCredentials>>,
    write_timeout: Duration,
    handshake_timeout: Duration,
}

impl Acceptor {
    async fn accept_tcp(self, listener: TcpListener) {
        while let Some((stream, address)) = self.next(|| listener.accept()).await {
            if let Err(error) = watch_over(&stream, self.write_timeout) {
                tracing::debug!(%error, "a connection ended before it began");
                continue;
            }
            self.place(&self.connections.tcp, stream, Peer(Caller::Remote(address))).await;
        }
    }

    async fn accept_unix(self, listener: UnixListener) {
        while let Some((stream, _)) = self.next(|| listener.accept()).await {
            match stream.peer_cred() {
                Ok(user) => {
                    let peer = Peer(Caller::Local(user.uid()));
                    self.place(&self.connections.unix, stream, peer).await;
                }
                Err(error) => tracing::warn!(%error, "the system does not say who connected"),
            }
        }
    }

    /// The next connection; none when the agent stops.
    async fn next<S, A, F>(&self, accept: impl Fn() -> F) -> Option<(S, A)>
    where
        F: Future<Output = io::Result<(S, A)>>,
    {
        loop {
            let accepted = tokio::select! {
                () = self.connection.shutdown.cancelled() => return None,
                accepted = accept() => accepted,
            };
            match accepted {
                Ok(accepted) => return Some(accepted),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn place<S>(&self, shares: &Arc<Shares>, mut stream: S, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some(place) = shares.take(peer.client()) else {
            // A fresh socket's buffer takes this at once. If not, the client learns nothing; nor does one
            // that wants TLS, which takes more than one word.
            if self.credentials.is_none() || matches!(peer.0, Caller::Local(_)) {
                let _ = timeout(Duration::from_millis(10), stream.write_all(FULL)).await;
            }
            return;
        };
        let acceptor = self.clone();
        self.tasks.spawn(async move {
            if let Some(shed) = acceptor.serve(stream, peer, &place).await {
                acceptor.connections.sheds.count(shed);
            }
        });
    }

    async fn serve<S>(&self, stream: S, peer: Peer, place: &Place) -> Option<Shed>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = Impatient::new(stream, self.write_timeout);
        let tls = self.credentials.as_ref().filter(|_| matches!(peer.0, Caller::Remote(_)));
        let Some(credentials) = tls else {
            // In a box of its own: within the task it would take its room twice, where it is made and where it is
            // waited for, and there may be many thousands.
            return Box::pin(self.connection.clone().serve(stream, peer, place)).await;
        };
        let handshake = timeout(self.handshake_timeout, credentials.acceptor().accept(stream));
        let accepted = tokio::select! {
            accepted = handshake => accepted,
            () = place.lost() => return Some(Shed::Crowded),
            () = self.connection.shutdown.cancelled() => return None,
        };
        match accepted {
            Ok(Ok(stream)) => Box::pin(self.connection.clone().serve(stream, peer, place)).await,
            Ok(Err(error)) => {
                tracing::debug!(%error, ?peer, "no TLS with a client of the API");
                Some(Shed::Handshake)
            }
            Err(_) => Some(Shed::Handshake),
        }
    }
}

/// Has the kernel find out when the other end is gone without a word: what it leaves unacknowledged for as
/// long as a write may take ends the connection, and so does silence to probes while nothing is sent.
fn watch_over(stream: &TcpStream, patience: Duration) -> io::Result<()> {
    // Answers are written whole; waiting for more to fill a packet would only delay them.
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(patience))?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(PROBE_AFTER)
            .with_interval(PROBE_INTERVAL)
            .with_retries(PROBES),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_kernel_is_told_to_give_up_on_hosts_that_are_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        watch_over(&stream, Duration::from_secs(20)).unwrap();
        let socket = SockRef::from(&stream);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(20)));
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), PROBE_AFTER);
    }
}
