//! The performance of a cluster of real agents, row by row beside that of Corrosion 1.0 on a machine of the same kind.
//!
//! Each row starts agents of its own: separate processes of the release binary on loopback addresses, with TLS and
//! a disk that is synced, as in production. The load generator runs beside them and shares their processors.

mod failures;
mod large;
mod latency;
mod load;
mod seeded;
mod setup;
mod throughput;
mod watches;
mod wire;

use std::time::Instant;

use anyhow::{Result, bail};
use dunlin_bench::rig::finding::{self, Finding};
use dunlin_bench::rig::floor::floor;
use dunlin_bench::rig::program::output;
use dunlin_bench::rig::release::Release;
use setup::ClusterSetup;

use super::{Args, Part, chosen, load_average};

pub(super) const ABOUT: &str =
    "agents in a cluster: news, writes, sync, memory, crashes (--only ROW, --agents N, --quick)";

type Measure = fn(&ClusterSetup) -> Result<Vec<Finding>>;

const ROWS: &[Part<Measure>] = &[
    ("write-to-watch", latency::write_to_watch),
    ("durable-writes", throughput::durable_writes),
    ("bulk", throughput::bulk),
    ("starved", latency::starved),
    ("two-writers", latency::two_writers),
    ("newcomer", seeded::newcomer),
    ("memory", seeded::memory),
    ("idle", wire::idle),
    ("watches", watches::watches),
    ("stopped", failures::stopped),
    ("killed-writer", failures::killed_writer),
    ("large-commit", large::large_commit),
    ("wire", wire::wire),
    ("crash", failures::crash),
    ("false-alarms", failures::false_alarms),
    ("urgent-under-load", latency::urgent_under_load),
];

pub(super) fn run(args: &Args, release: &Release) -> Result<Vec<Finding>> {
    let rows = chosen(ROWS, &args.only)?;
    let setup = ClusterSetup {
        release: release.clone(),
        agents: args.agents.map_or(3, usize::from),
        is_size_given: args.agents.is_some(),
        is_quick: args.quick,
    };
    if args.in_namespace {
        return wire::run_in_namespace(&setup, rows.iter().map(|(name, _)| *name));
    }
    println!("{}\n{}", conditions(&setup), floor(release.target())?);
    let mut findings = Vec::new();
    let mut failures = 0;
    for (name, run) in rows {
        let start = Instant::now();
        let found = run(&setup).unwrap_or_else(|error| {
            failures += 1;
            vec![Finding::new(*name, "", "", format!("FAILED: {error:#}"), false)]
        });
        for finding in &found {
            println!("── {}", finding.line().replace('\t', " | "));
        }
        println!("   {name} took {:.1} s", start.elapsed().as_secs_f64());
        findings.extend(found);
    }
    if failures > 0 {
        println!("\n{}", finding::render(&findings));
        bail!("{failures} rows could not be measured");
    }
    Ok(findings)
}

/// The conditions of this bench that a reader needs to compare two results.
fn conditions(setup: &ClusterSetup) -> String {
    let last_line = |program: &str, args: &[&str]| {
        let output = output(program, args).unwrap_or_default();
        output.lines().last().unwrap_or("unknown").trim().to_owned()
    };
    let target = setup.release.target().to_string_lossy();
    let disk = last_line("df", &["--output=source,fstype,avail", "-h", &target]);
    let load = load_average();
    let length = if setup.is_quick { "quick" } else { "whole" };
    format!(
        "{} · {} agents · disk {disk} · load {load} at the start · {length} run",
        last_line(&setup.release.binary().to_string_lossy(), &["--version"]),
        setup.agents
    )
}
