//! What spares readers a search: whether a name can exist at all, and whether a service can have changed.
//!
//! A search waits for memory a few times, and a dozen times if it looks for names below another name. It is in
//! vain for names that do not exist, and for most services after another service changed. Consecutive views
//! share their hints, because hints only grow: what a later view adds makes readers of an earlier view search
//! once more, and they find what they would have found before. Hints are set before a view is published, so
//! every reader of the view sees them.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use twox_hash::XxHash3_64;

/// Bits per name. With three of them set, one name in a hundred that does not exist is searched in vain.
const BITS_PER_NAME: usize = 16;
/// Names that the smallest filter has room for.
const MIN_NAMES: usize = 1 << 12;
/// Groups of services, by hash. With a thousand changes a second, few services share a group with one that
/// has just changed.
const GROUPS: usize = 1 << 14;

/// The hash of a name, for all hints. Not keyed: only names that are registered could collide on purpose.
pub(super) fn hash(name: &str) -> u64 {
    XxHash3_64::oneshot(name.as_bytes())
}

/// A service's name and those above it, with the labels in reverse: `shop`, `shop.prod` and `shop.prod.api`.
pub(super) fn names(key: &str) -> impl Iterator<Item = &str> {
    key.match_indices('.').map(|(at, _)| &key[..at]).chain([key])
}

pub(super) struct Hints {
    /// A Bloom filter whose bits of one name are all in one word.
    names: Box<[AtomicU64]>,
    /// The index at which one of a group last changed.
    changes: Box<[AtomicU64]>,
}

impl Hints {
    /// Empty hints with room for twice this many names.
    pub(super) fn for_names(count: usize) -> Self {
        let room = (2 * count).max(MIN_NAMES).next_power_of_two();
        let zeroes = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        Self { names: zeroes(room * BITS_PER_NAME / 64), changes: zeroes(GROUPS) }
    }

    /// Hints without any name, and with room for twice this many. They know the same changes.
    pub(super) fn emptied(&self, count: usize) -> Self {
        let empty = Self::for_names(count);
        for (new, old) in empty.changes.iter().zip(&self.changes) {
            new.store(old.load(Relaxed), Relaxed);
        }
        empty
    }

    /// How many names there is room for.
    pub(super) fn room(&self) -> usize {
        self.names.len() * 64 / BITS_PER_NAME
    }

    /// Takes a name in. False if it, or other names that look like it, had been taken in before.
    pub(super) fn insert(&self, hash: u64) -> bool {
        let (word, bits) = self.place(hash);
        word.fetch_or(bits, Relaxed) & bits != bits
    }

    /// False if this name was never taken in.
    pub(super) fn may_exist(&self, hash: u64) -> bool {
        let (word, bits) = self.place(hash);
        word.load(Relaxed) & bits == bits
    }

    fn place(&self, hash: u64) -> (&AtomicU64, u64) {
        let bit = |shift: u32| 1_u64 << (hash >> shift & 63);
        (&self.names[low(hash >> 18, self.names.len())], bit(0) | bit(6) | bit(12))
    }

    /// Notes that a service changed at an index.
    pub(super) fn change(&self, hash: u64, index: u64) {
        self.group(hash).fetch_max(index, Relaxed);
    }

    /// True if neither a service nor another one of its group has changed after an index.
    pub(super) fn is_unchanged_since(&self, hash: u64, index: u64) -> bool {
        self.group(hash).load(Relaxed) <= index
    }

    fn group(&self, hash: u64) -> &AtomicU64 {
        &self.changes[low(hash, GROUPS)]
    }
}

/// The lower bits of a hash: an index into `len` places, where `len` is a power of two.
#[allow(clippy::cast_possible_truncation, reason = "only the lower bits are wanted")]
pub(super) fn low(hash: u64, len: usize) -> usize {
    hash as usize & (len - 1)
}

impl fmt::Debug for Hints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hints").field("room", &self.room()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_names_that_do_not_exist_may() {
        let hints = Hints::for_names(0);
        let name = |number: usize| hash(&format!("shop.prod.api.s{number}"));
        let new = (0..MIN_NAMES).filter(|number| hints.insert(name(*number))).count();
        assert!(new > MIN_NAMES * 95 / 100, "{new}");
        assert!((0..MIN_NAMES).all(|number| hints.may_exist(name(number))));
        let others = MIN_NAMES..11 * MIN_NAMES;
        let mistaken = others.filter(|number| hints.may_exist(name(*number))).count();
        assert!(mistaken < MIN_NAMES / 4, "{mistaken} of {}", 10 * MIN_NAMES);
    }

    #[test]
    fn what_changed_is_known_until_later() {
        let hints = Hints::for_names(0);
        assert!(hints.is_unchanged_since(7, 0));
        hints.change(7, 3);
        hints.change(7, 2);
        assert!(!hints.is_unchanged_since(7, 2));
        assert!(hints.is_unchanged_since(7, 3));
    }
}
