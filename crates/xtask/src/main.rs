//! The developer commands of Dunlin: `cargo xtask verify | fix | test | bench | sim | storm | fuzz | rules`.
//!
//! This crate runs other programs, reads the tracked files and prints. It depends on none of Dunlin's own crates, so it
//! is built in seconds and works while they cannot be built.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "printing is what these commands are for"
)]

mod fuzz;
mod peers;
mod perf;
mod rules;
mod run;
mod test;
mod tools;
mod verify;
mod workspace;

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
    /// Install or name the missing peers, then run every check.
    Test,
    /// Measure; without a name, list what can be measured.
    #[command(disable_help_flag = true)]
    Bench(tools::Args),
    /// Run whole clusters on a virtual network, disk and clock; `--help` lists the options.
    #[command(disable_help_flag = true)]
    Sim(tools::Args),
    /// Load and faults together on three real agents, and an oracle that knows what answers may be.
    #[command(disable_help_flag = true)]
    Storm(tools::Args),
    /// Look for inputs that break something; needs cargo-fuzz and a nightly compiler.
    Fuzz(fuzz::Args),
    /// Check the house rules alone (a step of verify).
    Rules,
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
        Command::Bench(args) => tools::BENCH.run(&args),
        Command::Sim(args) => tools::SIM.run(&args),
        Command::Storm(args) => tools::STORM.run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Rules => rules::check(),
    }
}
