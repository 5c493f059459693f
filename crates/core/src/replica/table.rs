//! A node's visible rows, by key, with the digest of those that are present.
//!
//! Rows that were written recently are also listed by version, since peers that keep up ask for these again and again.
//! A peer that is further behind wants most rows anyway: looking at all of them costs little more than sending them,
//! while an order of all rows by version would take as much memory as the rows themselves.

use std::collections::BTreeSet;
use std::ops::Bound::{Included, Unbounded};

use super::digest;
use super::rows::{Entry, RowKey};
use super::slot::{Keyed, Slot};
use super::version::Version;

/// This many rows may be listed by version however small the table is.
const MIN_LISTED: usize = 1024;
/// In larger tables one row in this many may be listed.
const LISTED_PART: usize = 8;

#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    rows: BTreeSet<Slot>,
    /// The rows above `unlisted`, by version.
    recent: BTreeSet<(Version, RowKey)>,
    /// Rows up to here are not listed by version.
    unlisted: Version,
    digest: u64,
}

impl FromIterator<(RowKey, Entry)> for Table {
    fn from_iter<T: IntoIterator<Item = (RowKey, Entry)>>(rows: T) -> Self {
        let rows: BTreeSet<_> = rows.into_iter().map(|(key, row)| Slot::new(key, row)).collect();
        let digest = |row: &Slot| digest::of_row(row.version(), &row.key(), &row.state());
        Self {
            digest: rows.iter().map(digest).fold(0, u64::wrapping_add),
            unlisted: rows.iter().map(Slot::version).max().unwrap_or_default(),
            recent: BTreeSet::new(),
            rows,
        }
    }
}

impl Table {
    pub(super) fn get(&self, key: &RowKey) -> Option<&Slot> {
        self.rows.get::<dyn Keyed>(key)
    }

    /// All rows, by key.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.rows.iter()
    }

    /// The rows from this key on, by key.
    pub(super) fn starting_at(&self, first: RowKey) -> impl Iterator<Item = &Slot> {
        self.rows.range::<dyn Keyed, _>((Included(&first as &dyn Keyed), Unbounded))
    }

    /// The rows above a version, by version, then key. This looks at all rows of the table if some of those that are
    /// asked for are not listed.
    pub(super) fn above(&self, version: Version) -> impl Iterator<Item = &Slot> {
        let recent = self.recent_above(version).filter_map(|(_, key)| self.get(key));
        self.unlisted_above(version).into_iter().chain(recent)
    }

    /// The number of rows above a version, or `most` if there are more.
    pub(super) fn count_above(&self, version: Version, most: usize) -> usize {
        let recent = self.recent_above(version).take(most).count();
        most.min(self.unlisted_above(version).len() + recent)
    }

    fn recent_above(&self, version: Version) -> impl Iterator<Item = &(Version, RowKey)> {
        self.recent.range((version.max(self.unlisted).next(), RowKey::Node)..)
    }

    fn unlisted_above(&self, version: Version) -> Vec<&Slot> {
        if version >= self.unlisted {
            return Vec::new();
        }
        let is_asked = |row: &&Slot| version < row.version() && row.version() <= self.unlisted;
        let mut rows: Vec<_> = self.rows.iter().filter(is_asked).collect();
        // Stable: rows of one version stay in the order of their keys.
        rows.sort_by_key(|row| row.version());
        rows
    }

    /// A version that no row exceeds; zero if there are no rows.
    pub(super) fn newest(&self) -> Version {
        match self.recent.last() {
            Some((version, _)) => *version,
            None if self.rows.is_empty() => Version::ZERO,
            None => self.unlisted,
        }
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// Adds a row, or replaces the one with the same key.
    pub(super) fn insert(&mut self, key: RowKey, entry: Entry) {
        let version = entry.version;
        self.digest = self.digest.wrapping_add(digest::of_row(version, &key, &entry.state));
        if let Some(old) = self.rows.replace(Slot::new(key.clone(), entry)) {
            self.leave(&key, &old);
        }
        if version > self.unlisted {
            self.recent.insert((version, key));
            self.limit_recent();
        }
    }

    /// Takes a row that has left the table out of the digest and the list.
    fn leave(&mut self, key: &RowKey, old: &Slot) {
        let version = old.version();
        self.digest = self.digest.wrapping_sub(digest::of_row(version, key, &old.state()));
        if version > self.unlisted {
            self.recent.remove(&(version, key.clone()));
        }
    }

    /// Removes the older half of the list when it is too long.
    fn limit_recent(&mut self) {
        let listed = self.recent.len();
        if listed > MIN_LISTED.max(self.rows.len() / LISTED_PART)
            && let Some((version, _)) = self.recent.iter().nth(listed / 2)
        {
            self.unlisted = *version;
            self.recent = self.recent.split_off(&(self.unlisted.next(), RowKey::Node));
        }
    }

    /// Builds the tree of rows again, without gaps: one that grew in order is half empty. Worth it when most rows are
    /// new.
    pub(super) fn pack(&mut self) {
        self.unlisted = self.newest();
        self.recent.clear();
        self.rows = std::mem::take(&mut self.rows).into_iter().collect();
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn remove(&mut self, key: &RowKey) {
        if let Some(old) = self.rows.take::<dyn Keyed>(key) {
            self.leave(key, &old);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::InstanceId;
    use crate::replica::{Departure, RowState};

    fn put(table: &mut Table, row: usize, version: u64) {
        let key = RowKey::Instance(InstanceId::parse(&format!("i{row:05}")).unwrap());
        let state = RowState::Gone(Departure::Dropped);
        table.insert(key, Entry { version: Version::new(version), state });
    }

    fn assert_in_order(table: &Table) {
        let mut all: Vec<_> = table.iter().collect();
        all.sort_by_key(|row| row.version());
        let newest = all.last().map_or(Version::ZERO, |row| row.version());
        assert_eq!(table.newest(), newest);
        for above in (0..=newest.as_u64() + 1).step_by(97).map(Version::new) {
            let first = all.partition_point(|row| row.version() <= above);
            assert_eq!(table.above(above).collect::<Vec<_>>(), all[first..]);
            assert_eq!(table.count_above(above, 500), (all.len() - first).min(500));
        }
    }

    #[test]
    fn rows_are_in_order_whether_listed_or_not() {
        let mut table = Table::default();
        assert_in_order(&table);
        for version in 1..3 * MIN_LISTED {
            // Seven in ten are rewritten, and each version has up to three rows.
            put(&mut table, version * 7_919 % 2_000, version as u64 / 3 + 1);
        }
        assert!(table.unlisted > Version::ZERO, "some are not listed");
        assert!(table.recent.len() <= MIN_LISTED, "few are listed");
        assert_in_order(&table);
        table.pack();
        assert_in_order(&table);
        put(&mut table, 7, 5_000);
        assert_eq!(table.recent.len(), 1);
        assert_in_order(&table);
    }

    #[test]
    fn rows_of_one_version_are_not_listed_when_they_are_many() {
        let mut table = Table::default();
        (0..=MIN_LISTED).for_each(|row| put(&mut table, row, 1));
        assert_eq!(table.recent.len(), 0);
        assert_in_order(&table);
    }
}
