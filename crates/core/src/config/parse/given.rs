//! Where each key was given.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::Place;
use super::super::path::is_within;

/// All keys and sections that were given, by their written paths.
#[derive(Debug, Default)]
pub(super) struct Given(BTreeMap<String, (Place, Range<usize>)>);

impl Given {
    /// Notes a key or section of the file: where it stands, and the octets of its value.
    pub(super) fn insert(&mut self, key: String, place: Place, span: Range<usize>) {
        self.0.insert(key, (place, span));
    }

    /// Notes that a variable gives a key or a whole section instead of the file.
    pub(super) fn replace(&mut self, key: &str, place: Place) {
        self.0.retain(|known, _| !is_within(known, key));
        self.insert(key.to_owned(), place, 0..0);
    }

    /// Where a key was given, or else the innermost section that it belongs to.
    pub(super) fn place_of(&self, key: &str) -> Option<Place> {
        let known = self.0.iter().filter(|(known, _)| is_within(key, known));
        known.max_by_key(|(known, _)| known.len()).map(|(_, (place, _))| place.clone())
    }

    /// The innermost key or section whose value holds an octet of the file.
    pub(super) fn innermost(&self, offset: usize) -> Option<(&str, &Place)> {
        let holding = self.0.iter().filter(|(_, (_, span))| span.contains(&offset));
        let innermost = holding.min_by_key(|(_, (_, span))| span.len());
        innermost.map(|(key, (place, _))| (key.as_str(), place))
    }
}
