//! When the tombstones of the own history are old enough to be purged.
//!
//! From time to time the own head is marked. Tombstones up to a mark are purged once the mark is as old as
//! tombstones are kept: all peers that were away for less have heard of them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::output::Moment;
use super::participant::{Draft, Participant, Refusal, Settling};
use crate::replica::Version;

/// The participant that purges tombstones.
#[derive(Debug)]
pub(super) struct Purge {
    keep: Duration,
    interval: Duration,
    marks: VecDeque<(Instant, Version)>,
    in_flight: Option<(Instant, Version)>,
}

impl Purge {
    /// Keeps tombstones for at least `keep`, and marks the own head every `interval`.
    pub(super) fn new(keep: Duration, interval: Duration) -> Self {
        Self { keep, interval, marks: VecDeque::new(), in_flight: None }
    }

    /// When the next mark is due; `None` before the first.
    pub(super) fn next_mark(&self) -> Option<Instant> {
        self.marks.back().map(|(at, _)| *at + self.interval)
    }

    /// Marks the own head.
    pub(super) fn mark(&mut self, now: Instant, head: Version) {
        self.marks.push_back((now, head));
    }
}

impl Participant for Purge {
    fn due(&self) -> Option<Instant> {
        // The newest mark alone says nothing yet: it is kept to know when the next is due.
        let oldest = self.marks.front().filter(|_| self.marks.len() > 1);
        oldest.map(|(at, _)| *at + self.keep)
    }

    fn draft(&mut self, moment: Moment, draft: &mut Draft<'_>) {
        let mut due = None;
        while self.due().is_some_and(|at| at <= moment.now) {
            due = self.marks.pop_front();
        }
        let floor = draft.replica.floor(draft.own);
        self.in_flight = due.filter(|(_, version)| *version > floor);
        draft.batch.purge = self.in_flight.map(|(_, version)| (draft.own, version));
    }

    fn settle(&mut self, _: Moment, settling: &mut Settling<'_>) {
        if let Some((_, version)) = self.in_flight.take() {
            settling.replica.purge_tombstones(settling.own, version);
        }
    }

    fn put_back(&mut self, _: Moment, _: &mut Refusal<'_>) {
        if let Some(mark) = self.in_flight.take() {
            self.marks.push_front(mark);
        }
    }
}
