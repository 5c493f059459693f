//! The place where each key was given.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::ConfigPlace;
use super::super::path::is_within;

/// All given keys and sections, by their written paths.
#[derive(Debug, Default)]
pub(super) struct Given(BTreeMap<String, (ConfigPlace, Range<usize>)>);

impl Given {
    /// Records a key or section of the file with its place and the octets of its value.
    pub(super) fn insert(&mut self, key: String, place: ConfigPlace, span: Range<usize>) {
        self.0.insert(key, (place, span));
    }

    /// Records that a variable overrides a key or a whole section of the file.
    pub(super) fn replace(&mut self, key: &str, place: ConfigPlace) {
        self.0.retain(|known, _| !is_within(known, key));
        self.insert(key.to_owned(), place, 0..0);
    }

    /// Where a key was given, or else the innermost given section to which it belongs.
    pub(super) fn place_of(&self, key: &str) -> Option<ConfigPlace> {
        let known = self.0.iter().filter(|(known, _)| is_within(key, known));
        known.max_by_key(|(known, _)| known.len()).map(|(_, (place, _))| place.clone())
    }

    /// The innermost key or section whose value holds an octet of the file.
    pub(super) fn innermost(&self, offset: usize) -> Option<(&str, &ConfigPlace)> {
        let holding = self.0.iter().filter(|(_, (_, span))| span.contains(&offset));
        let innermost = holding.min_by_key(|(_, (_, span))| span.len());
        innermost.map(|(key, (place, _))| (key.as_str(), place))
    }
}
