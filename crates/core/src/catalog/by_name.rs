//! Services by their names: a hash trie (Bagwell, "Ideal Hash Trees", 2001), so that a lookup waits for memory a few
//! times: at a level for each factor of sixteen, at a leaf, and at the service.
//!
//! Cloning one costs a reference count. A change copies a leaf and the branches above it, and shares the rest. Hashes are
//! not keyed: only services that are registered could have the same on purpose, and would be searched one by one.

use std::sync::Arc;
use std::{array, iter};

use super::hints::low;
use super::view::ServiceView;

/// Bits of a hash that choose a branch's child.
const BITS: u32 = 4;
const CHILDREN: usize = 1 << BITS;
/// Where the bits of a hash end.
const DEEPEST: u32 = u64::BITS / BITS;
/// Services of a leaf, above which it becomes a branch; at the deepest level there is no limit.
const MOST: usize = 32;

#[derive(Debug, Clone, Default)]
pub(super) struct ByName {
    root: Node,
    len: usize,
}

#[derive(Debug, Clone)]
enum Node {
    Leaf(Arc<[Entry]>),
    Branch(Arc<[Node; CHILDREN]>),
}

/// The hash of a service's name, and the service.
type Entry = (u64, Arc<ServiceView>);

impl ByName {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The service of a hash that is the one sought.
    pub(super) fn get(
        &self,
        hash: u64,
        is_it: impl Fn(&ServiceView) -> bool,
    ) -> Option<&Arc<ServiceView>> {
        let (mut node, mut depth) = (&self.root, 0);
        let entries = loop {
            match node {
                Node::Branch(children) => node = &children[child(hash, depth)],
                Node::Leaf(entries) => break entries,
            }
            depth += 1;
        };
        let found = entries.iter().find(|(other, it)| *other == hash && is_it(it));
        found.map(|(_, service)| service)
    }

    /// Puts a service in, in the place of the one of its name. Whether there was none.
    pub(super) fn insert(&mut self, hash: u64, service: Arc<ServiceView>) -> bool {
        let is_new = self.root.insert(0, (hash, service));
        self.len += usize::from(is_new);
        is_new
    }

    /// Takes out the service that is the one sought. Whether it was there.
    pub(super) fn remove(&mut self, hash: u64, is_it: impl Fn(&ServiceView) -> bool) -> bool {
        // So that nothing is copied for one that is not there.
        let was_there = self.get(hash, &is_it).is_some();
        if was_there {
            self.root.remove(0, hash, &is_it);
            self.len -= 1;
        }
        was_there
    }

    /// All services, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<ServiceView>> {
        let (mut nodes, mut entries) = (vec![&self.root], [].iter());
        iter::from_fn(move || {
            loop {
                if let Some((_, service)) = entries.next() {
                    return Some(service);
                }
                match nodes.pop()? {
                    Node::Leaf(leaf) => entries = leaf.iter(),
                    Node::Branch(children) => nodes.extend(children.iter()),
                }
            }
        })
    }
}

impl Default for Node {
    fn default() -> Self {
        Self::Leaf(Arc::default())
    }
}

impl Node {
    /// Puts an entry in below this node, which is at a depth. Whether there was none of its name.
    fn insert(&mut self, depth: u32, entry: Entry) -> bool {
        let entries = match self {
            Self::Branch(children) => {
                return Arc::make_mut(children)[child(entry.0, depth)].insert(depth + 1, entry);
            }
            Self::Leaf(entries) => entries,
        };
        let is_it = |other: &Entry| other.0 == entry.0 && other.1.name == entry.1.name;
        if let Some(at) = entries.iter().position(is_it) {
            Arc::make_mut(entries)[at] = entry;
            return false;
        }
        let is_full = entries.len() >= MOST && depth < DEEPEST;
        let all = entries.iter().cloned().chain([entry]);
        *self = if is_full { Self::branch(depth, all) } else { Self::Leaf(all.collect()) };
        true
    }

