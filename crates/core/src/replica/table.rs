//! A node's visible rows, by key and by version, with the digest of those that are present.

use std::collections::{BTreeMap, BTreeSet};

use super::digest;
use super::row::{Entry, RowKey, Version};

#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    rows: BTreeMap<RowKey, Entry>,
    by_version: BTreeSet<(Version, RowKey)>,
    digest: u64,
}

impl Table {
    pub(super) fn get(&self, key: &RowKey) -> Option<&Entry> {
        self.rows.get(key)
    }

    /// By key.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&RowKey, &Entry)> {
        self.rows.iter()
    }

    /// By key, from this one on.
    pub(super) fn starting_at(&self, first: RowKey) -> impl Iterator<Item = (&RowKey, &Entry)> {
        self.rows.range(first..)
    }

    /// By version, then key, those above a version.
    pub(super) fn above(&self, version: Version) -> impl Iterator<Item = (&RowKey, &Entry)> {
        let order = self.by_version.range((version.next(), RowKey::Node)..);
        order.filter_map(|(_, key)| self.rows.get_key_value(key))
    }

    /// How many rows there are above a version; counts no further than `most`.
    pub(super) fn count_above(&self, version: Version, most: usize) -> usize {
        self.by_version.range((version.next(), RowKey::Node)..).take(most).count()
    }

    /// The highest version of a row; zero if there is none.
    pub(super) fn newest(&self) -> Version {
        self.by_version.last().map_or(Version::ZERO, |(version, _)| *version)
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// Puts a row; returns the one that it replaces.
    pub(super) fn insert(&mut self, key: RowKey, entry: Entry) -> Option<Entry> {
        self.digest = self.digest.wrapping_add(digest::of_row(entry.version, &key, &entry.state));
        let Some(place) = self.rows.get_mut(&key) else {
            self.by_version.insert((entry.version, key.clone()));
            self.rows.insert(key, entry);
            return None;
        };
        let version = entry.version;
        let old = std::mem::replace(place, entry);
        self.digest = self.digest.wrapping_sub(digest::of_row(old.version, &key, &old.state));
        // The very same text goes on being shared by both orders.
        let (_, key) = self.by_version.take(&(old.version, key))?;
        self.by_version.insert((version, key));
        Some(old)
    }

    /// Packs the rows: trees that grew in order are half empty. Worth it when most of them are new.
    pub(super) fn pack(&mut self) {
        self.rows = std::mem::take(&mut self.rows).into_iter().collect();
        self.by_version = std::mem::take(&mut self.by_version).into_iter().collect();
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn remove(&mut self, key: &RowKey) -> Option<Entry> {
        let (key, old) = self.rows.remove_entry(key)?;
        self.digest = self.digest.wrapping_sub(digest::of_row(old.version, &key, &old.state));
        self.by_version.remove(&(old.version, key));
        Some(old)
    }
}
