//! `cargo xtask fuzz`: searches for inputs that break something, with cargo-fuzz and a nightly compiler.
//!
//! Inputs that the fuzzer finds go to `target/fuzz`, so that `fuzz/corpus` holds only those that were put there by hand.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::run::{Cmd, Steps};

/// The folder of the fuzzing targets.
const FOLDER: &str = "fuzz";
/// The most octets of an input; a datagram with a whole commit fits.
const MAX_OCTETS: u32 = 4096;
/// The seconds that a target may take for one input, and the MiB that it may use.
const LIMITS: [&str; 2] = ["-timeout=10", "-rss_limit_mb=1024"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// One of the targets; all of them, one after another, unless given.
    target: Option<String>,
    /// How long each is fuzzed.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    minutes: u32,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let install = "cargo install --locked cargo-fuzz && rustup toolchain install nightly";
    if !cargo_fuzz(&["--version"]).succeeds() {
        bail!("cargo-fuzz or a nightly compiler is missing; to install them: {install}");
    }
    let all = cargo_fuzz(&["list", "--fuzz-dir", FOLDER]).output()?;
    let all: Vec<&str> = all.split_whitespace().collect();
    let chosen: Vec<&str> = match &args.target {
        Some(target) if all.contains(&target.as_str()) => vec![target],
        Some(target) => bail!("there is no target {target}; there are {}", all.join(", ")),
        None => all,
    };
    let mut steps = Steps::default();
    let result = chosen.iter().try_for_each(|target| {
        let found = format!("target/fuzz/{target}");
        fs::create_dir_all(&found).with_context(|| format!("cannot make {found}"))?;
        steps.command(target, &command(target, &found, args.minutes))
    });
    steps.print_summary();
    result
}

fn command(target: &str, found: &str, minutes: u32) -> Cmd {
    let time = format!("-max_total_time={}", minutes * 60);
    let octets = format!("-max_len={MAX_OCTETS}");
    let kept = Path::new(FOLDER).join("corpus").join(target);
    let kept = kept.to_string_lossy();
    let mut args = vec!["run", "--fuzz-dir", FOLDER, target, found, &kept, "--", &time, &octets];
    args.extend(LIMITS);
    cargo_fuzz(&args)
}

fn cargo_fuzz(args: &[&str]) -> Cmd {
    let nightly = ["run", "nightly", "cargo", "fuzz"];
    Cmd::new("rustup", nightly.into_iter().chain(args.iter().copied()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_stays_out_of_the_corpus() {
        let command = command("names", "target/fuzz/names", 3).to_string();
        assert!(command.contains("names target/fuzz/names fuzz/corpus/names -- "), "{command}");
        assert!(command.contains("-max_total_time=180"), "{command}");
    }
}
