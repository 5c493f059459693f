//! Two binaries side by side: `--against BINARY` measures the same rows with both in turns.
//!
//! A measurement is another run of this program with the same arguments, which prints its findings as lines. What slows
//! the machine for a while slows both binaries.

use std::env;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use dunlin_bench::rig::finding::Finding;
use dunlin_bench::rig::program::command;
use dunlin_bench::rig::release::{BINARY_VARIABLE, Release, absolute};
use dunlin_bench::rig::stats::middle;
use dunlin_bench::rig::table;

const ROUNDS: usize = 5;

/// Prints the median of each figure for both binaries, and the ratio of the two medians.
pub(super) fn run(other: &Path, release: &Release) -> Result<()> {
    let binaries = [absolute(other)?, release.binary()];
    println!("against {}", binaries[0].display());
    let mut names = Vec::new();
    // By binary and figure, the samples of all rounds.
    let mut samples: [Vec<Vec<f64>>; 2] = Default::default();
    for round in 1..=ROUNDS {
        for (binary, samples) in binaries.iter().zip(&mut samples) {
            println!("── round {round} of {ROUNDS}: {}", binary.display());
            let figures = measure(binary)?;
            if round == 1 {
                samples.resize(figures.len(), Vec::new());
            }
            ensure!(samples.len() == figures.len(), "a run has other figures than the one before");
            names.clear();
            for (samples, (name, value)) in samples.iter_mut().zip(figures) {
                samples.push(value);
                names.push(name);
            }
        }
    }
    ensure!(samples[0].len() == samples[1].len(), "the binaries have different figures");
    let row = |(at, name): (usize, String)| {
        let [old, new] = [0, 1].map(|binary: usize| middle(&samples[binary][at]));
        vec![name, digits(old), digits(new), format!("{:.3}", new / old)]
    };
    let rows: Vec<_> = names.into_iter().enumerate().map(row).collect();
    let header = ["median of five rounds, times in ms", "other", "own", "own / other"];
    println!("{}", table::render(&header, &rows));
    Ok(())
}

/// A figure with as many digits as its size needs.
fn digits(figure: f64) -> String {
    if figure < 10.0 { format!("{figure:.4}") } else { format!("{figure:.1}") }
}

/// The figures of one run with a binary.
fn measure(binary: &Path) -> Result<Vec<(String, f64)>> {
    let args = env::args().skip(1).chain(["--lines".to_owned()]);
    let mut command = command(env::current_exe()?, args);
    let output = command.env(BINARY_VARIABLE, binary).output();
    let output = output.with_context(|| format!("cannot start {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let problem = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed:\n{said}\n{problem}");
    Ok(said.lines().filter_map(Finding::read).flat_map(|found| found.figures()).collect())
}
