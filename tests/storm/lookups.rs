//! The oracle's own lookups: a sample of each agent's answers over HTTP and DNS, which the ledger judges.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dunlin_bench::rig::client::Client;
use dunlin_bench::rig::questions::{A, SRV};
use dunlin_bench::rig::random::Random;
use serde_json::Value;

use super::chronicle::Asked;
use super::dns::{self, Found};
use super::ledger::{Answered, Judged};
use super::stage::{KeptClient, Post, Stage, add, is_set_within};

/// The time between two lookups at an agent.
const LOOKUP_INTERVAL: Duration = Duration::from_millis(8);
/// A reply that takes longer counts as lost.
const DNS_TIMEOUT: Duration = Duration::from_secs(2);
/// The most questions in a row that may be lost while no fault touches the agent.
const MAX_LOST: u32 = 10;
/// The time that an agent may take from being ready until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(1);

/// Asks one agent until the end.
pub(super) struct Lookups<'a> {
    stage: &'a Stage,
    post: &'a Post,
    agent: usize,
    random: Random,
    line: KeptClient,
    dns: UdpSocket,
    lost: u32,
    next_id: u16,
}

impl<'a> Lookups<'a> {
    /// Must be called on the agent's host.
    pub(super) fn new(stage: &'a Stage, agent: usize, seed: u64) -> Result<Self> {
        let post = &stage.posts[agent];
        let dns = UdpSocket::bind((post.dns.ip(), 0))?;
        dns.connect(post.dns)?;
        dns.set_read_timeout(Some(DNS_TIMEOUT))?;
        let random = Random(seed);
        Ok(Self {
            stage,
            post,
            agent,
            random,
            line: KeptClient::default(),
            dns,
            lost: 0,
            next_id: 0,
        })
    }

    /// Asks until it is told to end.
    pub(super) fn run(&mut self) {
        while !is_set_within(&self.stage.orders.end_lookups, LOOKUP_INTERVAL) {
            if !self.stage.is_up(self.agent) {
                self.line.close();
                continue;
            }
            let service = self.random.below(self.stage.ledger.services.len() as u64) as usize;
            let begun = Instant::now();
            let asked = match self.random.below(3) {
                0 => self.ask_http(service),
                1 => self.ask_dns(service, A),
                _ => self.ask_dns(service, SRV),
            };
            let Err(error) = asked else { continue };
            let since = begun.checked_sub(START_TIMEOUT).unwrap_or(begun).min(self.line.close());
            if self.stage.is_untouched(self.agent, since) {
                let name = &self.stage.ledger.services[service].name;
                let took = begun.elapsed().as_millis();
                let who = &self.post.name;
                self.stage.violation(format!("{who} on {name}, after {took} ms: {error:#}"));
            }
        }
    }

    fn ask_http(&mut self, service: usize) -> Result<()> {
        let client = self.line.open(|| Client::tcp(self.post.api))?;
        let path = format!("/api/services/{}", self.stage.ledger.services[service].name);
        let at = Instant::now();
        let answer = client.ask("GET", &path, b"")?;
        let asked = Asked { agent: self.agent, at, heard: Instant::now() };
        let found = match answer.status {
            200 => instances(&answer.body)?,
            404 => Vec::new(),
            503 => {
                add(&self.stage.tally.refused, 1);
                return Ok(());
            }
            other => bail!("status {other}: {}", String::from_utf8_lossy(&answer.body)),
        };
        add(&self.stage.tally.answers_http, 1);
        self.judge(service, asked, &found, 0);
        Ok(())
    }

    fn ask_dns(&mut self, service: usize, kind: u16) -> Result<()> {
        let name = &self.stage.ledger.services[service].name;
        self.next_id = self.next_id.wrapping_add(1);
        let packet = dns::question(self.next_id, name, kind);
        let at = Instant::now();
        self.dns.send(&packet)?;
        let mut reply = [0; 4096];
        loop {
            let Ok(octets) = self.dns.recv(&mut reply) else {
                add(&self.stage.tally.dns_lost, 1);
                self.lost += 1;
                if self.lost > MAX_LOST {
                    self.lost = 0;
                    bail!("{MAX_LOST} questions in a row had no reply");
                }
                return Ok(());
            };
            // This reply answers a question that was given up.
            if !reply.starts_with(&self.next_id.to_be_bytes()) {
                continue;
            }
            let asked = Asked { agent: self.agent, at, heard: Instant::now() };
            self.lost = 0;
            let reply = dns::read(&reply[..octets]).context("a reply that cannot be read")?;
            match reply {
                Found::Cut => {}
                Found::Instances(found) => self.judge(service, asked, &found, 1),
                Found::Error(code) => bail!("DNS answers with code {code}"),
            }
            add(&self.stage.tally.answers_dns, 1);
            return Ok(());
        }
    }

    /// Judges each instance of the service, whether it was found or not.
    fn judge(&self, service: usize, asked: Asked, found: &[(Ipv4Addr, Option<u16>)], kind: usize) {
        let ledger = &self.stage.ledger;
        let mut shown = BTreeMap::new();
        for (address, port) in found {
            match ledger.slot_at(*address).filter(|slot| ledger.slots[*slot].service == service) {
                Some(slot) => {
                    if shown.insert(slot, *port).is_some() {
                        self.stage.violation(format!("{address} twice in one answer: {found:?}"));
                    }
                }
                None => {
                    let (name, who) = (&ledger.services[service].name, &self.post.name);
                    self.stage.violation(format!("{who} says {address} is {name}; it never was"));
                }
            }
        }
        let chronicle = self.stage.chronicle();
        let mut wrong = Vec::new();
        for slot in &ledger.services[service].slots {
            let seen = shown.get(slot).map_or(Answered::Absent, |port| Answered::Present(*port));
            match ledger.slots[*slot].judge(&chronicle, asked, seen) {
                Ok(Judged::Firm) => add(&self.stage.tally.firm, 1),
                Ok(Judged::Loose) => add(&self.stage.tally.loose, 1),
                Err(evidence) => wrong.push(evidence),
            }
        }
        let is_untouched = chronicle.is_untouched(self.agent, asked.at);
        drop(chronicle);
        let by = ["HTTP", "DNS"][kind];
        wrong.into_iter().for_each(|evidence| self.stage.violation(format!("{by}: {evidence}")));
        if is_untouched && !self.stage.orders.end_changes.load(Ordering::Relaxed) {
            self.stage.latencies(kind).push(asked.heard - asked.at);
        }
    }
}

/// Addresses and ports in an answer of the API.
fn instances(body: &[u8]) -> Result<Vec<(Ipv4Addr, Option<u16>)>> {
    let answer: Value = serde_json::from_slice(body)?;
    let instances = answer["instances"].as_array().context("no list of instances")?;
    let read = |instance: &Value| {
        let address = instance["address"].as_str()?.parse().ok()?;
        Some((address, Some(u16::try_from(instance["port"].as_u64()?).ok()?)))
    };
    instances.iter().map(|one| read(one).context("an instance without an address")).collect()
}
