//! A cluster that holds the rows of a thousand nodes: the cost of joining it, and of holding the rows.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use dunlin_bench::rig::finding::{Finding, megabytes, time};
use dunlin_bench::rig::fleet::Fleet;
use dunlin_bench::rig::seed::seed;
use dunlin_bench::rig::usage::disk_octets;
use dunlin_bench::rig::wait::wait_for;

use super::setup::ClusterSetup;

const NODES: u64 = 1_000;
const PER_NODE: u64 = 100;
/// Instances that the first agent of a seeded fleet starts with.
pub(super) const ROWS: u64 = NODES * PER_NODE;
/// How long agents are left alone before their memory is looked at.
const SETTLE: Duration = Duration::from_secs(3);

/// A fleet that has not been started, whose first agent has the rows of a thousand other nodes on its disk.
pub(super) fn prepare(setup: &ClusterSetup, agents: usize) -> Result<Fleet> {
    let fleet = Fleet::prepare(&setup.release, agents)?;
    seed(&setup.release, &fleet.agents[0].data, &[NODES, PER_NODE])?;
    Ok(fleet)
}

/// A running fleet whose agents all have the rows, except for the last one, which has not been started.
fn start(setup: &ClusterSetup) -> Result<Fleet> {
    let mut fleet = prepare(setup, setup.agents + 1)?;
    let count = setup.agents;
    for agent in &mut fleet.agents[..count] {
        agent.start()?;
    }
    for agent in &fleet.agents[..count] {
        let mut client = agent.client()?;
        wait_for("all rows", || Ok(agent.instances(&mut client)? >= ROWS))?;
    }
    thread::sleep(SETTLE);
    Ok(fleet)
}

pub(super) fn newcomer(setup: &ClusterSetup) -> Result<Vec<Finding>> {
    let mut fleet = start(setup)?;
    let Some(newcomer) = fleet.agents.last_mut() else { return Ok(Vec::new()) };
    let start = Instant::now();
    newcomer.start()?;
    let mut client = newcomer.client()?;
    wait_for("all rows", || {
        thread::sleep(Duration::from_millis(20));
        Ok(newcomer.instances(&mut client)? >= ROWS)
    })?;
    let (took, shown) = (start.elapsed(), newcomer.processor_time()?);
    // Rows are on the disk a little later than they are shown.
    thread::sleep(SETTLE);
    let stored = newcomer.processor_time()?;
    Ok(vec![Finding::new(
        "newcomer: an empty agent, from its start until it has all of 100,000 rows",
        "16.5 s, 14.9 CPU s",
        "< 2 s, < 4 CPU s",
        format!(
            "{}, {:.2} CPU s; {:.2} CPU s 3 s later",
            time(took),
            shown.as_secs_f64(),
            stored.as_secs_f64()
        ),
        took < Duration::from_secs(2) && stored < Duration::from_secs(4),
    )])
}

pub(super) fn memory(setup: &ClusterSetup) -> Result<Vec<Finding>> {
    let mut fleet = start(setup)?;
    thread::sleep(SETTLE);
    let received = fleet.agents[1].anonymous_memory()?;
    let disk = disk_octets(&fleet.agents[1].data)?;
    let second = &mut fleet.agents[1];
    second.kill()?;
    second.start()?;
    let mut client = second.client()?;
    wait_for("all rows", || Ok(second.instances(&mut client)? >= ROWS))?;
    thread::sleep(SETTLE);
    let restarted = second.anonymous_memory()?;
    let memory = received.max(restarted);
    Ok(vec![
        Finding::new(
            "memory: anonymous, with 100,000 rows of 1,000 nodes",
            "124 to 208 MB",
            "< 80 MB",
            format!(
                "{} as received, {} after a restart",
                megabytes(received),
                megabytes(restarted)
            ),
            memory < 80_000_000,
        ),
        Finding::new(
            "memory: disk, with 100,000 rows (9.3 MB of data)",
            "76 to 141 MB",
            "< 40 MB",
            megabytes(disk),
            disk < 40_000_000,
        ),
    ])
}
