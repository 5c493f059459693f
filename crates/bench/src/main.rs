//! `cargo xtask bench NAME`: one module per bench, and the registry of them.
//!
//! A bench runs the release binary, or the one that `DUNLIN_BIN` names, and returns its findings, which are printed here
//! below the conditions under which they were taken. Benches that compare Dunlin with another server measure both in
//! turns, so that a busy machine slows both alike.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "printing is what these commands are for"
)]

mod against;
mod catalog;
mod checks;
mod cluster;
mod dns;
mod http;
mod start;
mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use dunlin_bench::rig::finding::{self, Finding};
use dunlin_bench::rig::program::output;
use dunlin_bench::rig::release::Release;
use dunlin_bench::rig::table;

/// Measure; without a name, list what can be measured.
#[derive(Parser)]
#[command(
    name = "cargo xtask bench",
    bin_name = "cargo xtask bench",
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(flatten)]
    args: Args,
    #[command(subcommand)]
    server: Option<Server>,
}

#[derive(clap::Args)]
struct Args {
    /// The bench to run; without a name, all benches are listed.
    name: Option<String>,
    /// How often to measure; the table shows medians.
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// cluster, dns, http: these rows alone.
    #[arg(long, value_name = "ROW")]
    only: Vec<String>,
    /// cluster: how many agents, where a row does not need a certain number.
    #[arg(long, value_parser = clap::value_parser!(u8).range(2..=100))]
    agents: Option<u8>,
    /// Fewer samples, for trying (not start).
    #[arg(long)]
    quick: bool,
    /// Do not build the release binary, but measure the one that is there.
    #[arg(long)]
    no_build: bool,
    /// Measure in turns with another binary, and print how the medians of five rounds compare.
    #[arg(long, value_name = "BINARY")]
    against: Option<PathBuf>,
    /// Print findings as lines: another run of this program reads them.
    #[arg(long, hide = true)]
    lines: bool,
    /// cluster: this runs in a network namespace of its own.
    #[arg(long, hide = true)]
    in_namespace: bool,
}

/// Servers that benches run beside the agent, in processes of their own.
#[derive(Subcommand)]
enum Server {
    /// A bare UDP echo, which the bench of the DNS server runs beside it.
    #[command(hide = true)]
    Echo { listen: SocketAddr },
    /// A server of one ready answer, which the bench of HTTP runs beside it.
    #[command(hide = true)]
    Bare { listen: SocketAddr, answer: PathBuf },
}

/// A bench of the registry, with the line that describes it in the list.
struct Bench {
    name: &'static str,
    about: &'static str,
    run: fn(&Args, &Release) -> Result<Vec<Finding>>,
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

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.server {
        None => run(&cli.args),
        Some(Server::Echo { listen }) => dns::echo::serve(listen),
        Some(Server::Bare { listen, answer }) => http::bare::serve(listen, &answer),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let Some(name) = &args.name else {
        println!("{}", list());
        return Ok(());
    };
    let Some(bench) = BENCHES.iter().find(|bench| bench.name == name) else {
        bail!("there is no bench {name}; these are:\n{}", list());
    };
    let is_read = args.lines || args.in_namespace;
    let release = Release::find(!args.no_build && !is_read)?;
    if is_read {
        let findings = (bench.run)(args, &release)?;
        findings.iter().for_each(|finding| println!("{}", finding.line()));
        return Ok(());
    }
    release.build()?;
    println!("{}: {}\n{}", bench.name, bench.about, conditions());
    println!("binary {}", release.binary().display());
    if let Some(other) = &args.against {
        return against::run(other, &release);
    }
    let findings = (bench.run)(args, &release)?;
    if !findings.is_empty() {
        println!("{}", finding::render(&findings));
    }
    Ok(())
}

fn list() -> String {
    let row = |bench: &Bench| vec![bench.name.to_owned(), bench.about.to_owned()];
    table::render(&["bench", "measures"], &BENCHES.iter().map(row).collect::<Vec<_>>())
}

/// What a reader needs to compare two results.
fn conditions() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let said = |program: &str, args: &[&str]| {
        output(program, args).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
    };
    let commit = said("git", &["describe", "--always", "--dirty"]);
    let kernel = said("uname", &["-srm"]);
    format!("commit {commit} · {} · {kernel} · {cores} cores", said("rustc", &["--version"]))
}

/// A part of a bench, which has one row or several that need the same agents: its name, and how it is measured.
type Part<F> = (&'static str, F);

/// All parts of a bench, or those of these names.
fn chosen<'a, F>(all: &'a [Part<F>], only: &[String]) -> Result<Vec<&'a Part<F>>> {
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = only.iter().find(|word| !names.contains(&word.as_str())) {
        bail!("there is no row {unknown}; these are: {}", names.join(", "));
    }
    let is_chosen = |(name, _): &&Part<F>| only.is_empty() || only.iter().any(|word| word == name);
    Ok(all.iter().filter(is_chosen).collect())
}

/// The load of the processors in the last minute, which tells how busy the machine is.
fn load_average() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn rows_are_chosen_by_name_and_all_are_without_one() {
        let of = |only: &[&str]| {
            let only: Vec<String> = only.iter().map(|&word| word.to_owned()).collect();
            chosen(&[("a", ()), ("b", ())], &only).map(|rows| rows.len())
        };
        assert_eq!((of(&[]).unwrap(), of(&["b"]).unwrap()), (2, 1));
        assert_eq!(of(&["c"]).unwrap_err().to_string(), "there is no row c; these are: a, b");
    }

    #[test]
    fn a_bench_is_no_server() {
        let cli = Cli::parse_from(["bench", "dns", "--only", "three", "--quick"]);
        assert!(cli.server.is_none() && cli.args.quick);
        assert_eq!(cli.args.name.as_deref(), Some("dns"));
        assert!(Cli::parse_from(["bench", "echo", "127.0.0.1:1"]).server.is_some());
    }
}
