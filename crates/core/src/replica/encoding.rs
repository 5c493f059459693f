//! How rows and deltas look as octets. The same octets are sent, stored and hashed, so that agents of
//! different versions agree on what a row comes to.
//!
//! Keys and rows are an octet for their kind, then [postcard](https://postcard.jamesmunns.com/wire-format)
//! without names. They grow in two ways, and an agent that does not know the growth stores it and passes
//! it on as it came:
//! - New kinds of rows. An older agent has them as [`RowKey::Other`] and [`Row::Other`].
//! - New fields at the very end of a row. An older agent keeps them as octets ([`NewerRow`]). A field
//!   that was appended, and all behind it, is left out while it has its default: so a row that an
//!   older agent wrote encodes to the same octets again.
//!
//! Nothing else may grow: neither keys, nor what stands within a row, nor the kinds of [`Departure`].
//!
//! An encoded delta is the octet 1; then, in postcard, origin, `from`, `to`, the extent (its head, the number of
//! ranges above, each as two versions), `floor` and the number of rows; then each row: version, and key and state with their lengths in front.

use std::sync::Arc;

use thiserror::Error;

use super::delta::{Delta, DeltaRow};
use super::extent::Extent;
use super::rows::{Departure, NewerRow, Row, RowKey, RowState, Version};
use crate::model::{CheckId, CheckRow, Instance, InstanceId, NodeId, NodeRow};

#[cfg(test)]
mod tests;

/// The first octet of an encoded delta.
const FORMAT: u8 = 1;
/// A row with the shortest key and state.
const LEAST_ROW_OCTETS: usize = 6;

const PRESENT: u8 = 0;
const GONE: u8 = 1;
const NODE: u8 = 0;
const INSTANCE: u8 = 1;
const CHECK: u8 = 2;

/// Why octets are not a delta or a row. Whoever sent or stored them is at fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// More than [`Delta::MAX_OCTETS`].
    #[error("a delta of {octets} octets; at most {} are allowed", Delta::MAX_OCTETS)]
    TooLong {
        /// How many.
        octets: usize,
    },
    /// It does not begin with the octet of a format that is known here.
    #[error("a delta of the unknown format {found:?}")]
    Format {
        /// What it begins with, if with anything.
        found: Option<u8>,
    },
    /// What stands in front of the rows is cut short or malformed.
    #[error("a malformed delta: {0}")]
    Header(postcard::Error),
    /// There is less, or more, than the number of rows that it states.
    #[error("a delta that ends wrongly in its row {at} of {rows}")]
    Rows {
        /// Where, counted from 0.
        at: u64,
        /// How many it states.
        rows: u64,
    },
    /// A row's key is malformed.
    #[error("a malformed key {octets:02x?}: {problem}")]
    Key {
        /// The key, its first octets at least.
        octets: Vec<u8>,
        /// What is wrong.
        problem: Problem,
    },
    /// A row of a known kind is malformed.
    #[error("malformed row {key:?}: {problem}")]
    State {
        /// Which.
        key: RowKey,
        /// What is wrong.
        problem: Problem,
    },
}

/// What is wrong with a key or a row.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Problem {
    /// There is nothing where a kind should stand.
    #[error("it is empty")]
    Empty,
    /// It is neither a row nor a tombstone.
    #[error("it begins with the unknown octet {0}")]
    UnknownState(u8),
    /// It cannot be read.
    #[error(transparent)]
    Malformed(#[from] postcard::Error),
    /// There is more behind what may not grow.
    #[error("{0} octets too many")]
    TooMany(usize),
    /// The row is of another kind than its key.
    #[error("it is of another kind than its key")]
    Kind,
}

impl Delta {
    /// The most octets that an encoded delta may have.
    pub const MAX_OCTETS: usize = 64 << 20;

