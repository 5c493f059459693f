//! How much one agent can write, and how far the others fall behind.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use dunlin_bench::rig::finding::{Finding, grouped, spread, time};
use dunlin_bench::rig::fleet::Fleet;

use super::load::{Sets, Writers};
use super::setup::ClusterSetup;

pub(super) fn durable_writes(setup: &ClusterSetup) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (writers, target) in [(32, "> 8,000/s, lag < 100 ms"), (1, ""), (8, "")] {
        let fleet = setup.fleet()?;
        let load = Writers::start(&fleet.agents[0], writers)?;
        thread::sleep(setup.pick(Duration::from_secs(10), Duration::from_secs(4)));
        let written = load.stop()?;
        let lag = lag(&fleet, Instant::now())?;
        let rate = written.per_second();
        let reference = match writers {
            1 => "866/s, p50 0.86 ms, not synced",
            8 => "845/s",
            _ => "855/s",
        };
        let measured =
            format!("{}/s, {}, lag {}", grouped(rate), spread(&written.acknowledged), time(lag));
        let is_met = rate > 8_000.0 && lag < Duration::from_millis(100);
        findings.push(Finding::new(
            format!("durable-writes: single rows, {writers} writers on A"),
            reference,
            target,
            measured,
            (!target.is_empty()).then_some(is_met),
        ));
    }
    Ok(findings)
}

pub(super) fn bulk(setup: &ClusterSetup) -> Result<Vec<Finding>> {
    const ROWS: usize = 100;
    let fleet = setup.fleet()?;
    let mut sets = Sets::new(&fleet.agents[0], 5, ROWS)?;
    let start = Instant::now();
    let times = sets.state_for(setup.pick(Duration::from_secs(10), Duration::from_secs(4)))?;
    let rate = (times.len() * ROWS) as f64 / start.elapsed().as_secs_f64();
    let lag = lag(&fleet, Instant::now())?;
    Ok(vec![Finding::new(
        "bulk: 100-row commits, one writer on A",
        "5,400 rows/s; replicas fall behind by 1,500 rows/s",
        "> 50,000 rows/s, lag < 200 ms",
        format!("{} rows/s, {}, lag {}", grouped(rate), spread(&times), time(lag)),
        rate > 50_000.0 && lag < Duration::from_millis(200),
    )])
}

/// The time since `end`, when the first agent acknowledged its last write, until all others have it.
fn lag(fleet: &Fleet, end: Instant) -> Result<Duration> {
    let writer = &fleet.agents[0];
    let head = writer.head_of(&writer.name)?;
    for other in &fleet.agents[1..] {
        other.wait_for_head(&writer.name, head)?;
    }
    Ok(end.elapsed())
}
