//! A piece of one node's history, as it travels.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::extent::Extent;
use super::rows::{RowKey, RowState, Version, approx_bytes};
use crate::model::NodeId;

/// One row of a delta.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeltaRow {
    /// The commit that wrote it.
    pub version: Version,
    /// Which row.
    pub key: RowKey,
    /// What it wrote.
    pub state: RowState,
}

/// The rows of one node with versions above `from` up to `to`, as the sender had them, and, when `to` is the
/// head of its extent, those of all commits above.
///
/// Rows that were overwritten later are missing from it. Who has all commits that the sender's rows reflect sees
/// no half commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// Whose history.
    pub origin: NodeId,
    /// Rows at or below this version are not in it. Zero: it states the history from its beginning.
    pub from: Version,
    /// It covers commits up to here.
    pub to: Version,
    /// The commits that the sender's rows reflected when it made this delta.
    pub extent: Extent,
    /// The sender no longer has tombstones up to here.
    pub floor: Version,
    /// In order of version, then key.
    pub rows: Vec<DeltaRow>,
}

/// What a replica lacks of a node's history, to ask a peer for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Everything up to here has come.
    pub above: Version,
    /// Set while a history is being stated anew from zero: the floor of those who state it.
    /// A peer that has purged no further goes on where the last one stopped.
    pub floor: Version,
}

/// Why a delta cannot be one. The sender is at fault; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DeltaError {
    /// `from < to <= head` and `floor <= head` do not hold. `from` may be `to` if there is something above.
    #[error("versions out of order: from {from}, to {to}, head {head}, floor {floor}")]
    Versions {
        /// As sent.
        from: Version,
        /// As sent.
        to: Version,
        /// The extent's, as sent.
        head: Version,
        /// As sent.
        floor: Version,
    },
    /// The ranges above the head are too many or not in order.
    #[error("the commits above version {head} are not in order")]
    Extent {
        /// The extent's, as sent.
        head: Version,
    },
    /// A row's version is outside of the delta, or rows are not in order, or one comes twice.
    #[error("row {key:?} at version {version} is out of order or range")]
    Order {
        /// The row.
        key: RowKey,
        /// Its version.
        version: Version,
    },
    /// A row holds something else than its key says.
    #[error("row {key:?} holds something of another kind")]
    Kind {
        /// The row.
        key: RowKey,
    },
}

impl Delta {
    /// Checks what every delta must hold.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), DeltaError> {
        let Self { from, to, floor, .. } = *self;
        let head = self.extent.head();
        let has_range = from < to || (from == to && self.brings_early());
        if !(has_range && to <= head && floor <= head) {
            return Err(DeltaError::Versions { from, to, head, floor });
        }
        if !self.extent.is_sound() {
            return Err(DeltaError::Extent { head });
        }
        let mut last: Option<(Version, &RowKey)> = None;
        for row in &self.rows {
            let at = (row.version, &row.key);
            let is_early = self.brings_early() && self.extent.contains_early(row.version);
            let is_in_range = (from < row.version && row.version <= to) || is_early;
            if !is_in_range || last.is_some_and(|last| at <= last) {
                return Err(DeltaError::Order { key: row.key.clone(), version: row.version });
            }
            if !row.key.fits(&row.state) {
                return Err(DeltaError::Kind { key: row.key.clone() });
            }
            last = Some(at);
        }
        Ok(())
    }

    /// About how many octets it has when it is encoded.
    #[must_use]
    pub fn approx_octets(&self) -> usize {
        40 + self.rows.iter().map(|row| approx_bytes(&row.key, &row.state)).sum::<usize>()
    }

    /// Whether it is exactly one commit with nothing missing, so that it may be shown before what came
    /// earlier has arrived. Without its tombstones it would not be.
    #[must_use]
    pub fn is_one_whole_commit(&self) -> bool {
        let is_last = self.extent.newest() == self.to;
        self.from.next() == self.to && is_last && self.floor <= self.from
    }

    /// Whether it is the last one of what the sender has, so that it holds what came early, too.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.to == self.extent.head()
    }

    fn brings_early(&self) -> bool {
        self.is_last() && !self.extent.early().is_empty()
    }
}