    /// Appends the delta's octets. There may be more than [`Delta::MAX_OCTETS`] if one commit is that
    /// large; the receiver refuses it then.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Self { origin, from, to, ref extent, floor, ref rows } = *self;
        out.push(FORMAT);
        append(&(origin, from, to, extent, floor, rows.len() as u64), out);
        for row in rows {
            put_row(out, row.version, &row.key, &row.state);
        }
    }

    /// Reads a delta. What it says is not examined, see [`Delta::validate`].
    ///
    /// # Errors
    /// When the octets are not exactly one delta, or one of its rows is malformed.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        type Header = (NodeId, Version, Version, Extent, Version, u64);
        if octets.len() > Self::MAX_OCTETS {
            return Err(DecodeError::TooLong { octets: octets.len() });
        }
        let Some((&FORMAT, rest)) = octets.split_first() else {
            return Err(DecodeError::Format { found: octets.first().copied() });
        };
        let ((origin, from, to, extent, floor, count), mut rest) =
            postcard::take_from_bytes::<Header>(rest).map_err(DecodeError::Header)?;
        // No count makes us reserve more than the octets could hold.
        let room = usize::try_from(count).unwrap_or(usize::MAX).min(rest.len() / LEAST_ROW_OCTETS);
        let mut rows = Vec::with_capacity(room);
        let mut decoder = RowDecoder::default();
        for at in 0..count {
            let ((version, key, state), behind) =
                postcard::take_from_bytes::<(Version, &[u8], &[u8])>(rest)
                    .map_err(|_| DecodeError::Rows { at, rows: count })?;
            rest = behind;
            let (key, state) = decoder.decode(key, state)?;
            rows.push(DeltaRow { version, key, state });
        }
        if !rest.is_empty() {
            return Err(DecodeError::Rows { at: count, rows: count });
        }
        Ok(Self { origin, from, to, extent, floor, rows })
    }
}

/// Reads rows. Those of one node are much alike, so each shares with the one before what is the same.
#[derive(Debug, Default)]
pub struct RowDecoder {
    last: Option<Arc<Instance>>,
}

impl RowDecoder {
    /// Reads a row: the octets of its key, and those of its state.
    ///
    /// # Errors
    /// When they are malformed or do not belong together. What newer versions may add is no error.
    pub fn decode(&mut self, key: &[u8], state: &[u8]) -> Result<(RowKey, RowState), DecodeError> {
        let key = decode_key(key).map_err(|problem| {
            let octets = key.iter().copied().take(64).collect();
            DecodeError::Key { octets, problem }
        })?;
        match self.decode_state(&key, state) {
            Ok(state) if key.fits(&state) => Ok((key, state)),
            Ok(_) => Err(DecodeError::State { key, problem: Problem::Kind }),
            Err(problem) => Err(DecodeError::State { key, problem }),
        }
    }

    fn decode_state(&mut self, key: &RowKey, octets: &[u8]) -> Result<RowState, Problem> {
        match octets.split_first().ok_or(Problem::Empty)? {
            (&PRESENT, row) => Ok(RowState::Present(self.decode_present(key, row)?)),
            (&GONE, departure) => match postcard::take_from_bytes::<Departure>(departure)? {
                (departure, []) => Ok(RowState::Gone(departure)),
                (_, rest) => Err(Problem::TooMany(rest.len())),
            },
            (other, _) => Err(Problem::UnknownState(*other)),
        }
    }

    fn decode_present(&mut self, key: &RowKey, octets: &[u8]) -> Result<Row, Problem> {
        let (&kind, fields) = octets.split_first().ok_or(Problem::Empty)?;
        let (known, rest) = match kind {
            NODE => {
                let (node, rest) = postcard::take_from_bytes::<NodeRow>(fields)?;
                (Row::Node(Arc::new(node)), rest)
            }
            INSTANCE => {
                let (mut instance, rest) = postcard::take_from_bytes::<Instance>(fields)?;
                self.share(key, &mut instance);
                let instance = Arc::new(instance);
                self.last = Some(instance.clone());
                (Row::Instance(instance), rest)
            }
            CHECK => {
                let (check, rest) = postcard::take_from_bytes::<CheckRow>(fields)?;
                (Row::Check(Arc::new(check)), rest)
            }
            _ => return Ok(Row::Other(Arc::new(octets.into()))),
        };
        if rest.is_empty() {
            return Ok(known);
        }
        Ok(Row::Newer(Arc::new(NewerRow { known, rest: rest.into() })))
    }

