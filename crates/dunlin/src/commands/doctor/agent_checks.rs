//! What the running agent says of itself, and whether it answers DNS.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dunlin_api::{AgentStatus, ProviderList};
use dunlin_core::config::Config;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::{Finding, cluster_checks};
use crate::access::Agent;
use crate::settings;

/// How long an answer on the same host may take.
const AGENT_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) async fn status(
    agent: &Agent,
    config: &Config,
    findings: &mut Vec<Finding>,
) -> Option<AgentStatus> {
    let what = "agent";
    match agent.get::<AgentStatus>("/api/status").await {
        Ok(status) => {
            let up = humantime::format_duration(Duration::from_secs(status.uptime_seconds));
            let found = format!("node {}, version {}, up {up}", status.node, status.version);
            findings.push(if status.ready {
                Finding::good(what, found)
            } else {
                let mend = "It is starting; if this lasts, look at its log.";
                Finding::doubtful(what, format!("{found}, not ready"), mend)
            });
            findings.extend(status.problems.iter().map(|problem| {
                let mend = cluster_checks::mend(problem, config)
                    .unwrap_or_else(|| "See the agent's log and `dunlin events`.".to_owned());
                Finding::wrong("agent's own problem", problem, mend)
            }));
            Some(status)
        }
        Err(error) => {
            let mend =
                "Start it with `dunlin agent` (`systemctl start dunlin`), or name it with --agent.";
            findings.push(Finding::wrong(what, format!("{error:#}"), mend));
            None
        }
    }
}

pub(super) async fn providers(agent: &Agent, findings: &mut Vec<Finding>) {
    let what = "providers";
    let list: ProviderList = match agent.get("/api/providers").await {
        Ok(list) => list,
        Err(error) => {
            findings.push(Finding::wrong(what, format!("{error:#}"), "See the agent's log."));
            return;
        }
    };
    let before = findings.len();
    for p in &list.providers {
        if let Some(error) = &p.error {
            let mend = "Correct it; until then its last good state holds.";
            findings.push(Finding::wrong(what, format!("{}: {error}", p.provider), mend));
        }
        if !p.conflicts.is_empty() {
            let found = format!("{}: ids taken: {}", p.provider, p.conflicts.join(", "));
            let mend = "Give the instances ids of their own; the first to state an id keeps it.";
            findings.push(Finding::wrong(what, found, mend));
        }
    }
    if findings.len() == before {
        findings.push(Finding::good(what, format!("{} without errors", list.providers.len())));
    }
}

/// Asks for the domain's SOA, which every agent that answers DNS has.
pub(super) async fn dns(
    config: &Config,
    status: Option<&AgentStatus>,
    findings: &mut Vec<Finding>,
) {
    let what = "DNS";
    let Some(status) = status else {
        return;
    };
    let Some(listen) = status.dns.as_deref() else {
        findings.push(Finding::good(what, "switched off"));
        return;
    };
    let at = listen.parse().unwrap_or(config.dns.listen);
    let at = settings::reachable(at);
    let found = match timeout(AGENT_TIMEOUT, ask_soa(at, &status.domain)).await {
        Ok(Ok(())) => {
            findings.push(Finding::good(what, format!("{at} answers for {}", status.domain)));
            return;
        }
        Ok(Err(error)) => format!("{at}: {error:#}"),
        Err(_) => format!("{at} does not answer"),
    };
    let mend = "See the agent's log; a firewall may hold back UDP even on loopback.";
    findings.push(Finding::wrong(what, found, mend));
}

async fn ask_soa(at: SocketAddr, domain: &str) -> Result<()> {
    let from: SocketAddr = match at {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(from).await?;
    socket.connect(at).await?;
    socket.send(&soa_query(domain)).await?;
    let mut answer = [0; 512];
    let octets = socket.recv(&mut answer).await?;
    judge(&answer[..octets])
}

/// The id of our only question; the socket takes answers from the asked server alone.
const QUERY_ID: [u8; 2] = [0xd0, 0x71];

/// A question for the domain's SOA (RFC 1035 §4.1).
fn soa_query(domain: &str) -> Vec<u8> {
    let mut query = Vec::from(QUERY_ID);
    // A query without recursion; one question, nothing else.
    query.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in domain.split('.').filter(|l| !l.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(63)];
        query.extend(u8::try_from(label.len()));
        query.extend(label);
    }
    // The root, type SOA, class IN.
    query.extend([0, 0, 6, 0, 1]);
    query
}

fn judge(answer: &[u8]) -> Result<()> {
    let header = answer.first_chunk::<12>().context("the answer is too short to be DNS")?;
    ensure!(header[..2] == QUERY_ID && header[2] & 0x80 != 0, "the answer is to another question");
    let code = header[3] & 0x0f;
    ensure!(code == 0, "answers with error code {code}");
    let records = u16::from_be_bytes([header[6], header[7]]);
    ensure!(records > 0, "the answer holds no SOA: another domain is served there");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn the_question_is_well_formed() {
        let query = soa_query("dunlin.internal");
        assert_eq!(&query[12..], b"\x06dunlin\x08internal\x00\x00\x06\x00\x01");
        assert_eq!(&query[2..12], [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn an_answer_must_be_ours_and_hold_a_record() {
        let answer = |flags: [u8; 2], records: u8| {
            [&QUERY_ID[..], &flags, &[0, 1, 0, records, 0, 0, 0, 0]].concat()
        };
        assert!(judge(&answer([0x84, 0], 1)).is_ok());
        for (bad, expected) in [
            (vec![1, 2, 3], "too short"),
            (answer([0x04, 0], 1), "another question"),
            (answer([0x84, 5], 0), "error code 5"),
            (answer([0x84, 0], 0), "holds no SOA"),
        ] {
            let error = judge(&bad).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[tokio::test]
    async fn a_server_of_another_domain_is_found_out() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = server.local_addr().unwrap();
        let answering = tokio::spawn(async move {
            let mut query = [0; 512];
            let (_, from) = server.recv_from(&mut query).await.unwrap();
            query[2..4].copy_from_slice(&[0x84, 5]);
            server.send_to(&query[..12], from).await.unwrap();
        });
        let error = ask_soa(at, "dunlin.internal").await.unwrap_err().to_string();
        assert!(error.contains("error code 5"), "{error}");
        answering.await.unwrap();
    }

    #[tokio::test]
    async fn an_agent_that_is_down_is_the_first_finding() {
        let folder = tempfile::tempdir().unwrap();
        let socket = dunlin_api::client::Endpoint::Unix(folder.path().join("agent.sock"));
        let mut findings = Vec::new();
        assert!(status(&Agent::at([socket]), &Config::default(), &mut findings).await.is_none());
        assert_eq!(findings[0].verdict, Verdict::Wrong);
        assert!(findings[0].mend.contains("dunlin agent"));
    }
}
