//! All checks of a node together: when each is due, and what follows from its results.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use thiserror::Error;

use super::alias;
use super::check::Check;
use super::jitter::Jitter;
use crate::model::{CheckId, CheckKind, CheckRow, CheckSpec, CheckStatus, InstanceId, Timestamp};

/// A check of an instance of this node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckKey {
    /// The instance.
    pub instance: InstanceId,
    /// The check within it.
    pub check: CheckId,
}

/// Names one run, so that results of runs that no longer count are recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunId(u64);

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What it saw.
    pub status: CheckStatus,
    /// What to show beside it; cut at 4 KiB.
    pub output: String,
}

/// What the scheduler wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Perform this check, then call [`Scheduler::handle_result`], whatever happened: until then the check
    /// does not run again.
    Run {
        /// Which.
        key: CheckKey,
        /// Hand it back with the result.
        run: RunId,
        /// What to do.
        spec: Arc<CheckSpec>,
    },
    /// Give a run up; its result does not count any more. The check may be run again right after.
    Cancel {
        /// Which.
        run: RunId,
    },
    /// A check has a new state to be shown and stored.
    Changed {
        /// Which.
        key: CheckKey,
        /// Its new state.
        row: CheckRow,
        /// Whether the status is another; otherwise only the output is.
        status_changed: bool,
    },
    /// An instance was critical for as long as its check allows. Said again after as long, should it stay.
    DeregisterInstance {
        /// Which.
        instance: InstanceId,
        /// The check, the time and what the check says.
        reason: String,
    },
}

/// Why a push was not taken. The caller is at fault; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PushError {
    /// There is no such check.
    #[error("no check {} of an instance {} on this node", .0.check, .0.instance)]
    Unknown(CheckKey),
    /// The agent performs this check itself.
    #[error("check {} is of kind {kind}; only ttl checks take pushes", key.check)]
    NotTtl {
        /// The check.
        key: CheckKey,
        /// What it is.
        kind: &'static str,
    },
}

/// All checks of a node.
#[derive(Debug)]
pub struct Scheduler {
    pub(super) checks: BTreeMap<CheckKey, Check>,
    /// Instances that are registered, with checks or without.
    pub(super) instances: BTreeSet<InstanceId>,
    /// Which alias checks follow an instance.
    followers: BTreeMap<InstanceId, BTreeSet<CheckKey>>,
    deadlines: BTreeSet<(Instant, CheckKey)>,
    outputs: VecDeque<Output>,
    jitter: Jitter,
    runs: u64,
}

