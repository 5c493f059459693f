//! Rows of other nodes that are shown and not stored yet.
//!
//! They are stored some at a time, together with the commits that they complete: a stored head covers stored rows
//! only, so that a crash asks again for what was shown and not stored.

use std::time::{Duration, Instant};

use super::output::Moment;
use super::participant::{Draft, Participant, Refusal, Settling};
use super::stored::HistoryWrite;
use crate::model::NodeId;
use crate::replica::{Piece, Replica, RowKey, Unstored};

/// Time between a row of another node and its batch, so that others are stored with it.
const STORE_DELAY: Duration = Duration::from_millis(100);

/// The participant that stores other nodes' rows.
#[derive(Debug)]
pub(super) struct Remote {
    unstored: Unstored,
    in_flight: Vec<Piece>,
}

impl Remote {
    /// Stores at most `max_rows` in one batch, so that own rows in it need not wait long.
    pub(super) fn new(max_rows: usize) -> Self {
        Self { unstored: Unstored::new(max_rows, STORE_DELAY), in_flight: Vec::new() }
    }

    /// Notes that rows of a node changed, or, without rows, that its head moved.
    pub(super) fn note(
        &mut self,
        now: Instant,
        origin: NodeId,
        keys: impl IntoIterator<Item = RowKey>,
    ) {
        self.unstored.note(now, origin, keys);
    }

    pub(super) fn forget(&mut self, origin: NodeId) {
        self.unstored.forget(origin);
    }

    /// Has what waits stored with the next batch.
    pub(super) fn set_due(&mut self, at: Instant) {
        self.unstored.set_due(at);
    }
}

impl Participant for Remote {
    fn due(&self) -> Option<Instant> {
        self.unstored.due()
    }

    fn draft(&mut self, moment: Moment, draft: &mut Draft<'_>) {
        self.in_flight = self.unstored.take(moment.now);
        let writes = self.in_flight.iter().map(|piece| write_of(piece, draft.replica));
        draft.batch.histories.extend(writes);
    }

    fn settle(&mut self, _: Moment, _: &mut Settling<'_>) {
        self.in_flight.clear();
    }

    fn put_back(&mut self, _: Moment, refusal: &mut Refusal<'_>) {
        let is_known = |piece: &Piece| !refusal.replica.is_forgotten(piece.origin);
        let pieces = std::mem::take(&mut self.in_flight);
        self.unstored.put_back(refusal.retry_at, pieces.into_iter().filter(is_known));
    }
}

/// What is to be stored of some rows of a node, as they are now.
fn write_of(piece: &Piece, replica: &Replica) -> HistoryWrite {
    let mut write = HistoryWrite {
        origin: piece.origin,
        extent: piece.extent(replica),
        floor: piece.floor(replica),
        rows: Vec::new(),
        gone: Vec::new(),
        replaces_all: false,
    };
    for (key, entry) in piece.rows(replica) {
        match entry {
            Some(entry) => write.rows.push((key.clone(), entry)),
            None => write.gone.push(key.clone()),
        }
    }
    write
}
