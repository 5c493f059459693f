//! Reports of one large provider, read without a pause by several clients, and changes of an instance meanwhile.
//!
//! Rounds without readers and with them follow each other, so that a busy machine slows both alike.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use dunlin_bench::rig::agent::Agent;
use dunlin_bench::rig::client::{Client, holds};
use dunlin_bench::rig::finding::{Finding, grouped, spread, time};
use dunlin_bench::rig::fleet::Fleet;
use dunlin_bench::rig::processors::{Processors, pin_own};
use dunlin_bench::rig::release::Release;
use dunlin_bench::rig::repeating::Repeating;
use dunlin_bench::rig::statement::statement;
use dunlin_bench::rig::stats::median;

use super::Args;

/// Instances of the provider. A node may have ten more, and one of them is the one that changes.
const INSTANCES: usize = 9_990;
const READERS: usize = 4;
const PATH: &str = "/api/providers/large";
const TARGET_PER_SECOND: f64 = 2_000.0;
/// The time between two changes, after which the work of the one before is over.
const CHANGE_INTERVAL: Duration = Duration::from_millis(5);

pub(super) fn measure(args: &Args, release: &Release) -> Result<Vec<Finding>> {
    pin_own(Processors::First)?;
    let fleet = Fleet::start(release, 1)?;
    pin_own(Processors::Second)?;
    let agent = &fleet.agents[0];
    let mut client = agent.client()?;
    let instance = |number| format!("{{\"id\":\"i{number}\",\"service\":\"large\",\"port\":80}}");
    client.expect("PUT", PATH, statement((0..INSTANCES).map(instance)).as_bytes())?;
    let report = client.expect("GET", PATH, b"")?;
    let count = format!("\"instances\":{INSTANCES}");
    ensure!(holds(&report, count.as_bytes()), "{}", String::from_utf8_lossy(&report));
    let (rounds, turn) = if args.quick { (3, 1) } else { (args.runs, 2) };
    let turn = Duration::from_secs(turn);
    let (mut quiet, mut busy) = (Vec::new(), Vec::new());
    let (mut reads, mut took) = (0, Duration::ZERO);
    for _ in 0..rounds {
        quiet.extend(changes(&mut client, turn)?);
        let (start, readers) = (Instant::now(), readers(agent)?);
        busy.extend(changes(&mut client, turn)?);
        for reader in readers {
            reads += reader.stop()?.1;
        }
        took += start.elapsed();
    }
    Ok(findings(f64::from(reads) / took.as_secs_f64(), &quiet, &busy))
}

/// Threads that read the provider as fast as the agent answers, each with a client and the number of its reads.
fn readers(agent: &Agent) -> Result<Vec<Repeating<(Client, u32)>>> {
    let reader = |_| -> Result<_> {
        let state = (agent.client()?, 0);
        Ok(Repeating::start(state, Duration::ZERO, |(client, reads)| {
            client.expect("GET", PATH, b"")?;
            *reads += 1;
            Ok(())
        }))
    };
    (0..READERS).map(reader).collect()
}

/// Changes one instance again and again. Returns how long each change took until it was acknowledged.
fn changes(client: &mut Client, time: Duration) -> Result<Vec<Duration>> {
    let start = Instant::now();
    let mut samples = Vec::new();
    while start.elapsed() < time {
        let weight = samples.len() % 2 + 1;
        let body = format!("{{\"service\":\"changing\",\"port\":80,\"weight\":{weight}}}");
        let begun = Instant::now();
        client.expect("PUT", "/api/instances/changing", body.as_bytes())?;
        samples.push(begun.elapsed());
        thread::sleep(CHANGE_INTERVAL);
    }
    Ok(samples)
}

fn findings(per_second: f64, quiet: &[Duration], busy: &[Duration]) -> Vec<Finding> {
    let limit = median(quiet) * 3 / 2;
    vec![
        Finding::alone(
            format!("a provider of 9,990 instances, read by {READERS} clients"),
            "> 2,000/s",
            format!("{}/s", grouped(per_second)),
            per_second > TARGET_PER_SECOND,
        ),
        Finding::alone("a change of an instance, nothing is read", "", spread(quiet), None),
        Finding::alone(
            "a change of an instance beside these reads",
            &format!("p50 < 1.5 × quiet = {}", time(limit)),
            spread(busy),
            median(busy) < limit,
        ),
    ]
}
