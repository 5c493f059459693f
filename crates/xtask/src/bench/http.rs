//! Lookups over HTTP: as fast as wrk asks, and at half of that pace how long each takes.
//!
//! The agent has the first processor, the load generator the second one.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::Args;
use super::cluster::finding::{Finding, grouped, render_alone, time};
use super::cluster::fleet::{Agent, Fleet};
use super::crowd::Crowd;
use super::dns::process::{pin, processor_time};
use super::stats::{median, percentile};
use crate::run::Cmd;
use crate::workspace::Workspace;

pub(super) const ABOUT: &str =
    "lookups of a service with three instances, with wrk and at half load (--runs N, --quick)";

const SERVER_CORE: &str = "0";
const LOAD_CORE: &str = "1";
const INSTANCES: usize = 3;
const PATH: &str = "/api/services/http.api.prod.shop";
const TARGET_PER_SECOND: f64 = 60_000.0;
/// Connections of wrk.
const CONNECTIONS: usize = 32;
/// Connections at half load: requests that may be under way at a time.
const PACED_CONNECTIONS: usize = 64;

pub(super) fn run(args: &Args) -> Result<()> {
    let version = Cmd::new("wrk", ["-v"]).command().output();
    let Ok(version) = version else {
        bail!(
            "wrk is missing; to install it, as root: apt-get install --no-install-recommends wrk"
        );
    };
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    println!("{}", version.lines().next().unwrap_or_default());
    let binary = Workspace::read()?.release_binary("dunlin")?;
    // An agent looks at the processors it has when it starts.
    pin(std::process::id(), SERVER_CORE)?;
    let fleet = Fleet::start(&binary, 1)?;
    pin(std::process::id(), LOAD_CORE)?;
    let agent = &fleet.agents[0];
    let mut client = agent.client()?;
    for number in 0..INSTANCES {
        let body = "{\"service\":\"http.api.prod.shop\",\"port\":8080,\"tags\":[\"v2\"]}";
        client.expect("PUT", &format!("/api/instances/i{number}"), body.as_bytes())?;
    }
    let (rounds, turn) = if args.quick { (3, 1) } else { (args.runs, 2) };
    let mut floods: Vec<Flood> = (0..rounds).map(|_| flood(agent, turn)).collect::<Result<_>>()?;
    floods.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    let middle = &floods[floods.len() / 2];
    let pace = (middle.per_second / 2.0) as u32;
    // One pause of the machine, as long as a hundredth of a round, is that round's p99: the middle one is told.
    let (mut p50s, mut p99s) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let samples = paced(agent, pace, Duration::from_secs(u64::from(turn)))?;
        p50s.push(median(&samples));
        p99s.push(percentile(&samples, 99.0));
    }
    let (p50, p99, worst) = (median(&p50s), median(&p99s), percentile(&p99s, 100.0));
    println!(
        "{}",
        render_alone(&[
            Finding::alone(
                "lookups with keep-alive, 3 instances, 32 connections: answers",
                "> 60,000/s",
                format!("{}/s", grouped(middle.per_second)),
                middle.per_second > TARGET_PER_SECOND,
            ),
            Finding::alone(
                "the same: per core of the agent's own processor time",
                "> 60,000/s",
                format!("{}/s, {:.1} µs each", grouped(middle.per_core()), middle.micros),
                middle.per_core() > TARGET_PER_SECOND,
            ),
            Finding::alone(
                "the same: latency as wrk has it, at full load",
                "",
                middle.latency.clone(),
                None
            ),
            Finding::alone(
                format!("at half of that, {}/s: latency", grouped(f64::from(pace))),
                "p99 < 1 ms, in the middle round",
                format!(
                    "p50 {}, p99 {}, medians of {rounds} rounds; p99 of the worst {}",
                    time(p50),
                    time(p99),
                    time(worst)
                ),
                p99 < Duration::from_millis(1),
            ),
        ])
    );
    Ok(())
}

struct Flood {
    per_second: f64,
    /// Of the agent's processor time, per answer.
    micros: f64,
    latency: String,
}

