//! A node's visible rows, by key, with the digest of those that are present.
//!
//! Rows that were written lately are listed by version, too: peers that keep up ask for these again and again. Who is
//! further behind wants most rows anyway, so that looking at all of them costs little more than sending them, while an
//! order of all rows by version would take as much room as the rows themselves.

use std::collections::BTreeSet;
use std::ops::Bound::{Included, Unbounded};

use super::digest;
use super::rows::{Entry, RowKey, Version};
use super::slot::{Keyed, Slot};

/// Rows that are listed by version however few there are.
const LEAST_LISTED: usize = 1024;
/// Of more rows than that, one in so many may be listed.
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

    /// By key.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.rows.iter()
    }

    /// By key, from this one on.
    pub(super) fn starting_at(&self, first: RowKey) -> impl Iterator<Item = &Slot> {
        self.rows.range::<dyn Keyed, _>((Included(&first as &dyn Keyed), Unbounded))
    }

    /// By version, then key, those above a version. Costs as much as there are rows if some of them are not listed.
    pub(super) fn above(&self, version: Version) -> impl Iterator<Item = &Slot> {
        let recent = self.recent_above(version).filter_map(|(_, key)| self.get(key));
        self.unlisted_above(version).into_iter().chain(recent)
    }

    /// How many rows there are above a version; counts no further than `most`.
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

    /// No row has a higher version than this; zero if there is none.
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

    /// Puts a row, or replaces it.
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

    /// Forgets a row that is no longer among the others.
    fn leave(&mut self, key: &RowKey, old: &Slot) {
        let version = old.version();
        self.digest = self.digest.wrapping_sub(digest::of_row(version, key, &old.state()));
        if version > self.unlisted {
            self.recent.remove(&(version, key.clone()));
        }
    }

    /// Takes the older half of the list away when it is too long.
    fn limit_recent(&mut self) {
        let listed = self.recent.len();
        if listed > LEAST_LISTED.max(self.rows.len() / LISTED_PART)
            && let Some((version, _)) = self.recent.iter().nth(listed / 2)
        {
            self.unlisted = *version;
            self.recent = self.recent.split_off(&(self.unlisted.next(), RowKey::Node));
        }
    }

    /// Packs the rows: a tree that grew in order is half empty. Worth it when most of them are new.
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
        for version in 1..3 * LEAST_LISTED {
            // Seven in ten are rewritten, and each version has up to three rows.
            put(&mut table, version * 7_919 % 2_000, version as u64 / 3 + 1);
        }
        assert!(table.unlisted > Version::ZERO, "some are not listed");
        assert!(table.recent.len() <= LEAST_LISTED, "few are listed");
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
        (0..=LEAST_LISTED).for_each(|row| put(&mut table, row, 1));
        assert_eq!(table.recent.len(), 0);
        assert_in_order(&table);
    }
}
