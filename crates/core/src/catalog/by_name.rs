//! Services by their names: a hash trie (Bagwell, "Ideal Hash Trees", 2001). A lookup waits for memory only a few
//! times: once for each factor of sixteen, once at a leaf, and once at the service.
//!
//! Cloning a trie costs a reference count. A change copies a leaf and the branches above it, and shares the rest.
//! Hashes are not keyed: only services that are registered could have the same hash on purpose, and these would be
//! searched one by one.

use std::sync::Arc;
use std::{array, iter};

use super::hints::low;
use super::service::ServiceView;

/// Bits of a hash that choose the child of a branch.
const BITS: u32 = 4;
const CHILDREN: usize = 1 << BITS;
/// The depth at which the bits of a hash end.
const MAX_DEPTH: u32 = u64::BITS / BITS;
/// Services of a leaf. A leaf with more becomes a branch, except at the maximum depth.
const MAX_LEAF: usize = 32;

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

    /// The service that has this hash and for which `is_it` is true.
    // A call of its own would cost each lookup a twentieth more instructions.
    #[inline(always)]
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

    /// Puts a service in, replacing the one of the same name. Returns whether there was none.
    pub(super) fn insert(&mut self, hash: u64, service: Arc<ServiceView>) -> bool {
        let is_new = self.root.insert(0, (hash, service));
        self.len += usize::from(is_new);
        is_new
    }

    /// Takes out the service that has this hash and for which `is_it` is true. Returns whether it was there.
    pub(super) fn remove(&mut self, hash: u64, is_it: impl Fn(&ServiceView) -> bool) -> bool {
        // Nothing is copied for a service that is not there.
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
    /// Puts an entry in below this node, which is at this depth. Returns whether there was none of its name.
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
        let is_full = entries.len() >= MAX_LEAF && depth < MAX_DEPTH;
        let all = entries.iter().cloned().chain([entry]);
        *self = if is_full { Self::branch(depth, all) } else { Self::Leaf(all.collect()) };
        true
    }

    /// The entries of a leaf.
    fn leaf(&self) -> Option<&[Entry]> {
        match self {
            Self::Leaf(entries) => Some(entries),
            Self::Branch(_) => None,
        }
    }

    /// A branch at this depth, with these entries below it.
    fn branch(depth: u32, entries: impl Iterator<Item = Entry>) -> Self {
        let mut children: [Vec<Entry>; CHILDREN] = array::from_fn(|_| Vec::new());
        for entry in entries {
            children[child(entry.0, depth)].push(entry);
        }
        // All entries may be in one leaf, which is split when one more comes.
        Self::Branch(Arc::new(children.map(|entries| Self::Leaf(entries.into()))))
    }

    /// Takes out an entry that is there, below this node, which is at this depth.
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

/// The child of a branch at this depth that leads to a hash.
fn child(hash: u64, depth: u32) -> usize {
    low(hash >> (BITS * depth), CHILDREN)
}

/// All entries below a branch, if they are few enough for a leaf.
fn few(children: &[Node; CHILDREN]) -> Option<Arc<[Entry]>> {
    let leaves = children.iter().map(Node::leaf).collect::<Option<Vec<&[Entry]>>>()?;
    let count: usize = leaves.iter().map(|entries| entries.len()).sum();
    (count <= MAX_LEAF / 2).then(|| leaves.concat().into())
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

    /// Some of these hashes belong to many names, and some have most bits in common, so that leaves split deep
    /// down.
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
