//! One check: its settings, its last result, and when it next has something to do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::damper::Damper;
use super::verdict::Verdict;
use crate::model::{CheckId, CheckKind, CheckRow, CheckSpec, CheckStatus, InstanceId, Timestamp};

/// Names a check among all checks of this node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckKey {
    /// The instance that is checked.
    pub instance: InstanceId,
    /// The id of the check within the instance.
    pub check: CheckId,
}

/// Names one run, so that results of runs that no longer count are recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunId(pub(super) u64);

/// The shortest time between two reports of new output with an unchanged status.
pub(super) const MIN_OUTPUT_INTERVAL: Duration = Duration::from_secs(30);
/// The shortest interval between runs at the quick pace, which a check has while a threshold is being decided.
const MIN_QUICK_INTERVAL: Duration = Duration::from_millis(100);
/// The longest interval between runs at the quick pace: even a check that runs once an hour is repeated within seconds
/// after a contradicting result.
const MAX_QUICK_INTERVAL: Duration = Duration::from_secs(5);

/// The number of runs at the quick pace that a check which has never passed gets, so that a server that is starting is
/// seen soon.
const MAX_EARLY_RUNS: u32 = 30;

/// A check with its state.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) spec: Arc<CheckSpec>,
    pub(super) verdict: Verdict,
    pub(super) damper: Damper,
    /// The state that was last reported.
    pub(super) row: CheckRow,
    /// The output of the last run, which may not have been reported yet.
    pub(super) output: Arc<str>,
    /// When output was last reported; `None` before the first time.
    pub(super) reported_at: Option<Instant>,
    /// The run that is under way and when it began.
    pub(super) run: Option<(RunId, Instant)>,
    pub(super) next_run: Option<Instant>,
    /// Whether its regular runs are spread over the interval. They are not yet while the check runs at once, as all
    /// checks of one statement do.
    pub(super) is_spread: bool,
    /// The number of runs so far, up to [`MAX_EARLY_RUNS`].
    runs: u32,
    /// When a pushed status expires.
    pub(super) ttl_ends: Option<Instant>,
    critical: Option<Critical>,
    /// The deadline under which the scheduler lists this check.
    pub(super) noted_deadline: Option<Instant>,
}

/// Since when the verdict has been critical. Time in a hold does not count: an instance that works again and is only
/// held back is not deregistered.
#[derive(Debug, Clone, Copy)]
struct Critical {
    from: Instant,
    /// How long it had been critical before `from`, by the wall clock, which may have jumped.
    already: Duration,
    /// The instance is not deregistered before this time, so that the check has time to pass first.
    not_before: Instant,
}

impl Check {
    /// A check that continues from a reported or stored state.
    pub(super) fn new(now: Instant, wall: Timestamp, spec: CheckSpec, row: CheckRow) -> Self {
        let mut check = Self {
            spec: Arc::new(spec),
            verdict: Verdict::new(row.status),
            damper: Damper::default(),
            output: row.output.clone(),
            row,
            reported_at: None,
            run: None,
            next_run: None,
            is_spread: false,
            runs: 0,
            ttl_ends: None,
            critical: None,
            noted_deadline: None,
        };
        check.note_health(now);
        if let Some(critical) = &mut check.critical {
            critical.already = wall.since(check.row.since);
        }
        check
    }

    /// Derives from the settings when the check runs first, how long a status that was pushed earlier still holds, and
    /// how long the check has to pass before its instance may be deregistered.
    pub(super) fn begin(&mut self, now: Instant, first_run: Instant) {
        self.next_run = self.spec.kind.is_active().then_some(first_run);
        self.is_spread = first_run > now;
        self.ttl_ends = self.ttl().filter(|_| !self.row.is_unproven()).map(|ttl| now + ttl);
        let time_to_prove = self.time_to_prove();
        if let Some(critical) = &mut self.critical {
            critical.not_before = now + time_to_prove;
        }
    }

    /// Replaces the settings; the status stays until there are results of the new ones.
    pub(super) fn redefine(&mut self, now: Instant, spec: CheckSpec) {
        self.spec = Arc::new(spec);
        self.verdict = Verdict::new(self.verdict.status());
        self.runs = 0;
        self.begin(now, now);
    }

    fn ttl(&self) -> Option<Duration> {
        if let CheckKind::Ttl { ttl } = self.spec.kind { Some(ttl) } else { None }
    }

    /// How long a critical check needs at most to pass again when its target works.
    fn time_to_prove(&self) -> Duration {
        let first = self.ttl().unwrap_or(self.spec.interval);
        first + (self.spec.timeout + self.quick()) * self.spec.successes_before_passing
    }

