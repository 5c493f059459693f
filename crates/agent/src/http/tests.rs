//! The API over real sockets, with a stand-in for the driver that only keeps a view.

mod access;
mod bad_input;
mod dialect;
mod providers;
mod routes;
mod server;
mod tls;
mod waiting;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use axum::http::{HeaderMap, Method, StatusCode};
use bytes::Bytes;
use dunlin_api as api;
use dunlin_core::catalog::{
    CatalogView, Endpoint, GuardMark, NodeStatus, NodeView, Standing, Topology,
};
use dunlin_core::config::ApiConfig;
use dunlin_core::host::{self, Registry, RequestError};
use dunlin_core::model::{
    CheckRow, CheckStatus, Health, Instance, InstanceFields, InstanceId, Mode, NodeId, NodeName,
    NodePhase, NodeRow, ProviderId, Registration, ServiceName, Timestamp, ZoneName,
    effective_health,
};
use dunlin_core::replica::Departure;
use dunlin_shell::metrics::Observer;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{ApiCredentials, Front, Limits, Server, serve};
use crate::access::Access;
use crate::{Command, Handle, Identity, Reply, Shared};

/// No test waits longer than this for anything.
const DEADLINE: Duration = Duration::from_secs(60);
/// The index that the stand-in begins with: as if the agent had lived before.
const FIRST_INDEX: u64 = 1000;

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("it should have happened by now")
}

fn service(text: &str) -> ServiceName {
    ServiceName::parse(text).unwrap()
}

fn node(name: &str, zone: &str, last: u8) -> NodeView {
    let row = NodeRow {
        name: NodeName::parse(name).unwrap(),
        zone: ZoneName::parse(zone).unwrap(),
        address: IpAddr::from([127, 0, 0, last]),
        serves_dns: true,
        meta: BTreeMap::new(),
        phase: NodePhase::Active,
    };
    NodeView { id: NodeId::from_bytes([last; 16]), row: Arc::new(row), status: NodeStatus::Alive }
}

fn endpoint(node: &NodeView, id: &str, name: &str, health: Health, tags: &[&str]) -> Endpoint {
    let fields = InstanceFields {
        id: InstanceId::parse(id).unwrap(),
        service: service(name),
        address: node.row.address,
        port: 8080,
        weight: 100,
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        meta: BTreeMap::new(),
        provider: ProviderId::api(),
    };
    Endpoint {
        node_id: node.id,
        node: Arc::clone(&node.row),
        instance: Arc::new(Instance::new(fields).unwrap()),
        health,
        checks: Arc::new([]),
        standing: Standing::Regular,
    }
}

/// Stands in for the driver: a view, and what the commands do to it.
struct World {
    shared: Arc<Shared>,
    view: Mutex<CatalogView>,
    registry: Mutex<Registry>,
    /// Sets of the provider `stuck`, which are never answered.
    stuck: Mutex<Vec<Reply>>,
    /// Held by a test that wants no command to be carried out.
    turn: tokio::sync::Mutex<()>,
    own: NodeView,
}

impl World {
    fn new() -> Arc<Self> {
        let own = node("a", "eu1", 1);
        let topology =
            Topology { own_zone: own.row.zone.clone(), nearest_zones: vec![zone("us1")] };
        let mut view = CatalogView::empty(topology, FIRST_INDEX);
        view.set_own_node(own.id);
        view.put_node(own.clone());
        let identity = Identity {
            node_id: own.id,
            node: own.row.name.clone(),
            zone: own.row.zone.clone(),
            domain: "dunlin.internal".to_owned(),
            api: SocketAddr::from((Ipv4Addr::LOCALHOST, 5380)),
            dns: None,
            socket: PathBuf::from("agent.sock"),
            data_dir: PathBuf::from("data"),
            services_dir: PathBuf::from("services.d"),
            started: Instant::now(),
        };
        let published = Arc::new(ArcSwap::from_pointee(view.clone()));
        let shared = Arc::new(Shared::new(identity, published, 1_000));
        Arc::new(Self {
            shared,
            view: Mutex::new(view),
            registry: Mutex::default(),
            stuck: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            own,
        })
    }

    /// Changes services at one new index, publishes, wakes.
    fn change(&self, services: &[&str], change: impl FnOnce(&mut CatalogView)) -> u64 {
        let mut view = self.view.lock().unwrap();
        let index = view.advance();
        change(&mut view);
        self.shared.view.store(Arc::new(view.clone()));
        drop(view);
        let names: Vec<_> = services.iter().map(|name| service(name)).collect();
        self.shared.watchers.wake(&names);
        index
    }

