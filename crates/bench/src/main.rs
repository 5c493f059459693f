//! `cargo xtask bench NAME`: one module per bench, a registry of them, and what they share.
//!
//! A bench runs the release binary, prints its conditions and a table, and leaves judging to the reader. Those that
//! compare Dunlin with a peer run both in turns, so that a busy machine slows both alike.

mod agent;
mod catalog;
mod checks;
pub(crate) mod cluster;
pub(crate) mod crowd;
pub(crate) mod dns;
pub(crate) mod http;
mod start;
pub(crate) mod stats;
mod watch;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::run::Cmd;
use crate::table;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which bench; without it, all are listed.
    name: Option<String>,
    /// How often to measure; the table shows medians.
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// cluster, dns: these rows alone.
    #[arg(long, value_name = "ROW")]
    only: Vec<String>,
    /// cluster: how many agents, where a row does not need a certain number.
    #[arg(long, value_parser = clap::value_parser!(u8).range(2..=100))]
    agents: Option<u8>,
    /// Fewer samples, for trying (not start).
    #[arg(long)]
    quick: bool,
    /// Measure the release binary that is there, whatever it was built from.
    #[arg(long)]
    no_build: bool,
    /// cluster: this runs in a network namespace of its own.
    #[arg(long, hide = true)]
    in_namespace: bool,
}

/// An entry of the registry.
struct Bench {
    name: &'static str,
    about: &'static str,
    run: fn(&Args) -> Result<()>,
}

const BENCHES: &[Bench] = &[
    Bench { name: "start", about: start::ABOUT, run: start::run },
    Bench { name: "cluster", about: cluster::ABOUT, run: cluster::run },
    Bench { name: "catalog", about: catalog::ABOUT, run: catalog::run },
    Bench { name: "watch", about: watch::ABOUT, run: watch::run },
    Bench { name: "http", about: http::ABOUT, run: http::run },
    Bench { name: "checks", about: checks::ABOUT, run: checks::run },
    Bench { name: "dns", about: dns::ABOUT, run: dns::run },
];

pub(crate) fn run(args: &Args) -> Result<()> {
    let Some(name) = &args.name else {
        println!("{}", list());
        return Ok(());
    };
    let Some(bench) = BENCHES.iter().find(|bench| bench.name == name) else {
        bail!("there is no bench {name}; these are:\n{}", list());
    };
    if args.in_namespace {
        return (bench.run)(args);
    }
    if !args.no_build {
        Cmd::cargo("build --release --locked -p dunlin").run()?;
    }
    println!("{}: {}\n{}", bench.name, bench.about, conditions());
    (bench.run)(args)
}

/// An example of the agent's package beside the release binary, built if it is missing or `builds` says so.
fn example(binary: &Path, builds: bool, name: &str) -> Result<PathBuf> {
    let example = binary.with_file_name("examples").join(name);
    if builds || !example.exists() {
        let build = format!("build --quiet --release --locked -p dunlin-agent --example {name}");
        Cmd::cargo(&build).run()?;
    }
    Ok(example)
}

fn list() -> String {
    let row = |bench: &Bench| vec![bench.name.to_owned(), bench.about.to_owned()];
    table::render(&["bench", "measures"], &BENCHES.iter().map(row).collect::<Vec<_>>())
}

/// What a reader needs to compare two results.
fn conditions() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let said = |program: &str, args: &[&str]| {
        let output = Cmd::new(program, args.iter().copied()).output();
        output.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
    };
    let commit = said("git", &["describe", "--always", "--dirty"]);
    let kernel = said("uname", &["-srm"]);
    format!("commit {commit} · {} · {kernel} · {cores} cores", said("rustc", &["--version"]))
}