    /// Updates since when the verdict has been critical.
    fn note_health(&mut self, now: Instant) {
        if self.verdict.status() != CheckStatus::Critical {
            self.critical = None;
        } else if self.critical.is_none() {
            self.critical = Some(Critical { from: now, already: Duration::ZERO, not_before: now });
        }
    }

    /// The reason to deregister the check's instance, if it is due. If the instance stays, the reason is given again
    /// after the same time.
    pub(super) fn deregister(&mut self, now: Instant) -> Option<String> {
        let after = self.spec.deregister_after?;
        if self.deregister_at()? > now {
            return None;
        }
        self.critical = None;
        self.note_health(now);
        let after = humantime::format_duration(after);
        Some(format!("check {} was critical for {after}: {}", self.spec.id, self.output))
    }

    fn deregister_at(&self) -> Option<Instant> {
        let (after, critical) = (self.spec.deregister_after?, self.critical?);
        let at = critical.from + after.saturating_sub(critical.already);
        Some(at.max(critical.not_before))
    }

    /// The interval between runs while a threshold is being decided: a tenth of the regular one, within limits.
    fn quick(&self) -> Duration {
        (self.spec.interval / 10)
            .clamp(MIN_QUICK_INTERVAL, MAX_QUICK_INTERVAL)
            .min(self.spec.interval)
    }

    /// Counts a result. `regular` is when the next run is due unless a threshold is still being decided.
    pub(super) fn record(
        &mut self,
        now: Instant,
        status: CheckStatus,
        output: &str,
        regular: Instant,
    ) {
        let was_critical = self.verdict.status() == CheckStatus::Critical;
        self.verdict.record(status, &self.spec);
        let is_critical = self.verdict.status() == CheckStatus::Critical;
        // A hold that has just ended is not prolonged, even if its deadline has not been handled yet.
        self.damper.expire(now, Damper::half_life(self.spec.interval));
        if is_critical && !was_critical {
            self.damper.punish(now, Damper::half_life(self.spec.interval));
        }
        self.note_health(now);
        self.output = CheckRow::cut_output(output).into();
        let is_starting = is_critical && !self.row.has_worked && self.runs < MAX_EARLY_RUNS;
        self.runs = self.runs.saturating_add(1).min(MAX_EARLY_RUNS);
        let is_quick = is_starting || self.verdict.is_undecided();
        let next = if is_quick { now + self.quick() } else { regular };
        self.is_spread |= !is_quick;
        self.next_run = Some(next.max(now));
    }

    /// Sets the status without counting, for pushes and aliases, whose status holds at once.
    pub(super) fn set(&mut self, now: Instant, status: CheckStatus, output: &str) {
        self.verdict.set(status);
        self.note_health(now);
        self.output = CheckRow::cut_output(output).into();
    }

    /// Ends a hold and a pushed status whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        self.damper.expire(now, Damper::half_life(self.spec.interval));
        if self.ttl_ends.is_some_and(|ends| ends <= now) {
            self.ttl_ends = None;
            if let Some(ttl) = self.ttl() {
                let ttl = humantime::format_duration(ttl);
                let output = format!("nothing was pushed for {ttl}");
                self.set(now, CheckStatus::Critical, &output);
            }
        }
    }

    /// The status that holds now, and the output to report with it.
    fn present(&self) -> (CheckStatus, Arc<str>) {
        let status = self.verdict.status();
        if self.damper.is_holding() && status != CheckStatus::Critical {
            let output = format!("held critical, since it fails too often; now: {}", self.output);
            return (CheckStatus::Critical, CheckRow::cut_output(&output).into());
        }
        (status, self.output.clone())
    }

    /// The state to report, and whether its status has changed; `None` if there is nothing to report yet.
    pub(super) fn report(&mut self, now: Instant, wall: Timestamp) -> Option<(CheckRow, bool)> {
        let (status, output) = self.present();
        let is_changed = status != self.row.status;
        if is_changed {
            self.row.since = wall;
        } else if output == self.row.output || self.output_due().is_some_and(|due| due > now) {
            return None;
        }
        self.row.status = status;
        self.row.output = output;
        self.row.has_worked |= status != CheckStatus::Critical;
        self.reported_at = Some(now);
        Some((self.row.clone(), is_changed))
    }

    /// When new output may be reported; `None` means at once.
    fn output_due(&self) -> Option<Instant> {
        self.reported_at.map(|at| at + MIN_OUTPUT_INTERVAL)
    }

    /// When the check next has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let next_run = self.next_run.filter(|_| self.run.is_none());
        let has_news = self.present().1 != self.row.output;
        let output = self.output_due().filter(|_| has_news);
        [next_run, self.ttl_ends, self.deregister_at(), self.damper.holds_until(), output]
            .into_iter()
            .flatten()
            .min()
    }
}
