//! What checks observed and the disk does not have yet.
//!
//! It is shown at once, since it is true whether or not the disk takes it, and stored with the next batch. A crash
//! costs no more than to run the check again.

use std::collections::BTreeMap;
use std::time::Instant;

use super::output::Moment;
use super::participant::{Draft, Participant, Refusal, Settling};
use crate::replica::{Change, RowChange, RowKey, RowState};

/// The participant that stores the states of checks.
#[derive(Debug, Default)]
pub(super) struct Observed {
    rows: BTreeMap<RowKey, RowState>,
    in_flight: BTreeMap<RowKey, RowState>,
    /// Since when there is something to store.
    since: Option<Instant>,
}

impl Observed {
    pub(super) fn note(&mut self, now: Instant, key: RowKey, state: RowState) {
        self.since = self.since.or(Some(now));
        self.rows.insert(key, state);
    }

    /// Whether a row of a batch that is stored was overtaken: what was observed since is newer, and shown already.
    pub(super) fn has_overtaken(&self, row: &RowChange) -> bool {
        matches!(row.state, RowState::Present(_)) && self.rows.contains_key(&row.key)
    }
}

impl Participant for Observed {
    fn due(&self) -> Option<Instant> {
        self.since
    }

    fn draft(&mut self, _: Moment, draft: &mut Draft<'_>) {
        self.in_flight = std::mem::take(&mut self.rows);
        self.since = None;
        let (registry, renewed) = (&draft.registry, &draft.renewed);
        let is_of_now = |key: &RowKey| match key {
            RowKey::Check(id, check) => {
                let registration = registry.registration(id);
                registration.is_some_and(|r| r.checks.iter().any(|spec| spec.id == *check))
                    && !renewed.contains(id)
            }
            RowKey::Node | RowKey::Instance(_) | RowKey::Other(_) => false,
        };
        let current = self.in_flight.iter().filter(|(key, _)| is_of_now(key));
        let changes = current.map(|(key, state)| Change { key: key.clone(), state: state.clone() });
        draft.changes.extend(changes);
    }

    fn settle(&mut self, _: Moment, _: &mut Settling<'_>) {
        self.in_flight.clear();
    }

    fn put_back(&mut self, moment: Moment, _: &mut Refusal<'_>) {
        for (key, state) in std::mem::take(&mut self.in_flight) {
            // What was observed since is newer.
            self.rows.entry(key).or_insert(state);
        }
        if !self.rows.is_empty() {
            self.since = self.since.or(Some(moment.now));
        }
    }
}
