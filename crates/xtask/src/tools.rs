//! Commands that are programs of their own: `bench`, `storm` and `sim`.
//!
//! A program is built and then takes the place of this process, so that signals, process id and exit code are its own.

use std::os::unix::process::CommandExt;

use anyhow::{Context, Error, Result};

use crate::run::{Cmd, Steps};
use crate::workspace::Workspace;

/// The benches of the agent beside its peers.
pub(crate) const BENCH: Tool = Tool { name: "bench", binary: "dunlin-bench", is_release: false };
/// Load and faults on real agents.
pub(crate) const STORM: Tool = Tool { name: "storm", binary: "dunlin-storm", is_release: false };
/// Whole clusters on a virtual network.
pub(crate) const SIM: Tool = Tool { name: "sim", binary: "dunlin-sim", is_release: true };

/// A program of the workspace that `cargo xtask NAME` runs.
pub(crate) struct Tool {
    name: &'static str,
    binary: &'static str,
    is_release: bool,
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// As the program takes them; `--help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

impl Tool {
    /// Becomes the program. Returns only if that fails.
    pub(crate) fn run(&self, args: &Args) -> Result<()> {
        let command = self.built(args.args.iter().map(String::as_str))?;
        let error = command.command().exec();
        Err(Error::from(error).context(format!("cannot start {command}")))
    }

    /// Runs the program as a step.
    pub(crate) fn step(&self, steps: &mut Steps, args: &str) -> Result<()> {
        let by_hand = format!("cargo xtask {} {args}", self.name);
        steps.check(self.name, &by_hand, || self.built(args.split_whitespace())?.run())
    }

    /// The command that runs the program, which is up to date then.
    ///
    /// Cargo chooses the features of all dependencies by the packages that it is told to build. With the whole workspace
    /// they are the same as in every other build, so that no dependency is compiled twice.
    fn built<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Result<Cmd> {
        let (profile, folder) =
            if self.is_release { (" --release", "release") } else { ("", "debug") };
        let build = format!("build --quiet --locked --workspace{profile} --bin {}", self.binary);
        Cmd::cargo(&build).run().with_context(|| format!("{} is not built", self.binary))?;
        let binary = Workspace::read()?.binary(folder, self.binary)?;
        Ok(Cmd::new(&binary.to_string_lossy(), args))
    }
}
