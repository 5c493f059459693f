//! How long an agent takes from its start to its first good answer.

use anyhow::Result;

use super::agent::DevAgent;
use super::stats::{median, milliseconds, percentile};
use crate::table;

pub(super) const ABOUT: &str = "from the start of `dunlin dev` until /readyz answers 200";

pub(super) fn run(runs: u32) -> Result<()> {
    let mut samples = Vec::new();
    for _ in 0..runs {
        let agent = DevAgent::start()?;
        samples.push(agent.ready_after);
        agent.stop()?;
    }
    let cells = [median(&samples), percentile(&samples, 0.0), percentile(&samples, 99.0)];
    let mut row = vec!["start to ready".to_owned(), runs.to_string()];
    row.extend(cells.map(milliseconds));
    println!("{}", table::render(&["", "runs", "median", "fastest", "p99"], &[row]));
    Ok(())
}
