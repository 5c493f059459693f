//! What a cluster of real agents can do, row by row beside what Corrosion 1.0 did on a machine like this.
//!
//! Each row starts agents of its own: separate processes of the release binary on loopback addresses, with TLS and
//! a disk that is synced, as in production. The load generator runs beside them and shares their processors.

pub(super) mod control;
mod failures;
pub(crate) mod finding;
pub(crate) mod fleet;
pub(crate) mod http;
mod large;
mod latency;
mod load;
pub(crate) mod proc;
pub(super) mod seeded;
mod throughput;
mod watches;
mod wire;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};
use finding::Finding;
use fleet::Fleet;

use super::Args;
use crate::run::Cmd;
use crate::workspace::Workspace;

pub(super) const ABOUT: &str =
    "agents in a cluster: news, writes, sync, memory, crashes (--only ROW, --agents N, --quick)";

/// What every row needs.
struct Setup {
    binary: PathBuf,
    agents: usize,
    /// Whether the number of agents was asked for.
    is_size_given: bool,
    is_quick: bool,
    /// Whether what is measured is built before, so that it is what the sources say.
    builds: bool,
}

impl Setup {
    fn fleet(&self) -> Result<Fleet> {
        Fleet::start(&self.binary, self.agents)
    }

    /// One of two amounts: that of a whole run, or that of a quick one.
    fn pick<T>(&self, whole: T, quick: T) -> T {
        if self.is_quick { quick } else { whole }
    }
}

/// A row, or several that need the same agents.
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

pub(super) fn run(args: &Args) -> Result<()> {
    let rows = chosen(&args.only)?;
    let setup = Setup {
        binary: Workspace::read()?.release_binary("dunlin")?,
        agents: args.agents.map_or(3, usize::from),
        is_size_given: args.agents.is_some(),
        is_quick: args.quick,
        builds: !args.no_build,
    };
    if args.in_namespace {
        return wire::run_in_namespace(&setup, &rows);
    }
    println!("{}\n{}", conditions(&setup), control::floor(Path::new("target"))?);
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

fn chosen(only: &[String]) -> Result<Vec<&'static Row>> {
    let names = || ROWS.iter().map(|row| row.name).collect::<Vec<_>>().join(", ");
    if let Some(unknown) = only.iter().find(|name| ROWS.iter().all(|row| row.name != **name)) {
        bail!("there is no row {unknown}; these are: {}", names());
    }
    let is_chosen = |row: &&Row| only.is_empty() || only.iter().any(|name| name == row.name);
    Ok(ROWS.iter().filter(is_chosen).collect())
}

/// What else a reader needs to compare two results.
fn conditions(setup: &Setup) -> String {
    let output = |program: &str, args: &[&str]| {
        let output = Cmd::new(program, args.iter().copied()).output().unwrap_or_default();
        output.lines().last().unwrap_or("unknown").trim().to_owned()
    };
    let disk = output("df", &["--output=source,fstype,avail", "-h", "target"]);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    let length = if setup.is_quick { "quick" } else { "whole" };
    format!(
        "{} · {} agents · disk {disk} · load {load} at the start · {length} run",
        output(&setup.binary.to_string_lossy(), &["--version"]),
        setup.agents
    )
}