    /// Gives a service these endpoints.
    fn put(&self, name: &str, guard: Option<GuardMark>, endpoints: Vec<Endpoint>) -> u64 {
        self.change(&[name], |view| view.put_service(service(name), guard, endpoints))
    }

    /// Gives a service this many healthy instances on the own node.
    fn put_plain(&self, name: &str, count: usize) -> u64 {
        let one = |n| endpoint(&self.own, &format!("{name}-{n}"), name, Health::Passing, &[]);
        self.put(name, None, (0..count).map(one).collect())
    }

    fn remove(&self, name: &str) -> u64 {
        self.change(&[name], |view| view.remove_service(&service(name)))
    }

    fn event(&self, kind: &str) {
        self.shared.events.push(api::Event {
            id: 0,
            time: Timestamp::default().to_string(),
            kind: kind.to_owned(),
            node: self.own.row.name.to_string(),
            service: None,
            instance: None,
            provider: None,
            reason: "a test said so".to_owned(),
        });
    }

    fn all(&self) -> Vec<Endpoint> {
        let view = self.view.lock().unwrap();
        view.services().flat_map(|s| s.endpoints.iter().cloned()).collect()
    }

    fn find(&self, id: &InstanceId) -> Result<Endpoint, RequestError> {
        let found = self.all().into_iter().find(|e| e.instance.id == *id);
        found.ok_or_else(|| RequestError::NotFound(format!("no instance {id}")))
    }

    fn store(&self, changed: Endpoint) -> host::Answer {
        let name = changed.instance.service.clone();
        let mut all = self.all();
        let before = all.len();
        all.retain(|e| e.instance.id != changed.instance.id);
        let is_new = all.len() == before;
        all.push(changed);
        all.retain(|e| e.instance.service == name);
        self.change(&[name.as_str()], |view| view.put_service(name.clone(), None, all));
        if is_new { host::Answer::Created } else { host::Answer::Done }
    }

    fn register(&self, registration: Registration) -> host::Answer {
        let checks = registration.checks.iter();
        let checks: Arc<[_]> = checks
            .map(|c| (c.id.clone(), Arc::new(CheckRow::unproven(Timestamp::default()))))
            .collect();
        let health = if checks.is_empty() { Health::Passing } else { Health::Critical };
        self.store(Endpoint {
            node_id: self.own.id,
            node: Arc::clone(&self.own.row),
            instance: Arc::new(registration.instance),
            health,
            checks,
            standing: Standing::Regular,
        })
    }

    fn deregister(&self, id: &InstanceId) -> Result<(), RequestError> {
        let gone = self.find(id)?;
        let name = gone.instance.service.clone();
        let mut rest = self.all();
        rest.retain(|e| e.instance.service == name && e.instance.id != *id);
        self.change(&[name.as_str()], |view| {
            if rest.is_empty() {
                view.remove_service(&name);
            } else {
                view.put_service(name.clone(), None, rest);
            }
        });
        Ok(())
    }

    fn set_mode(&self, id: &InstanceId, mode: Mode) -> Result<(), RequestError> {
        let found = self.find(id)?;
        let health = effective_health(&mode, true, found.checks.iter().map(|(_, c)| c.status));
        let instance = Arc::new(Instance::clone(&found.instance).in_mode(mode));
        self.store(Endpoint { instance, health, ..found });
        Ok(())
    }

    fn push(
        &self,
        id: &InstanceId,
        check: &str,
        status: CheckStatus,
        output: &str,
    ) -> Result<(), RequestError> {
        let found = self.find(id)?;
        let Some((check, row)) = found.checks.iter().find(|(c, _)| c.as_str() == check) else {
            return Err(RequestError::NotFound(format!("instance {id} has no check {check}")));
        };
        let row = CheckRow { status, output: output.into(), ..CheckRow::clone(row) };
        let checks: Arc<[_]> = Arc::new([(check.clone(), Arc::new(row))]);
        let health = effective_health(&Mode::Active, true, [status]);
        self.store(Endpoint { checks, health, ..found });
        Ok(())
    }

    fn put_provider(&self, provider: &ProviderId, instances: Vec<Registration>) {
        self.state(|registry| {
            let stated = registry.state(Timestamp::default(), provider, instances.clone(), None);
            stated.expect("a sound set");
        });
        for registration in instances {
            self.register(registration);
        }
    }

