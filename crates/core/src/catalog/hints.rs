//! What spares readers a search: whether a name can exist at all, and whether a service can have changed.
//!
//! A search costs a few waits for memory, or a dozen where it is for names below another one, and is in vain for names that do
//! not exist and for most services after a change of another one. Hints are shared by all views that follow on each other, because they
//! only ever grow: what a later view adds makes readers of an earlier one search once more and find what they would
//! have found before. They are set before a view is published, so whoever has the view sees them.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use twox_hash::XxHash3_64;

/// Bits per name: with three of them set, one name in a hundred that does not exist is searched in vain.
const BITS_PER_NAME: usize = 16;
/// Names that the smallest filter is made for.
const FEWEST_NAMES: usize = 1 << 12;
/// Groups of services, by hash: with a thousand changes a second, few others share a changed one's group.
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
    /// For so many names, twice over.
    pub(super) fn for_names(count: usize) -> Self {
        let room = (2 * count).max(FEWEST_NAMES).next_power_of_two();
        let zeroes = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        Self { names: zeroes(room * BITS_PER_NAME / 64), changes: zeroes(GROUPS) }
    }

    /// For so many names, twice over, with none of them yet; what changed is known as before.
    pub(super) fn anew(&self, count: usize) -> Self {
        let anew = Self::for_names(count);
        for (new, old) in anew.changes.iter().zip(&self.changes) {
            new.store(old.load(Relaxed), Relaxed);
        }
        anew
    }

    /// How many names it is made for.
    pub(super) fn room(&self) -> usize {
        self.names.len() * 64 / BITS_PER_NAME
    }

    /// Takes a name in; false if it, or others that look like it, had been taken in before.
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

    /// Notes that a service changes at an index.
    pub(super) fn change(&self, hash: u64, index: u64) {
        self.group(hash).fetch_max(index, Relaxed);
    }

    /// True if a service has not changed after an index, as far as these hints reach back.
    pub(super) fn is_unchanged_since(&self, hash: u64, index: u64) -> bool {
        self.group(hash).load(Relaxed) <= index
    }

    fn group(&self, hash: u64) -> &AtomicU64 {
        &self.changes[low(hash, GROUPS)]
    }
}

/// The lower bits of a hash, as many as number `len` places, a power of two.
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
        let new = (0..FEWEST_NAMES).filter(|number| hints.insert(name(*number))).count();
        assert!(new > FEWEST_NAMES * 95 / 100, "{new}");
        assert!((0..FEWEST_NAMES).all(|number| hints.may_exist(name(number))));
        let others = FEWEST_NAMES..11 * FEWEST_NAMES;
        let mistaken = others.filter(|number| hints.may_exist(name(*number))).count();
        assert!(mistaken < FEWEST_NAMES / 4, "{mistaken} of {}", 10 * FEWEST_NAMES);
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