    /// Lets an instance have its texts in common with its key and with the last one.
    fn share(&self, key: &RowKey, instance: &mut Instance) {
        fn adopt<T: PartialEq + Clone>(value: &mut T, other: &T) {
            if value == other {
                value.clone_from(other);
            }
        }
        if let RowKey::Instance(id) = key {
            adopt(&mut instance.id, id);
        }
        if let Some(last) = &self.last {
            adopt(&mut instance.service, &last.service);
            adopt(&mut instance.profile, &last.profile);
            // Unless it has all in common.
            if let Some(profile) = Arc::get_mut(&mut instance.profile) {
                adopt(&mut profile.provider, &last.profile.provider);
                adopt(&mut profile.tags, &last.profile.tags);
                adopt(&mut profile.meta, &last.profile.meta);
            }
        }
    }
}

/// Writes a row as it stands in an encoded delta: the version, then key and state with their lengths.
pub(super) fn put_row(out: &mut Vec<u8>, version: Version, key: &RowKey, state: &RowState) {
    put_number(out, version.as_u64());
    put_with_length(out, |out| key.encode(out));
    put_with_length(out, |out| state.encode(out));
}

impl RowKey {
    /// Appends the key's octets. Their order is that of the keys.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Node => out.push(NODE),
            Self::Instance(id) => {
                out.push(INSTANCE);
                put_text(out, id.as_str());
            }
            Self::Check(id, check) => {
                out.push(CHECK);
                put_text(out, id.as_str());
                put_text(out, check.as_str());
            }
            Self::Other(octets) => out.extend_from_slice(octets),
        }
    }
}

impl RowState {
    /// Appends the octets of the row or tombstone.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Present(row) => {
                out.push(PRESENT);
                encode_row(row, out);
            }
            Self::Gone(departure) => {
                out.push(GONE);
                append(departure, out);
            }
        }
    }
}

fn encode_row(row: &Row, out: &mut Vec<u8>) {
    match row {
        Row::Node(node) => {
            out.push(NODE);
            append(&**node, out);
        }
        Row::Instance(instance) => {
            out.push(INSTANCE);
            append(&**instance, out);
        }
        Row::Check(check) => {
            out.push(CHECK);
            append(&**check, out);
        }
        Row::Newer(newer) => {
            encode_row(&newer.known, out);
            out.extend_from_slice(&newer.rest);
        }
        Row::Other(octets) => out.extend_from_slice(octets),
    }
}

fn decode_key(octets: &[u8]) -> Result<RowKey, Problem> {
    let (&kind, fields) = octets.split_first().ok_or(Problem::Empty)?;
    let (key, rest) = match kind {
        NODE => (RowKey::Node, fields),
        INSTANCE => {
            let (id, rest) = postcard::take_from_bytes::<InstanceId>(fields)?;
            (RowKey::Instance(id), rest)
        }
        CHECK => {
            let ((id, check), rest) = postcard::take_from_bytes::<(InstanceId, CheckId)>(fields)?;
            (RowKey::Check(id, check), rest)
        }
        _ => return Ok(RowKey::Other(octets.into())),
    };
    if rest.is_empty() { Ok(key) } else { Err(Problem::TooMany(rest.len())) }
}

fn append(value: &impl serde::Serialize, out: &mut Vec<u8>) {
    *out = postcard::to_extend(value, std::mem::take(out))
        .expect("a vector takes any length, and rows hold nothing that postcard lacks");
}

/// Base-128, least significant first, as postcard does.
fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn put_with_length(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.push(0);
    put(out);
    let octets = out.len() - at - 1;
    if octets < 0x80 {
        out[at] = octets as u8;
        return;
    }
    let mut length = Vec::new();
    put_number(&mut length, octets as u64);
    out.splice(at..=at, length);
}
