//! Lookups over HTTP: as many as wrk can ask, and the time of each at half of that rate.
//!
//! A bare server that has the same answer ready is asked in turns with the agent: where both take longer, the machine is
//! the reason.
//!
//! The paced requests are our own. h2load (`--rps`) sends what each connection owes every 10 ms in one burst and counts from the
//! moment of sending, so a server that stands still delays few samples; here each counts from when it was due.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use dunlin_bench::rig::agent::Agent;
use dunlin_bench::rig::client::read_head;
use dunlin_bench::rig::crowd::Crowd;
use dunlin_bench::rig::finding::{Finding, grouped, time};
use dunlin_bench::rig::fleet::Fleet;
use dunlin_bench::rig::process::Process;
use dunlin_bench::rig::processors::{Processors, pin_own};
use dunlin_bench::rig::program::{command, output};
use dunlin_bench::rig::release::Release;
use dunlin_bench::rig::stats::{median, percentile};
use dunlin_bench::rig::usage::processor_time;
use dunlin_bench::rig::wait::wait_for;

use super::Args;

const INSTANCES: usize = 3;
/// The last octet of the bare server's address.
const BARE: u8 = 200;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The path that is asked for.
const PATH: &str = "/api/services/http.api.prod.shop";
const TARGET_PER_SECOND: f64 = 60_000.0;
/// The number of connections that wrk opens.
const CONNECTIONS: usize = 32;
/// The parts of a second at half load, each of which has a p99 of its own.
const PARTS_PER_SECOND: usize = 10;
/// The connections at half load, which is the most requests that may be under way at a time.
const MAX_PACED_CONNECTIONS: usize = 64;

pub(super) fn measure(args: &Args, release: &Release) -> Result<Vec<Finding>> {
    let version = command("wrk", ["-v"]).output();
    let Ok(version) = version else {
        bail!(
            "wrk is missing; to install it, as root: apt-get install --no-install-recommends wrk"
        );
    };
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    println!("{}", version.lines().next().unwrap_or_default());
    pin_own(Processors::First)?;
    let fleet = Fleet::start(release, 1)?;
    pin_own(Processors::Second)?;
    let agent = &fleet.agents[0];
    let mut client = agent.client()?;
    for number in 0..INSTANCES {
        let body = "{\"service\":\"http.api.prod.shop\",\"port\":8080,\"tags\":[\"v2\"]}";
        client.expect("PUT", &format!("/api/instances/i{number}"), body.as_bytes())?;
    }
    let bare = Bare::start(agent)?;
    let servers = [(agent.address(), agent.pid()?), (bare.address, bare.process.pid())];
    let (rounds, turn) = if args.quick { (3, 1) } else { (args.runs, 2) };
    let mut floods = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (floods, (address, pid)) in floods.iter_mut().zip(servers) {
            floods.push(flood(address, pid, turn)?);
        }
    }
    let [own, bare] = floods.map(middle);
    let pace = (own.per_second / 2.0) as u32;
    let mut waits = [Waits::default(), Waits::default()];
    for _ in 0..rounds {
        for (waits, (address, _)) in waits.iter_mut().zip(servers) {
            let samples = paced(address, pace, Duration::from_secs(u64::from(turn)))?;
            waits.add(samples, pace as usize / PARTS_PER_SECOND);
        }
    }
    Ok([rows_at_full_load(&own, &bare), rows_at_half_load(pace, &waits)].concat())
}

fn rows_at_full_load(own: &WrkRun, bare: &WrkRun) -> Vec<Finding> {
    let row = "lookups with keep-alive, 3 instances, 32 connections: answers";
    let per_second = own.per_second;
    let latency = |flood: &WrkRun| flood.latency.clone();
    vec![
        Finding::alone(
            row,
            "> 60,000/s",
            format!("{}/s", grouped(per_second)),
            per_second > TARGET_PER_SECOND,
        ),
        Finding::alone(
            "the same: per core of the agent's own processor time",
            "> 60,000/s",
            own.told(),
            own.per_core() > TARGET_PER_SECOND,
        ),
        Finding::alone("the same: latency as wrk has it, at full load", "", latency(own), None),
        Finding::alone("bare server: per core", "", bare.told(), None),
        Finding::alone("bare server: latency as wrk has it, at full load", "", latency(bare), None),
    ]
}

fn rows_at_half_load(pace: u32, [own, bare]: &[Waits; 2]) -> Vec<Finding> {
    let pace = grouped(f64::from(pace));
    vec![
        Finding::alone(
            format!("at half of that, {pace}/s: latency"),
            "p99 < 1 ms",
            own.told(),
            percentile(&own.all, 99.0) < Duration::from_millis(1),
        ),
        Finding::alone(format!("bare server at {pace}/s: latency"), "", bare.told(), None),
    ]
}

/// A bare server that sends an answer of the agent.
struct Bare {
    address: SocketAddr,
    process: Process,
}

