//! `cargo xtask sim`: runs seeds, replays one, or measures large clusters.

#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use dunlin_sim::{Outcome, RunSettings, SIZES, Scale, measure, memory_octets, sweep, write_report};

/// Whole clusters on a virtual network, disk and clock.
#[derive(Parser)]
#[command(name = "cargo xtask sim")]
struct Args {
    /// How many seeds to run.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// One seed alone.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Nodes in each run; by the seed, 3 to 25, if not given. From 100 on a calm cluster is measured instead.
    #[arg(long)]
    nodes: Option<usize>,
    /// Minutes of virtual time with faults.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Tell what happens (of one seed) on standard error.
    #[arg(long)]
    trace: bool,
    /// Measure clusters of several sizes and write docs/scaling.md.
    #[arg(long)]
    report: bool,
}

/// From this size on a cluster is measured rather than broken.
const LARGE: usize = 100;
/// Changes of each kind that are followed.
const ROUNDS: usize = 10;

fn main() -> ExitCode {
    let args = Args::parse();
    if args.report {
        return report();
    }
    if let Some(nodes) = args.nodes.filter(|nodes| *nodes >= LARGE) {
        println!("{nodes} nodes; about {} MB of memory", memory_octets(nodes) / 1_000_000);
        print_scale(&measure(nodes, ROUNDS, args.seed.unwrap_or(1), args.trace));
        return ExitCode::SUCCESS;
    }
    run_seeds(&args)
}

/// Writes the page about scaling.
fn report() -> ExitCode {
    let folder = Path::new("docs");
    let command = "cargo xtask sim --report";
    match write_report(folder, &SIZES, ROUNDS, command, print_scale) {
        Ok(()) => {
            println!("written: docs/scaling.md");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("cannot write below docs: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print_scale(scale: &Scale) {
    println!(
        "{} nodes; calm: {:.0} octets/s, {:.1} packets/s, {:.1} frames/s per node",
        scale.nodes, scale.idle_octets, scale.idle_datagrams, scale.idle_frames
    );
    for (name, spread) in [("urgent", &scale.urgent), ("normal", &scale.normal)] {
        println!(
            "  {name}: 99 % after {:.0} ms, all after {:.0} ms at most{}; {:.0} packets, {:.0} frames",
            spread.to_most.as_secs_f64() * 1e3,
            spread.to_all.as_secs_f64() * 1e3,
            if spread.is_complete { "" } else { " (NOT ALL)" },
            spread.datagrams,
            spread.frames,
        );
    }
}

fn run_seeds(args: &Args) -> ExitCode {
    let (from, count) = args.seed.map_or((args.from, args.seeds), |seed| (seed, 1));
    let settings =
        RunSettings { seed: from, nodes: args.nodes, minutes: args.minutes, is_traced: args.trace };
    let start = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let sweep = sweep(settings, count, if args.trace { 1 } else { threads });
    for failure in &sweep.failures {
        print_failure(failure);
    }
    println!(
        "{} runs, {} failed; {} events, {} requests answered; agreement after healing: \
         {:.1} s in half of the runs, {:.1} s in 99 %, {:.1} s at most; {:.1} s",
        sweep.runs,
        sweep.failures.len(),
        sweep.events,
        sweep.requests,
        sweep.converged_within(0.5).as_secs_f64(),
        sweep.converged_within(0.99).as_secs_f64(),
        sweep.converged_within(1.0).as_secs_f64(),
        start.elapsed().as_secs_f64(),
    );
    if sweep.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print_failure(outcome: &Outcome) {
    let Some(violation) = &outcome.violation else { return };
    let RunSettings { seed, nodes, minutes, .. } = outcome.settings;
    println!(
        "seed {seed}, {} nodes: `{}` does not hold at {:.3} s\n  {}",
        outcome.nodes,
        violation.invariant,
        violation.at.as_secs_f64(),
        violation.what
    );
    let mut replay = format!("cargo xtask sim --seed {seed}");
    if let Some(nodes) = nodes {
        replay.push_str(&format!(" --nodes {nodes}"));
    }
    if (minutes - 1.0).abs() > f64::EPSILON {
        replay.push_str(&format!(" --minutes {minutes}"));
    }
    println!("  to replay it: {replay}");
}
