//! Sets of commits of one history: all up to a head, and some that arrived before the commits they follow.

use serde::{Deserialize, Serialize};

use super::version::Version;

/// Every commit up to its head, and ranges of commits above a gap.
///
/// Two replicas with the same extent of a history show the same rows of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Extent {
    head: Version,
    /// Ranges `(from, to]` in order, which touch neither each other nor the head.
    early: Vec<(Version, Version)>,
}

impl Extent {
    /// The most ranges above a gap that an extent may have.
    pub const MAX_RANGES: usize = 1024;

    /// Every commit up to this one, and none above.
    #[must_use]
    pub const fn up_to(head: Version) -> Self {
        Self { head, early: Vec::new() }
    }

    /// An extent of these parts; `None` if they are not [sound](Extent::is_sound).
    #[must_use]
    pub fn of_parts(head: Version, early: Vec<(Version, Version)>) -> Option<Self> {
        let extent = Self { head, early };
        extent.is_sound().then_some(extent)
    }

    /// The version up to which every commit is in the extent.
    #[must_use]
    pub const fn head(&self) -> Version {
        self.head
    }

    /// The other commits in the extent: ranges above a gap, each without its first version and with its last.
    #[must_use]
    pub fn early(&self) -> &[(Version, Version)] {
        &self.early
    }

    /// The highest version in the extent; zero when it is empty.
    #[must_use]
    pub fn newest(&self) -> Version {
        self.early.last().map_or(self.head, |(_, to)| *to)
    }

    /// Whether the extent holds no commit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.newest() == Version::ZERO
    }

    /// Whether the ranges are few enough, in order and apart. An extent from a peer or from disk may not be sound.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let mut end = self.head;
        self.early.len() <= Self::MAX_RANGES
            && self.early.iter().all(|(from, to)| {
                let is_apart = end < *from && from < to;
                end = *to;
                is_apart
            })
    }

    /// Whether the extent holds this commit.
    #[must_use]
    pub fn contains(&self, version: Version) -> bool {
        version <= self.head || self.contains_early(version)
    }

    /// Whether the extent holds this commit above a gap.
    pub(super) fn contains_early(&self, version: Version) -> bool {
        self.early.iter().any(|(from, to)| *from < version && version <= *to)
    }

    /// Whether the extent holds all commits above `from` up to `to`.
    pub(super) fn covers_range(&self, from: Version, to: Version) -> bool {
        let is_early = || self.early.iter().any(|range| range.0 <= from && to <= range.1);
        to <= self.head || is_early()
    }

    /// Whether this extent holds every commit of the other.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let has = |(from, to): &(Version, Version)| self.covers_range((*from).max(self.head), *to);
        other.head <= self.head && other.early.iter().all(has)
    }

    /// Adds the commits above `from` up to `to`.
    pub(super) fn insert(&mut self, from: Version, to: Version) {
        if to <= self.head {
            return;
        }
        let (mut from, mut to) = (from, to);
        // In order, so that what has been swallowed never reaches back to a range that was passed.
        self.early.retain(|range| {
            let touches = range.0 <= to && from <= range.1;
            if touches {
                (from, to) = (from.min(range.0), to.max(range.1));
            }
            !touches
        });
        if from <= self.head {
            self.head = to;
        } else {
            let place = self.early.partition_point(|range| range.0 < from);
            self.early.insert(place, (from, to));
        }
    }

    /// Adds every commit of the other extent.
    pub(crate) fn join(&mut self, other: &Self) {
        self.insert(Version::ZERO, other.head);
        for (from, to) in &other.early {
            self.insert(*from, *to);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn extent(ranges: &[(u64, u64)]) -> Extent {
        let mut extent = Extent::default();
        for (from, to) in ranges {
            extent.insert(Version::new(*from), Version::new(*to));
        }
        extent
    }

    fn versions(extent: &Extent) -> BTreeSet<u64> {
        (1..=40).filter(|v| extent.contains(Version::new(*v))).collect()
    }

    fn ranges() -> impl Strategy<Value = Vec<(u64, u64)>> {
        prop::collection::vec((0..30u64, 1..6u64).prop_map(|(from, n)| (from, from + n)), 0..8)
    }

    proptest! {
        #[test]
        fn an_extent_is_a_set_of_versions(a in ranges(), b in ranges()) {
            let (x, y) = (extent(&a), extent(&b));
            let all = |ranges: &[(u64, u64)]| -> BTreeSet<u64> {
                ranges.iter().flat_map(|(from, to)| from + 1..=*to).collect()
            };
            prop_assert!(x.is_sound());
            prop_assert_eq!(versions(&x), all(&a));
            prop_assert_eq!(x.newest().as_u64(), all(&a).last().copied().unwrap_or_default());
            prop_assert_eq!(x.covers(&y), all(&b).is_subset(&all(&a)));
            let mut joined = x.clone();
            joined.join(&y);
            prop_assert!(joined.is_sound());
            prop_assert_eq!(versions(&joined), all(&a).union(&all(&b)).copied().collect());
        }
    }

    #[test]
    fn ranges_that_touch_or_overlap_or_are_out_of_order_are_not_sound() {
        let v = Version::new;
        let bad = [vec![(v(1), v(2))], vec![(v(3), v(3))], vec![(v(4), v(5)), (v(5), v(6))]];
        for early in bad {
            assert!(!Extent { head: v(1), early: early.clone() }.is_sound(), "{early:?}");
        }
        let many = (1..=1025).map(|n| (v(n * 3), v(n * 3 + 1))).collect();
        assert!(!Extent { head: v(1), early: many }.is_sound());
    }
}