    /// A branch at a depth with these below it.
    fn branch(depth: u32, entries: impl Iterator<Item = Entry>) -> Self {
        let mut children: [Vec<Entry>; CHILDREN] = array::from_fn(|_| Vec::new());
        for entry in entries {
            children[child(entry.0, depth)].push(entry);
        }
        // All may be in one, which is split once there is one more.
        Self::Branch(Arc::new(children.map(|entries| Self::Leaf(entries.into()))))
    }

    /// Takes an entry out that is there, below this node, which is at a depth.
    fn remove(&mut self, depth: u32, hash: u64, is_it: &impl Fn(&ServiceView) -> bool) {
        match self {
            Self::Leaf(entries) => {
                let stays = |entry: &&Entry| entry.0 != hash || !is_it(&entry.1);
                *entries = entries.iter().filter(stays).cloned().collect();
            }
            Self::Branch(children) => {
                let children = Arc::make_mut(children);
                children[child(hash, depth)].remove(depth + 1, hash, is_it);
                if let Some(few) = few(children) {
                    *self = Self::Leaf(few);
                }
            }
        }
    }
}

/// Which child of a branch at a depth is on the way to a hash.
fn child(hash: u64, depth: u32) -> usize {
    low(hash >> (BITS * depth), CHILDREN)
}

/// What a branch has below it, if it is so little that a leaf should have it.
fn few(children: &[Node; CHILDREN]) -> Option<Arc<[Entry]>> {
    let leaf = |node| match node {
        &Node::Leaf(ref entries) => Some(&**entries),
        Node::Branch(_) => None,
    };
    let leaves = children.iter().map(leaf).collect::<Option<Vec<&[Entry]>>>()?;
    let count: usize = leaves.iter().map(|entries| entries.len()).sum();
    (count <= MOST / 2).then(|| leaves.concat().into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::model::ServiceName;

    fn service(number: u64, index: u64) -> Arc<ServiceView> {
        let name = ServiceName::parse(&format!("s{number}")).unwrap();
        Arc::new(ServiceView { name, index, guard: None, endpoints: Arc::default() })
    }

    /// Hashes of which some are many names', and some have most bits in common, so that leaves split deep down.
    fn hash(number: u64) -> u64 {
        match number % 3 {
            0 => (number % 4) << 60,
            1 => number % 40,
            _ => number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        }
    }

    fn is(number: u64) -> impl Fn(&ServiceView) -> bool {
        move |service| service.name.as_str() == format!("s{number}")
    }

    proptest! {
        #[test]
        fn it_has_what_a_map_of_names_has(
            steps in prop::collection::vec((0_u64..400, prop::bool::weighted(0.6)), 0..1500)
        ) {
            let (mut found, mut expected) = (ByName::default(), BTreeMap::new());
            let mut earlier = Vec::new();
            for (at, (number, is_put)) in steps.into_iter().enumerate() {
                if at % 300 == 0 {
                    earlier.push((found.clone(), expected.clone()));
                }
                let at = at as u64;
                if is_put {
                    let is_new = expected.insert(number, at).is_none();
                    prop_assert_eq!(found.insert(hash(number), service(number, at)), is_new);
                } else {
                    let was_there = expected.remove(&number).is_some();
                    prop_assert_eq!(found.remove(hash(number), is(number)), was_there);
                }
            }
            earlier.push((found, expected));
            for (found, expected) in earlier {
                prop_assert_eq!(found.len(), expected.len());
                prop_assert_eq!(found.iter().count(), expected.len());
                for number in 0..400 {
                    let index = found.get(hash(number), is(number)).map(|service| service.index);
                    prop_assert_eq!(index, expected.get(&number).copied());
                }
            }
        }
    }

    #[test]
    fn nodes_that_are_not_needed_any_more_go() {
        let mut services = ByName::default();
        let hash = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for number in 0..10_000 {
            services.insert(hash(number), service(number, 0));
        }
        assert!(matches!(services.root, Node::Branch(_)));
        for number in 0..10_000 {
            services.remove(hash(number), is(number));
        }
        assert!(matches!(&services.root, Node::Leaf(entries) if entries.is_empty()));
        assert_eq!(services.len(), 0);
    }
}
