//! Plays `testdata/dns/*.txt`: a catalog, questions, and what comes back over UDP and over TCP.

use super::*;

/// A catalog in the making, line by line.
struct Scenario {
    view: CatalogView,
    nodes: BTreeMap<String, NodeView>,
    services: BTreeMap<String, Vec<Endpoint>>,
}

impl Scenario {
    fn own(words: &[&str]) -> Self {
        let [own_zone, "near", nearest @ ..] = words else {
            panic!("own ZONE near ZONE...: {words:?}");
        };
        let topology = Topology {
            own_zone: zone(own_zone),
            nearest_zones: nearest.iter().map(|text| zone(text)).collect(),
        };
        let mut view = CatalogView::empty(topology, 0);
        view.advance();
        Self { view, nodes: BTreeMap::new(), services: BTreeMap::new() }
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
        let (port, weight) = (port.parse().unwrap(), weight.parse().unwrap());
        let mut endpoint = endpoint(&self.nodes[*on], address, port, weight);
        let mut all = Health::ALL.into_iter();
        endpoint.health = all.find(|h| h.as_str() == *health).unwrap();
        let endpoints = self.services.entry((*service).to_owned()).or_default();
        endpoints.push(endpoint);
        put(&mut self.view, service, endpoints.clone());
    }

    fn ask(&self, words: &[&str], transport: Transport) -> Vec<String> {
        let [name, rtype] = words else {
            panic!("ask NAME TYPE: {words:?}");
        };
        let packet = question(name, rtype.parse().unwrap(), 1232);
        let (_, reply) = ask_with(&self.view, &packet, transport);
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
            (["node", name, zone, address], Some(scenario)) => {
                let node = node(name, zone, address);
                scenario.view.put_node(node.clone());
                scenario.nodes.insert((*name).to_owned(), node);
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
