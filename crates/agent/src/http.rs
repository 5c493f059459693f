//! The HTTP API: lookups, watches, registrations, state, metrics.
//!
//! Reads are answered from the published view and never ask the driver; writes are commands to the driver
//! and are answered when it acknowledged them. The same routes are served over TCP and over the local
//! socket, with HTTP/1.1 and HTTP/2 (prior knowledge) on each. Errors are always JSON, `{"error", "hint"}`.
//! This is no place for logic: a handler reads its input, asks the view or the driver, and presents the answer.
//!
//! Always holds: a slow client costs one connection's buffers and no queue; every wait has an end;
//! `/api/openapi.json` is made from the very table that routes.

mod agent;
mod authorize;
mod batch;
mod connection;
mod encoded;
mod events;
mod filter;
mod gate;
mod instances;
mod listen;
mod lookup;
mod measure;
mod nodes;
mod preface;
mod present;
mod problem;
mod provider_pages;
mod providers;
mod read;
mod rebinding;
mod services;
mod shed;
mod stall;
mod tls;
mod watch;

#[cfg(test)]
mod tests;

use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dunlin_core::catalog::ServiceView;
use dunlin_core::config::ApiConfig;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::authorize::{Denials, Peer};
use self::connection::Connection;
use self::encoded::{Encoded, Encodings};
use self::filter::Filter;
use self::gate::Gate;
use self::problem::Problem;
use self::provider_pages::ProviderPages;
use crate::Handle;
use crate::access::{Access, Caller};
use crate::observe::Observer;
use crate::shares::Shares;

pub use listen::Server;
pub use tls::{ApiCredentials, ApiTlsError};

/// Octets of a request's body, unless it states a provider's complete set.
const BODY_OCTETS: usize = 1 << 20;
/// Octets of a provider's complete set.
const PROVIDER_BODY_OCTETS: usize = 16 << 20;

/// What the API grants its clients at most.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections over TCP. At the limit, whoever has the most loses the newest to one who has fewer, else
    /// one more is told so and closed. A watch over HTTP/1.1 takes one.
    pub connections: usize,
    /// Of these, one client's.
    pub connections_per_client: usize,
    /// Open connections on the local socket, counted apart so that the network cannot lock out its host.
    pub local_connections: usize,
    /// How long the head of a request may take, and how long a connection may idle between two requests.
    pub idle_timeout: Duration,
    /// How long a request's body may take.
    pub body_timeout: Duration,
    /// Octets of a request's headers together.
    pub header_octets: usize,
    /// How long open requests may take to end once the agent stops.
    pub drain_timeout: Duration,
    /// Time between comments on a watch on which nothing else happens.
    pub keep_alive: Duration,
    /// Bodies read at the same time; further requests wait.
    pub bodies: usize,
    /// Complete sets of providers read and not yet answered; further requests wait.
    pub large_bodies: usize,
    /// How long a request waits while too many other bodies are being read.
    pub queue_timeout: Duration,
    /// Watches and long polls; shared like connections.
    pub watches: usize,
    /// Of these, one client's.
    pub watches_per_client: usize,
    /// Readers of `/api/events`; shared like connections.
    pub event_streams: usize,
    /// How long a client may take nothing of what it is sent, and its host acknowledge nothing.
    pub write_timeout: Duration,
    /// How long TLS may take to come about.
    pub handshake_timeout: Duration,
}

impl Limits {
    /// Those that can be set, as they are set.
    #[must_use]
    pub fn of(config: &ApiConfig) -> Self {
        Self {
            connections_per_client: config.connections_per_client.into(),
            watches_per_client: config.watches_per_client.into(),
            ..Self::default()
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            connections_per_client: 16_384,
            local_connections: 1_024,
            idle_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(30),
            header_octets: 16 << 10,
            drain_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(15),
            bodies: 256,
            large_bodies: 8,
            queue_timeout: Duration::from_secs(5),
            watches: 16_384,
            watches_per_client: 16_384,
            event_streams: 1_024,
            write_timeout: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(10),
        }
    }
}

/// What every handler may use.
#[derive(Debug)]
struct App {
    handle: Handle,
    observer: Arc<Observer>,
    encodings: Arc<Encodings>,
    provider_pages: ProviderPages,
    openapi: Bytes,
    limits: Limits,
    /// Cancelled when the agent stops: watches end and long polls answer.
    closing: CancellationToken,
    bodies: Semaphore,
    large_bodies: Semaphore,
    watches: Arc<Shares>,
    event_streams: Arc<Shares>,
    access: Access,
    denials: Arc<Denials>,
}

/// Where the API is served, and to whom.
#[derive(Debug)]
pub struct Front {
    /// Bound listeners.
    pub tcp: Vec<std::net::TcpListener>,
    /// The local socket.
    pub unix: Option<UnixListener>,
    /// TLS for the former.
    pub credentials: Option<Arc<ApiCredentials>>,
    /// Who may do what.
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
    let Front { tcp, unix, credentials, access } = front;
    let (router, connections) = assemble(handle, observer, &limits, shutdown.clone(), access);
    Server::start((tcp, unix), router, connections, credentials, limits, shutdown)
}

