//! Does what is typed into `dunlin dev --nodes N`, and says what it did.

use std::time::Duration;

use anyhow::Result;
use dunlin_api::client::{Endpoint, Timeouts};
use dunlin_api::{NodeList, ServiceList};
use serde::de::DeserializeOwned;

use super::fleet::Fleet;
use super::lines::Line;
use super::order::{self, Order};
use super::seat::Seat;
use crate::access::Agent;
use crate::output::{Printer, Table};

/// How long an agent of this very process may take to answer.
const AGENT_TIMEOUT: Duration = Duration::from_secs(2);

/// Takes a line. Returns whether all is to end.
pub(super) async fn take(line: Line, fleet: &mut Fleet, out: Printer) -> bool {
    let order = match line {
        Line::Text(text) => order::parse(&text, fleet.count()),
        Line::TooLong => Err("the line is too long to be a command; `help` lists them".to_owned()),
    };
    match order {
        Ok(Some(Order::Quit)) => return true,
        Ok(Some(order)) => perform(order, fleet, out).await,
        Ok(None) => {}
        Err(mistake) => out.line(format_args!("error: {mistake}")),
    }
    false
}

async fn perform(order: Order, fleet: &mut Fleet, out: Printer) {
    match order {
        Order::Kill(seat) => {
            let was_running = fleet.kill(seat).await;
            let done = "is killed; nobody was told";
            out.line(outcome(fleet, seat, was_running, done));
        }
        Order::Stop(seat) => {
            let was_running = fleet.stop(seat).await;
            out.line(outcome(fleet, seat, was_running, "has stopped in good order"));
        }
        Order::Start(seat) => start(seat, fleet, out).await,
        Order::Partition(groups) => {
            let addresses = |group: &Vec<Seat>| group.iter().map(|seat| seat.ip()).collect();
            fleet.fence().partition(&groups.iter().map(addresses).collect::<Vec<_>>());
            out.line(format_args!("cut off from each other: {}", shown(&groups)));
        }
        Order::Cut { from, to } => {
            fleet.fence().cut(from.ip(), to.ip());
            let (from, to) = (from.name(), to.name());
            out.line(format_args!("what {from} sends does not reach {to} any more"));
        }
        Order::Heal => heal(fleet, out).await,
        Order::Nodes => {
            let answers = ask::<NodeList>(fleet, "/api/nodes").await;
            let states = Seat::all(fleet.count()).map(|seat| (seat, fleet.state(seat)));
            out.line(nodes(&states.collect::<Vec<_>>(), &answers).render());
        }
        Order::Services => {
            let answers = ask::<ServiceList>(fleet, "/api/services").await;
            match services(&answers) {
                Some(table) => out.line(table.render()),
                None => out.line("no agent knows a service"),
            }
        }
        Order::Help => out.line(order::HELP),
        Order::Quit => {}
    }
}

fn outcome(fleet: &Fleet, seat: Seat, was_running: bool, done: &str) -> String {
    if was_running {
        return format!("{seat} {done}; `start {}` brings it back", seat.zone());
    }
    format!("{seat} does not run: it was {} before", fleet.state(seat))
}

async fn start(seat: Seat, fleet: &mut Fleet, out: Printer) {
    if fleet.state(seat) == "running" {
        out.line(format_args!("{seat} runs already"));
        return;
    }
    match fleet.start(seat).await {
        Ok(()) => out.line(format_args!("{seat} runs again")),
        Err(error) => out.line(format_args!("error: {seat} does not start: {error:#}")),
    }
}

async fn heal(fleet: &mut Fleet, out: Printer) {
    fleet.fence().heal();
    out.line("all reach each other again");
    for seat in fleet.all_in("killed") {
        start(seat, fleet, out).await;
    }
    for seat in fleet.all_in("stopped") {
        out.line(format_args!("{seat} stays stopped; `start {}` brings it back", seat.zone()));
    }
}

fn shown(groups: &[Vec<Seat>]) -> String {
    let names = |group: &Vec<Seat>| group.iter().map(|s| s.name()).collect::<Vec<_>>().join(",");
    groups.iter().map(names).collect::<Vec<_>>().join(" | ")
}

/// What each running agent answers, by its name.
type Answers<T> = Vec<(String, Result<T>)>;

