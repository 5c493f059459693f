//! The load: programs that register, change and deregister instances, pushes, provider files that are edited, and
//! servers that come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dunlin_core::health::{CheckKey, CheckOutcome};
use dunlin_core::host::Request;
use dunlin_core::model::{
    CheckId, CheckKind, CheckSpec, CheckStatus, Instance, InstanceFields, InstanceId, Mode,
    NodePhase, ProviderId, ProviderKind, Registration, ServiceName,
};
use dunlin_core::random::Random;

use crate::node::{SimNode, address_of};

/// The two instances that are only ever changed together.
pub(crate) const PAIR: [&str; 2] = ["pair-a", "pair-b"];
/// Instances that clients register on each node at most. The last ones have checks, see [`check_of`].
const INSTANCES: usize = 6;
/// The instance to whose check clients push.
const PUSHED: &str = "api-3";
/// Instances that each node's file may state.
const IN_FILE: usize = 3;
/// An instance that its provider does not state again, so that it goes by itself.
pub(crate) const LEASED: &str = "lease";
const LEASE: Duration = Duration::from_secs(3);

/// Gives each statement its own number.
#[derive(Debug, Default)]
pub(crate) struct Stamps(u64);

impl Stamps {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

#[derive(Debug)]
pub(crate) struct Client {
    /// What each node's file states: it survives whatever happens to the node. `None` while there is no file.
    files: Vec<Option<BTreeMap<InstanceId, Registration>>>,
    /// Servers that do not answer, by node.
    down: BTreeSet<(usize, InstanceId)>,
    /// Time between two requests to the cluster; `None` while there is no load.
    pub(crate) period: Option<Duration>,
    pub(crate) random: Random,
}

impl Client {
    pub(crate) fn new(nodes: usize, seed: u64) -> Self {
        let files = vec![None; nodes];
        Self { files, down: BTreeSet::new(), period: None, random: Random::new(seed) }
    }

    /// What the services folder of a node says when it is read: at a start, and when it changes.
    pub(crate) fn file_request(&self, node: &SimNode) -> Option<Request> {
        let provider = file();
        match &self.files[node.identity.index] {
            Some(file) => {
                let instances = file.values().cloned().collect();
                Some(Request::PutProvider { provider, instances, ttl: None })
            }
            None => {
                let registry = node.host()?.registry();
                let is_known = registry.providers().any(|(known, _)| *known == provider);
                is_known.then_some(Request::RemoveProvider(provider))
            }
        }
    }

    /// A request, at random; `None` for what happens outside the agent.
    pub(crate) fn request(
        &mut self,
        node: &SimNode,
        is_idle: bool,
        stamps: &mut Stamps,
    ) -> Option<Request> {
        let which = instance_id(&format!("api-{}", self.random.below(INSTANCES)));
        let index = node.identity.index;
        Some(match self.random.below(100) {
            0..34 => register(&which, index, stamps),
            34..40 => Request::SetMode(which, Mode::Draining),
            40..44 => Request::SetMode(which, Mode::Active),
            44..54 => Request::Deregister(which),
            // A push takes effect when it comes, before requests that wait: without any the order is plain.
            54..66 if is_idle => push(self.random.below(2) == 0),
            54..78 => pair(index, stamps),
            78..82 => Request::RemoveProvider(set("pair")),
            82..92 => {
                self.edit_file(index, stamps);
                return self.file_request(node);
            }
            92..94 => {
                self.files[index] = None;
                return self.file_request(node);
            }
            94..96 => lease(index, stamps),
            96..97 => {
                let is_draining = self.random.below(2) == 0;
                let phase = if is_draining { NodePhase::Draining } else { NodePhase::Active };
                Request::SetNodePhase(phase)
            }
            _ => {
                let server = (index, which);
                if !self.down.remove(&server) {
                    self.down.insert(server);
                }
                return None;
            }
        })
    }

