//! `verify`, which changes nothing, and `fix`, which may.

use anyhow::{Result, anyhow};

use crate::run::{Cmd, Steps};
use crate::{peers, rules, tools};

/// cargo-deny's releases that read our `deny.toml`.
const DENY_VERSION: &str = "^0.20";

/// The number of simulated clusters of `verify`, which show no more than gross faults.
const SEEDS: &str = "--seeds 20";

pub(crate) fn verify() -> Result<()> {
    let mut steps = Steps::default();
    let result = run_steps(&mut steps).and_then(|()| tools::SIM.step(&mut steps, SEEDS));
    steps.print_summary();
    result
}

/// The steps of verify. Those that fail soonest come first.
pub(crate) fn run_steps(steps: &mut Steps) -> Result<()> {
    steps.command("format", &Cmd::cargo("fmt --all --check"))?;
    steps.check("house rules", "cargo xtask rules", rules::check)?;
    deny(steps)?;
    let clippy = "clippy --workspace --all-targets --locked -- -D warnings";
    steps.command("clippy", &Cmd::cargo(clippy))?;
    let tests = "test --workspace --lib --bins --locked";
    steps.command("unit and property tests", &Cmd::cargo(tests))?;
    let docs = Cmd::cargo("doc --no-deps --workspace --locked");
    steps.command("documentation", &docs.env("RUSTDOCFLAGS", "-D warnings"))
}

/// Formats the code and lets clippy apply what it can.
pub(crate) fn fix() -> Result<()> {
    let mut steps = Steps::default();
    let clippy = "clippy --fix --allow-dirty --allow-staged --workspace --all-targets";
    steps.command("clippy", &Cmd::cargo(clippy))?;
    steps.command("format", &Cmd::cargo("fmt --all"))
}

/// Installs cargo-deny unless it is there.
pub(crate) fn install_deny(steps: &mut Steps) -> Result<()> {
    if has_deny() {
        return Ok(());
    }
    steps.command("install cargo-deny", &deny_install())
}

fn deny(steps: &mut Steps) -> Result<()> {
    let check = Cmd::cargo("deny --locked check bans licenses sources");
    if has_deny() {
        return steps.command("dependencies", &check);
    }
    if peers::in_ci() {
        let missing = || Err(anyhow!("cargo-deny is missing, and CI skips nothing"));
        return steps.check("dependencies", &deny_install().to_string(), missing);
    }
    println!(
        "── dependencies: NOT CHECKED, cargo-deny is missing; to install it: {}",
        deny_install()
    );
    Ok(())
}

fn has_deny() -> bool {
    Cmd::cargo("deny --version").succeeds()
}

fn deny_install() -> Cmd {
    Cmd::new("cargo", ["install", "--locked", &format!("cargo-deny@{DENY_VERSION}")])
}
