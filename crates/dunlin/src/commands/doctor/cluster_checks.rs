//! Whether other agents are seen, and why not.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use dunlin_core::config::Config;
use serde::Deserialize;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Finding;
use crate::access::Agent;
use crate::settings::{self, ResolvedConfig};

const WHAT: &str = "cluster";
/// How long another host may take to resolve, and to accept a connection.
const HOST_TIMEOUT: Duration = Duration::from_secs(1);
/// Versions that a node may be behind; more are not caught up between two looks.
const MAX_BEHIND: u64 = 1_000;
/// Names that are shown; of the others only the number is.
const MAX_NAMES: usize = 10;

/// What matters here of a node; an older agent does not tell all of it.
#[derive(Debug, Clone, Deserialize)]
struct Seen {
    name: String,
    status: String,
    this: bool,
    #[serde(default)]
    behind: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct SeenList {
    nodes: Vec<Seen>,
}

/// What to do about a problem that the agent reports of its cluster, by the subject it begins with.
pub(super) fn mend(problem: &str, config: &Config) -> Option<String> {
    let port = config.cluster.listen.port();
    match problem.split_once(':')?.0 {
        "cluster-udp" => Some(format!(
            "Open UDP port {port} between the hosts of all agents, as well as TCP; until then bad news \
             is slower and crashes may be seen late."
        )),
        "cluster-join" => Some(format!(
            "Name agents that run in cluster.join, and open port {port}, TCP and UDP, between the hosts."
        )),
        _ => None,
    }
}

/// Looks at the other nodes as the agent sees them; if it sees none, at those it is to join.
pub(super) async fn cluster(agent: &Agent, settings: &ResolvedConfig, findings: &mut Vec<Finding>) {
    let nodes = match agent.get::<SeenList>("/api/nodes").await {
        Ok(list) => list.nodes,
        Err(error) => {
            findings.push(Finding::wrong(WHAT, format!("{error:#}"), "See the agent's log."));
            return;
        }
    };
    let is_alive = |node: &&Seen| matches!(node.status.as_str(), "alive" | "suspect");
    let others = nodes.iter().filter(|node| !node.this);
    let alive = others.filter(is_alive).count();
    if alive > 0 {
        let found = format!("{alive} other {} alive", plural(alive, "node is", "nodes are"));
        findings.push(Finding::good(WHAT, found));
    } else if settings.config.cluster.tls.is_some() {
        findings.extend(join_targets(settings).await);
    }
    findings.extend(down(&nodes));
    findings.extend(behind(&nodes));
}

fn down(nodes: &[Seen]) -> Option<Finding> {
    let down: Vec<_> = nodes.iter().filter(|n| n.status == "down").map(|n| &*n.name).collect();
    let found = format!("down: {}", names(&down)?);
    let mend = "Start their agents, or mend the network between. One that is gone for good is forgotten \
        after cluster.reap_after.";
    Some(Finding::doubtful("nodes", found, mend))
}

fn behind(nodes: &[Seen]) -> Option<Finding> {
    let is_behind = |n: &&Seen| n.behind.is_some_and(|behind| behind > MAX_BEHIND);
    let behind: Vec<_> = nodes.iter().filter(is_behind).map(|n| &*n.name).collect();
    let found = format!("more than {MAX_BEHIND} versions behind: {}", names(&behind)?);
    let mend = "Good if a node has just come back. If it lasts, see whether the network between is \
        overloaded, and the agents' logs on both sides.";
    Some(Finding::doubtful("nodes", found, mend))
}

/// `a, b and 3 more`; none of none.
fn names(all: &[&str]) -> Option<String> {
    let shown = all.iter().take(MAX_NAMES).copied().collect::<Vec<_>>().join(", ");
    let rest = all.len().saturating_sub(MAX_NAMES);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    (!all.is_empty()).then(|| shown + &more)
}

fn plural(count: usize, one: &'static str, many: &'static str) -> &'static str {
    if count == 1 { one } else { many }
}

/// Why no other agent is seen, as far as it can be found out from here.
async fn join_targets(settings: &ResolvedConfig) -> Vec<Finding> {
    let cluster = &settings.config.cluster;
    let own = [cluster.listen.into(), cluster.advertise, own_address(settings).into()];
    let mut tries = JoinSet::new();
    for host in cluster.join.clone() {
        tries.spawn(async move {
            let reached = reach(&host, &own).await;
            (host, reached)
        });
    }
    let mut findings: Vec<_> =
        tries.join_all().await.into_iter().filter_map(|(host, r)| judge(&host, r)).collect();
    findings.sort_by(|a, b| a.found.cmp(&b.found));
    if findings.is_empty() {
        let mend = "Good for the first agent. Otherwise name some others in cluster.join.";
        let found = "no other agent is seen, and cluster.join names none";
        findings.push(Finding::doubtful(WHAT, found, mend));
    }
    findings
}

fn own_address(settings: &ResolvedConfig) -> SocketAddr {
    SocketAddr::new(settings.address, settings.config.cluster.listen.port())
}