    fn remove_provider(&self, provider: &ProviderId) -> Result<(), RequestError> {
        let stated = |registry: &Registry| -> Vec<InstanceId> {
            registry.stated(provider).map(|stated| stated.instance.id.clone()).collect()
        };
        let ids = stated(&self.registry.lock().unwrap());
        let mut result = Ok(Vec::new());
        self.state(|registry| result = registry.remove(provider, Departure::Deregistered));
        result?;
        ids.iter().try_for_each(|id| self.deregister(id))
    }

    /// Changes the registry and publishes it.
    fn state(&self, change: impl FnOnce(&mut Registry)) {
        let mut registry = self.registry.lock().unwrap();
        change(&mut registry);
        self.shared.registry.store(Arc::new(registry.clone()));
    }

    fn release(&self, name: &ServiceName) {
        let endpoints: Vec<_> =
            self.all().into_iter().filter(|e| e.instance.service == *name).collect();
        self.change(&[name.as_str()], |view| view.put_service(name.clone(), None, endpoints));
    }

    fn obey(&self, Command { request, permit: _, reply }: Command) {
        // The engine's own tests tell what a permit allows.
        let done = |()| host::Answer::Done;
        let answer = match request {
            host::Request::Register(registration) => {
                if registration.instance.id.as_str() == "full-disk" {
                    Err(RequestError::Storage("no space left".to_owned()))
                } else {
                    let stated = (*registration).clone();
                    self.state(|registry| {
                        let put =
                            registry.put_one(Timestamp::default(), &ProviderId::api(), stated);
                        // What another provider has is refused by the engine alone.
                        drop(put);
                    });
                    Ok(self.register(*registration))
                }
            }
            host::Request::Deregister(id) => self.deregister(&id).map(done),
            host::Request::SetMode(id, mode) => self.set_mode(&id, mode).map(done),
            host::Request::SetNodePhase(phase) => {
                self.change(&[], |view| {
                    let row = NodeRow { phase, ..(*self.own.row).clone() };
                    view.put_node(NodeView { row: Arc::new(row), ..self.own.clone() });
                });
                Ok(host::Answer::Done)
            }
            host::Request::PushCheck { instance, check, status, output } => {
                self.push(&instance, check.as_str(), status, &output).map(done)
            }
            host::Request::PutProvider { provider, .. } if provider.to_string() == "http:stuck" => {
                return self.stuck.lock().unwrap().push(reply);
            }
            host::Request::PutProvider { provider, instances, ttl: _ } => {
                self.put_provider(&provider, instances);
                Ok(host::Answer::Done)
            }
            host::Request::ProviderFailed { .. } => Ok(host::Answer::Done),
            host::Request::RemoveProvider(id) => self.remove_provider(&id).map(done),
            host::Request::ReleaseGuard(name) => {
                self.release(&name);
                Ok(host::Answer::Done)
            }
        };
        // A client that does not wait for its answer is no concern of this stand-in.
        drop(reply.send(answer));
    }
}

fn zone(text: &str) -> ZoneName {
    ZoneName::parse(text).unwrap()
}

