//! The live members, in two lists: those in the own zone and all others.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::super::Peer;
use crate::model::NodeId;

/// The lists have no order, so that a member can be chosen at random, added and removed in constant time.
#[derive(Debug, Default)]
pub(super) struct Roster {
    near: Vec<Peer>,
    far: Vec<Peer>,
    places: BTreeMap<NodeId, Position>,
}

/// The position of a member in one of the two lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    is_near: bool,
    at: u32,
}

impl Roster {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// The members in the own zone, and those whose zone is another or unknown.
    pub(super) fn sides(&self) -> (&[Peer], &[Peer]) {
        (&self.near, &self.far)
    }

    pub(super) fn peer(&self, node: NodeId) -> Option<Peer> {
        let Position { is_near, at } = *self.places.get(&node)?;
        let side = if is_near { &self.near } else { &self.far };
        side.get(at as usize).copied()
    }

    /// The successor of a node in the order of ids, where the first member follows the last. The member `but` is
    /// skipped.
    pub(super) fn next_after(&self, node: NodeId, but: NodeId) -> Option<Peer> {
        let after = self.places.range((Bound::Excluded(node), Bound::Unbounded));
        let mut others = after.chain(self.places.range(..node)).map(|(id, _)| *id);
        others.find(|id| *id != but).and_then(|id| self.peer(id))
    }

    /// Adds a member, or a later life of one. If `is_near` is unknown, the member stays in its list.
    pub(super) fn add(&mut self, peer: Peer, is_near: Option<bool>) {
        let known = self.peer(peer.id);
        let was_near = self.places.get(&peer.id).is_some_and(|place| place.is_near);
        let newest = known.filter(|known| known.generation > peer.generation).unwrap_or(peer);
        if known == Some(newest) && is_near.is_none_or(|is_near| is_near == was_near) {
            return;
        }
        self.remove(peer.id);
        let is_near = is_near.unwrap_or(was_near);
        let side = self.side(is_near);
        let Ok(at) = u32::try_from(side.len()) else { return };
        side.push(newest);
        self.places.insert(peer.id, Position { is_near, at });
    }

    pub(super) fn remove(&mut self, node: NodeId) {
        let Some(Position { is_near, at }) = self.places.remove(&node) else { return };
        let side = self.side(is_near);
        side.swap_remove(at as usize);
        if let Some(moved) = side.get(at as usize).map(|peer| peer.id) {
            self.places.insert(moved, Position { is_near, at });
        }
    }

    fn side(&mut self, is_near: bool) -> &mut Vec<Peer> {
        if is_near { &mut self.near } else { &mut self.far }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8, generation: u64) -> Peer {
        let address = std::net::SocketAddr::from(([127, 0, 0, n], 1));
        Peer { id: NodeId::from_bytes([n; 16]), generation, address }
    }

    fn sides(roster: &Roster) -> [Vec<u8>; 2] {
        let (near, far) = roster.sides();
        [near, far].map(|side| {
            let mut side: Vec<u8> = side.iter().map(|peer| peer.id.as_bytes()[0]).collect();
            side.sort_unstable();
            side
        })
    }

    #[test]
    fn each_member_but_one_is_the_next_of_another() {
        let mut roster = Roster::default();
        for n in [7, 1, 4, 9] {
            roster.add(peer(n, 1), Some(n % 2 == 0));
        }
        let next = |n, but| roster.next_after(peer(n, 1).id, peer(but, 1).id).map(|next| next.id);
        let id = |n| Some(peer(n, 1).id);
        assert_eq!([0, 2, 5, 8, 10].map(|n| next(n, 4)), [1, 7, 7, 9, 1].map(id));
        assert_eq!(next(10, 1), id(4), "and over the first");
        assert_eq!(next(5, 200), id(7), "the other may be no member");
        let mut pair = Roster::default();
        pair.add(peer(1, 1), Some(true));
        assert_eq!(pair.next_after(peer(2, 1).id, peer(1, 1).id), None, "there is nobody else");
    }

    #[test]
    fn members_are_found_wherever_others_are_added_removed_and_moved() {
        let mut roster = Roster::default();
        for n in 0..20 {
            roster.add(peer(n, 1), (n % 3 > 0).then_some(n % 3 == 1));
        }
        for n in [0, 19, 7, 8] {
            roster.remove(peer(n, 1).id);
        }
        roster.add(peer(4, 1), Some(false));
        roster.add(peer(5, 1), Some(true));
        assert_eq!(
            sides(&roster),
            [vec![1, 5, 10, 13, 16], vec![2, 3, 4, 6, 9, 11, 12, 14, 15, 17, 18]]
        );
        for n in 1..19_u8 {
            let expected = (![7, 8].contains(&n)).then(|| peer(n, 1));
            assert_eq!(roster.peer(peer(n, 1).id), expected, "member {n}");
        }
        assert_eq!(roster.len(), 16);
    }

    #[test]
    fn the_later_life_of_a_member_counts_and_nobody_forgets_where_it_is() {
        let mut roster = Roster::default();
        roster.add(peer(1, 5), Some(true));
        roster.add(peer(1, 7), None);
        roster.add(peer(1, 6), None);
        assert_eq!(roster.sides(), (&[peer(1, 7)][..], &[][..]));
    }
}
