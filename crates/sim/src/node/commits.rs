//! From a client's request to a commit on the disk, and from others' rows to the disk: one batch at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dunlin_core::model::NodeId;
use dunlin_core::replica::{Delta, Entry, Extent, Piece, Replica, RowKey, Version};

use super::{Action, Agent, Op};
use crate::disk::Write;

/// Requests that may wait; who comes then is refused.
const MOST_QUEUED: usize = 1024;
/// Requests that become one commit.
const MOST_IN_BATCH: usize = 64;
/// Rows of others that one batch stores; few, so that a crash finds some stored and some not.
pub(super) const MOST_STORED: usize = 20;
/// How long rows of others may wait for the disk.
pub(super) const STORE_DELAY: Duration = Duration::from_millis(100);
/// Pause after the disk has refused.
const REFUSAL_PAUSE: Duration = Duration::from_millis(500);

/// What is on its way to the disk.
#[derive(Debug)]
pub(super) struct Batch {
    ops: Vec<Op>,
    delta: Option<Arc<Delta>>,
    restates: Option<Version>,
    stores: Vec<Piece>,
}

impl Agent {
    /// Takes a client's request.
    pub(crate) fn submit(&mut self, now: Instant, op: Op, out: &mut Vec<Action>) {
        if self.queued.len() >= MOST_QUEUED {
            return out.push(Action::Refused(op.id));
        }
        self.queued.push_back(op);
        self.begin_batch(now, out);
    }

    /// Rows have changed, or the head of their history.
    pub(super) fn note_unstored_keys(
        &mut self,
        now: Instant,
        origin: NodeId,
        keys: impl IntoIterator<Item = RowKey>,
    ) {
        if self.identity.stores {
            self.unstored.note(now, origin, keys);
        }
    }

    /// Sends to the disk what waits for it, unless it is busy.
    pub(super) fn begin_batch(&mut self, now: Instant, out: &mut Vec<Action>) {
        let is_due = self.store_deadline().is_some_and(|at| at <= now);
        let has_own = !self.queued.is_empty() || self.restate.is_some();
        // After a refusal everything waits for a while.
        let is_put_off = self.writing.is_some() || (has_own && self.is_refused(now));
        if is_put_off || !(has_own || is_due) {
            return;
        }
        let count = self.queued.len().min(MOST_IN_BATCH);
        let ops: Vec<Op> = self.queued.drain(..count).collect();
        let restates = self.restate.take();
        let changes = ops.iter().flat_map(|op| op.changes.iter().cloned());
        let delta = match restates {
            Some(above) => Some(self.replica.prepare_restatement(above, changes)),
            None => self.replica.prepare(changes),
        };
        let delta = delta.map(Arc::new);
        self.retry_at = None;
        let stores = self.unstored.take(now);
        let mut writes: Vec<Write> =
            stores.iter().map(|piece| write_of(piece, &self.replica)).collect();
        if let Some(delta) = &delta {
            out.push(Action::Prepared(Arc::clone(delta)));
            writes.push(own_write(delta, restates.is_some()));
        }
        self.writing = Some(Batch { ops, delta, restates, stores });
        out.push(Action::Write(writes));
    }

    /// When there is something to store that no client waits for; after a refusal not before the disk had a rest.
    pub(super) fn store_deadline(&self) -> Option<Instant> {
        let due = self.unstored.due().into_iter().chain(self.retry_at).min()?;
        Some(self.refused_until.map_or(due, |until| due.max(until)))
    }

    fn is_refused(&self, now: Instant) -> bool {
        self.refused_until.is_some_and(|until| now < until)
    }

    /// The batch is on the disk, or was refused.
    pub(crate) fn handle_written(&mut self, now: Instant, is_stored: bool, out: &mut Vec<Action>) {
        let Some(batch) = self.writing.take() else { return };
        if !is_stored {
            self.put_back(now, batch, out);
            return self.drain(now, out);
        }
        if let Some(delta) = batch.delta {
            let rows = self.replica.commit(&delta);
            out.push(Action::Visible { origin: delta.origin, rows });
            self.exchange.handle_commit(now, &delta);
        }
        out.extend(batch.ops.iter().map(|op| Action::Acknowledged(op.id)));
        self.drain(now, out);
    }

    fn put_back(&mut self, now: Instant, batch: Batch, out: &mut Vec<Action>) {
        out.extend(batch.ops.iter().map(|op| Action::Refused(op.id)));
        let until = now + REFUSAL_PAUSE;
        self.unstored.put_back(until, batch.stores);
        self.restate = self.restate.max(batch.restates);
        self.refused_until = Some(until);
        self.retry_at = Some(until);
    }
}

/// Rows of another node as they are now.
fn write_of(piece: &Piece, replica: &Replica) -> Write {
    let rows = piece.rows(replica).map(|(key, entry)| (key.clone(), entry)).collect();
    let (extent, floor) = (piece.extent(replica), piece.floor(replica));
    Write { origin: piece.origin, extent, floor, rows, replaces_all: false }
}

fn own_write(delta: &Delta, replaces_all: bool) -> Write {
    let entry = |row: &dunlin_core::replica::DeltaRow| {
        let entry = Entry { version: row.version, state: row.state.clone() };
        (row.key.clone(), Some(entry))
    };
    let rows = delta.rows.iter().map(entry).collect();
    let extent = Some(Extent::up_to(delta.to));
    Write { origin: delta.origin, extent, floor: delta.floor, rows, replaces_all }
}
