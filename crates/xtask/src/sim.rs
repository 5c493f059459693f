//! `cargo xtask sim`: builds the simulator in release and hands all arguments to it.

use anyhow::Result;

use crate::run::{Cmd, Steps};
use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// As `dunlin-sim` takes them: --seeds N, --seed S, --nodes N, --report and others.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    build().run()?;
    let binary = Workspace::read()?.release_binary("dunlin-sim")?;
    Cmd::new(&binary.to_string_lossy(), args.args.iter().map(String::as_str)).run()
}

/// Runs this many seeds as a step.
pub(crate) fn step(steps: &mut Steps, seeds: u32) -> Result<()> {
    let seeds = seeds.to_string();
    let args = Args { args: vec!["--seeds".to_owned(), seeds.clone()] };
    steps.check("simulation", &format!("cargo xtask sim --seeds {seeds}"), || run(&args))
}

fn build() -> Cmd {
    Cmd::cargo("build --release --locked --quiet -p dunlin-sim")
}
