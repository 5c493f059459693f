//! Which rows of other nodes are shown and not stored yet.

use std::collections::{BTreeMap, BTreeSet};

use super::extent::Extent;
use super::{Entry, Replica, RowKey, Version};
use crate::model::NodeId;

/// Rows of other nodes that are to be stored. At most as many as the replica has, and those that went.
#[derive(Debug, Default)]
pub struct Unstored {
    keys: BTreeMap<NodeId, BTreeSet<RowKey>>,
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
    /// Notes that rows became visible or vanished, or, without any, that the extent of a history has grown.
    pub fn note(&mut self, origin: NodeId, keys: impl IntoIterator<Item = RowKey>) {
        self.keys.entry(origin).or_default().extend(keys);
    }

    /// Whether everything is stored, or on its way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Drops what is noted of a node that was forgotten.
    pub fn forget(&mut self, origin: NodeId) {
        self.keys.remove(&origin);
    }

    /// Takes up to `room` rows, to be stored together.
    pub fn take(&mut self, mut room: usize) -> Vec<Piece> {
        let mut pieces = Vec::new();
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
        pieces
    }

    /// Takes back what could not be stored.
    pub fn put_back(&mut self, pieces: impl IntoIterator<Item = Piece>) {
        for piece in pieces {
            self.note(piece.origin, piece.keys);
        }
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

    #[test]
    fn rows_are_taken_by_as_many_as_there_is_room_and_the_last_piece_of_a_node_is_known() {
        let mut unstored = Unstored::default();
        unstored.note(node(1), keys(&["a", "b"]));
        unstored.note(node(2), keys(&["a", "b", "c", "d"]));
        unstored.note(node(3), []);
        assert_eq!(sizes(&unstored.take(3)), [(node(1), 2, true), (node(2), 1, false)]);
        assert_eq!(sizes(&unstored.take(3)), [(node(2), 3, true)]);
        assert_eq!(sizes(&unstored.take(3)), [(node(3), 0, true)]);
        assert!(unstored.is_empty());
    }

    #[test]
    fn what_is_put_back_is_taken_again_with_what_came_meanwhile() {
        let mut unstored = Unstored::default();
        unstored.note(node(1), keys(&["a", "b", "c"]));
        let pieces = unstored.take(2);
        unstored.note(node(1), keys(&["b", "d"]));
        unstored.put_back(pieces);
        assert_eq!(sizes(&unstored.take(9)), [(node(1), 4, true)]);
    }

    #[test]
    fn nothing_of_a_forgotten_node_is_stored() {
        let mut unstored = Unstored::default();
        unstored.note(node(1), keys(&["a"]));
        unstored.forget(node(1));
        assert_eq!(unstored.take(9), []);
    }
}
