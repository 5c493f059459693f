//! What a cluster of real agents can do, row by row beside what Corrosion 1.0 did on a machine like this.
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
use setup::Setup;

use super::{Args, chosen, load_average};

pub(super) const ABOUT: &str =
    "agents in a cluster: news, writes, sync, memory, crashes (--only ROW, --agents N, --quick)";

/// One or several rows of the table that need the same agents.
struct Row {
    name: &'static str,
    run: fn(&Setup) -> Result<Vec<Finding>>,
}

const ROWS: &[Row] = &[
    Row { name: "write-to-watch", run: latency::write_to_watch },
    Row { name: "durable-writes", run: throughput::durable_writes },
    Row { name: "bulk", run: throughput::bulk },
    Row { name: "starved", run: latency::starved },
    Row { name: "two-writers", run: latency::two_writers },
    Row { name: "newcomer", run: seeded::newcomer },
    Row { name: "memory", run: seeded::memory },
    Row { name: "idle", run: wire::idle },
    Row { name: "watches", run: watches::watches },
    Row { name: "stopped", run: failures::stopped },
    Row { name: "killed-writer", run: failures::killed_writer },
    Row { name: "large-commit", run: large::large_commit },
    Row { name: "wire", run: wire::wire },
    Row { name: "crash", run: failures::crash },
    Row { name: "false-alarms", run: failures::false_alarms },
    Row { name: "urgent-under-load", run: latency::urgent_under_load },
];

pub(super) fn run(args: &Args, release: &Release) -> Result<()> {
    let rows = chosen(ROWS, |row| row.name, &args.only)?;
    let setup = Setup {
        release: release.clone(),
        agents: args.agents.map_or(3, usize::from),
        is_size_given: args.agents.is_some(),
        is_quick: args.quick,
    };
    if args.in_namespace {
        return wire::run_in_namespace(&setup, rows.iter().map(|row| row.name));
    }
    println!("{}\n{}", conditions(&setup), floor(release.target())?);
    let mut findings = Vec::new();
    let mut failures = 0;
    for row in rows {
        let start = Instant::now();
        let found = (row.run)(&setup).unwrap_or_else(|error| {
            failures += 1;
            vec![Finding::new(row.name, "", "", format!("FAILED: {error:#}"), false)]
        });
        for finding in &found {
            println!("── {}", finding.line().replace('\t', " | "));
        }
        println!("   {} took {:.1} s", row.name, start.elapsed().as_secs_f64());
        findings.extend(found);
    }
    println!("\n{}", finding::render(&findings));
    if failures > 0 {
        bail!("{failures} rows could not be measured");
    }
    Ok(())
}

/// What else a reader needs to compare two results.
fn conditions(setup: &Setup) -> String {
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