async fn ask<T: DeserializeOwned>(fleet: &Fleet, path: &str) -> Answers<T> {
    let patience =
        Timeouts { connect: AGENT_TIMEOUT, answer: AGENT_TIMEOUT, silence: AGENT_TIMEOUT };
    let mut answers = Vec::new();
    for (seat, identity) in fleet.running() {
        let agent = Agent::at([Endpoint::Http(identity.api.to_string())]).with_timeouts(patience);
        answers.push((seat.name(), agent.get(path).await));
    }
    answers
}

fn header<T>(first: &[&str], answers: &Answers<T>) -> Vec<String> {
    let first = first.iter().map(|&word| word.to_owned());
    first.chain(answers.iter().map(|(name, _)| format!("SEEN BY {name}"))).collect()
}

/// A row for each node, a column for each agent that sees it.
fn nodes(states: &[(Seat, &str)], answers: &Answers<NodeList>) -> Table {
    let mut table = Table::new(&header(&["NODE", "ZONE", "ADDRESS", "PROCESS"], answers));
    for (seat, state) in states {
        let name = seat.name();
        let seen = answers.iter().map(|(_, answer)| match answer {
            Ok(list) => match list.nodes.iter().find(|node| node.name == name) {
                Some(node) => node.status.clone(),
                None => "unknown".to_owned(),
            },
            Err(_) => "no answer".to_owned(),
        });
        let seen: Vec<_> = seen.collect();
        let own = [name, seat.zone(), seat.ip().to_string(), (*state).to_owned()];
        table.row(own.into_iter().chain(seen));
    }
    table
}

/// A row for each service, healthy of all as each agent sees them; `None` when there is no service.
fn services(answers: &Answers<ServiceList>) -> Option<Table> {
    let lists = answers.iter().filter_map(|(_, answer)| answer.as_ref().ok());
    let mut names: Vec<_> = lists.flat_map(|l| &l.services).map(|s| &s.service).collect();
    names.sort();
    names.dedup();
    let mut table = Table::new(&header(&["SERVICE"], answers));
    for name in &names {
        let seen = answers.iter().map(|(_, answer)| match answer {
            Ok(list) => match list.services.iter().find(|s| s.service == **name) {
                Some(s) => format!("{}/{}", s.healthy, s.instances),
                None => "-".to_owned(),
            },
            Err(_) => "no answer".to_owned(),
        });
        table.row([(*name).clone()].into_iter().chain(seen));
    }
    (!names.is_empty()).then_some(table)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use anyhow::anyhow;
    use dunlin_api::{Node, ServiceSummary};
    use serde_json::json;

    use super::*;

    fn node(name: &str, status: &str) -> Node {
        let node = json!({
            "id": "", "name": name, "zone": "z", "address": "127.0.0.1", "status": status,
            "head": 0, "instances": 0, "this": false, "meta": {},
        });
        serde_json::from_value(node).unwrap()
    }

    fn service(name: &str, healthy: usize, instances: usize) -> ServiceSummary {
        ServiceSummary {
            service: name.to_owned(),
            index: 1,
            guarded: false,
            instances,
            healthy,
            health: BTreeMap::new(),
            zones: BTreeMap::new(),
        }
    }

    #[test]
    fn the_nodes_stand_in_one_table_with_what_each_agent_sees() {
        let list = |nodes| Ok(NodeList { nodes });
        let answers = vec![
            ("n1".to_owned(), list(vec![node("n1", "alive"), node("n2", "down")])),
            ("n3".to_owned(), Err(anyhow!("silent"))),
        ];
        let states: Vec<_> = Seat::all(2).zip(["running", "killed"]).collect();
        let text = nodes(&states, &answers).render();
        let expected = "\
NODE  ZONE  ADDRESS    PROCESS  SEEN BY n1  SEEN BY n3
n1    z1    127.0.0.1  running  alive       no answer
n2    z2    127.0.0.2  killed   down        no answer";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_services_stand_in_one_table_with_what_each_agent_sees() {
        let list = |services| Ok(ServiceList { index: 1, services });
        let answers = vec![
            ("n1".to_owned(), list(vec![service("web", 2, 3)])),
            ("n2".to_owned(), list(vec![service("db", 1, 1), service("web", 3, 3)])),
        ];
        let text = services(&answers).unwrap().render();
        assert_eq!(
            text,
            "SERVICE  SEEN BY n1  SEEN BY n2\ndb       -           1/1\nweb      2/3         3/3"
        );
        assert!(services(&Vec::new()).is_none());
    }
}