/// The calls with everything around them, and the count of connections to them.
fn assemble(
    handle: Handle,
    observer: Arc<Observer>,
    limits: &Limits,
    closing: CancellationToken,
    access: Access,
) -> (Router, Arc<listen::Connections>) {
    let (router, openapi) = routes().split_for_parts();
    let openapi_json = serde_json::to_vec(&openapi).expect("plain data always encodes");
    let app = Arc::new(App {
        handle,
        observer,
        encodings: Arc::default(),
        provider_pages: ProviderPages::default(),
        openapi: openapi_json.into(),
        closing,
        bodies: Semaphore::new(limits.bodies),
        large_bodies: Semaphore::new(limits.large_bodies),
        watches: Shares::with_most(limits.watches, limits.watches_per_client),
        event_streams: Shares::new(limits.event_streams),
        limits: limits.clone(),
        access,
        denials: Arc::default(),
    });
    let measures = measure::Measures::register(
        &app.observer,
        openapi.paths.paths.keys(),
        limits.header_octets,
    );
    let connections = listen::Connections::register(&app.observer, limits);
    measure::collect(&app);
    let router = router
        .route("/", axum::routing::get(agent::index))
        .fallback(no_such_call)
        .method_not_allowed_fallback(no_such_method)
        .layer(Gate { app: Arc::clone(&app), measures })
        .with_state(app);
    (router, connections)
}

/// A service as JSON, encoded anew, for counting what that costs.
#[doc(hidden)]
#[must_use]
pub fn encode(service: &Arc<ServiceView>) -> Bytes {
    Encoded::new(service, &Filter::default()).json()
}

/// The API for a stream of a fuzz target's, without listeners.
#[derive(Clone)]
pub(crate) struct Unbound {
    connection: Arc<Connection>,
    places: Arc<Shares>,
}

impl Unbound {
    pub(crate) fn new(handle: Handle, closing: CancellationToken) -> Self {
        let observer = Arc::new(Observer::new(Arc::clone(handle.shared())));
        let limits = Limits::default();
        let access = Access::new(&ApiConfig::default(), None, OWN_USER);
        let (router, _) = assemble(handle, observer, &limits, closing, access);
        let connection = Connection::new(router, &limits, CancellationToken::new());
        Self { connection: Arc::new(connection), places: Shares::new(limits.watches) }
    }

    pub(crate) async fn serve<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let peer = Peer(Caller::Local(OWN_USER));
        let place = self.places.take(peer.client()).expect("streams come one after another");
        Arc::clone(&self.connection).serve(stream, peer, &place).await;
    }
}

/// The user that the fuzz targets' agent would run as, and that talks to it.
const OWN_USER: u32 = 0;

#[derive(OpenApi)]
#[openapi(info(
    title = "Dunlin",
    description = "Service discovery: who is where, kept true while machines die."
))]
struct Description;

/// All calls, with their descriptions.
fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(services::list_services))
        .routes(routes!(lookup::lookup_service))
        .routes(routes!(watch::watch_service))
        .routes(routes!(watch::watch_services))
        .routes(routes!(instances::list_instances))
        .routes(routes!(instances::put_instance, instances::delete_instance))
        .routes(routes!(instances::put_maintenance))
        .routes(routes!(instances::put_drain))
        .routes(routes!(instances::put_check))
        .routes(routes!(providers::list_providers))
        .routes(routes!(
            providers::get_provider,
            providers::put_provider,
            providers::delete_provider
        ))
        .routes(routes!(nodes::list_nodes))
        .routes(routes!(nodes::get_node))
        .routes(routes!(nodes::drain_node))
        .routes(routes!(events::follow_events))
        .routes(routes!(agent::status))
        .routes(routes!(agent::healthz))
        .routes(routes!(agent::readyz))
        .routes(routes!(agent::metrics))
        .routes(routes!(services::list_guarded))
        .routes(routes!(services::release_guard))
        .routes(routes!(agent::openapi))
}

async fn no_such_call(method: Method, uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(256).collect();
    Problem::not_found(format!("there is no call {method} {path}"))
        .hint("GET /api/openapi.json lists all calls; GET / tells where to begin")
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(256).collect();
    let error = format!("{path} does not take {method}");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, error).hint("the Allow header lists what it takes")
}

/// An answer with a JSON body.
fn json<T: Serialize>(status: StatusCode, body: &T) -> Response {
    let bytes = serde_json::to_vec(body).expect("plain data always encodes");
    encoded_json(status, bytes.into())
}

/// An answer whose JSON is already there.
fn encoded_json(status: StatusCode, bytes: Bytes) -> Response {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, JSON)], bytes).into_response()
}