/// What a host to join is found to be.
#[derive(Debug)]
enum Reached {
    /// This very agent.
    Itself,
    /// Somebody accepts connections there.
    Open,
    /// The name has no address.
    Unresolved(io::Error),
    /// Nobody accepts connections there.
    Closed(io::Error),
}

async fn reach(host: &str, own: &[Option<SocketAddr>]) -> Reached {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer within 1 s");
    let found = timeout(HOST_TIMEOUT, lookup_host(host)).await.unwrap_or_else(|_| Err(late()));
    let addresses: Vec<_> = match found {
        Ok(addresses) => addresses.collect(),
        Err(error) => return Reached::Unresolved(error),
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        let is_own = own.iter().flatten().any(|own| settings::reachable(*own) == address);
        if is_own {
            return Reached::Itself;
        }
        match timeout(HOST_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Reached::Open,
            Ok(Err(error)) => last = error,
            Err(_) => last = late(),
        }
    }
    Reached::Closed(last)
}

fn judge(host: &str, reached: Reached) -> Option<Finding> {
    Some(match reached {
        Reached::Itself => return None,
        Reached::Open => Finding::wrong(
            WHAT,
            format!("{host} accepts connections, but is not seen as a member"),
            "See the agents' logs on both sides. Both need certificates of the same authority, see \
             `dunlin tls cert show`.",
        ),
        Reached::Unresolved(error) => Finding::wrong(
            WHAT,
            format!("{host} does not resolve: {error}"),
            "Correct cluster.join, or the host names of this machine.",
        ),
        Reached::Closed(error) => Finding::wrong(
            WHAT,
            format!("{host} cannot be reached: {error}"),
            "Start the agent there, and open its cluster port, TCP and UDP, in the firewalls between.",
        ),
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::Verdict;
    use super::*;

    fn seen(name: &str, status: &str, behind: Option<u64>) -> Seen {
        Seen { name: name.to_owned(), status: status.to_owned(), this: false, behind }
    }

    #[test]
    fn nodes_that_are_down_or_far_behind_are_named() {
        let nodes = [
            seen("a", "alive", Some(1_000)),
            seen("b", "down", None),
            seen("c", "left", None),
            seen("d", "alive", Some(1_001)),
        ];
        assert_eq!(down(&nodes).unwrap().found, "down: b");
        assert_eq!(behind(&nodes).unwrap().found, "more than 1000 versions behind: d");
        assert!(down(&nodes[..1]).is_none() && behind(&nodes[..3]).is_none());
    }

    #[test]
    fn of_many_names_some_are_shown() {
        let all: Vec<_> = (0..12).map(|n| format!("n{n}")).collect();
        let all: Vec<_> = all.iter().map(String::as_str).collect();
        assert!(names(&all).unwrap().ends_with("n9 and 2 more"));
        assert_eq!(names(&[]), None);
    }

    #[test]
    fn an_older_agent_that_does_not_tell_how_far_behind_is_understood() {
        let text = r#"{"nodes":[{"name":"a","status":"alive","this":true,"head":3}]}"#;
        let list: SeenList = serde_json::from_str(text).unwrap();
        assert_eq!(list.nodes[0].behind, None);
    }

    #[test]
    fn problems_of_the_cluster_come_with_what_mends_them() {
        let config = Config::default();
        assert!(mend("cluster-udp: n2 hears nothing", &config).unwrap().contains("UDP port 5370"));
        assert!(mend("cluster-join: a:1 refuses", &config).unwrap().contains("cluster.join"));
        assert_eq!(mend("database: was damaged", &config), None);
    }

    fn settings(join: &[String]) -> ResolvedConfig {
        let mut config = Config::default();
        config.node.address = "127.0.0.1".parse().ok();
        config.node.data_dir = Some("d".into());
        config.cluster.join = join.to_vec();
        ResolvedConfig::resolve(config).unwrap()
    }

    #[tokio::test]
    async fn hosts_to_join_are_tried_and_what_is_wrong_with_them_is_told() {
        let open = TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").unwrap();
        let [open_at, closed_at] = [&open, &closed].map(|l| l.local_addr().unwrap().to_string());
        drop(closed);
        let join = [open_at, closed_at, "nowhere.invalid:5370".into(), "127.0.0.1:5370".into()];
        let findings = join_targets(&settings(&join)).await;
        assert_eq!(findings.len(), 3, "its own address is passed over: {findings:?}");
        assert!(findings.iter().all(|f| f.verdict == Verdict::Wrong));
        for part in ["accepts connections", "cannot be reached", "does not resolve"] {
            assert!(findings.iter().any(|f| f.found.contains(part)), "{part}: {findings:?}");
        }
    }

    #[tokio::test]
    async fn the_first_agent_is_not_blamed_for_being_alone() {
        let findings = join_targets(&settings(&["127.0.0.1:5370".to_owned()])).await;
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].verdict, Verdict::Doubtful);
    }
}