impl Scheduler {
    /// No checks yet; `seed` spreads the checks of different nodes differently.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            checks: BTreeMap::new(),
            instances: BTreeSet::new(),
            followers: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            outputs: VecDeque::new(),
            jitter: Jitter::new(seed),
            runs: 0,
        }
    }

    /// Adds a check, or changes its settings. A new one runs at once, then somewhere within its interval, so
    /// that not all that are stated together run together for ever; one with a stored state keeps it and runs somewhere
    /// within its interval, so that a restart is no burst. The same settings again
    /// change nothing.
    pub fn upsert(
        &mut self,
        now: Instant,
        wall: Timestamp,
        key: CheckKey,
        spec: CheckSpec,
        stored: Option<CheckRow>,
    ) {
        if self.checks.get(&key).is_some_and(|check| *check.spec == spec) {
            return;
        }
        let check = if let Some(mut old) = self.take(&key) {
            old.redefine(now, spec);
            old
        } else {
            let stored = stored.filter(|row| !row.is_unproven());
            let first = match stored {
                Some(_) => now + self.jitter.phase(spec.interval),
                None => now,
            };
            let row = stored.unwrap_or_else(|| CheckRow::unproven(wall));
            let mut new = Check::new(now, wall, spec, row);
            new.begin(now, first);
            new
        };
        if let CheckKind::Alias { instance } = &check.spec.kind {
            self.followers.entry(instance.clone()).or_default().insert(key.clone());
        }
        // What a restored alias follows may not be restored yet; see `settle_aliases`.
        let is_restored_alias = !check.spec.kind.is_active() && !check.row.is_unproven();
        self.checks.insert(key.clone(), check);
        match is_restored_alias {
            true => self.note_deadline(&key),
            false => self.settle(now, wall, key),
        }
    }

    /// Looks at what every alias check follows. Call it once all stored checks are back.
    pub fn settle_aliases(&mut self, now: Instant, wall: Timestamp) {
        let aliases: Vec<CheckKey> = self.followers.values().flatten().cloned().collect();
        for key in aliases {
            self.settle(now, wall, key);
        }
    }

    /// Ends a check; a run that is under way is given up.
    pub fn remove(&mut self, key: &CheckKey) {
        self.take(key);
    }

    fn take(&mut self, key: &CheckKey) -> Option<Check> {
        let mut check = self.checks.remove(key)?;
        if let Some(due) = check.noted_deadline.take() {
            self.deadlines.remove(&(due, key.clone()));
        }
        let run = check.run.take();
        self.outputs.extend(run.map(|(run, _)| Output::Cancel { run }));
        if let CheckKind::Alias { instance } = &check.spec.kind
            && let Some(followers) = self.followers.get_mut(instance)
        {
            followers.remove(key);
            if followers.is_empty() {
                self.followers.remove(instance);
            }
        }
        Some(check)
    }

    /// The checks of an instance.
    #[must_use]
    pub fn checks_of(&self, instance: &InstanceId) -> Vec<CheckId> {
        alias::checks_of(self, instance).map(|(key, _)| key.check.clone()).collect()
    }

    /// Notes that an instance is registered, or is not any more; alias checks follow it.
    pub fn set_instance(
        &mut self,
        now: Instant,
        wall: Timestamp,
        instance: &InstanceId,
        is_registered: bool,
    ) {
        match is_registered {
            true => self.instances.insert(instance.clone()),
            false => self.instances.remove(instance),
        };
        self.settle_followers(now, wall, instance);
    }

    /// Runs the active checks of an instance at once: it moved to another address.
    pub fn recheck(&mut self, now: Instant, instance: &InstanceId) {
        let keys: Vec<CheckKey> =
            alias::checks_of(self, instance).map(|(key, _)| key.clone()).collect();
        for key in keys {
            if let Some(check) = self.checks.get_mut(&key) {
                let run = check.run.take();
                self.outputs.extend(run.map(|(run, _)| Output::Cancel { run }));
                check.next_run = check.spec.kind.is_active().then_some(now);
                check.is_spread = false;
            }
            self.note_deadline(&key);
        }
    }

    /// Takes the result of an [`Output::Run`]. One that no longer counts is ignored.
    pub fn handle_result(
        &mut self,
        now: Instant,
        wall: Timestamp,
        key: &CheckKey,
        run: RunId,
        outcome: Outcome,
    ) {
        let Some(check) = self.checks.get_mut(key) else { return };
        let Some((_, began)) = check.run.filter(|(id, _)| *id == run) else { return };
        check.run = None;
        // Those that were stated together ran together, and would go on so.
        let regular = match check.is_spread {
            true => began + self.jitter.around(check.spec.interval),
            false => now + self.jitter.phase(check.spec.interval),
        };
        check.record(now, outcome.status, &outcome.output, regular);
        self.settle(now, wall, key.clone());
    }

    /// Takes a pushed status, which holds at once and for the check's TTL.
    ///
    /// # Errors
    /// When there is no such check, or it takes no pushes.
    pub fn handle_push(
        &mut self,
        now: Instant,
        wall: Timestamp,
        key: &CheckKey,
        status: CheckStatus,
        output: &str,
    ) -> Result<(), PushError> {
        let check = self.checks.get_mut(key).ok_or_else(|| PushError::Unknown(key.clone()))?;
        let CheckKind::Ttl { ttl } = check.spec.kind else {
            return Err(PushError::NotTtl { key: key.clone(), kind: check.spec.kind.as_str() });
        };
        check.set(now, status, output);
        check.ttl_ends = Some(now + ttl);
        self.settle(now, wall, key.clone());
        Ok(())
    }

    /// Does what is due.
    pub fn handle_deadline(&mut self, now: Instant, wall: Timestamp) {
        while let Some((due, key)) = self.deadlines.first().cloned()
            && due <= now
        {
            self.deadlines.pop_first();
            let Some(check) = self.checks.get_mut(&key) else { continue };
            check.noted_deadline = None;
            check.expire(now);
            if check.run.is_none() && check.next_run.is_some_and(|at| at <= now) {
                let run = RunId(self.runs);
                self.runs += 1;
                check.run = Some((run, now));
                check.next_run = None;
                let spec = check.spec.clone();
                self.outputs.push_back(Output::Run { key: key.clone(), run, spec });
            }
            if let Some(reason) = check.deregister(now) {
                let instance = key.instance.clone();
                self.outputs.push_back(Output::DeregisterInstance { instance, reason });
            }
            self.settle(now, wall, key);
        }
    }

    /// When [`Scheduler::handle_deadline`] is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(due, _)| *due)
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Reports what is new of a check, and of those that follow its instance.
    fn settle(&mut self, now: Instant, wall: Timestamp, key: CheckKey) {
        let mut waiting = vec![key];
        while let Some(key) = waiting.pop() {
            if let Some((status, output)) = alias::follow(self, &key)
                && let Some(check) = self.checks.get_mut(&key)
            {
                check.set(now, status, &output);
            }
            let Some(check) = self.checks.get_mut(&key) else { continue };
            let report = check.report(now, wall);
            self.note_deadline(&key);
            let Some((row, status_changed)) = report else { continue };
            if status_changed {
                waiting.extend(self.followers.get(&key.instance).into_iter().flatten().cloned());
            }
            self.outputs.push_back(Output::Changed { key, row, status_changed });
        }
    }

    fn settle_followers(&mut self, now: Instant, wall: Timestamp, instance: &InstanceId) {
        let followers: Vec<_> =
            self.followers.get(instance).into_iter().flatten().cloned().collect();
        for key in followers {
            self.settle(now, wall, key);
        }
    }

    fn note_deadline(&mut self, key: &CheckKey) {
        let Some(check) = self.checks.get_mut(key) else { return };
        let due = check.deadline();
        if check.noted_deadline == due {
            return;
        }
        if let Some(noted) = std::mem::replace(&mut check.noted_deadline, due) {
            self.deadlines.remove(&(noted, key.clone()));
        }
        if let Some(due) = due {
            self.deadlines.insert((due, key.clone()));
        }
    }
}
