//! Listening: accepts connections up to a limit that clients share, does the TLS handshake if there is to be one,
//! hands each connection to a task of its own, and ends all of them.
//!
//! What is spoken on a connection is the business of a [`Serve`]; this module knows no protocol above TLS.

mod admission;
mod shed;

use std::io;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::tls::ServerCredentials;
use crate::{Origin, Slot, WriteTimeout};

pub use admission::{Admission, AdmissionLimits, AdmissionMetrics};
pub use shed::Shed;

/// Rest after a failed accept. Most often the process is out of file descriptors, and trying again at
/// once would only burn a processor until one is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long the refusal of a connection may take to be written. A fresh socket's buffer takes it at once.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(10);

/// The silence after which a client's host is asked whether it is still there.
const KEEPALIVE_DELAY: Duration = Duration::from_secs(30);
/// The time between two such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// The number of unanswered questions that ends a connection.
const MAX_KEEPALIVE_PROBES: u32 = 3;

/// Serves connections of one protocol.
pub trait Serve: Send + Sync + 'static {
    /// The octets that are sent to a client that is refused since all slots are taken, before the connection is
    /// closed. A client that expects TLS is sent nothing.
    fn refusal(&self) -> &[u8];

    /// Serves one connection until either side ends it, or its slot is lost. Returns the reason, unless the client
    /// ended it.
    fn serve<S>(
        self: Arc<Self>,
        stream: S,
        origin: Origin,
        slot: &Slot,
    ) -> impl Future<Output = Option<Shed>> + Send
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static;
}

/// The signals at which connections end.
#[derive(Debug, Clone)]
pub struct Ending {
    /// When it is cancelled, no new connection is taken, and open ones end as soon as their protocol allows.
    pub shutdown: CancellationToken,
    /// When it is cancelled, open connections are closed at once.
    pub abort: CancellationToken,
}

impl Ending {
    /// The end in good order comes when this token is cancelled.
    #[must_use]
    pub fn new(shutdown: CancellationToken) -> Self {
        Self { shutdown, abort: CancellationToken::new() }
    }
}

/// Listeners that are bound. They are set to non-blocking when they are served.
#[derive(Debug)]
pub struct Listeners {
    /// Listeners for the network.
    pub tcp: Vec<std::net::TcpListener>,
    /// The socket for this host.
    pub local: Option<StdUnixListener>,
    /// The certificate for the TCP listeners; without one, they speak no TLS.
    pub credentials: Option<Arc<ServerCredentials>>,
}

/// How long a server waits for its clients.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// How long a client may read nothing of what it is sent, or its host acknowledge nothing.
    pub write: Duration,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How long open requests may take to end at a shutdown.
    pub drain: Duration,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    supervisor: JoinHandle<()>,
    abort: CancellationToken,
}

impl Server {
    /// Serves until `ending.shutdown` is cancelled. Call it within a tokio runtime.
    ///
    /// # Errors
    /// When a listener cannot be given to the runtime.
    pub fn start<P: Serve>(
        listeners: Listeners,
        protocol: Arc<P>,
        admission: Arc<Admission>,
        timeouts: Timeouts,
        ending: Ending,
    ) -> io::Result<Self> {
        let Listeners { tcp, local, credentials } = listeners;
        let (tcp, local) = to_async(tcp, local)?;
        let tasks = TaskTracker::new();
        let Ending { shutdown, abort } = ending;
        let acceptor = Arc::new(Acceptor {
            protocol,
            tasks: tasks.clone(),
            admission,
            credentials,
            timeouts,
            shutdown: shutdown.clone(),
        });
        for listener in tcp {
            tasks.spawn(Arc::clone(&acceptor).accept_tcp(listener));
        }
        if let Some(listener) = local {
            tasks.spawn(acceptor.accept_local(listener));
        }
        let supervisor = tokio::spawn(supervise(
            tasks,
            timeouts.drain,
            Ending { shutdown, abort: abort.clone() },
        ));
        Ok(Self { supervisor, abort })
    }

    /// Waits until the server has stopped: after the shutdown and the end of open requests, at the latest after the
    /// drain timeout.
    pub async fn stopped(self) {
        if let Err(error) = self.supervisor.await {
            tracing::error!(%error, "a server ended by a panic");
        }
    }

    /// A function that ends open requests without an answer. The shutdown still has to be asked for.
    pub fn cut_off(&self) -> impl Fn() + Send + Sync + use<> {
        let abort = self.abort.clone();
        move || abort.cancel()
    }
}

