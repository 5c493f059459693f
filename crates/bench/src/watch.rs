//! Ten thousand watches and long polls on one agent: their memory, how soon one of them and all of them are told of a
//! change, and what changes cost.
//!
//! The measured agent has the first processor alone. The clients have the second one, together with another agent,
//! on which the thousand changes a second are made.

mod watchers;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dunlin_bench::rig::agent::Agent;
use dunlin_bench::rig::changer::Changer;
use dunlin_bench::rig::client::Client;
use dunlin_bench::rig::crowd::allow_descriptors;
use dunlin_bench::rig::finding::{Finding, grouped, spread, time};
use dunlin_bench::rig::fleet::Fleet;
use dunlin_bench::rig::floor::floor;
use dunlin_bench::rig::processors::{Processors, pin_own};
use dunlin_bench::rig::release::Release;
use dunlin_bench::rig::stats::{median, percentile};
use dunlin_bench::rig::usage::resident;
use dunlin_bench::rig::wait::wait_for;
use watchers::{WatchKind, Watchers};

use super::Args;

pub(super) const ABOUT: &str =
    "10,000 watches and long polls on one agent: memory, delays, what changes cost (--quick)";

/// The number of watches, and of services: each watch is of a service of its own.
const WATCHES: usize = 10_000;
/// The sets of instances, each of which is changed as a whole.
const SETS: usize = 1_000;
const CHANGES_PER_SECOND: u32 = 1_000;
/// One descriptor for each watch, and some for what else a process has open.
const DESCRIPTORS: u64 = WATCHES as u64 + 500;
/// How long an agent is left alone before its memory is looked at.
const SETTLE: Duration = Duration::from_secs(3);
/// The time between two changes that are timed.
const CHANGE_INTERVAL: Duration = Duration::from_millis(10);

/// The number of samples, and how long agents are observed.
struct Amount {
    single: usize,
    of_all: usize,
    busy: Duration,
}

pub(super) fn run(args: &Args, release: &Release) -> Result<Vec<Finding>> {
    allow_descriptors(DESCRIPTORS)?;
    let amount = if args.quick {
        Amount { single: 100, of_all: 5, busy: Duration::from_secs(3) }
    } else {
        Amount { single: 1_000, of_all: 20, busy: Duration::from_secs(10) }
    };
    println!("{}", floor(release.target())?);
    let mut findings = Vec::new();
    for kind in [WatchKind::Stream, WatchKind::LongPoll] {
        findings.extend(measure(kind, release, &amount)?);
    }
    Ok(findings)
}

/// Starts two agents and measures the first one.
fn measure(kind: WatchKind, release: &Release, amount: &Amount) -> Result<Vec<Finding>> {
    pin_own(Processors::Both)?;
    let mut fleet = Fleet::prepare(release, 2)?;
    for (agent, processor) in fleet.agents.iter_mut().zip([Processors::First, Processors::Second]) {
        pin_own(processor)?;
        agent.start()?;
    }
    fleet.wait_until_joined()?;
    let [measured, other] = &fleet.agents[..] else { unreachable!("two were started") };
    let services = (0..WATCHES).map(|number| format!("w{number}")).collect();
    let mut changes = Changer::new(other.client()?, services, SETS);
    changes.change_all()?;
    measured.wait_for_head(&other.name, other.head_of(&other.name)?)?;
    // The first request makes the measured agent take the memory that requests of its own need.
    let mut writer = measured.client()?;
    register(&mut writer, 0, 1)?;
    thread::sleep(SETTLE);
    let mut findings = each(kind, measured, &mut writer, changes, amount)?;
    findings.extend(all(kind, measured, &mut writer, amount)?);
    Ok(findings)
}

/// The path and the body that register an instance of a service on the measured agent.
fn registration(service: usize, weight: usize) -> (String, String) {
    let body = format!(
        "{{\"service\":\"w{service}\",\"port\":81,\"weight\":{weight},\
         \"check\":[{{\"kind\":\"ttl\",\"ttl\":\"1h\"}}]}}"
    );
    (format!("/api/instances/p{service}"), body)
}

fn register(writer: &mut Client, service: usize, weight: usize) -> Result<()> {
    let (path, body) = registration(service, weight);
    writer.expect("PUT", &path, body.as_bytes()).map(drop)
}

/// Makes one change. Returns how long it took until the last of `count` watchers was told.
fn change(
    writer: &mut Client,
    watchers: &mut Watchers,
    (path, body): (&str, &str),
    sign: &str,
    count: usize,
) -> Result<Duration> {
    let begun = Instant::now();
    writer.send("PUT", path, body.as_bytes())?;
    let told = watchers.wait_for(sign, count)?;
    writer.good_answer()?;
    watchers.serve_for(CHANGE_INTERVAL)?;
    Ok(told - begun)
}

