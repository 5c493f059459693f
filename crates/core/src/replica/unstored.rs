//! Which rows of other nodes are shown and not stored yet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::extent::Extent;
use super::{Entry, Replica, RowKey, Version};
use crate::model::NodeId;

/// Rows of other nodes that are to be stored. At most as many as the replica has, and those that went.
///
/// They wait for more of them, but not for long: a crash loses none, since their owners have them, and each host would
/// sync its disk for every commit of every other one.
#[derive(Debug)]
pub struct Unstored {
    keys: BTreeMap<NodeId, BTreeSet<RowKey>>,
    most: usize,
    delay: Duration,
    /// Rows that were noted since some were last taken.
    noted: usize,
    due: Option<Instant>,
}

/// Some rows of one node that are to be stored together, as keys: what they say is read when they are written.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    /// Whose.
    pub origin: NodeId,
    keys: BTreeSet<RowKey>,
    is_last: bool,
}

impl Unstored {
    /// Nothing yet. At most `most` rows are stored together; as many are due at once, fewer after the delay.
    #[must_use]
    pub fn new(most: usize, delay: Duration) -> Self {
        Self { keys: BTreeMap::new(), most, delay, noted: 0, due: None }
    }

    /// Notes that rows became visible or vanished, or, without any, that the extent of a history has grown.
    pub fn note(&mut self, now: Instant, origin: NodeId, keys: impl IntoIterator<Item = RowKey>) {
        let noted = self.keys.entry(origin).or_default();
        for key in keys {
            self.noted += 1;
            noted.insert(key);
        }
        let due = if self.noted >= self.most { now } else { now + self.delay };
        self.due = Some(self.due.map_or(due, |known| known.min(due)));
    }

    /// When the next rows are to be taken, if there are any.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Makes what there is due at another time.
    pub fn set_due(&mut self, at: Instant) {
        self.due = (!self.keys.is_empty()).then_some(at);
    }

    /// Drops what is noted of a node that was forgotten.
    pub fn forget(&mut self, origin: NodeId) {
        self.keys.remove(&origin);
        self.due = self.due.filter(|_| !self.keys.is_empty());
    }

    /// Takes rows that are to be stored together. If some are left, they are due at once.
    pub fn take(&mut self, now: Instant) -> Vec<Piece> {
        let (mut room, mut pieces) = (self.most, Vec::new());
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

    /// Takes back what could not be stored. It is due again at a time.
    pub fn put_back(&mut self, at: Instant, pieces: impl IntoIterator<Item = Piece>) {
        for piece in pieces {
            self.keys.entry(piece.origin).or_default().extend(piece.keys);
        }
        self.set_due(at);
    }
}

impl Piece {
    /// Which commits of the node are stored whole once this piece is: those that are visible now, yet nothing is
    /// said before the last piece.
    #[must_use]
    pub fn extent(&self, replica: &Replica) -> Option<Extent> {
        self.is_last.then(|| replica.extent(self.origin))
    }

    /// Up to which version the node's tombstones are purged.
    #[must_use]
    pub fn floor(&self, replica: &Replica) -> Version {
        replica.floor(self.origin)
    }

    /// The rows as they are now; none is one that went.
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
