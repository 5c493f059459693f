//! The HTTP API: lookups, watches, registrations, state, metrics.
//!
//! `server` is the machinery that all calls share: connections, the gate in front of each call, rights, measures,
//! bodies. `native` is Dunlin's own API. A dialect adds routes, each behind the gate with a declaration of what it
//! needs (`server::Call`), and costs no line in `server`. The same routes are served over TCP and over the local
//! socket, with HTTP/1.1 and HTTP/2 (prior knowledge) on each.
//!
//! Always holds: a slow client costs one connection's buffers and no queue; every wait has an end.

mod limits;
mod native;
mod server;
mod tls;
mod unbound;

#[cfg(test)]
mod tests;

use std::os::unix::net::UnixListener;
use std::sync::Arc;

use axum::Router;
use dunlin_shell::listen::{
    Admission, AdmissionLimits, AdmissionMetrics, Ending, Listeners, Timeouts,
};
use dunlin_shell::metrics::{Metric, Observer};
use tokio_util::sync::CancellationToken;

use self::server::{Connection, Gate, OwnNames};
use crate::Handle;
use crate::access::Access;

pub use self::limits::Limits;
#[doc(hidden)]
pub use self::native::encode;
pub use self::tls::{ApiCredentials, ApiTlsError};
pub(crate) use self::unbound::Unbound;
pub use dunlin_shell::listen::Server;

/// Where the API is served, and by which rules.
#[derive(Debug)]
pub struct Front {
    /// Bound listeners for TCP.
    pub tcp: Vec<std::net::TcpListener>,
    /// The local socket.
    pub unix: Option<UnixListener>,
    /// The certificate with which these listeners speak TLS; without one they speak plain HTTP.
    pub credentials: Option<Arc<ApiCredentials>>,
    /// What callers may do.
    pub access: Access,
}

/// Serves the API until `shutdown` is cancelled. Call it within a tokio runtime.
///
/// The listeners are set to non-blocking. The metrics of the API join `observer`'s, which `/metrics` shows.
///
/// # Errors
/// When a listener cannot be given to the runtime.
pub fn serve(
    front: Front,
    handle: Handle,
    observer: Arc<Observer>,
    limits: Limits,
    shutdown: CancellationToken,
) -> std::io::Result<Server> {
    let gate = gate(&handle, &observer, &limits, front.access.clone());
    let router = native::router(&gate, handle, Arc::clone(&observer), &limits, shutdown.clone());
    start(front, router, &observer, &limits, Ending::new(shutdown))
}

/// The gate for all calls, of whatever dialect.
fn gate(handle: &Handle, observer: &Observer, limits: &Limits, access: Access) -> Gate {
    let identity = &handle.shared().identity;
    let names = OwnNames::new(identity.domain.clone(), identity.api);
    Gate::new(observer, access, names, limits.header_octets)
}

/// Serves the calls of a router.
fn start(
    front: Front,
    router: Router,
    observer: &Observer,
    limits: &Limits,
    ending: Ending,
) -> std::io::Result<Server> {
    let Front { tcp, unix, credentials, access: _ } = front;
    let admission = Admission::register(observer, limits.admission(), connection_metrics());
    let connection = Connection::new(router, limits, ending.clone(), native::FULL);
    let credentials = credentials.map(|c| Arc::clone(c.server()));
    let listeners = Listeners { tcp, local: unix, credentials };
    Server::start(listeners, Arc::new(connection), admission, limits.timeouts(), ending)
}

fn connection_metrics() -> AdmissionMetrics {
    AdmissionMetrics {
        open: Metric::gauge("http_connections", "Open connections, by transport"),
        refused: Metric::counter("http_connections_refused", "Connections refused at the limit"),
        shed: Metric::counter("http_connections_shed", "Connections ended by the agent"),
    }
}

impl Limits {
    fn admission(&self) -> AdmissionLimits {
        AdmissionLimits {
            max_tcp: self.connections,
            max_tcp_per_client: self.connections_per_client,
            max_local: self.local_connections,
        }
    }

    fn timeouts(&self) -> Timeouts {
        Timeouts {
            write: self.write_timeout,
            handshake: self.handshake_timeout,
            drain: self.drain_timeout,
        }
    }
}