impl Flood {
    fn per_core(&self) -> f64 {
        1e6 / self.micros
    }
}

fn flood(agent: &Agent, seconds: u32) -> Result<Flood> {
    let url = format!("http://{}{PATH}", agent.address());
    let (connections, time) = (CONNECTIONS.to_string(), format!("{seconds}s"));
    let used = processor_time(agent.pid()?)?;
    let args = ["-t", "1", "-c", &connections, "-d", &time, "--latency", &url];
    let said = Cmd::new("wrk", args).output()?;
    let used = processor_time(agent.pid()?)? - used;
    let (answers, per_second, latency) =
        read(&said).with_context(|| format!("wrk says:\n{said}"))?;
    Ok(Flood { per_second, micros: used.as_secs_f64() * 1e6 / answers, latency })
}

/// Answers, answers per second and latencies, if there were good answers alone.
fn read(said: &str) -> Result<(f64, f64, String)> {
    if said.contains("Non-2xx") || said.contains("Socket errors") {
        bail!("not all answers were good");
    }
    let lines = || said.lines().map(str::trim);
    let of = |name: &str| lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let answers =
        lines().find_map(|line| line.split_once(" requests in ")).context("no answers")?;
    let per_second = of("Requests/sec:").context("no rate")?.parse()?;
    let latency = [("p50", "50%"), ("p99", "99%")]
        .map(|(name, line)| format!("{name} {}", of(line).unwrap_or("unknown")));
    Ok((answers.0.parse()?, per_second, latency.join(", ")))
}

/// Asks at a steady pace, on whichever connection is free. Returns how long each answer took, counted from when its
/// question was due.
fn paced(agent: &Agent, per_second: u32, time: Duration) -> Result<Vec<Duration>> {
    let request = format!("GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut crowd = Crowd::open(agent.address(), PACED_CONNECTIONS, |_| request.clone())?;
    let mut free: Vec<usize> = Vec::new();
    while free.len() < PACED_CONNECTIONS {
        crowd.take(Duration::from_secs(1), &mut |number, octets| {
            if !octets.starts_with(b"HTTP/1.1 200 ") {
                return Err(anyhow!("{}", String::from_utf8_lossy(octets)));
            }
            free.push(number);
            Ok(())
        })?;
    }
    let interval = Duration::from_secs(1) / per_second;
    let mut due_at = vec![Instant::now(); PACED_CONNECTIONS];
    let start = Instant::now();
    let (mut due, mut samples) = (start, Vec::new());
    while start.elapsed() < time {
        while Instant::now() >= due {
            let Some(number) = free.pop() else { break };
            crowd.send(number, &request)?;
            due_at[number] = due;
            due += interval;
        }
        crowd.take(Duration::ZERO, &mut |number, octets| {
            if !octets.starts_with(b"HTTP/1.1 200 ") {
                return Err(anyhow!("{}", String::from_utf8_lossy(octets)));
            }
            samples.push(due_at[number].elapsed());
            free.push(number);
            Ok(())
        })?;
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "Running 1s test @ http://127.0.0.1:1/\n  1 threads and 32 connections\n  \
        Latency Distribution\n     50%  401.00us\n     75%  410.00us\n     99%    1.03ms\n  \
        79214 requests in 1.00s, 31.1MB read\nRequests/sec:  79201.50\nTransfer/sec:     31.10MB\n";

    #[test]
    fn what_wrk_says_is_understood() {
        let (answers, per_second, latency) = read(SAID).unwrap();
        assert!((answers - 79_214.0).abs() < 0.1 && (per_second - 79_201.5).abs() < 0.1);
        assert_eq!(latency, "p50 401.00us, p99 1.03ms");
    }

    #[test]
    fn bad_answers_are_no_result() {
        let bad = SAID.replace("Requests/sec", "  Non-2xx or 3xx responses: 3\nRequests/sec");
        assert!(read(&bad).is_err());
        assert!(read("").is_err());
    }
}
