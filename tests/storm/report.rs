//! The table at the end of a storm, and the verdict.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use dunlin_bench::rig::finding::{grouped, megabytes, spread, time};
use dunlin_bench::rig::table;

use super::chronicle::{Fault, NODES};
use super::faults::WITNESS;
use super::progress::Holding;
use super::stage::{Stage, count};

/// The memory that an agent may hold at rest beyond what it held before: caches of DNS workers (32 MiB each) and of encodings
/// (64 MiB), which stay and are far from full here, and memory that the allocator keeps (32 MiB, see `release_memory`).
const MAX_MORE_MEMORY: u64 = 96 << 20;
/// As [`MAX_MORE_MEMORY`], of descriptors: those of links that are about to end, and of database files opened later.
const MAX_MORE_DESCRIPTORS: usize = 16;
/// As [`MAX_MORE_MEMORY`], of threads: those that wait for more blocking work for a while.
const MAX_MORE_THREADS: usize = 8;

/// The result of a storm.
pub(super) struct Report {
    pub(super) stage: Arc<Stage>,
    pub(super) stormed: Duration,
    /// How many questions of dnsperf were answered, how many in a second, and how often it was started.
    pub(super) flooded: (u64, f64, u32),
    /// None if the agents never agreed.
    pub(super) agreed: Option<Duration>,
    /// From the first of the last changes until every watch was told of its own.
    pub(super) told: Duration,
    pub(super) before: [Holding; NODES],
    pub(super) after: [Holding; NODES],
    pub(super) most: [Holding; NODES],
}

impl Report {
    pub(super) fn table(&self) -> String {
        let mut rows = self.deeds();
        rows.extend(self.figures());
        rows.extend(self.holdings());
        let rows: Vec<_> = rows.into_iter().map(|(what, figure)| vec![what, figure]).collect();
        table::render(&["what", "Dunlin"], &rows)
    }

    /// Prints that all is well, or fails with the violations.
    pub(super) fn verdict(&self, seed: u64) -> Result<()> {
        for (node, (before, after)) in self.before.iter().zip(&self.after).enumerate() {
            let is_more = after.memory > before.memory + MAX_MORE_MEMORY
                || after.descriptors > before.descriptors + MAX_MORE_DESCRIPTORS
                || after.threads > before.threads + MAX_MORE_THREADS;
            if is_more {
                let name = &self.stage.posts[node].name;
                self.stage.violation(format!("{name} held {before:?} before, and {after:?} after"));
            }
        }
        let violations = self.stage.violations();
        if violations.0 == 0 {
            println!("verdict: all as it should be; to repeat it: cargo xtask storm --seed {seed}");
            return Ok(());
        }
        let first = violations.1.join("\n  ");
        bail!("{} violations, --seed {seed}:\n  {first}", violations.0);
    }

    /// Rows about what was done.
    fn deeds(&self) -> Vec<(String, String)> {
        let tally = &self.stage.tally;
        let number = |counter| grouped(count(counter) as f64);
        let seconds = self.stormed.as_secs_f64();
        let rate = count(&tally.acknowledged) as f64 / self.stage.begun.elapsed().as_secs_f64();
        let faults = Fault::NAMES.iter().zip(&tally.faults);
        let faults: Vec<_> = faults.map(|(name, n)| format!("{name} {}", count(n))).collect();
        let row = |what: &str, figure: String| (what.to_owned(), figure);
        vec![
            row("storm", format!("{seconds:.0} s")),
            row("faults", faults.join(", ")),
            row(
                "answers checked",
                format!(
                    "{} over HTTP, {} over DNS ({} lost)",
                    number(&tally.answers_http),
                    number(&tally.answers_dns),
                    number(&tally.dns_lost)
                ),
            ),
            row(
                "instances in them",
                format!(
                    "{} with one right answer, {} with several",
                    number(&tally.firm),
                    number(&tally.loose)
                ),
            ),
            row(
                "changes acknowledged",
                format!(
                    "{} ({rate:.0}/s over all); {} refused, {} cut off by faults",
                    number(&tally.acknowledged),
                    number(&tally.refused),
                    number(&tally.unknown)
                ),
            ),
            row(
                "provider files",
                format!(
                    "{} rewritten, {} spoiled",
                    number(&tally.files_written),
                    number(&tally.files_spoiled)
                ),
            ),
            row(
                "checks",
                format!("{} turns, {} pushes", number(&tally.flaps), number(&tally.pushes)),
            ),
            row(
                "watches",
                format!(
                    "{} reopened, {} events told",
                    number(&tally.watches_reopened),
                    number(&tally.events)
                ),
            ),
            row(
                "dnsperf",
                format!(
                    "{} answers, {}/s, started {} times",
                    grouped(self.flooded.0 as f64),
                    grouped(self.flooded.1),
                    self.flooded.2
                ),
            ),
        ]
    }

    /// Rows about how long things took.
    fn figures(&self) -> Vec<(String, String)> {
        let row = |what: &str, figure: String| (what.to_owned(), figure);
        vec![
            row("lookup over HTTP, agents left alone", spread(&self.stage.latencies(0))),
            row("lookup over DNS, agents left alone", spread(&self.stage.latencies(1))),
            row(
                "after the faults: all agents know what was acknowledged",
                self.agreed.map_or("never".to_owned(), time),
            ),
            row("a last change of each service: all watches told", time(self.told)),
        ]
    }

    /// Rows about what agents held before, after, and at most.
    fn holdings(&self) -> Vec<(String, String)> {
        let holding = |node: usize| {
            let (before, after, most) = (self.before[node], self.after[node], self.most[node]);
            let lives = if node == WITNESS { "one life" } else { "several lives" };
            let figure = format!(
                "{} → {} (most {}); descriptors {} → {} ({}); threads {} → {} ({})",
                megabytes(before.memory),
                megabytes(after.memory),
                megabytes(most.memory),
                before.descriptors,
                after.descriptors,
                most.descriptors,
                before.threads,
                after.threads,
                most.threads
            );
            (format!("{} ({lives}) at rest: resident", self.stage.posts[node].name), figure)
        };
        (0..NODES).map(holding).collect()
    }
}
