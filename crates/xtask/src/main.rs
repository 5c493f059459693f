//! The developer commands of Dunlin: `cargo xtask verify | fix | test | bench | sim | storm | fuzz | rules`.
//!
//! This crate runs other programs, reads the tracked files and prints. It knows none of Dunlin's own crates, so
//! it builds in seconds and works while they do not.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "printing is what these commands are for"
)]

mod bench;
mod fuzz;
mod peers;
mod perf;
mod rules;
mod run;
mod sim;
mod storm;
mod table;
mod test;
mod verify;
mod workspace;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Developer commands of the Dunlin workspace.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check everything that can be checked quickly; change nothing.
    Verify {
        /// Instead, count instructions and compare them with docs/instructions.txt.
        #[arg(long)]
        perf: bool,
    },
    /// Format, and apply clippy's own suggestions.
    Fix,
    /// Install or name the missing peers, then run every check there is.
    Test,
    /// Measure; without a name, list what can be measured.
    Bench(bench::Args),
    /// Run whole clusters on a virtual network, disk and clock; `--help` tells more.
    #[command(disable_help_flag = true)]
    Sim(sim::Args),
    /// Load and faults together on three real agents, and an oracle that knows what answers may be.
    Storm(storm::Args),
    /// Look for inputs that break something; needs cargo-fuzz and a nightly compiler.
    Fuzz(fuzz::Args),
    /// Check the house rules alone (a step of verify).
    Rules,
    /// A bare UDP echo, which the bench of the DNS server runs beside it.
    #[command(hide = true)]
    Echo { listen: SocketAddr },
    /// A server of one ready answer, which the bench of HTTP runs beside it.
    #[command(hide = true)]
    Bare { listen: SocketAddr, answer: PathBuf },
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<()> {
    workspace::enter_root()?;
    match command {
        Command::Verify { perf: true } => perf::verify(),
        Command::Verify { perf: false } => verify::verify(),
        Command::Fix => verify::fix(),
        Command::Test => test::test(),
        Command::Bench(args) => bench::run(&args),
        Command::Sim(args) => sim::run(&args),
        Command::Storm(args) => storm::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Rules => rules::check(),
        Command::Echo { listen } => bench::dns::serve_echo(listen),
        Command::Bare { listen, answer } => bench::http::serve_bare(listen, &answer),
    }
}