/// Waits for all connections to end, and cuts them off if they take too long.
async fn supervise(tasks: TaskTracker, drain_timeout: Duration, ending: Ending) {
    ending.shutdown.cancelled().await;
    tasks.close();
    if timeout(drain_timeout, tasks.wait()).await.is_err() {
        tracing::warn!(left = tasks.len(), "requests did not end in time and are cut off");
        ending.abort.cancel();
        tasks.wait().await;
    }
}

/// The listeners as the runtime's.
fn to_async(
    tcp: Vec<std::net::TcpListener>,
    local: Option<StdUnixListener>,
) -> io::Result<(Vec<TcpListener>, Option<UnixListener>)> {
    let mut listeners = Vec::with_capacity(tcp.len());
    for listener in tcp {
        listener.set_nonblocking(true)?;
        listeners.push(TcpListener::from_std(listener)?);
    }
    let local = local.map(|listener| {
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    });
    Ok((listeners, local.transpose()?))
}

struct Acceptor<P> {
    protocol: Arc<P>,
    tasks: TaskTracker,
    admission: Arc<Admission>,
    credentials: Option<Arc<ServerCredentials>>,
    timeouts: Timeouts,
    shutdown: CancellationToken,
}

impl<P: Serve> Acceptor<P> {
    async fn accept_tcp(self: Arc<Self>, listener: TcpListener) {
        while let Some((stream, address)) = self.next(|| listener.accept()).await {
            if let Err(error) = watch_over(&stream, self.timeouts.write) {
                tracing::debug!(%error, "a connection ended before it began");
                continue;
            }
            self.admit(stream, Origin::Remote(address)).await;
        }
    }

    async fn accept_local(self: Arc<Self>, listener: UnixListener) {
        while let Some((stream, _)) = self.next(|| listener.accept()).await {
            match stream.peer_cred() {
                Ok(user) => self.admit(stream, Origin::Local(user.uid())).await,
                Err(error) => tracing::warn!(%error, "the system does not say who connected"),
            }
        }
    }

    /// The next connection; `None` at the shutdown.
    async fn next<S, A, F>(&self, accept: impl Fn() -> F) -> Option<(S, A)>
    where
        F: Future<Output = io::Result<(S, A)>>,
    {
        loop {
            let accepted = tokio::select! {
                () = self.shutdown.cancelled() => return None,
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

    fn tls_for(&self, origin: Origin) -> Option<&Arc<ServerCredentials>> {
        self.credentials.as_ref().filter(|_| matches!(origin, Origin::Remote(_)))
    }

    async fn admit<S>(self: &Arc<Self>, mut stream: S, origin: Origin)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some(slot) = self.admission.admit(origin) else {
            // If the buffer does not take it, the client learns nothing; nor does one that expects TLS, which takes
            // more than one message.
            if self.tls_for(origin).is_none() {
                let refusal = stream.write_all(self.protocol.refusal());
                let _ = timeout(REFUSAL_TIMEOUT, refusal).await;
            }
            return;
        };
        let acceptor = Arc::clone(self);
        self.tasks.spawn(async move {
            if let Some(shed) = acceptor.serve(stream, origin, &slot).await {
                acceptor.admission.count(shed);
            }
        });
    }

    async fn serve<S>(&self, stream: S, origin: Origin, slot: &Slot) -> Option<Shed>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = WriteTimeout::new(stream, self.timeouts.write);
        let protocol = Arc::clone(&self.protocol);
        let Some(credentials) = self.tls_for(origin) else {
            // Boxed, since the task would otherwise hold room for the future twice, where it is made and where it is
            // awaited, and there may be many thousands of connections.
            return Box::pin(protocol.serve(stream, origin, slot)).await;
        };
        let acceptor = credentials.current().acceptor();
        let accepted = tokio::select! {
            accepted = timeout(self.timeouts.handshake, acceptor.accept(stream)) => accepted,
            () = slot.lost() => return Some(Shed::Crowded),
            () = self.shutdown.cancelled() => return None,
        };
        match accepted {
            Ok(Ok(stream)) => Box::pin(protocol.serve(stream, origin, slot)).await,
            Ok(Err(error)) => {
                tracing::debug!(%error, ?origin, "a TLS handshake failed");
                Some(Shed::Handshake)
            }
            Err(_) => Some(Shed::Handshake),
        }
    }
}

/// Makes the kernel notice a host that has vanished: the connection ends when octets stay unacknowledged for as long as
/// a write may take, or when keepalive probes are not answered while nothing is sent.
fn watch_over(stream: &TcpStream, write_timeout: Duration) -> io::Result<()> {
    // Answers are written whole; waiting for more to fill a packet would only delay them.
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(write_timeout))?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_DELAY)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(MAX_KEEPALIVE_PROBES),
    )
}

#[cfg(test)]
mod tests;
