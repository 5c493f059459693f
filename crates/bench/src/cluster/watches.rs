//! A thousand watches on one agent while another one's instances change.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use dunlin_bench::rig::finding::{Finding, spread};
use dunlin_bench::rig::stats::{median, percentile};

use super::load::registration;
use super::setup::ClusterSetup;

const WATCHES: usize = 1_000;
const PER_SECOND: u32 = 100;

pub(super) fn watches(setup: &ClusterSetup) -> Result<Vec<Finding>> {
    let fleet = setup.fleet()?;
    let (a, b) = (&fleet.agents[0], &fleet.agents[1]);
    let mut writer = a.client()?;
    for number in 0..WATCHES {
        let service = format!("w{number}");
        let body = registration(&service, 1);
        writer.expect("PUT", &format!("/api/instances/{service}"), body.as_bytes())?;
    }
    b.wait_for_head(&a.name, a.head_of(&a.name)?)?;
    let memory = b.anonymous_memory()?;
    let mut watches = Vec::new();
    for number in 0..WATCHES {
        let mut watch = b.watch(&format!("w{number}"))?;
        watch.next_event()?;
        watches.push(watch);
    }
    let per_watch = b.anonymous_memory()?.saturating_sub(memory) / WATCHES as u64;
    let (cpu, start) = (b.processor_time()?, Instant::now());
    let mut samples = Vec::new();
    for change in 0..setup.pick(2_000, 500) {
        let due = start + change as u32 * Duration::from_secs(1) / PER_SECOND;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // Neighbours in time are far apart in number.
        let number = change * 617 % WATCHES;
        let weight = change as u32 + 2;
        let body = registration(&format!("w{number}"), weight);
        let begun = Instant::now();
        writer.send("PUT", &format!("/api/instances/w{number}"), body.as_bytes())?;
        watches[number].wait_for_text(&format!("\"weight\":{weight},"))?;
        samples.push(begun.elapsed());
        writer.good_answer()?;
    }
    let share = (b.processor_time()? - cpu).as_secs_f64() / start.elapsed().as_secs_f64();
    let rate = samples.len() as f64 / start.elapsed().as_secs_f64();
    let is_soon = median(&samples) < Duration::from_millis(3)
        && percentile(&samples, 99.0) < Duration::from_millis(20);
    Ok(vec![
        Finding::new(
            format!("watches: 1,000 on B, {rate:.0} changes/s on A until the watcher is told"),
            "p50 320 ms, p99 616 ms",
            "p50 < 3 ms, p99 < 20 ms",
            spread(&samples),
            is_soon,
        ),
        Finding::new(
            "watches: processor time of B",
            "95 % of a core",
            "< 10 % of a core",
            format!("{:.1} % of a core", share * 100.0),
            share < 0.10,
        ),
        Finding::new(
            "watches: resident memory per watch",
            "2 MB",
            "< 20 KiB",
            format!("{:.1} KiB", per_watch as f64 / 1024.0),
            per_watch < 20 * 1024,
        ),
    ])
}
