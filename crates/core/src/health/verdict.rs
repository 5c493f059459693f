//! Thresholds: how results in a row become a status.
//!
//! A verdict knows neither time nor flapping, which `damper` handles.

use crate::model::{CheckSpec, CheckStatus};

/// A status that moves only after enough equal results in a row.
#[derive(Debug, Clone)]
pub(super) struct Verdict {
    status: CheckStatus,
    last: CheckStatus,
    /// The number of critical results in a row.
    failures: u32,
    /// The number of passing and warning results in a row; a warning counts, since the instance works.
    successes: u32,
}

impl Verdict {
    pub(super) fn new(status: CheckStatus) -> Self {
        Self { status, last: status, failures: 0, successes: 0 }
    }

    pub(super) fn status(&self) -> CheckStatus {
        self.status
    }

    /// Sets the status without counting, for pushes and aliases, whose status holds at once.
    pub(super) fn set(&mut self, status: CheckStatus) {
        *self = Self::new(status);
    }

    /// Counts one result.
    pub(super) fn record(&mut self, result: CheckStatus, spec: &CheckSpec) {
        self.last = result;
        match result {
            CheckStatus::Critical => {
                self.successes = 0;
                self.failures = self.failures.saturating_add(1);
                if self.failures >= spec.failures_before_critical {
                    self.status = CheckStatus::Critical;
                }
            }
            CheckStatus::Warning => {
                self.succeed();
                self.status = CheckStatus::Warning;
            }
            CheckStatus::Passing => {
                self.succeed();
                if self.successes >= spec.successes_before_passing {
                    self.status = CheckStatus::Passing;
                }
            }
        }
    }

    fn succeed(&mut self) {
        self.failures = 0;
        self.successes = self.successes.saturating_add(1);
    }

    /// Whether the last result contradicts the status, so that more results have to decide. Meanwhile the check runs at
    /// a quick pace, so that a threshold costs little time.
    pub(super) fn is_undecided(&self) -> bool {
        self.last != self.status
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{CheckId, CheckKind};
    use CheckStatus::{Critical, Passing, Warning};

    fn spec(failures: u32, successes: u32) -> CheckSpec {
        let kind = CheckKind::Tcp { target: None };
        CheckSpec {
            interval: Duration::from_secs(5),
            failures_before_critical: failures,
            successes_before_passing: successes,
            ..CheckSpec::with_defaults(CheckId::parse("c").unwrap(), kind)
        }
    }

    #[test]
    fn a_status_moves_only_at_its_threshold() {
        // start, failures, successes, results, the status after each
        type Case<'a> = (CheckStatus, u32, u32, &'a [CheckStatus], &'a [CheckStatus]);
        let table: &[Case<'_>] = &[
            (Passing, 2, 1, &[Critical, Critical, Passing], &[Passing, Critical, Passing]),
            (Passing, 2, 1, &[Critical, Passing, Critical], &[Passing, Passing, Passing]),
            (Critical, 1, 3, &[Passing, Passing, Passing], &[Critical, Critical, Passing]),
            (Critical, 1, 3, &[Passing, Critical, Passing], &[Critical, Critical, Critical]),
            (Passing, 3, 1, &[Warning], &[Warning]),
            (Critical, 3, 3, &[Warning, Passing, Passing], &[Warning, Warning, Passing]),
            (
                Passing,
                3,
                1,
                &[Critical, Warning, Critical, Critical],
                &[Passing, Warning, Warning, Warning],
            ),
        ];
        for (start, failures, successes, results, expected) in table {
            let mut verdict = Verdict::new(*start);
            let spec = spec(*failures, *successes);
            let seen: Vec<_> = results
                .iter()
                .map(|r| {
                    verdict.record(*r, &spec);
                    verdict.status()
                })
                .collect();
            assert_eq!(&seen, expected, "{start:?} with {results:?}");
        }
    }

    #[test]
    fn only_a_contradicted_status_is_undecided() {
        let mut verdict = Verdict::new(Passing);
        let spec = spec(2, 2);
        let steps = [
            (Passing, false),
            (Critical, true),
            (Critical, false),
            (Critical, false),
            (Passing, true),
            (Passing, false),
            (Warning, false),
        ];
        for (result, undecided) in steps {
            verdict.record(result, &spec);
            assert_eq!(verdict.is_undecided(), undecided, "{verdict:?}");
        }
    }

    /// The rule as a sentence: look at the whole history and count the results at its end.
    fn naive(start: CheckStatus, history: &[CheckStatus], spec: &CheckSpec) -> CheckStatus {
        let mut status = start;
        for end in 1..=history.len() {
            let run = |good: bool| {
                let mut results = history[..end].iter().rev();
                let count = results.by_ref().take_while(|r| (**r != Critical) == good).count();
                u32::try_from(count).unwrap()
            };
            status = match history[end - 1] {
                Critical if run(false) >= spec.failures_before_critical => Critical,
                Passing if run(true) >= spec.successes_before_passing => Passing,
                Warning => Warning,
                Critical | Passing => status,
            };
        }
        status
    }

    fn any_status() -> impl Strategy<Value = CheckStatus> {
        prop_oneof![Just(Passing), Just(Warning), Just(Critical)]
    }

    proptest! {
        #[test]
        fn counting_agrees_with_reading_the_whole_history(
            start in any_status(),
            history in prop::collection::vec(any_status(), 0..40),
            failures in 1_u32..5,
            successes in 1_u32..5,
        ) {
            let spec = spec(failures, successes);
            let mut verdict = Verdict::new(start);
            for result in &history {
                verdict.record(*result, &spec);
            }
            prop_assert_eq!(verdict.status(), naive(start, &history, &spec));
        }
    }
}
