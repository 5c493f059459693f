//! Many seeds, on a few threads: runs do not know of each other.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::run::{Outcome, RunSettings, run_seed};

/// What all runs of a sweep came to.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Runs done.
    pub runs: u64,
    /// Those in which an invariant did not hold, by seed.
    pub failures: Vec<Outcome>,
    /// Events in all of them.
    pub events: u64,
    /// Requests answered in all of them.
    pub requests: u64,
    /// Times from healing to agreement, shortest first.
    pub converged_after: Vec<Duration>,
}

/// Runs `count` seeds from `settings.seed` on. Stops early when ten have failed.
#[must_use]
pub fn sweep(settings: RunSettings, count: u64, threads: usize) -> Sweep {
    let next = AtomicU64::new(settings.seed);
    let end = settings.seed.saturating_add(count);
    let done = Mutex::new(Sweep::default());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || done.lock().map_or(true, |done| done.failures.len() >= 10) {
                        break;
                    }
                    let outcome = run_seed(RunSettings { seed, ..settings });
                    let Ok(mut done) = done.lock() else { break };
                    done.take(outcome);
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_default();
    done.failures.sort_by_key(|outcome| outcome.settings.seed);
    done.converged_after.sort_unstable();
    done
}

impl Sweep {
    fn take(&mut self, outcome: Outcome) {
        self.runs += 1;
        self.events += outcome.events;
        self.requests += outcome.requests;
        if outcome.violation.is_some() {
            self.failures.push(outcome);
        } else {
            self.converged_after.push(outcome.converged_after);
        }
    }

    /// The time within which this share of the runs had come to agree.
    #[must_use]
    pub fn converged_within(&self, share: f64) -> Duration {
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a place in a list of a few hundred"
        )]
        let at = (self.converged_after.len() as f64 * share) as usize;
        let last = self.converged_after.len().saturating_sub(1);
        self.converged_after.get(at.min(last)).copied().unwrap_or_default()
    }
}
