//! `test`: every check there is, and what has to be installed first.

use anyhow::Result;

use crate::run::{Cmd, Steps};
use crate::workspace::Workspace;
use crate::{peers, sim, storm, verify};

/// Simulated clusters.
const SEEDS: u32 = 200;

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
    steps.command("release build", &Cmd::cargo("build --release --locked -p dunlin"))?;
    integration_tests(steps, &missing)?;
    sim::step(steps, SEEDS)?;
    storm::step(steps, &missing)?;
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
