//! Agents that are stopped, killed and started again.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dunlin_bench::rig::agent::Agent;
use dunlin_bench::rig::finding::{Finding, spread, time};
use dunlin_bench::rig::fleet::Fleet;
use dunlin_bench::rig::repeating::Repeating;
use dunlin_bench::rig::stats::percentile;
use rustix::process::Signal;
use serde_json::Value;

use super::load::{registration, set};
use super::setup::ClusterSetup;

/// The most events of nodes that wait until they are looked at.
const MAX_NEWS: usize = 65_536;
/// Waiting for an event fails after this time, which is longer than any agent takes to find another one down.
const NEWS_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn stopped(setup: &ClusterSetup) -> Result<Vec<Finding>> {
    let fleet = setup.fleet()?;
    let (writer, sleeper) = (&fleet.agents[0], &fleet.agents[1]);
    let mut client = writer.client()?;
    let pause = Duration::from_secs(setup.pick(60, 15));
    let stopped = Instant::now();
    sleeper.signal(Signal::STOP)?;
    for batch in 0..50u32 {
        let body = set(&format!("batch{batch}"), 100, 1);
        client.expect("PUT", &format!("/api/providers/batch{batch}"), body.as_bytes())?;
        // The changes are spread over the whole pause: B's kernel receives the early ones, and the late ones find no link.
        let due = stopped + (batch + 1) * pause / 50;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    let head = writer.head_of(&writer.name)?;
    let continued = Instant::now();
    sleeper.signal(Signal::CONT)?;
    sleeper.wait_for_head(&writer.name, head)?;
    let took = continued.elapsed();
    Ok(vec![Finding::new(
        format!("stopped: B stands still for {} s while 5,000 rows change on A", pause.as_secs()),
        "equal 0.6 s / 15.7 s after 20 s / 60 s",
        "equal < 2 s later",
        format!("equal {} later", time(took)),
        took < Duration::from_secs(2),
    )])
}

pub(super) fn killed_writer(setup: &ClusterSetup) -> Result<Vec<Finding>> {
    const WRITES: u32 = 100;
    let mut fleet = setup.fleet()?;
    // The others are killed, since the kernel would receive what is sent to an agent that is only stopped.
    for other in &mut fleet.agents[1..] {
        other.kill()?;
    }
    let mut client = fleet.agents[0].client()?;
    for weight in 1..=WRITES {
        client.expect("PUT", "/api/instances/last", registration("last", weight).as_bytes())?;
    }
    fleet.agents[0].kill()?;
    let (first, others) = fleet.agents.split_at_mut(1);
    for other in others.iter_mut() {
        other.start()?;
    }
    let mut watches = Vec::new();
    for other in others.iter() {
        watches.push(other.watch("last")?);
    }
    let start = Instant::now();
    first[0].spawn()?;
    for watch in &mut watches {
        watch.wait_for_text(&format!("\"weight\":{WRITES},"))?;
    }
    let took = start.elapsed();
    Ok(vec![Finding::new(
        "killed-writer: acknowledged while no other ran, then kill -9; from A's restart until all have it",
        "28 to 35 s",
        "< 2 s",
        time(took),
        took < Duration::from_secs(2),
    )])
}

/// An event in which one agent reports about a node.
struct News {
    at: Instant,
    observer: usize,
    kind: String,
    node: String,
}

/// Follows the events of an agent until its stream ends.
fn follow(agent: &Agent, observer: usize, news: SyncSender<News>) -> Result<()> {
    let mut events = agent.events()?;
    thread::spawn(move || {
        while let Ok(event) = events.next_event() {
            let at = Instant::now();
            let text = String::from_utf8_lossy(event);
            let data = text.lines().find_map(|line| line.strip_prefix("data: "));
            let event: Value = data.and_then(|d| serde_json::from_str(d).ok()).unwrap_or_default();
            let word = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            let (kind, node) = (word("kind"), word("node"));
            // The receiver is gone when the measurement is over.
            if kind.starts_with("Node") && news.send(News { at, observer, kind, node }).is_err() {
                return;
            }
        }
    });
    Ok(())
}

fn follow_all(fleet: &Fleet) -> Result<(SyncSender<News>, Receiver<News>)> {
    let (sender, news) = sync_channel(MAX_NEWS);
    for (observer, agent) in fleet.agents.iter().enumerate() {
        follow(agent, observer, sender.clone())?;
    }
    Ok((sender, news))
}

pub(super) fn crash(setup: &ClusterSetup) -> Result<Vec<Finding>> {
    let sizes =
        if setup.is_size_given { vec![setup.agents] } else { setup.pick(vec![3, 10, 50], vec![3]) };
    let mut findings = Vec::new();
    for size in sizes {
        let kills = setup.pick(if size > 10 { 10 } else { 20 }, 5);
        let (all, false_alarms) = crashes(Fleet::start(&setup.release, size)?, kills)?;
        findings.push(Finding::new(
            format!("crash: kill -9 of one of {size} agents until all others say down"),
            "",
            "p99 < 2 s",
            format!("{}; false alarms: {}", spread(&all), listed(&false_alarms)),
            percentile(&all, 99.0) < Duration::from_secs(2) && false_alarms.is_empty(),
        ));
    }
    Ok(findings)
}

/// Kills one agent after the other. Returns how long it took each time until all others knew, and which agents reported a
/// node as down that was alive.
fn crashes(mut fleet: Fleet, kills: usize) -> Result<(Vec<Duration>, Vec<String>)> {
    let (sender, news) = follow_all(&fleet)?;
    let (mut samples, mut false_alarms) = (Vec::new(), Vec::new());
    let size = fleet.agents.len();
    for kill in 0..kills {
        let victim = kill % size;
        let name = fleet.agents[victim].name.clone();
        let start = Instant::now();
        fleet.agents[victim].kill()?;
        let mut missing: Vec<usize> = (0..size).filter(|agent| *agent != victim).collect();
        let mut last = start;
        while !missing.is_empty() {
            let News { at, observer, kind, node } = news
                .recv_timeout(NEWS_TIMEOUT)
                .with_context(|| format!("{} agents never noticed", missing.len()))?;
            if kind != "NodeDown" {
                continue;
            }
            if node != name {
                false_alarms.push(format!("n{} of {node}, while {name} was", observer + 1));
            } else if at > start {
                missing.retain(|agent| *agent != observer);
                last = at;
            }
        }
        samples.push(last - start);
        fleet.agents[victim].start()?;
        follow(&fleet.agents[victim], victim, sender.clone())?;
        fleet.wait_until_joined()?;
        // The news of its return must not disturb the next sample.
        thread::sleep(Duration::from_secs(1));
        let late = news.try_iter().filter(|news| news.kind == "NodeDown");
        false_alarms.extend(late.map(|News { observer, node, .. }| {
            format!("n{} of {node}, after {name} was back", observer + 1)
        }));
    }
    Ok((samples, false_alarms))
}

fn listed(alarms: &[String]) -> String {
    if alarms.is_empty() { "none".to_owned() } else { alarms.join("; ") }
}

pub(super) fn false_alarms(setup: &ClusterSetup) -> Result<Vec<Finding>> {
    let fleet = setup.fleet()?;
    let (_sender, news) = follow_all(&fleet)?;
    let cores = thread::available_parallelism().map_or(2, usize::from);
    let spin = |_| Repeating::start((), Duration::ZERO, |()| Ok(()));
    let spinners: Vec<_> = (0..cores).map(spin).collect();
    let time = Duration::from_secs(setup.pick(600, 60));
    thread::sleep(time);
    spinners.into_iter().try_for_each(Repeating::stop)?;
    let alarms = news.try_iter().filter(|news| news.kind == "NodeDown").count();
    Ok(vec![Finding::new(
        format!(
            "false-alarms: {} agents, {} s with a busy thread per core",
            setup.agents,
            time.as_secs()
        ),
        "",
        "none",
        format!("{alarms} nodes called down"),
        alarms == 0,
    )])
}
