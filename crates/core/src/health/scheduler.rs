//! All checks of a node: when each of them is due, and which outputs follow from its results.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use thiserror::Error;

use super::alias::{self, Checks};
use super::check::{Check, CheckKey, RunId};
use super::jitter::Jitter;
use crate::model::{CheckId, CheckKind, CheckRow, CheckSpec, CheckStatus, InstanceId, Timestamp};

/// The result of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckOutcome {
    /// The status that the run found.
    pub status: CheckStatus,
    /// The text to show with the status; cut at 4 KiB.
    pub output: String,
}

/// An effect that the scheduler asks its driver to perform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthOutput {
    /// Perform this check, then call [`Scheduler::handle_result`], whatever happened: until then the check
    /// does not run again.
    Run {
        /// The check to perform.
        key: CheckKey,
        /// The run, to be handed back with the result.
        run: RunId,
        /// The settings of the check.
        spec: Arc<CheckSpec>,
    },
    /// Abort a run; its result no longer counts. The check may be run again right after.
    Cancel {
        /// The run to abort.
        run: RunId,
    },
    /// Show and store the new state of a check.
    Changed {
        /// The check whose state is new.
        key: CheckKey,
        /// The new state.
        row: CheckRow,
        /// Whether the status has changed; if not, only the output has.
        status_changed: bool,
    },
    /// Deregister an instance that was critical for as long as its check allows. If the instance stays, this output
    /// is repeated after the same time.
    DeregisterInstance {
        /// The instance to deregister.
        instance: InstanceId,
        /// The check, the time and the output of the check, as a text for operators.
        reason: String,
    },
}

/// Why a pushed status was not accepted. The caller is at fault; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PushError {
    /// The node has no check of this name.
    #[error("no check {} of an instance {} on this node", .0.check, .0.instance)]
    Unknown(CheckKey),
    /// The agent performs this check itself.
    #[error("check {} is of kind {kind}; only ttl checks take pushes", key.check)]
    NotTtl {
        /// The check that was pushed to.
        key: CheckKey,
        /// The word for the kind of the check.
        kind: &'static str,
    },
}

/// All checks of a node.
#[derive(Debug)]
pub struct Scheduler {
    checks: Checks,
    /// The registered instances, with and without checks.
    instances: BTreeSet<InstanceId>,
    /// The alias checks that follow each instance.
    followers: BTreeMap<InstanceId, BTreeSet<CheckKey>>,
    deadlines: BTreeSet<(Instant, CheckKey)>,
    outputs: VecDeque<HealthOutput>,
    jitter: Jitter,
    runs: u64,
}

impl Scheduler {
    /// A scheduler without checks. A different `seed` on each node spreads the checks of each node differently.
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

    /// Adds a check, or changes its settings; the same settings again change nothing. A new check runs at once and next
    /// at some point within its interval, so that checks which were stated together do not keep running together. A
    /// check with a stored state keeps that state and runs first at some point within its interval, so that a restart
    /// causes no burst.
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
        // The instance that a restored alias follows may not be restored yet; see `settle_aliases`.
        let is_restored_alias = !check.spec.kind.is_active() && !check.row.is_unproven();
        self.checks.insert(key.clone(), check);
        match is_restored_alias {
            true => self.note_deadline(&key),
            false => self.settle(now, wall, key),
        }
    }

    /// Updates every alias check from the instance that it follows. To be called once all stored checks are restored.
    pub fn settle_aliases(&mut self, now: Instant, wall: Timestamp) {
        let aliases: Vec<CheckKey> = self.followers.values().flatten().cloned().collect();
        for key in aliases {
            self.settle(now, wall, key);
        }
    }

    /// Removes a check and cancels its run if one is under way.
    pub fn remove(&mut self, key: &CheckKey) {
        self.take(key);
    }

    fn take(&mut self, key: &CheckKey) -> Option<Check> {
        let mut check = self.checks.remove(key)?;
        if let Some(due) = check.noted_deadline.take() {
            self.deadlines.remove(&(due, key.clone()));
        }
        let run = check.run.take();
        self.outputs.extend(run.map(|(run, _)| HealthOutput::Cancel { run }));
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

    /// The ids of an instance's checks.
    #[must_use]
    pub fn checks_of(&self, instance: &InstanceId) -> Vec<CheckId> {
        alias::checks_of(&self.checks, instance).map(|(key, _)| key.check.clone()).collect()
    }

    /// Records whether an instance is registered, and updates the alias checks that follow it.
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

    /// Runs the active checks of an instance at once, because it has moved to another address.
    pub fn recheck(&mut self, now: Instant, instance: &InstanceId) {
        let keys: Vec<CheckKey> =
            alias::checks_of(&self.checks, instance).map(|(key, _)| key.clone()).collect();
        for key in keys {
            if let Some(check) = self.checks.get_mut(&key) {
                let run = check.run.take();
                self.outputs.extend(run.map(|(run, _)| HealthOutput::Cancel { run }));
                check.next_run = check.spec.kind.is_active().then_some(now);
                check.is_spread = false;
            }
            self.note_deadline(&key);
        }
    }

    /// Takes the result of a [`HealthOutput::Run`]. The result of a cancelled run is ignored.
    pub fn handle_result(
        &mut self,
        now: Instant,
        wall: Timestamp,
        key: &CheckKey,
        run: RunId,
        outcome: CheckOutcome,
    ) {
        let Some(check) = self.checks.get_mut(key) else { return };
        let Some((_, began)) = check.run.filter(|(id, _)| *id == run) else { return };
        check.run = None;
        // Checks that were stated together run together first; spreading them keeps that from going on.
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
    /// When the node has no check of this name, or the check is not a TTL check.
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

    /// Starts the runs and ends the states that are due.
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
                self.outputs.push_back(HealthOutput::Run { key: key.clone(), run, spec });
            }
            if let Some(reason) = check.deregister(now) {
                let instance = key.instance.clone();
                self.outputs.push_back(HealthOutput::DeregisterInstance { instance, reason });
            }
            self.settle(now, wall, key);
        }
    }

    /// When [`Scheduler::handle_deadline`] is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(due, _)| *due)
    }

    /// The next effect to perform.
    pub fn poll_output(&mut self) -> Option<HealthOutput> {
        self.outputs.pop_front()
    }

    /// Reports the new state of a check, and of the alias checks that follow its instance.
    fn settle(&mut self, now: Instant, wall: Timestamp, key: CheckKey) {
        let mut waiting = vec![key];
        while let Some(key) = waiting.pop() {
            if let Some((status, output)) = alias::follow(&self.checks, &self.instances, &key)
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
            self.outputs.push_back(HealthOutput::Changed { key, row, status_changed });
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
