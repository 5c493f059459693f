//! Rows: what a node says of itself, in pieces that are replaced one by one, and the kinds of rows that there are.
//!
//! Each kind has a file, in which its row implements [`Kind`]: the octet that names the kind, the row's fields as
//! octets, its size, and which changes of it are urgent. The list in this file adds the kind's name and the parts of
//! its keys. Whatever has to tell kinds apart is generated from the list by the macro in `list.rs`, so that a new kind
//! is a new file and a line here, and no other code changes.
//!
//! The octets of keys and rows are the same on the wire, on disk and in digests, so that agents of different versions
//! agree on them. Keys and rows begin with the octet of their kind; the rest is
//! [postcard](https://postcard.jamesmunns.com/wire-format). They grow in two ways, and an agent that does not know the
//! growth stores it and passes it on unchanged, see `unknown.rs`:
//! - New kinds of rows.
//! - New fields at the end of a row, by the rules of [`crate::fields`].
//!
//! Nothing else may grow: neither keys, nor the values within a row, nor the kinds of [`Departure`].

#[macro_use]
mod list;
mod check;
mod decoder;
mod instance;
mod key;
mod kind;
mod node;
mod state;
#[cfg(test)]
pub(super) mod tests;
mod unknown;

use std::cmp::Ordering;
use std::sync::Arc;

pub use decoder::{RowDecoder, RowError, RowProblem};
pub(super) use key::KeyPart;
use key::{put_number, put_with_length};
use kind::Kind;
pub use state::{Departure, Entry, RowChange, RowState};
pub use unknown::NewerRow;

use super::version::Version;
use crate::model::{CheckId, CheckRow, Instance, InstanceId, NodeRow};

/// Octets of a malformed key that an error shows at most.
const MAX_SHOWN_OCTETS: usize = 64;

kinds! {
    /// The node itself.
    node: Node => NodeRow;
    /// One of the node's instances.
    instance: Instance(id: InstanceId) => Instance;
    /// One check of one of the node's instances.
    check: Check(instance: InstanceId, check: CheckId) => CheckRow;
}

impl Row {
    /// What this version knows of the row: a row of a kind in the list, or [`Row::Other`], which has no meaning here.
    #[must_use]
    pub fn known(&self) -> &Self {
        if let Self::Newer(newer) = self { &newer.known } else { self }
    }

    fn decode(octets: &[u8], key: &RowKey, decoder: &mut RowDecoder) -> Result<Self, RowProblem> {
        let (kind, fields) = octets.split_first().ok_or(RowProblem::Empty)?;
        Ok(match Self::decode_known(*kind, fields, key, decoder)? {
            Some((known, [])) => known,
            Some((known, rest)) => Self::Newer(Arc::new(NewerRow { known, rest: rest.into() })),
            None => Self::Other(Arc::new(octets.into())),
        })
    }
}

impl RowDecoder {
    /// Reads a row: the octets of its key, and those of its state.
    ///
    /// # Errors
    /// When they are malformed or do not belong together. What newer versions may add is no error.
    pub fn decode(&mut self, key: &[u8], state: &[u8]) -> Result<(RowKey, RowState), RowError> {
        let key = RowKey::decode(key).map_err(|problem| {
            let octets = key.iter().copied().take(MAX_SHOWN_OCTETS).collect();
            RowError::Key { octets, problem }
        })?;
        match RowState::decode(state, &key, self) {
            Ok(state) if key.fits(&state) => Ok((key, state)),
            Ok(_) => Err(RowError::State { key, problem: RowProblem::Kind }),
            Err(problem) => Err(RowError::State { key, problem }),
        }
    }
}

impl Ord for RowKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl PartialOrd for RowKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// About how many octets a row takes on the wire, to cut deltas into chunks.
pub(super) fn approx_octets(key: &RowKey, state: &RowState) -> usize {
    key.approx_octets() + state.approx_octets() + 8
}

/// Writes a row as it stands in an encoded delta: the version, then key and state with their lengths.
pub(super) fn put_row(out: &mut Vec<u8>, version: Version, key: &RowKey, state: &RowState) {
    put_number(out, version.as_u64());
    put_with_length(out, |out| key.encode(out));
    put_with_length(out, |out| state.encode(out));
}