/// The API on a port and a socket of its own, above a [`World`].
struct Fixture {
    world: Arc<World>,
    address: SocketAddr,
    socket: PathBuf,
    server: Server,
    shutdown: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Fixture {
    /// Waits until the metrics hold this line: a connection is counted when it is closed, perhaps a moment later.
    async fn shows_soon(&self, line: &str) {
        let metrics = || async {
            Answer::read(self.send_unix(request(Method::GET, "/metrics", "")).await).await
        };
        soon(async {
            while !metrics().await.text().contains(line) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    fn start() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        Self::guarded(limits, Access::new(&ApiConfig::default(), None, 0))
    }

    fn guarded(limits: Limits, access: Access) -> Self {
        Self::fronted(limits, access, None)
    }

    fn fronted(limits: Limits, access: Access, credentials: Option<Arc<ApiCredentials>>) -> Self {
        Self::served_by(serve, limits, access, credentials)
    }

    fn served_by(
        serve: impl FnOnce(
            Front,
            Handle,
            Arc<Observer>,
            Limits,
            CancellationToken,
        ) -> std::io::Result<Server>,
        limits: Limits,
        access: Access,
        credentials: Option<Arc<ApiCredentials>>,
    ) -> Self {
        let world = World::new();
        let (commands, mut queue) = mpsc::channel(64);
        let driver = Arc::clone(&world);
        tokio::spawn(async move {
            while let Some(command) = queue.recv().await {
                let _turn = driver.turn.lock().await;
                driver.obey(command);
            }
        });
        let handle = Handle::new(commands, Arc::clone(&world.shared));
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("agent.sock");
        let tcp = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let unix = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let address = tcp.local_addr().unwrap();
        let observer = Arc::new(crate::observe::observer(Arc::clone(&world.shared)));
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let (tcp, unix) = (vec![tcp], Some(unix));
        let front = Front { tcp, unix, credentials, access };
        let server = serve(front, handle, observer, limits, stop).unwrap();
        Self { world, address, socket, server, shutdown, _folder: folder }
    }

    /// Sends one request on a connection of its own.
    async fn send(&self, request: hyper::Request<Full<Bytes>>) -> hyper::Response<Incoming> {
        let stream = soon(TcpStream::connect(self.address)).await.unwrap();
        send_over(TokioIo::new(stream), request).await
    }

    async fn send_unix(&self, request: hyper::Request<Full<Bytes>>) -> hyper::Response<Incoming> {
        let stream = soon(UnixStream::connect(&self.socket)).await.unwrap();
        send_over(TokioIo::new(stream), request).await
    }

    async fn call(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Answer {
        Answer::read(self.send(request(method, path, body)).await).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, "").await
    }

    async fn put(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.call(Method::PUT, path, body).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, "").await
    }

    /// Opens a stream of events, after the event with this id.
    async fn events(&self, path: &str, after: Option<u64>) -> Events {
        let mut request = request(Method::GET, path, "");
        if let Some(after) = after {
            request.headers_mut().insert("last-event-id", after.into());
        }
        let response = self.send(request).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Events { body: response.into_body(), text: String::new() }
    }
}

fn request(method: Method, path: &str, body: impl Into<Bytes>) -> hyper::Request<Full<Bytes>> {
    let request = hyper::Request::builder().method(method).uri(path).header("host", "dunlin");
    request.body(Full::new(body.into())).unwrap()
}

async fn send_over<S>(
    stream: TokioIo<S>,
    request: hyper::Request<Full<Bytes>>,
) -> hyper::Response<Incoming>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        soon(hyper::client::conn::http1::handshake(stream)).await.unwrap();
    // Ends when both sides are done with it.
    tokio::spawn(connection);
    soon(sender.send_request(request)).await.unwrap()
}

/// A whole answer.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    async fn read(response: hyper::Response<Incoming>) -> Self {
        let (parts, body) = response.into_parts();
        let body = soon(body.collect()).await.unwrap().to_bytes();
        Self { status: parts.status, headers: parts.headers, body }
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn ids(&self) -> Vec<String> {
        ids(&self.json())
    }

    /// Asserts that this is an error which says this, in the form all errors have.
    fn assert_error(&self, status: u16, says: &str) {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        assert_eq!(self.headers["content-type"], "application/json");
        let error: api::Error = serde_json::from_slice(&self.body).unwrap();
        assert!(error.error.contains(says), "{says:?} is not in {:?}", error.error);
    }
}

/// The instances of a service.
fn ids(service: &Value) -> Vec<String> {
    let instances = service["instances"].as_array().unwrap();
    instances.iter().map(|i| i["id"].as_str().unwrap().to_owned()).collect()
}

/// An open stream of events.
struct Events {
    body: Incoming,
    text: String,
}

#[derive(Debug)]
struct Event {
    id: Option<u64>,
    name: String,
    data: Value,
}

impl Events {
    /// The next event; none when the stream has ended as it should.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(at) = self.text.find("\n\n") {
                let block: String = self.text.drain(..at + 2).collect();
                if !block.starts_with(':') {
                    return Some(Event::parse(&block));
                }
                continue;
            }
            let frame = soon(self.body.frame()).await?.expect("the stream ends cleanly");
            self.text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    }

    async fn expect(&mut self, name: &str) -> Event {
        let event = self.next().await.expect("another event");
        assert_eq!(event.name, name, "{event:?}");
        event
    }
}

impl Event {
    fn parse(block: &str) -> Self {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
        Self {
            id: field("id: ").map(|id| id.parse().unwrap()),
            name: field("event: ").unwrap().to_owned(),
            data: serde_json::from_str(field("data: ").unwrap()).unwrap(),
        }
    }

    fn ids(&self) -> Vec<String> {
        ids(&self.data)
    }
}
