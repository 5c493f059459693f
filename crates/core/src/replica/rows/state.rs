//! Rows and tombstones, with the versions that wrote them.

use serde::{Deserialize, Serialize};

use super::{Row, RowDecoder, RowKey, RowProblem};
use crate::fields::append;
use crate::replica::version::Version;

const PRESENT: u8 = 0;
const GONE: u8 = 1;

/// Why a row is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Departure {
    /// Somebody asked for it by name, which is believed at once.
    Deregistered,
    /// Its provider no longer states it. That may be a mistake, so the guard may hold the instance.
    Dropped,
}

/// A row, or its tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowState {
    /// The row exists.
    Present(Row),
    /// The row was deleted.
    Gone(Departure),
}

/// A row with the version that last wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The commit that wrote the row.
    pub version: Version,
    /// What the commit wrote.
    pub state: RowState,
}

/// A row that was written, or vanished. When a history was restated, a row may have changed in nothing but its version,
/// and what vanished may have been a tombstone: code that stores rows has to know of both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowChange {
    /// The key of the row.
    pub key: RowKey,
    /// What the row is now.
    pub state: RowState,
}

impl RowState {
    /// What is known of the row, if it exists.
    #[must_use]
    pub fn present(&self) -> Option<&Row> {
        match self {
            Self::Present(row) => Some(row.known()),
            Self::Gone(_) => None,
        }
    }

    /// The state as far as this version knows it, without the fields that only newer ones know.
    #[must_use]
    pub fn known(&self) -> Self {
        match self {
            Self::Present(row) => Self::Present(row.known().clone()),
            Self::Gone(departure) => Self::Gone(*departure),
        }
    }

    /// Whether this state of the row with the given key says that something must not be used any longer. A commit with
    /// bad news must not wait behind anything.
    #[must_use]
    pub fn is_bad_news(&self, key: &RowKey) -> bool {
        match self {
            Self::Present(row) => row.is_bad_news(),
            Self::Gone(_) => key.is_bad_news_when_gone(),
        }
    }

    /// Appends the octets of the row or tombstone.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Present(row) => {
                out.push(PRESENT);
                row.encode(out);
            }
            Self::Gone(departure) => {
                out.push(GONE);
                append(departure, out);
            }
        }
    }

    pub(super) fn decode(
        octets: &[u8],
        key: &RowKey,
        decoder: &mut RowDecoder,
    ) -> Result<Self, RowProblem> {
        match octets.split_first().ok_or(RowProblem::Empty)? {
            (&PRESENT, row) => Ok(Self::Present(Row::decode(row, key, decoder)?)),
            (&GONE, departure) => match postcard::take_from_bytes::<Departure>(departure)? {
                (departure, []) => Ok(Self::Gone(departure)),
                (_, rest) => Err(RowProblem::TooMany(rest.len())),
            },
            (other, _) => Err(RowProblem::UnknownState(*other)),
        }
    }

    pub(super) fn approx_octets(&self) -> usize {
        match self {
            Self::Present(row) => row.approx_octets(),
            Self::Gone(_) => 2,
        }
    }
}
