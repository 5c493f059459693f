//! The load: programs that register, change and deregister instances, checks that fail, files that are edited.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use dunlin_core::model::{
    CheckId, CheckRow, CheckStatus, Instance, InstanceFields, InstanceId, Mode, NodePhase, NodeRow,
    ProviderId, ProviderKind, ServiceName, Timestamp,
};
use dunlin_core::random::Random;
use dunlin_core::replica::{Change, Departure, Row, RowKey, RowState};

use crate::invariants::Violation;
use crate::node::{Condition, SimNode};
use crate::world::{Event, World};

/// The two instances that are only ever changed together.
pub(crate) const PAIR: [&str; 2] = ["pair-a", "pair-b"];
/// Instances that clients register on each node at most.
const INSTANCES: usize = 6;
/// Instances that each node's file may state.
const IN_FILE: usize = 3;

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
    /// What each node's file states: it survives whatever happens to the node.
    files: Vec<BTreeMap<InstanceId, RowState>>,
    /// Time between two requests to the cluster; none while there is no load.
    pub(crate) period: Option<Duration>,
    pub(crate) random: Random,
}

impl Client {
    pub(crate) fn new(nodes: usize, seed: u64) -> Self {
        let files = vec![BTreeMap::new(); nodes];
        Self { files, period: None, random: Random::new(seed) }
    }

    /// What a node states when it starts: itself, and what its file says.
    pub(crate) fn statement(&self, node: &SimNode, stamps: &mut Stamps) -> Vec<Change> {
        let mut changes = vec![node_row(node, NodePhase::Active, stamps)];
        let files = &self.files[node.identity.index];
        for (id, state) in files {
            changes.push(Change { key: RowKey::Instance(id.clone()), state: state.clone() });
        }
        for key in node.shown.get(&node.identity.id).into_iter().flatten().map(|(key, _)| key) {
            if let RowKey::Instance(id) = key
                && id.as_str().starts_with("file-")
                && !files.contains_key(id)
            {
                changes.push(gone(key.clone(), Departure::Dropped));
            }
        }
        changes
    }

    /// A request, at random.
    fn request(&mut self, node: &SimNode, at: Timestamp, stamps: &mut Stamps) -> Vec<Change> {
        let which = instance_id(&format!("api-{}", self.random.below(INSTANCES)));
        match self.random.below(100) {
            0..40 => vec![instance(&which, ProviderId::api(), Mode::Active, stamps)],
            40..50 => vec![instance(&which, ProviderId::api(), Mode::Draining, stamps)],
            50..60 => vec![
                gone(check_key(&which), Departure::Deregistered),
                gone(RowKey::Instance(which), Departure::Deregistered),
            ],
            60..72 => {
                let is_passing = self.random.below(2) == 0;
                vec![check(&which, is_passing, at, stamps)]
            }
            72..84 => pair(stamps),
            84..88 => PAIR
                .map(|id| gone(RowKey::Instance(instance_id(id)), Departure::Deregistered))
                .into(),
            88..99 => vec![self.edit_file(node.identity.index, stamps)],
            _ => {
                let shown = node.shown.get(&node.identity.id);
                let keys = shown.into_iter().flatten().map(|(key, _)| key.clone());
                let keys = keys.filter(|key| *key != RowKey::Node);
                self.files[node.identity.index].clear();
                keys.map(|key| gone(key, Departure::Dropped)).collect()
            }
        }
    }

    fn edit_file(&mut self, node: usize, stamps: &mut Stamps) -> Change {
        let id = instance_id(&format!("file-{}", self.random.below(IN_FILE)));
        let key = RowKey::Instance(id.clone());
        if self.files[node].remove(&id).is_some() && self.random.below(2) == 0 {
            return gone(key, Departure::Dropped);
        }
        let provider = ProviderId::new(ProviderKind::File, "services").expect("a valid name");
        let change = instance(&id, provider, Mode::Active, stamps);
        self.files[node].insert(id, change.state.clone());
        change
    }
}

impl World {
    /// One request to some node, and the next one later.
    pub(crate) fn load(&mut self) -> Result<(), Violation> {
        let Some(period) = self.client.period else { return Ok(()) };
        let pause = period.mul_f64(2.0 * self.client.random.fraction());
        self.schedule(self.now + pause, Event::Load);
        let node = self.client.random.below(self.nodes.len());
        if self.nodes[node].condition != Condition::Running {
            return Ok(());
        }
        let at = self.nodes[node].clock.wall(self.now);
        let changes = self.client.request(&self.nodes[node], at, &mut self.stamps);
        self.submit(node, changes)
    }
}

pub(crate) fn node_row(node: &SimNode, phase: NodePhase, stamps: &mut Stamps) -> Change {
    let stamp = stamps.next().to_string();
    let row = NodeRow {
        name: node.identity.name.clone(),
        zone: node.identity.zone.clone(),
        address: crate::node::address_of(node.identity.index).ip(),
        serves_dns: false,
        meta: BTreeMap::from([(Arc::from("stamp"), Arc::from(stamp))]),
        phase,
    };
    Change { key: RowKey::Node, state: RowState::Present(Row::Node(row.into())) }
}

pub(crate) fn instance_id(text: &str) -> InstanceId {
    InstanceId::parse(text).expect("short plain text is an id")
}

fn check_key(id: &InstanceId) -> RowKey {
    RowKey::Check(id.clone(), CheckId::parse("tcp").expect("so is this"))
}

fn gone(key: RowKey, departure: Departure) -> Change {
    Change { key, state: RowState::Gone(departure) }
}

pub(crate) fn instance(
    id: &InstanceId,
    provider: ProviderId,
    mode: Mode,
    stamps: &mut Stamps,
) -> Change {
    let stamp = stamps.next().to_string();
    let fields = InstanceFields {
        id: id.clone(),
        service: ServiceName::parse("http.api.prod").expect("a valid name"),
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: 8080,
        weight: 100,
        tags: Vec::new(),
        meta: BTreeMap::from([("stamp".to_owned(), stamp)]),
        provider,
    };
    let instance = Instance::new(fields).expect("all fields are in bounds").in_mode(mode);
    let state = RowState::Present(Row::Instance(instance.into()));
    Change { key: RowKey::Instance(id.clone()), state }
}

/// Two instances of one weight, by which a reader sees that they belong together.
fn pair(stamps: &mut Stamps) -> Vec<Change> {
    let weight = u16::try_from(stamps.next() % 60_000).unwrap_or(1);
    let with_weight = |change: Change| {
        let RowState::Present(Row::Instance(row)) = change.state else { return change };
        let row = Instance { weight, ..(*row).clone() };
        Change { state: RowState::Present(Row::Instance(row.into())), ..change }
    };
    let one = |id| instance(&instance_id(id), ProviderId::api(), Mode::Active, stamps);
    PAIR.map(one).map(with_weight).into()
}

pub(crate) fn check(
    id: &InstanceId,
    is_passing: bool,
    at: Timestamp,
    stamps: &mut Stamps,
) -> Change {
    let row = CheckRow {
        status: if is_passing { CheckStatus::Passing } else { CheckStatus::Critical },
        output: stamps.next().to_string().into(),
        since: at,
        has_worked: true,
    };
    Change { key: check_key(id), state: RowState::Present(Row::Check(row.into())) }
}
