//! How long news takes between idle agents and between busy ones.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use dunlin_bench::rig::finding::{Finding, spread, time};
use dunlin_bench::rig::repeating::Repeating;
use dunlin_bench::rig::stats::{median, percentile};

use super::load::{Probe, Sets, Writers};
use super::seeded;
use super::setup::ClusterSetup;

/// The time between two changes, after which the work of the one before is over.
const CHANGE_INTERVAL: Duration = Duration::from_millis(5);
/// How long writers run before anything is measured.
const WARM_UP: Duration = Duration::from_millis(500);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub(super) fn write_to_watch(setup: &ClusterSetup) -> Result<Vec<Finding>> {
    let fleet = setup.fleet()?;
    let mut probe = Probe::new(&fleet.agents[0], &fleet.agents[1])?;
    let samples = sample(setup.pick(1_000, 300), || probe.change())?;
    let mut own = Probe::new(&fleet.agents[0], &fleet.agents[0])?;
    let at_home = sample(setup.pick(1_000, 300), || own.change())?;
    let is_met = median(&samples) < ms(3) && percentile(&samples, 99.0) < ms(10);
    Ok(vec![
        Finding::new(
            "write-to-watch: A's synced write until a watcher on B is told, idle",
            "p50 345 ms, p99 612 ms",
            "p50 < 3 ms, p99 < 10 ms",
            spread(&samples),
            is_met,
        ),
        Finding::new("the same, watcher on A", "", "", spread(&at_home), None),
    ])
}

pub(super) fn starved(setup: &ClusterSetup) -> Result<Vec<Finding>> {
    let fleet = setup.fleet()?;
    let (a, b) = (&fleet.agents[0], &fleet.agents[1]);
    let mut probe = Probe::new(a, b)?;
    let writers = Writers::start(b, 8)?;
    thread::sleep(WARM_UP);
    let samples = sample(setup.pick(1_000, 200), || probe.change())?;
    let written = writers.stop()?;
    let measured = format!("{}; B's writers {:.0}/s", spread(&samples), written.per_second());
    Ok(vec![Finding::new(
        "starved: A's write until told on B, which serves 8 local writers",
        "4 writers: p50 5.3 s; 8 writers: never",
        "p99 < 50 ms",
        measured,
        percentile(&samples, 99.0) < ms(50),
    )])
}

pub(super) fn two_writers(setup: &ClusterSetup) -> Result<Vec<Finding>> {
    let fleet = setup.fleet()?;
    let (a, b) = (&fleet.agents[0], &fleet.agents[1]);
    let mut probes = [Probe::new(a, b)?, Probe::new(b, a)?];
    let loads = [Writers::start(a, 8)?, Writers::start(b, 8)?];
    thread::sleep(WARM_UP);
    let mut samples = Vec::new();
    for probe in &mut probes {
        samples.extend(sample(setup.pick(500, 100), || probe.change())?);
    }
    let mut rate = 0.0;
    for load in loads {
        rate += load.stop()?.per_second();
    }
    Ok(vec![Finding::new(
        "two-writers: A and B with 8 writers each, one's news on the other",
        "does not come through",
        "p99 < 100 ms",
        format!("{}; writers together {rate:.0}/s", spread(&samples)),
        percentile(&samples, 99.0) < ms(100),
    )])
}

pub(super) fn urgent_under_load(setup: &ClusterSetup) -> Result<Vec<Finding>> {
    let fleet = setup.fleet()?;
    let (a, b) = (&fleet.agents[0], &fleet.agents[1]);
    let mut probe = Probe::new(a, b)?;
    let idle = sample(setup.pick(500, 100), || probe.deregister())?;
    let bulk = Repeating::start(Sets::new(a, 5, 100)?, Duration::ZERO, Sets::state_next);
    thread::sleep(WARM_UP);
    let start = Instant::now();
    let samples = sample(setup.pick(500, 100), || probe.deregister())?;
    let took = start.elapsed();
    let rate = bulk.stop()?.stated() as f64 * 100.0 / (took + WARM_UP).as_secs_f64();
    drop(fleet);
    let joining = urgent_while_joining(setup)?;
    let most = percentile(&idle, 99.0) * 3;
    let target = format!("p99 < 3 × idle = {}", time(most));
    let met = |samples: &[Duration]| !samples.is_empty() && percentile(samples, 99.0) < most;
    Ok(vec![
        Finding::new(
            "urgent news: deregistered on A until told on B, idle",
            "",
            "",
            spread(&idle),
            None,
        ),
        Finding::new(
            "urgent-under-load: while A states 100-row sets at full speed",
            "",
            &target,
            format!("{}; {rate:.0} rows/s", spread(&samples)),
            met(&samples),
        ),
        Finding::new(
            "urgent-under-load: while empty B gets 100,000 rows from A",
            "",
            &target,
            spread(&joining),
            met(&joining),
        ),
    ])
}

/// Measures deregistrations while an empty B receives its rows, each time with another empty B.
fn urgent_while_joining(setup: &ClusterSetup) -> Result<Vec<Duration>> {
    let mut samples = Vec::new();
    for _ in 0..setup.pick(20, 10) {
        let mut fleet = seeded::prepare(setup, 2)?;
        let (first, rest) = fleet.agents.split_at_mut(1);
        let (a, b) = (&mut first[0], &mut rest[0]);
        a.start()?;
        let mut own = Probe::new(a, a)?;
        own.change()?;
        b.start()?;
        let mut probe = Probe::new(a, b)?;
        let mut client = b.client()?;
        while b.instances(&mut client)? < seeded::ROWS {
            // Asking how many rows it has costs more than a sample.
            for _ in 0..5 {
                samples.push(probe.deregister()?);
            }
        }
    }
    Ok(samples)
}

fn sample(count: usize, mut once: impl FnMut() -> Result<Duration>) -> Result<Vec<Duration>> {
    let mut samples = Vec::with_capacity(count);
    for _ in 0..count {
        samples.push(once()?);
        thread::sleep(CHANGE_INTERVAL);
    }
    Ok(samples)
}
