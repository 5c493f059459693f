//! Thousands of checks on one agent: what they cost, how evenly they are spread, and what DNS clients notice of them.
//!
//! The agent has the first processor; what is checked and the client of DNS have the second one.

mod target;

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use dunlin_bench::rig::agent::Agent;
use dunlin_bench::rig::finding::{Finding, time};
use dunlin_bench::rig::fleet::Fleet;
use dunlin_bench::rig::pace::pace;
use dunlin_bench::rig::processors::{Processors, pin_own};
use dunlin_bench::rig::questions::Questions;
use dunlin_bench::rig::release::Release;
use dunlin_bench::rig::statement::statement;
use dunlin_bench::rig::stats::{median, percentile};
use dunlin_bench::rig::wait::wait_for;
use target::{Answer, Target};

use super::Args;

pub(super) const ABOUT: &str =
    "10,000 TCP checks and 2,000 HTTP checks: their cost, their spread, DNS beside them (--quick)";

/// Instances that are stated in one request.
const SET: usize = 1_000;
const QUESTIONS_PER_SECOND: u32 = 1_000;
/// Arrivals are counted in parts of this length.
const PART: Duration = Duration::from_millis(100);

/// Checks of one kind.
struct Load {
    what: &'static str,
    kind: &'static str,
    answer: Answer,
    count: usize,
    every: Duration,
}

const LOADS: [Load; 2] = [
    Load {
        what: "10,000 TCP checks every 10 s",
        kind: "tcp",
        answer: Answer::Nothing,
        count: 10_000,
        every: Duration::from_secs(10),
    },
    Load {
        what: "2,000 HTTP checks every 5 s",
        kind: "http",
        answer: Answer::Ok,
        count: 2_000,
        every: Duration::from_secs(5),
    },
];

pub(super) fn run(args: &Args, release: &Release) -> Result<Vec<Finding>> {
    let rounds = if args.quick { 1 } else { 3 };
    let mut findings = Vec::new();
    for load in &LOADS {
        pin_own(Processors::First)?;
        let fleet = Fleet::start(release, 1)?;
        pin_own(Processors::Second)?;
        findings.extend(measure(load, &fleet.agents[0], rounds)?);
    }
    Ok(findings)
}

fn measure(load: &Load, agent: &Agent, rounds: u32) -> Result<Vec<Finding>> {
    let target = Target::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), load.answer)?;
    let time_of_dns = Duration::from_secs(5);
    agent.client()?.expect(
        "PUT",
        "/api/instances/known",
        b"{\"service\":\"known\",\"port\":80}",
    )?;
    let quiet = dns_latency(agent, time_of_dns)?;
    register(load, agent, target.address)?;
    // Every check has run once and has its place within the interval.
    thread::sleep(load.every + Duration::from_secs(2));
    wait_until_passing(load, agent)?;
    target.take();
    let (used, start) = (agent.processor_time()?, Instant::now());
    thread::sleep(load.every * rounds);
    let used = agent.processor_time()? - used;
    let (took, arrivals) = (start.elapsed(), target.take());
    let share = used.as_secs_f64() / took.as_secs_f64();
    let busy = dns_latency(agent, time_of_dns)?;
    let each = used.as_secs_f64() * 1e6 / arrivals.len().max(1) as f64;
    let spread = Spread::of(&arrivals, start, took);
    let wanted = load.count as f64 * PART.as_secs_f64() / load.every.as_secs_f64();
    let dns = |(p50, p99): (Duration, Duration)| format!("p50 {}, p99 {}", time(p50), time(p99));
    Ok(vec![
        Finding::alone(
            format!("{}: processor time", load.what),
            "< 25 % of a core",
            format!("{:.1} % of a core, {each:.0} µs per run", share * 100.0),
            share < 0.25,
        ),
        Finding::alone(
            format!("{}: runs in 100 ms", load.what),
            &format!("{wanted:.0}, nine parts of ten within half of it"),
            format!(
                "mean {:.1}, nine of ten {} to {}, least {}, most {}",
                spread.mean(),
                spread.at(5),
                spread.at(95),
                spread.at(0),
                spread.at(100),
            ),
            spread.is_even(wanted),
        ),
        Finding::alone(
            format!("{}: DNS at 1,000/s meanwhile", load.what),
            &format!("p50 as without checks: {}", dns(quiet)),
            dns(busy),
            busy.0 < quiet.0 * 3 / 2,
        ),
    ])
}

