//! A line about the storm every ten seconds, and the resources that agents hold meanwhile.

use std::time::{Duration, Instant};

use anyhow::Result;
use dunlin_bench::rig::agent::Agent;
use dunlin_bench::rig::finding::grouped;
use dunlin_bench::rig::usage::{descriptors, resident, thread_count};

use super::chronicle::NODES;
use super::stage::{Stage, count};

/// The time between two lines.
const TELL_INTERVAL: Duration = Duration::from_secs(10);

/// The resources that a process holds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Holding {
    pub(super) memory: u64,
    pub(super) descriptors: usize,
    pub(super) threads: usize,
}

impl Holding {
    pub(super) fn of(agent: &Agent) -> Result<Self> {
        let pid = agent.pid()?;
        Ok(Self {
            memory: resident(pid)?,
            descriptors: descriptors(pid)?,
            threads: thread_count(pid)?,
        })
    }
}

/// Prints a line about the storm at an interval.
pub(super) struct Progress {
    next: Instant,
    changes: u64,
    told_at: Instant,
    /// The most that each agent held between any start and end of its process.
    pub(super) most: [Holding; NODES],
}

impl Progress {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { next: now + TELL_INTERVAL, changes: 0, told_at: now, most: Default::default() }
    }

    /// Prints a line if it is due.
    pub(super) fn tell(&mut self, stage: &Stage, agents: &[Agent]) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + TELL_INTERVAL;
        // An agent that does not run holds no resources.
        let held: Vec<Option<Holding>> = agents.iter().map(|a| Holding::of(a).ok()).collect();
        for (most, held) in self.most.iter_mut().zip(&held) {
            let held = held.unwrap_or_default();
            most.memory = most.memory.max(held.memory);
            most.descriptors = most.descriptors.max(held.descriptors);
            most.threads = most.threads.max(held.threads);
        }
        let tally = &stage.tally;
        let changes = count(&tally.acknowledged);
        let rate = (changes - self.changes) as f64 / (now - self.told_at).as_secs_f64();
        (self.changes, self.told_at) = (changes, now);
        let list = |of: fn(&Holding) -> String| {
            held.iter()
                .map(|held| held.as_ref().map_or("-".to_owned(), of))
                .collect::<Vec<_>>()
                .join(" ")
        };
        let answers = count(&tally.answers_http) + count(&tally.answers_dns);
        println!(
            "{:>4.0} s · {} answers · {rate:.0} changes/s · {} watches, {} told · {} files, {} spoiled · \
             MB {} · fds {} · threads {} · {} violations · {}",
            stage.begun.elapsed().as_secs_f64(),
            grouped(answers as f64),
            grouped(count(&tally.watches_open) as f64),
            grouped(count(&tally.events) as f64),
            count(&tally.files_written),
            count(&tally.files_spoiled),
            list(|held| (held.memory / 1_000_000).to_string()),
            list(|held| held.descriptors.to_string()),
            list(|held| held.threads.to_string()),
            stage.violations().0,
            stage.chronicle().describe(),
        );
    }
}
