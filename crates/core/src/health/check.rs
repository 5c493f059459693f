//! One check: its settings, what it last said, and when something is due.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::damper::Damper;
use super::scheduler::RunId;
use super::verdict::Verdict;
use crate::model::{CheckKind, CheckRow, CheckSpec, CheckStatus, Timestamp};

/// The least time between two reports of output alone.
pub(super) const OUTPUT_INTERVAL: Duration = Duration::from_secs(30);
/// The shortest time between runs while a threshold decides.
const QUICK_LEAST: Duration = Duration::from_millis(100);
/// The longest; who checks once an hour does not want to wait minutes for a second look.
const QUICK_MOST: Duration = Duration::from_secs(5);

/// Runs at the quick pace of a check that has never worked: a server that is starting should be seen soon.
const EARLY_RUNS: u32 = 30;

/// A check and its state.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) spec: Arc<CheckSpec>,
    pub(super) verdict: Verdict,
    pub(super) damper: Damper,
    /// What was last reported.
    pub(super) row: CheckRow,
    /// What it last said, reported or not.
    pub(super) output: Arc<str>,
    /// When output was last reported; `None` before the first time.
    pub(super) reported_at: Option<Instant>,
    /// The run under way and when it began.
    pub(super) run: Option<(RunId, Instant)>,
    pub(super) next_run: Option<Instant>,
    /// Whether its regular runs have their place in time. Not yet while it runs at once, as others of the same
    /// statement do.
    pub(super) is_spread: bool,
    /// Runs so far, up to [`EARLY_RUNS`].
    runs: u32,
    /// When a pushed status ends.
    pub(super) ttl_ends: Option<Instant>,
    critical: Option<Critical>,
    /// The deadline that the scheduler has noted for it.
    pub(super) noted_deadline: Option<Instant>,
}

/// Since when the verdict has been critical. A hold does not count: what works again, and is only held
/// back, is not to be taken out.
#[derive(Debug, Clone, Copy)]
struct Critical {
    from: Instant,
    /// How long it had been critical before `from`, as the wall clock has it: it may have jumped.
    already: Duration,
    /// Nothing is taken out before: the check must have had time to prove itself.
    not_before: Instant,
}

impl Check {
    /// A check that goes on from a row.
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

    /// Starts from the settings: when it runs first, how long a status pushed earlier still holds, and
    /// how long it may take to prove itself.
    pub(super) fn begin(&mut self, now: Instant, first_run: Instant) {
        self.next_run = self.spec.kind.is_active().then_some(first_run);
        self.is_spread = first_run > now;
        self.ttl_ends = self.ttl().filter(|_| !self.row.is_unproven()).map(|ttl| now + ttl);
        let time_to_prove = self.time_to_prove();
        if let Some(critical) = &mut self.critical {
            critical.not_before = now + time_to_prove;
        }
    }

    /// Takes other settings; the status stays until they have results of their own.
    pub(super) fn redefine(&mut self, now: Instant, spec: CheckSpec) {
        self.spec = Arc::new(spec);
        self.verdict = Verdict::new(self.verdict.status());
        self.runs = 0;
        self.begin(now, now);
    }

    fn ttl(&self) -> Option<Duration> {
        if let CheckKind::Ttl { ttl } = self.spec.kind { Some(ttl) } else { None }
    }

    /// How long it takes at most, if all is well, until a check that was critical passes again.
    fn time_to_prove(&self) -> Duration {
        let first = self.ttl().unwrap_or(self.spec.interval);
        first + (self.spec.timeout + self.quick()) * self.spec.successes_before_passing
    }

    /// Keeps the time since when it has been critical.
    fn note_health(&mut self, now: Instant) {
        if self.verdict.status() != CheckStatus::Critical {
            self.critical = None;
        } else if self.critical.is_none() {
            self.critical = Some(Critical { from: now, already: Duration::ZERO, not_before: now });
        }
    }

    /// Why its instance is to be taken out, if it is. Said again after as long, should it stay.
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

    /// The time between runs while a threshold decides: a tenth of the interval.
    fn quick(&self) -> Duration {
        (self.spec.interval / 10).clamp(QUICK_LEAST, QUICK_MOST).min(self.spec.interval)
    }

    /// Counts a result; `regular` is when the next run is due unless a threshold has yet to decide.
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
        // A hold that has just ended is not prolonged, even if its deadline was not handled yet.
        self.damper.expire(now, Damper::half_life(self.spec.interval));
        if is_critical && !was_critical {
            self.damper.punish(now, Damper::half_life(self.spec.interval));
        }
        self.note_health(now);
        self.output = CheckRow::cut_output(output).into();
        let is_starting = is_critical && !self.row.has_worked && self.runs < EARLY_RUNS;
        self.runs = self.runs.saturating_add(1).min(EARLY_RUNS);
        let is_quick = is_starting || self.verdict.is_undecided();
        let next = if is_quick { now + self.quick() } else { regular };
        self.is_spread |= !is_quick;
        self.next_run = Some(next.max(now));
    }

    /// Sets the status without counting: pushes and aliases say what holds.
    pub(super) fn set(&mut self, now: Instant, status: CheckStatus, output: &str) {
        self.verdict.set(status);
        self.note_health(now);
        self.output = CheckRow::cut_output(output).into();
    }

    /// Ends what is over: a hold, a pushed status.
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

    /// The status that holds now, with what to say beside it.
    fn present(&self) -> (CheckStatus, Arc<str>) {
        let status = self.verdict.status();
        if self.damper.is_holding() && status != CheckStatus::Critical {
            let output = format!("held critical, since it fails too often; now: {}", self.output);
            return (CheckStatus::Critical, CheckRow::cut_output(&output).into());
        }
        (status, self.output.clone())
    }

    /// The row to report, and whether its status is another; `None` if there is nothing to report yet.
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
        self.reported_at.map(|at| at + OUTPUT_INTERVAL)
    }

    /// When something of it is due next.
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