impl Bare {
    fn start(agent: &Agent) -> Result<Self> {
        let mut answer = Vec::new();
        Crowd::open(agent.address(), 1, |_| request())?.take(
            ANSWER_TIMEOUT,
            &mut |_, octets| {
                answer.extend_from_slice(octets);
                Ok(())
            },
        )?;
        let mut body = &answer[..];
        let head = read_head(&mut body)?;
        if head.status != 200 || head.length != body.len() {
            bail!("no whole answer: {}", String::from_utf8_lossy(&answer));
        }
        let file = agent.data.with_extension("answer");
        fs::write(&file, answer)?;
        let SocketAddr::V4(of_agent) = agent.address() else { bail!("the agent is on IPv6") };
        let [a, b, c, _] = of_agent.ip().octets();
        let address = SocketAddr::from((Ipv4Addr::new(a, b, c, BARE), of_agent.port()));
        let program = std::env::current_exe()?.display().to_string();
        let args = ["bare".to_owned(), address.to_string(), file.display().to_string()];
        let log = file.with_extension("log");
        let process = Process::serve(Processors::First, &log, &program, &args)?;
        wait_for("the bare server", || Ok(TcpStream::connect(address).is_ok()))?;
        Ok(Self { address, process })
    }
}

/// How long answers took. Where a machine stands still for some milliseconds now and then, these decide the p99 of the
/// whole. Therefore the median of the p99s of all tenths of a second is printed beside it.
#[derive(Default)]
struct Waits {
    all: Vec<Duration>,
    p99s: Vec<Duration>,
}

impl Waits {
    /// Adds the samples of some time, `part` in each part of it.
    fn add(&mut self, samples: Vec<Duration>, part: usize) {
        self.p99s.extend(samples.chunks_exact(part).map(|part| percentile(part, 99.0)));
        self.all.extend(samples);
    }

    fn told(&self) -> String {
        let times = [median(&self.all), percentile(&self.all, 99.0), median(&self.p99s)];
        let [p50, p99, middle] = times.map(time);
        let parts = self.p99s.len();
        format!(
            "p50 {p50}, p99 {p99}; p99 of the middle one of {parts} tenths of a second {middle}"
        )
    }
}

fn middle(mut floods: Vec<WrkRun>) -> WrkRun {
    floods.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    floods.swap_remove(floods.len() / 2)
}

struct WrkRun {
    per_second: f64,
    /// The server's processor time per answer.
    micros: f64,
    latency: String,
}

impl WrkRun {
    fn per_core(&self) -> f64 {
        1e6 / self.micros
    }

    fn told(&self) -> String {
        format!("{}/s, {:.1} µs each", grouped(self.per_core()), self.micros)
    }
}

fn flood(server: SocketAddr, pid: u32, seconds: u32) -> Result<WrkRun> {
    let url = format!("http://{server}{PATH}");
    let (connections, time) = (CONNECTIONS.to_string(), format!("{seconds}s"));
    let used = processor_time(pid)?;
    let args = ["-t", "1", "-c", &connections, "-d", &time, "--latency", &url];
    let said = output("wrk", args)?;
    let used = processor_time(pid)? - used;
    let (answers, per_second, latency) =
        read(&said).with_context(|| format!("wrk says:\n{said}"))?;
    Ok(WrkRun { per_second, micros: used.as_secs_f64() * 1e6 / answers, latency })
}

/// Answers, answers per second and latencies, unless an answer was bad.
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

fn request() -> String {
    format!("GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

fn require_ok(octets: &[u8]) -> Result<()> {
    if octets.starts_with(b"HTTP/1.1 200 ") {
        return Ok(());
    }
    Err(anyhow!("{}", String::from_utf8_lossy(octets)))
}

/// Asks at a steady pace, on whichever connection is free. Returns how long each answer took, counted from when its
/// question was due.
fn paced(server: SocketAddr, per_second: u32, time: Duration) -> Result<Vec<Duration>> {
    let request = request();
    let mut crowd = Crowd::open(server, MAX_PACED_CONNECTIONS, |_| request.clone())?;
    let mut free: Vec<usize> = Vec::new();
    while free.len() < MAX_PACED_CONNECTIONS {
        crowd.take(Duration::from_secs(1), &mut |number, octets| {
            require_ok(octets)?;
            free.push(number);
            Ok(())
        })?;
    }
    let interval = Duration::from_secs(1) / per_second;
    let mut due_at = vec![Instant::now(); MAX_PACED_CONNECTIONS];
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
            require_ok(octets)?;
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

    #[test]
    fn a_pause_is_in_the_whole_and_not_in_the_middle_part() {
        let mut samples = vec![Duration::from_micros(40); 500];
        samples[..10].fill(Duration::from_millis(9));
        let mut waits = Waits::default();
        waits.add(samples, 100);
        assert_eq!(
            waits.told(),
            "p50 0.04 ms, p99 9.00 ms; p99 of the middle one of 5 tenths of a second 0.04 ms"
        );
    }

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