fn dns_latency(agent: &Agent, time: Duration) -> Result<(Duration, Duration)> {
    let question = Questions::one("known.dunlin.internal", 1232);
    let (samples, lost) = pace(agent.dns_address(), &question, QUESTIONS_PER_SECOND, time)?;
    if lost > 0 {
        println!("{lost} DNS questions were not answered in time");
    }
    Ok((median(&samples), percentile(&samples, 99.0)))
}

fn register(load: &Load, agent: &Agent, target: SocketAddr) -> Result<()> {
    let mut client = agent.client()?;
    let (kind, seconds) = (load.kind, load.every.as_secs());
    // A node may have 10,000 instances, and one of them is the one that DNS is asked for.
    for first in (0..load.count - 1).step_by(SET) {
        let instance = |number: usize| {
            format!(
                "{{\"id\":\"c{number}\",\"service\":\"s{}\",\"port\":80,\"check\":[{{\"kind\":\"{kind}\",\
                 \"interval\":\"{seconds}s\",\"target\":\"{target}\"}}]}}",
                number % 1_000,
            )
        };
        let body = statement((first..(first + SET).min(load.count - 1)).map(instance));
        client.expect("PUT", &format!("/api/providers/set{first}"), body.as_bytes())?;
    }
    Ok(())
}

fn wait_until_passing(load: &Load, agent: &Agent) -> Result<()> {
    let mut client = agent.client()?;
    wait_for("all checks to pass", || {
        thread::sleep(Duration::from_millis(50));
        let count = client.metric("dunlin_catalog_instances{health=\"passing\"}")?;
        Ok(count.is_some_and(|count| count as usize >= load.count))
    })
}

/// The number of arrivals in each part of a time, in ascending order.
struct Spread {
    counts: Vec<usize>,
}

impl Spread {
    fn of(arrivals: &[Instant], start: Instant, took: Duration) -> Self {
        let part = |time: Duration| (time.as_millis() / PART.as_millis()) as usize;
        let mut counts = vec![0; part(took).max(1)];
        for arrival in arrivals {
            if let Some(count) = counts.get_mut(part(arrival.saturating_duration_since(start))) {
                *count += 1;
            }
        }
        counts.sort_unstable();
        Self { counts }
    }

    fn mean(&self) -> f64 {
        self.counts.iter().sum::<usize>() as f64 / self.counts.len() as f64
    }

    /// The count that `percent` of all parts do not exceed.
    fn at(&self, percent: usize) -> usize {
        self.counts[(self.counts.len() - 1) * percent / 100]
    }

    /// Whether nine parts of ten hold between half and one and a half times what they should. The others are left to
    /// moments in which the machine has something else to do.
    fn is_even(&self, wanted: f64) -> bool {
        let [few, many] = [5, 95].map(|percent| self.at(percent) as f64);
        few >= 0.5 * wanted && many <= 1.5 * wanted && self.mean() > 0.9 * wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_counted_in_parts() {
        let start = Instant::now();
        let arrivals = [5, 10, 150, 390, 450].map(|ms| start + Duration::from_millis(ms));
        let spread = Spread::of(&arrivals, start, Duration::from_millis(400));
        assert_eq!(spread.counts, [0, 1, 1, 2]);
        assert!((spread.mean() - 1.0).abs() < 1e-9);
        assert!(!spread.is_even(1.0));
    }

    #[test]
    fn a_rare_stall_of_the_machine_is_not_unevenness() {
        let mut counts = vec![10; 100];
        (counts[0], counts[99]) = (0, 40);
        assert!(Spread { counts: counts.clone() }.is_even(10.0));
        counts[80..].fill(20);
        assert!(!Spread { counts }.is_even(10.0));
    }
}
