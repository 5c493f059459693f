//! The octets that agents send each other, counted by the loopback device of a network namespace in which nothing else runs.
//!
//! The namespace is made by `unshare`, in which this program runs itself again. Clients use the agents' local
//! sockets, so only the agents' own traffic is counted: IP headers, TCP acknowledgements and TLS included.

use std::env;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dunlin_bench::rig::client::{Client, holds};
use dunlin_bench::rig::finding::{Finding, grouped, megabytes};
use dunlin_bench::rig::fleet::Fleet;
use dunlin_bench::rig::program::output;
use dunlin_bench::rig::usage::loopback_octets;
use dunlin_bench::rig::wait::wait_for;

use super::load::registration;
use super::setup::ClusterSetup;

/// The time between two changes, long enough for each to be sent alone.
const CHANGE_INTERVAL: Duration = Duration::from_millis(200);

pub(super) fn wire(setup: &ClusterSetup) -> Result<Vec<Finding>> {
    in_namespace(setup, "wire")
}

pub(super) fn idle(setup: &ClusterSetup) -> Result<Vec<Finding>> {
    in_namespace(setup, "idle")
}

/// Has one row measured by this program in a network namespace of its own.
fn in_namespace(setup: &ClusterSetup, row: &str) -> Result<Vec<Finding>> {
    let program = env::current_exe()?;
    let program = program.to_string_lossy();
    let mut args = format!("cluster --in-namespace --only {row} --agents {}", setup.agents);
    if setup.is_quick {
        args.push_str(" --quick");
    }
    let script = format!("ip link set lo up && exec '{program}' {args}");
    let output = output("unshare", ["--net", "--map-root-user", "sh", "-c", &script]);
    let output =
        output.context("a network namespace needs unshare and ip, and the right to use them")?;
    Ok(output.lines().filter_map(Finding::read).collect())
}

/// Measures rows in the namespace that this program was started in.
pub(super) fn run_in_namespace<'a>(
    setup: &ClusterSetup,
    rows: impl Iterator<Item = &'a str>,
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for row in rows {
        findings.extend(match row {
            "wire" => measure_wire(setup)?,
            "idle" => measure_idle(setup)?,
            other => anyhow::bail!("{other} needs no namespace"),
        });
    }
    Ok(findings)
}

fn measure_idle(setup: &ClusterSetup) -> Result<Vec<Finding>> {
    let fleet = Fleet::start(&setup.release, setup.agents)?;
    thread::sleep(Duration::from_secs(5));
    let (octets, start) = (loopback_octets()?, Instant::now());
    let mut used = Duration::ZERO;
    for agent in &fleet.agents {
        used += agent.processor_time()?;
    }
    thread::sleep(Duration::from_secs(setup.pick(30, 8)));
    let mut share = Duration::ZERO;
    let mut memory = 0;
    for agent in &fleet.agents {
        share += agent.processor_time()?;
        memory = memory.max(agent.anonymous_memory()?);
    }
    let seconds = start.elapsed().as_secs_f64() * fleet.agents.len() as f64;
    let share = (share - used).as_secs_f64() / seconds * 100.0;
    let rate = (loopback_octets()? - octets) as f64 / seconds;
    let what = format!("idle: per agent of {}", setup.agents);
    Ok(vec![Finding::new(
        what,
        "31 MB, 0.8 % of a core, 53 B/s",
        "",
        format!("{} anonymous, {share:.2} % of a core, {rate:.0} B/s", megabytes(memory)),
        None,
    )])
}

fn measure_wire(setup: &ClusterSetup) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (agents, most, target) in [(3, 1_500.0, "< 1.5 kB"), (8, 5_000.0, "< 5 kB")] {
        let fleet = Fleet::start(&setup.release, agents)?;
        let reference = if agents == 3 { "3.0 kB" } else { "" };
        for is_urgent in [false, true] {
            let (octets, idle) = per_change(setup, &fleet, is_urgent)?;
            let kind = if is_urgent { "urgent (an instance drained)" } else { "normal (a weight)" };
            findings.push(Finding::new(
                format!("wire: one small change, {kind}, {agents} agents together"),
                reference,
                target,
                format!("{} B; idle {} B/s subtracted", grouped(octets), grouped(idle)),
                octets < most,
            ));
        }
    }
    Ok(findings)
}

/// Octets that one change costs, and octets per second without changes.
fn per_change(setup: &ClusterSetup, fleet: &Fleet, is_urgent: bool) -> Result<(f64, f64)> {
    let mut client = fleet.agents[0].local_client()?;
    change(&mut client, is_urgent, 1)?;
    settle(fleet)?;
    thread::sleep(Duration::from_secs(setup.pick(20, 10)));
    let (octets, start) = (loopback_octets()?, Instant::now());
    thread::sleep(Duration::from_secs(setup.pick(10, 4)));
    let idle = (loopback_octets()? - octets) as f64 / start.elapsed().as_secs_f64();
    let (octets, start) = (loopback_octets()?, Instant::now());
    let changes = setup.pick(100, 20);
    let mut sent = 0;
    for number in 0..changes {
        // Every second change puts the instance back, which is not urgent.
        sent += u32::from(!is_urgent || number % 2 == 0);
        change(&mut client, is_urgent, number + 2)?;
        thread::sleep(CHANGE_INTERVAL);
    }
    let all = (loopback_octets()? - octets) as f64 - idle * start.elapsed().as_secs_f64();
    if !is_urgent {
        return Ok((all / f64::from(sent), idle));
    }
    // Putting the instance back costs as much as any normal change.
    let (normal, _) = per_change(setup, fleet, false)?;
    Ok(((all - normal * f64::from(changes - sent)) / f64::from(sent), idle))
}

fn change(client: &mut Client, is_urgent: bool, number: u32) -> Result<()> {
    if is_urgent && number > 1 {
        let body =
            if number.is_multiple_of(2) { "{\"enabled\":true}" } else { "{\"enabled\":false}" };
        client.expect("PUT", "/api/instances/small/drain", body.as_bytes())?;
    } else {
        let body = registration("small", number);
        client.expect("PUT", "/api/instances/small", body.as_bytes())?;
    }
    Ok(())
}

/// Waits until all agents have the service.
fn settle(fleet: &Fleet) -> Result<()> {
    for agent in &fleet.agents {
        let mut client = agent.local_client()?;
        wait_for("the service everywhere", || {
            // The service is unknown until its first row has arrived.
            let answer = client.ask("GET", "/api/services/small", b"")?;
            Ok(holds(&answer.body, b"\"id\":\"small\""))
        })?;
    }
    Ok(())
}
