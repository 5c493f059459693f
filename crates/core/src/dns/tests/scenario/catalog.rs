//! A catalog that the lines of a scenario change. The rows before the first question are loaded together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::World;
use crate::catalog::{Catalog, GuardSettings, NodeStatus, Topology};
use crate::dns::{DnsSettings, Domain};
use crate::model::{
    CheckId, CheckRow, CheckStatus, Instance, InstanceFields, InstanceId, Mode, NodeId, NodeName,
    NodePhase, NodeRow, ProviderId, ServiceName, Timestamp, ZoneName,
};
use crate::replica::{Row, RowChange, RowKey, RowState};

pub(super) struct Scenario {
    catalog: Catalog,
    settings: DnsSettings,
    now: Instant,
    nodes: BTreeMap<String, (NodeId, Arc<NodeRow>)>,
    loading: Vec<(NodeId, RowChange)>,
}

impl Scenario {
    #[allow(
        clippy::disallowed_methods,
        reason = "a start for the virtual clock; it does not go on in a scenario"
    )]
    pub(super) fn own(words: &[&str]) -> Self {
        let [own_zone, "near", nearest @ ..] = words else {
            panic!("own ZONE near ZONE...: {words:?}");
        };
        let topology = Topology { own_zone: zone(own_zone), nearest_zones: zones(nearest) };
        let guard = GuardSettings { max_drop: 1.0, panic: false, ..GuardSettings::default() };
        let domain = Domain::parse("dunlin.internal").unwrap();
        Self {
            catalog: Catalog::new(topology, guard, 0),
            settings: DnsSettings::new(domain, NodeName::parse("alpha").unwrap()),
            now: Instant::now(),
            nodes: BTreeMap::new(),
            loading: Vec::new(),
        }
    }

    /// Applies a line. Returns false if it is not one that changes the catalog.
    pub(super) fn change(&mut self, words: &[&str]) -> bool {
        match words {
            ["node", name, zone, address] => self.node(name, zone, address),
            ["node", name, status] => self.status(name, status),
            ["near", nearest @ ..] => self.catalog.set_nearest_zones(zones(nearest)),
            ["instance", rest @ ..] => self.instance(rest),
            ["ttl", seconds] => {
                self.settings.ttl = Duration::from_secs(seconds.parse().unwrap());
            }
            _ => return false,
        }
        true
    }

    /// The present view and settings, from which answers are made.
    pub(super) fn world(&mut self) -> World<'_> {
        self.load();
        World { view: self.catalog.view(), settings: &self.settings }
    }

    fn node(&mut self, name: &str, zone_name: &str, address: &str) {
        let place = u8::try_from(self.nodes.len()).unwrap();
        let id = NodeId::from_bytes([place; 16]);
        let row = Arc::new(NodeRow {
            name: NodeName::parse(name).unwrap(),
            zone: zone(zone_name),
            address: address.parse().unwrap(),
            serves_dns: true,
            meta: BTreeMap::new(),
            phase: NodePhase::Active,
        });
        self.loading.push((id, present(RowKey::Node, Row::Node(Arc::clone(&row)))));
        self.nodes.insert(name.to_owned(), (id, row));
    }

    fn instance(&mut self, words: &[&str]) {
        let (service, on, address, rest) = match words {
            [service, "on", on, "at", address, rest @ ..] => (service, on, Some(*address), rest),
            [service, "on", on, rest @ ..] => (service, on, None, rest),
            _ => panic!("instance SERVICE on NODE [at ADDRESS] ...: {words:?}"),
        };
        let ["port", ports, "weight", weight, health] = rest else {
            panic!("port PORT weight WEIGHT HEALTH: {rest:?}");
        };
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        for port in first.parse::<u16>().unwrap()..=last.parse().unwrap() {
            let (id, node) = &self.nodes[*on];
            let address = address.map_or(node.address, |text| text.parse().unwrap());
            let weight = weight.parse().unwrap();
            let rows =
                instance(ServiceName::parse(service).unwrap(), address, port, weight, health);
            self.loading.extend(rows.map(|row| (*id, row)));
        }
    }

    /// Loads the rows of the lines before, if this is the first line that needs them.
    fn load(&mut self) {
        let rows = std::mem::take(&mut self.loading);
        if !rows.is_empty() {
            self.catalog.load(rows.iter().map(|(node, row)| (*node, &row.key, &row.state)));
        }
    }

    fn status(&mut self, name: &str, status: &str) {
        self.load();
        let mut all = NodeStatus::ALL.into_iter();
        let status = all.find(|s| s.as_str() == status).expect("alive, suspect, down or left");
        let (now, wall, (id, row)) = (self.now, Timestamp::default(), &self.nodes[name]);
        if status == NodeStatus::Left {
            let row = NodeRow { phase: NodePhase::Left, ..(**row).clone() };
            let row = present(RowKey::Node, Row::Node(row.into()));
            self.catalog.handle_rows(now, wall, *id, &[row]);
        } else {
            self.catalog.handle_statuses(now, wall, &[(*id, status)]);
        }
    }
}

/// An instance and its check.
fn instance(
    service: ServiceName,
    address: std::net::IpAddr,
    port: u16,
    weight: u16,
    health: &str,
) -> [RowChange; 2] {
    let id = InstanceId::parse(&format!("{service}-{port}")).unwrap();
    let fields = InstanceFields {
        id: id.clone(),
        service,
        address,
        port: port.into(),
        weight: weight.into(),
        tags: vec![],
        meta: BTreeMap::new(),
        provider: ProviderId::api(),
    };
    let mode = if health == "draining" { Mode::Draining } else { Mode::Active };
    let instance = Instance::new(fields).unwrap().in_mode(mode);
    let mut all = [CheckStatus::Passing, CheckStatus::Warning, CheckStatus::Critical].into_iter();
    let status = all.find(|status| status.as_str() == health).unwrap_or(CheckStatus::Passing);
    let unproven = CheckRow::unproven(Timestamp::default());
    let check = CheckRow { status, has_worked: true, ..unproven };
    let check_key = RowKey::Check(id.clone(), CheckId::parse("c").unwrap());
    let instance = present(RowKey::Instance(id), Row::Instance(instance.into()));
    [instance, present(check_key, Row::Check(check.into()))]
}

fn present(key: RowKey, row: Row) -> RowChange {
    RowChange { key, state: RowState::Present(row) }
}

fn zone(text: &str) -> ZoneName {
    ZoneName::parse(text).unwrap()
}

fn zones(words: &[&str]) -> Vec<ZoneName> {
    words.iter().map(|text| zone(text)).collect()
}
