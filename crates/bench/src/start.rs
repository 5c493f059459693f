//! How long an agent takes from its start to its first good answer, and what an idle agent costs.

use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use dunlin_bench::rig::agent::Agent;
use dunlin_bench::rig::dev_agent::DevAgent;
use dunlin_bench::rig::finding::{Finding, megabytes, time};
use dunlin_bench::rig::fleet::Fleet;
use dunlin_bench::rig::pace::ask;
use dunlin_bench::rig::questions::{HEADER_OCTETS, Questions};
use dunlin_bench::rig::release::Release;
use dunlin_bench::rig::seed::seed;
use dunlin_bench::rig::stats::{median, percentile};
use dunlin_bench::rig::usage::{processor_time, resident, wait_until_idle};

use super::Args;

pub(super) const ABOUT: &str = "from the start of an agent until it answers, empty and with 100,000 instances; idle agents (--runs N)";

/// Nodes whose rows are stored, services that each has an instance of, and nodes with the same services.
const STORED: [u64; 3] = [10, 10_000, 10];
const NAME: &str = "s017.api.prod.shop.dunlin.internal";
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The time after which the question is asked again. It is short, since at first no server listens.
const ASK_INTERVAL: Duration = Duration::from_millis(1);
/// How long an idle agent is watched.
const IDLE_INTERVAL: Duration = Duration::from_secs(20);

pub(super) fn run(args: &Args, release: &Release) -> Result<Vec<Finding>> {
    let mut findings = vec![ready(release, args.runs)?];
    let mut fleet = Fleet::prepare(release, 1)?;
    let agent = &mut fleet.agents[0];
    agent.start()?;
    findings.extend(idle("idle agent, nothing stored", agent, true)?);
    agent.kill()?;
    seed(release, &agent.data, &STORED)?;
    let mut samples = Vec::new();
    for _ in 0..args.runs {
        samples.push(first_answer(agent)?);
        agent.kill()?;
    }
    let first = median(&samples);
    findings.push(Finding::alone(
        "100,000 instances stored: exec until the first answer of DNS",
        "< 300 ms",
        spread(&samples),
        first < Duration::from_millis(300),
    ));
    agent.start()?;
    findings.extend(idle("idle agent, 100,000 instances stored", agent, false)?);
    Ok(findings)
}

/// `dunlin dev`, with nothing stored.
fn ready(release: &Release, runs: u32) -> Result<Finding> {
    let mut samples = Vec::new();
    for _ in 0..runs {
        let agent = DevAgent::start(release)?;
        samples.push(agent.ready_after);
        agent.stop()?;
    }
    Ok(Finding::alone("`dunlin dev` until /readyz answers 200", "", spread(&samples), None))
}

fn spread(samples: &[Duration]) -> String {
    let [fastest, tail] = [0.0, 99.0].map(|percent| time(percentile(samples, percent)));
    format!("p50 {}, fastest {fastest}, p99 {tail} ({} runs)", time(median(samples)), samples.len())
}

/// Starts the agent and asks for a stored name until it answers.
fn first_answer(agent: &mut Agent) -> Result<Duration> {
    let question = Questions::one(NAME, 1232);
    let socket = UdpSocket::bind((agent.dns_address().ip(), 0))?;
    socket.connect(agent.dns_address())?;
    socket.set_read_timeout(Some(ASK_INTERVAL))?;
    let mut answer = [0; 4096];
    let start = Instant::now();
    agent.spawn()?;
    loop {
        let length = ask(&socket, question.packet(0), &mut answer);
        // The answer has no error code and holds records (RFC 1035 §4.1.1).
        if length.is_some_and(|length| length > HEADER_OCTETS)
            && answer[3] & 15 == 0
            && answer[7] > 0
        {
            return Ok(start.elapsed());
        }
        if start.elapsed() > ANSWER_TIMEOUT {
            bail!("no answer within {ANSWER_TIMEOUT:?}; the agent says:\n{}", agent.last_words());
        }
        if length.is_none() {
            thread::sleep(ASK_INTERVAL / 4);
        }
    }
}

fn idle(what: &str, agent: &Agent, is_bounded: bool) -> Result<Vec<Finding>> {
    let pid = agent.pid()?;
    wait_until_idle(pid)?;
    let (used, start) = (processor_time(pid)?, Instant::now());
    thread::sleep(IDLE_INTERVAL);
    let share = (processor_time(pid)? - used).as_secs_f64() / start.elapsed().as_secs_f64();
    let resident = resident(pid)?;
    let target = |text| if is_bounded { text } else { "" };
    Ok(vec![
        Finding::alone(
            format!("{what}: resident"),
            target("< 25 MiB"),
            megabytes(resident),
            is_bounded.then_some(resident < 25 << 20),
        ),
        Finding::alone(
            format!("{what}: processor time over 20 s"),
            "< 0.3 % of a core",
            format!("{:.2} % of a core", share * 100.0),
            share < 0.003,
        ),
    ])
}