/// Measures watches each of which is of a service of its own.
fn each(
    kind: WatchKind,
    agent: &Agent,
    writer: &mut Client,
    changes: Changer,
    amount: &Amount,
) -> Result<Vec<Finding>> {
    let before = resident(agent.pid()?)?;
    let mut watchers = Watchers::open(kind, agent, writer, WATCHES, |number| number)?;
    thread::sleep(SETTLE);
    let per_watch = (resident(agent.pid()?)?.saturating_sub(before)) as f64 / WATCHES as f64;
    let (used, start) = (agent.processor_time()?, Instant::now());
    watchers.serve_for(amount.busy)?;
    let idle = share(agent, used, start)?;
    let (mut stored, mut shown) = (Vec::new(), Vec::new());
    for sample in 0..amount.single {
        // Neighbours in time are far apart in number.
        let (service, weight) = (sample * 617 % WATCHES, 10_000 + sample);
        let (path, body) = registration(service, weight);
        let sign = format!("\"weight\":{weight},");
        stored.push(change(writer, &mut watchers, (&path, &body), &sign, 1)?);
        let path = format!("{path}/checks/ttl");
        let body = format!("{{\"status\":\"warning\",\"output\":\"push {sample}\"}}");
        let sign = format!("\"output\":\"push {sample}\"");
        shown.push(change(writer, &mut watchers, (&path, &body), &sign, 1)?);
    }
    let running = changes.start(CHANGES_PER_SECOND);
    watchers.serve_for(Duration::from_secs(1))?;
    let (used, start) = (agent.processor_time()?, Instant::now());
    let told = watchers.serve_for(amount.busy)?;
    let busy = share(agent, used, start)?;
    let rate = told as f64 / start.elapsed().as_secs_f64();
    running.stop()?;
    let name = kind.name();
    let percent = |share: f64| format!("{:.1} % of a core", share * 100.0);
    Ok(vec![
        Finding::alone(
            format!("10,000 {name}: resident, each"),
            "< 20 KiB",
            format!("{:.1} KiB", per_watch / 1024.0),
            per_watch < 20.0 * 1024.0,
        ),
        Finding::alone(
            format!("10,000 {name}, nothing changes: processor time"),
            "",
            percent(idle),
            None,
        ),
        Finding::alone(
            format!("10,000 {name}: a check's change until the one it concerns is told"),
            "p50 < 1 ms",
            spread(&shown),
            median(&shown) < Duration::from_millis(1),
        ),
        Finding::alone(
            format!("10,000 {name}: the same of a registration, which is synced to the disk first"),
            "",
            spread(&stored),
            None,
        ),
        Finding::alone(
            format!("10,000 {name}, 1,000 changes/s: processor time"),
            "< 30 % of a core",
            format!("{} ({}/s told)", percent(busy), grouped(rate)),
            busy < 0.30,
        ),
    ])
}

/// The share of a processor that an agent has used since a moment at which it had used `used`.
fn share(agent: &Agent, used: Duration, since: Instant) -> Result<f64> {
    let used = agent.processor_time()? - used;
    Ok(used.as_secs_f64() / since.elapsed().as_secs_f64())
}

/// Measures watches all of which are of the same service.
fn all(
    kind: WatchKind,
    agent: &Agent,
    writer: &mut Client,
    amount: &Amount,
) -> Result<Vec<Finding>> {
    let mut poll = agent.client()?;
    wait_for("former watches to end", || {
        thread::sleep(Duration::from_millis(50));
        let open = poll.metric("dunlin_http_connections{transport=\"tcp\"}")?;
        Ok(open.context("no count of connections")? < 10.0)
    })?;
    let mut watchers = Watchers::open(kind, agent, writer, WATCHES, |_| 0)?;
    thread::sleep(SETTLE);
    let mut samples = Vec::new();
    for sample in 0..amount.of_all {
        let (path, body) = registration(0, 20_000 + sample);
        let sign = format!("\"weight\":{},", 20_000 + sample);
        samples.push(change(writer, &mut watchers, (&path, &body), &sign, WATCHES)?);
        // All clients poll again, and have to be waiting before the next change.
        watchers.serve_for(Duration::from_secs(1))?;
    }
    let slowest = percentile(&samples, 100.0);
    Ok(vec![Finding::alone(
        format!("10,000 {}: a change until the last of all is told", kind.name()),
        "< 250 ms",
        format!("{}, slowest {}", spread(&samples), time(slowest)),
        median(&samples) < Duration::from_millis(250),
    )])
}
