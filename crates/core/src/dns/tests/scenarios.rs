//! Plays `testdata/dns/*.txt`: a catalog, questions, and what comes back over UDP and over TCP.

use super::*;
use crate::catalog::{Catalog, GuardSettings};
use crate::model::{CheckId, CheckRow, CheckStatus, Mode};
use crate::replica::{Row, RowChange, RowKey, RowState};

/// A catalog, changed line by line. What stands before the first question is loaded together.
struct Scenario {
    catalog: Catalog,
    now: std::time::Instant,
    nodes: BTreeMap<String, NodeView>,
    loading: Vec<(NodeId, RowChange)>,
}

fn present(key: RowKey, row: Row) -> RowChange {
    RowChange { key, state: RowState::Present(row) }
}

impl Scenario {
    #[allow(
        clippy::disallowed_methods,
        reason = "a start for the virtual clock; it does not go on in a scenario"
    )]
    fn own(words: &[&str]) -> Self {
        let [own_zone, "near", nearest @ ..] = words else {
            panic!("own ZONE near ZONE...: {words:?}");
        };
        let topology = Topology {
            own_zone: zone(own_zone),
            nearest_zones: nearest.iter().map(|text| zone(text)).collect(),
        };
        let guard = GuardSettings { max_drop: 1.0, panic: false, ..GuardSettings::default() };
        let catalog = Catalog::new(topology, guard, 0);
        let now = std::time::Instant::now();
        Self { catalog, now, nodes: BTreeMap::new(), loading: Vec::new() }
    }

    fn node(&mut self, name: &str, zone: &str, address: &str) {
        let mut node = node(name, zone, address);
        let place = u8::try_from(self.nodes.len()).unwrap();
        node.id = NodeId::from_bytes([place; 16]);
        let row = Row::Node(Arc::clone(&node.row));
        self.loading.push((node.id, present(RowKey::Node, row)));
        self.nodes.insert(name.to_owned(), node);
    }

    fn instance(&mut self, words: &[&str]) {
        let (service, on, address, rest) = match words {
            [service, "on", on, "at", address, rest @ ..] => (service, on, Some(*address), rest),
            [service, "on", on, rest @ ..] => (service, on, None, rest),
            _ => panic!("instance SERVICE on NODE [at ADDRESS] ...: {words:?}"),
        };
        let ["port", port, "weight", weight, health] = rest else {
            panic!("port PORT weight WEIGHT HEALTH: {rest:?}");
        };
        let node = self.nodes[*on].id;
        let (port, weight) = (port.parse().unwrap(), weight.parse().unwrap());
        let endpoint = endpoint(&self.nodes[*on], address, port, weight);
        let service = ServiceName::parse(service).unwrap();
        let id = InstanceId::parse(&format!("{service}-{port}")).unwrap();
        let mut all =
            [CheckStatus::Passing, CheckStatus::Warning, CheckStatus::Critical].into_iter();
        let status = all.find(|status| status.as_str() == *health);
        let mode = if *health == "draining" { Mode::Draining } else { Mode::Active };
        let instance = Instance { id: id.clone(), service, mode, ..(*endpoint.instance).clone() };
        let row = CheckRow { has_worked: true, ..CheckRow::unproven(Timestamp::default()) };
        let row = CheckRow { status: status.unwrap_or(CheckStatus::Passing), ..row };
        let check = RowKey::Check(id.clone(), CheckId::parse("c").unwrap());
        self.loading.push((node, present(RowKey::Instance(id), Row::Instance(instance.into()))));
        self.loading.push((node, present(check, Row::Check(row.into()))));
    }

    /// Loads what stood before, if this is the first line that needs it.
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
        let (now, wall, node) = (self.now, Timestamp::default(), &self.nodes[name]);
        if status == NodeStatus::Left {
            let row = NodeRow { phase: NodePhase::Left, ..(*node.row).clone() };
            let row = present(RowKey::Node, Row::Node(row.into()));
            self.catalog.handle_rows(now, wall, node.id, &[row]);
        } else {
            self.catalog.handle_statuses(now, wall, &[(node.id, status)]);
        }
    }

    fn ask(&mut self, words: &[&str], transport: Transport) -> Vec<String> {
        let [name, rtype] = words else {
            panic!("ask NAME TYPE: {words:?}");
        };
        self.load();
        let packet = question(name, rtype.parse().unwrap(), 1232);
        let (_, reply) = ask_with(self.catalog.view(), &packet, transport);
        let got = read(&reply);
        let mut lines = vec![got.rcode];
        for (section, records) in ["answer", "authority", "additional"].iter().zip(got.sections) {
            lines.extend(records.iter().map(|record| format!("{section} {record}")));
        }
        lines
    }
}

fn play(text: &str) {
    let mut scenario = None;
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words.as_slice(), &mut scenario) {
            ([] | ["#", ..], _) => {}
            (["own", rest @ ..], None) => scenario = Some(Scenario::own(rest)),
            (["node", name, zone, address], Some(scenario)) => scenario.node(name, zone, address),
            (["node", name, status], Some(scenario)) => scenario.status(name, status),
            (["near", zones @ ..], Some(scenario)) => {
                let zones = zones.iter().map(|text| zone(text)).collect();
                scenario.catalog.set_nearest_zones(zones);
            }
            (["instance", rest @ ..], Some(scenario)) => scenario.instance(rest),
            (["ask", rest @ ..], Some(scenario)) => {
                let mut expected = Vec::new();
                while let Some((_, line)) = lines.next_if(|(_, line)| line.starts_with("> ")) {
                    expected.push(line[2..].to_owned());
                }
                for transport in [Transport::Udp, Transport::Tcp] {
                    let got = scenario.ask(rest, transport);
                    assert_eq!(got, expected, "line {}: {line} ({transport:?})", number + 1);
                }
            }
            _ => panic!("line {}: not understood: {line}", number + 1),
        }
    }
}

#[test]
fn zones_answer_as_the_scenario_says() {
    play(include_str!("../../../testdata/dns/zones.txt"));
}

#[test]
fn three_zones_answer_as_the_scenario_says() {
    play(include_str!("../../../testdata/dns/failover.txt"));
}
