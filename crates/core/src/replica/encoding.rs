//! Deltas as octets. The keys and states in them are the octets that are also stored and hashed, see [`super::rows`].
//!
//! An encoded delta is the octet 1; then, in postcard, origin, `from`, `to`, the extent (its head, the number of ranges
//! above it, each as two versions), `floor` and the number of rows; then each row: version, key and state, the latter
//! two with their lengths in front. None of this grows: what a delta needs beyond it takes another first octet.

use thiserror::Error;

use super::delta::{Delta, DeltaRow};
use super::extent::Extent;
use super::rows::{RowDecoder, RowError, put_row};
use super::version::Version;
use crate::fields::append;
use crate::model::NodeId;

#[cfg(test)]
mod tests;

/// The first octet of an encoded delta.
const FORMAT: u8 = 1;
/// The octets of a row with the shortest key and state.
const MIN_ROW_OCTETS: usize = 6;

/// Why octets are not a delta. Whoever sent them is at fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// There are more octets than [`Delta::MAX_OCTETS`].
    #[error("a delta of {octets} octets; at most {} are allowed", Delta::MAX_OCTETS)]
    TooLong {
        /// How many octets there are.
        octets: usize,
    },
    /// The delta does not begin with the octet of a format that is known here.
    #[error("a delta of the unknown format {found:?}")]
    Format {
        /// The first octet, if there is one.
        found: Option<u8>,
    },
    /// What stands in front of the rows is cut short or malformed.
    #[error("a malformed delta: {0}")]
    Header(postcard::Error),
    /// There are fewer rows than the delta states, or octets behind the last one.
    #[error("a delta that ends wrongly in its row {at} of {rows}")]
    Rows {
        /// The row at fault, counted from 0.
        at: u64,
        /// How many rows the delta states.
        rows: u64,
    },
    /// One of the rows is malformed.
    #[error(transparent)]
    Row(#[from] RowError),
}

impl Delta {
    /// The most octets that an encoded delta may have.
    pub const MAX_OCTETS: usize = 64 << 20;

    /// Appends the octets of the delta. There may be more than [`Delta::MAX_OCTETS`] if one commit is that large; the
    /// receiver refuses it then.
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
        let room = usize::try_from(count).unwrap_or(usize::MAX).min(rest.len() / MIN_ROW_OCTETS);
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