    fn edit_file(&mut self, node: usize, stamps: &mut Stamps) {
        let id = instance_id(&format!("file-{}", self.random.below(IN_FILE)));
        let is_removed = self.random.below(2) == 0;
        let file = self.files[node].get_or_insert_default();
        if file.remove(&id).is_none() || !is_removed {
            file.insert(id.clone(), registration(&id, node, self::file(), stamps.next(), 100));
        }
    }

    /// Whether a server answers.
    pub(crate) fn is_up(&self, node: usize, instance: &InstanceId) -> bool {
        !self.down.contains(&(node, instance.clone()))
    }

    /// What a check of a server sees.
    pub(crate) fn outcome(&self, node: usize, key: &CheckKey) -> CheckOutcome {
        if self.is_up(node, &key.instance) {
            return CheckOutcome { status: CheckStatus::Passing, output: "connected".to_owned() };
        }
        CheckOutcome { status: CheckStatus::Critical, output: "connection refused".to_owned() }
    }
}

pub(crate) fn instance_id(text: &str) -> InstanceId {
    InstanceId::parse(text).expect("short plain text is an id")
}

fn provider(kind: ProviderKind, name: &str) -> ProviderId {
    ProviderId::new(kind, name).expect("a valid name")
}

fn file() -> ProviderId {
    provider(ProviderKind::File, "services.toml")
}

fn set(name: &str) -> ProviderId {
    provider(ProviderKind::Http, name)
}

/// Registers an instance that clients know by its id.
pub(crate) fn register(id: &InstanceId, node: usize, stamps: &mut Stamps) -> Request {
    let registration = registration(id, node, ProviderId::api(), stamps.next(), 100);
    Request::Register(Box::new(registration))
}

/// The checks of an instance: some have none, one is pushed to, the rest are connected to.
fn check_of(id: &InstanceId) -> Vec<CheckSpec> {
    let check = |id: &str, kind| {
        let id = CheckId::parse(id).expect("short plain text is an id");
        let spec = CheckSpec::with_defaults(id, kind);
        CheckSpec { interval: Duration::from_secs(3), ..spec }
    };
    match id.as_str() {
        PUSHED => vec![check("ttl", CheckKind::Ttl { ttl: Duration::from_secs(3600) })],
        "api-4" | "api-5" => vec![check("tcp", CheckKind::Tcp { target: None })],
        _ => Vec::new(),
    }
}

fn registration(
    id: &InstanceId,
    node: usize,
    provider: ProviderId,
    stamp: u64,
    weight: u16,
) -> Registration {
    let fields = InstanceFields {
        id: id.clone(),
        service: ServiceName::parse("http.api.prod").expect("a valid name"),
        address: address_of(node).ip(),
        port: 8080,
        weight: weight.into(),
        tags: Vec::new(),
        meta: BTreeMap::from([("stamp".to_owned(), stamp.to_string())]),
        provider,
    };
    let instance = Instance::new(fields).expect("all fields are in bounds");
    Registration::new(instance, check_of(id)).expect("few checks with different ids")
}

fn push(is_passing: bool) -> Request {
    Request::PushCheck {
        instance: instance_id(PUSHED),
        check: CheckId::parse("ttl").expect("short plain text is an id"),
        status: if is_passing { CheckStatus::Passing } else { CheckStatus::Critical },
        output: "pushed".to_owned(),
    }
}

/// Two instances of one weight, by which a reader sees that they belong together.
fn pair(node: usize, stamps: &mut Stamps) -> Request {
    let provider = set("pair");
    let weight = u16::try_from(stamps.next() % 60_000).unwrap_or(1);
    let one = |id| registration(&instance_id(id), node, provider.clone(), stamps.next(), weight);
    let instances = PAIR.map(one).into();
    Request::PutProvider { provider, instances, ttl: None }
}

fn lease(node: usize, stamps: &mut Stamps) -> Request {
    let provider = provider(ProviderKind::Run, "job");
    let one = registration(&instance_id(LEASED), node, provider.clone(), stamps.next(), 100);
    Request::PutProvider { provider, instances: vec![one], ttl: Some(LEASE) }
}
