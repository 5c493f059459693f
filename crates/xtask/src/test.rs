//! `test`: every check, and the installation of what the checks need.

use anyhow::Result;

use crate::run::{Cmd, Steps};
use crate::workspace::Workspace;
use crate::{peers, tools, verify};

/// The number of simulated clusters of a whole test.
const SEEDS: &str = "--seeds 200";
/// A short storm with the release binary that the end-to-end tests have used.
const STORM: &str = "--no-build --minutes 0.7 --seed 7";
/// Programs without which there is no storm.
const STORM_NEEDS: [&str; 3] = ["dnsperf", "ip", "nft"];

pub(crate) fn test() -> Result<()> {
    let mut steps = Steps::default();
    let result = run_steps(&mut steps);
    steps.print_summary();
    result
}

fn run_steps(steps: &mut Steps) -> Result<()> {
    let missing = peers::provide(steps)?;
    if peers::in_ci() {
        verify::install_deny(steps)?;
    }
    verify::run_steps(steps)?;
    steps.command("documentation tests", &Cmd::cargo("test --workspace --doc --locked"))?;
    let programs = "build --release --locked --workspace --bin dunlin --bin dunlin-sim";
    steps.command("release build", &Cmd::cargo(programs))?;
    integration_tests(steps, &missing)?;
    tools::SIM.step(steps, SEEDS)?;
    storm(steps, &missing)?;
    peers::print_missing(&missing);
    Ok(())
}

/// Runs the test targets of all packages one by one, the end-to-end tests among them.
///
/// `DUNLIN_BIN` is the release binary, for tests that want what users run; `DUNLIN_TEST_MISSING` lists, separated
/// by commas, the commands that are not on this machine.
fn integration_tests(steps: &mut Steps, missing: &[&peers::Peer]) -> Result<()> {
    let workspace = Workspace::read()?;
    let binary = workspace.release_binary("dunlin")?.to_string_lossy().into_owned();
    let missing: Vec<_> = missing.iter().map(|peer| peer.command).collect();
    for test in workspace.integration_tests() {
        // The whole workspace, so that features stay as verify built them and nothing compiles twice.
        let mut command = Cmd::cargo(&format!("test --workspace --test {test} --locked"))
            .env("DUNLIN_BIN", &binary);
        if !missing.is_empty() {
            command = command.env("DUNLIN_TEST_MISSING", &missing.join(","));
        }
        steps.command(&format!("{test} tests"), &command)?;
    }
    Ok(())
}

/// Runs a short storm, unless a program that it needs is missing.
fn storm(steps: &mut Steps, missing: &[&peers::Peer]) -> Result<()> {
    if let Some(peer) = missing.iter().find(|peer| STORM_NEEDS.contains(&peer.command)) {
        println!("── storm: NOT RUN, {} is missing", peer.command);
        return Ok(());
    }
    tools::STORM.step(steps, STORM)
}
