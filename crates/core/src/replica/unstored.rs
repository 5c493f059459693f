//! The rows of other nodes that are visible and not stored yet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::Replica;
use super::extent::Extent;
use super::rows::{Entry, RowKey};
use super::version::Version;
use crate::model::NodeId;

/// Rows of other nodes that are to be stored: at most all rows of the replica, and those that vanished from it.
///
/// Rows wait a short time for others to be stored with them: otherwise each host would sync its disk for every commit
/// of every other host. A crash loses none of them for good, since their nodes still have them.
#[derive(Debug)]
pub struct Unstored {
    keys: BTreeMap<NodeId, BTreeSet<RowKey>>,
    max_rows: usize,
    delay: Duration,
    /// How many rows were noted since some were last taken.
    noted: usize,
    due: Option<Instant>,
}

/// Some rows of one node that are to be stored together. These are keys: the rows are read when they are written.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    /// The node whose rows they are.
    pub origin: NodeId,
    keys: BTreeSet<RowKey>,
    is_last: bool,
}

impl Unstored {
    /// No rows yet. At most `max_rows` rows are stored together; that many are due at once, fewer after the delay.
    #[must_use]
    pub fn new(max_rows: usize, delay: Duration) -> Self {
        Self { keys: BTreeMap::new(), max_rows, delay, noted: 0, due: None }
    }

    /// Notes that rows became visible or vanished; without any keys, that the extent of a history has grown.
    pub fn note(&mut self, now: Instant, origin: NodeId, keys: impl IntoIterator<Item = RowKey>) {
        let noted = self.keys.entry(origin).or_default();
        for key in keys {
            self.noted += 1;
            noted.insert(key);
        }
        let due = if self.noted >= self.max_rows { now } else { now + self.delay };
        self.due = Some(self.due.map_or(due, |known| known.min(due)));
    }

    /// The time when the next rows are to be taken, if there are any.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Sets another time for the rows that there are.
    pub fn set_due(&mut self, at: Instant) {
        self.due = (!self.keys.is_empty()).then_some(at);
    }

    /// Drops the rows of a node that was forgotten.
    pub fn forget(&mut self, origin: NodeId) {
        self.keys.remove(&origin);
        self.due = self.due.filter(|_| !self.keys.is_empty());
    }

    /// Takes rows that are to be stored together. Those that are left are due at once.
    pub fn take(&mut self, now: Instant) -> Vec<Piece> {
        let (mut room, mut pieces) = (self.max_rows, Vec::new());
        while room > 0
            && let Some((origin, mut keys)) = self.keys.pop_first()
        {
            let rest = keys.iter().nth(room).cloned().map(|first| keys.split_off(&first));
            let is_last = rest.is_none();
            if let Some(rest) = rest {
                self.keys.insert(origin, rest);
            }
            room -= keys.len();
            pieces.push(Piece { origin, keys, is_last });
        }
        self.noted = 0;
        self.set_due(now);
        pieces
    }

    /// Takes back rows that could not be stored. They are due again at the given time.
    pub fn put_back(&mut self, at: Instant, pieces: impl IntoIterator<Item = Piece>) {
        for piece in pieces {
            self.keys.entry(piece.origin).or_default().extend(piece.keys);
        }
        self.set_due(at);
    }
}

impl Piece {
    /// The commits of the node that are stored whole once this piece is: those that are visible now. `None` before the
    /// last piece.
    #[must_use]
    pub fn extent(&self, replica: &Replica) -> Option<Extent> {
        self.is_last.then(|| replica.extent(self.origin))
    }

    /// The version up to which the node's tombstones are purged.
    #[must_use]
    pub fn floor(&self, replica: &Replica) -> Version {
        replica.floor(self.origin)
    }

    /// The rows as they are now; `None` for a row that vanished.
    pub fn rows<'a>(
        &'a self,
        replica: &'a Replica,
    ) -> impl Iterator<Item = (&'a RowKey, Option<Entry>)> {
        self.keys.iter().map(|key| (key, replica.entry(self.origin, key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::InstanceId;

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 16])
    }

    fn keys(names: &[&str]) -> Vec<RowKey> {
        let key = |name: &&str| RowKey::Instance(InstanceId::parse(name).unwrap());
        names.iter().map(key).collect()
    }

    fn sizes(pieces: &[Piece]) -> Vec<(NodeId, usize, bool)> {
        pieces.iter().map(|p| (p.origin, p.keys.len(), p.is_last)).collect()
    }

    const DELAY: Duration = Duration::from_millis(100);

    #[allow(clippy::disallowed_methods, reason = "tests take one instant to start from")]
    fn unstored(most: usize) -> (Instant, Unstored) {
        (Instant::now(), Unstored::new(most, DELAY))
    }

    #[test]
    fn rows_are_taken_by_as_many_as_there_is_room_and_the_last_piece_of_a_node_is_known() {
        let (now, mut unstored) = unstored(3);
        unstored.note(now, node(1), keys(&["a", "b"]));
        unstored.note(now, node(2), keys(&["a", "b", "c", "d"]));
        unstored.note(now, node(3), []);
        assert_eq!(sizes(&unstored.take(now)), [(node(1), 2, true), (node(2), 1, false)]);
        assert_eq!(sizes(&unstored.take(now)), [(node(2), 3, true)]);
        assert_eq!(unstored.due(), Some(now), "what is left");
        assert_eq!(sizes(&unstored.take(now)), [(node(3), 0, true)]);
        assert_eq!((unstored.due(), unstored.take(now)), (None, vec![]));
    }

    #[test]
    fn few_rows_wait_for_more_and_many_are_due_at_once() {
        let (now, mut unstored) = unstored(3);
        unstored.note(now, node(1), keys(&["a"]));
        assert_eq!(unstored.due(), Some(now + DELAY));
        let later = now + DELAY / 2;
        unstored.note(later, node(2), keys(&["a"]));
        assert_eq!(unstored.due(), Some(now + DELAY), "the first has waited as long as it may");
        unstored.note(later, node(1), keys(&["a"]));
        assert_eq!(unstored.due(), Some(later));
        unstored.take(later);
        unstored.note(later, node(1), []);
        assert_eq!(unstored.due(), Some(later + DELAY));
    }

    #[test]
    fn what_is_put_back_is_taken_again_with_what_came_meanwhile() {
        let (now, mut unstored) = unstored(9);
        unstored.note(now, node(1), keys(&["a", "b", "c"]));
        let pieces = unstored.take(now);
        unstored.note(now, node(1), keys(&["b", "d"]));
        let later = now + 10 * DELAY;
        unstored.put_back(later, pieces);
        assert_eq!(unstored.due(), Some(later));
        assert_eq!(sizes(&unstored.take(later)), [(node(1), 4, true)]);
        unstored.put_back(later, []);
        assert_eq!(unstored.due(), None);
    }

    #[test]
    fn nothing_of_a_forgotten_node_is_stored() {
        let (now, mut unstored) = unstored(9);
        unstored.note(now, node(1), keys(&["a"]));
        unstored.forget(node(1));
        assert_eq!((unstored.due(), unstored.take(now)), (None, vec![]));
    }
}
