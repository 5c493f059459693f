//! A piece of one node's history, as it travels.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::extent::Extent;
use super::rows::{RowKey, RowState, approx_octets};
use super::version::Version;
use crate::model::NodeId;

/// A row in a delta, with the commit that wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeltaRow {
    /// The commit that wrote the row.
    pub version: Version,
    /// The key of the row.
    pub key: RowKey,
    /// What the commit wrote.
    pub state: RowState,
}

/// The rows of one node with versions above `from` up to `to`, as the sender had them, and, when `to` is the
/// head of its extent, those of all commits above.
///
/// Rows that were overwritten later are missing from it. A receiver that has all commits which the sender's rows reflect
/// sees no half commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// The node whose history this is.
    pub origin: NodeId,
    /// The delta holds no rows at or below this version. If it is zero, the delta states the history from the beginning.
    pub from: Version,
    /// The delta covers commits up to this version.
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
pub struct DeltaRequest {
    /// Everything up to this version has arrived.
    pub above: Version,
    /// The floor of the peers that state a history from zero, while one is being restated; otherwise zero. A peer that
    /// has purged no further continues where the last one stopped.
    pub floor: Version,
}

/// Why a delta is not valid. The sender is at fault; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DeltaError {
    /// `from < to <= head` and `floor <= head` do not hold. `from` may be `to` if there is something above.
    #[error("versions out of order: from {from}, to {to}, head {head}, floor {floor}")]
    Versions {
        /// The field `from`, as sent.
        from: Version,
        /// The field `to`, as sent.
        to: Version,
        /// The head of the extent, as sent.
        head: Version,
        /// The field `floor`, as sent.
        floor: Version,
    },
    /// The ranges above the head are too many or not in order.
    #[error("the commits above version {head} are not in order")]
    Extent {
        /// The head of the extent, as sent.
        head: Version,
    },
    /// A row's version is outside of the delta, or rows are not in order, or one occurs twice.
    #[error("row {key:?} at version {version} is out of order or range")]
    Order {
        /// The key of the row.
        key: RowKey,
        /// The version of the row.
        version: Version,
    },
    /// A row holds something other than its key says.
    #[error("row {key:?} holds something of another kind")]
    Kind {
        /// The key of the row.
        key: RowKey,
    },
}

impl Delta {
    /// Checks the rules that hold for every delta.
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

    /// About how many octets the delta has when it is encoded.
    #[must_use]
    pub fn approx_octets(&self) -> usize {
        40 + self.rows.iter().map(|row| approx_octets(&row.key, &row.state)).sum::<usize>()
    }

    /// Whether the delta is exactly one commit with nothing missing, so that it may be shown before earlier commits have
    /// arrived. A commit without its tombstones is not whole.
    #[must_use]
    pub fn is_one_whole_commit(&self) -> bool {
        let is_last = self.extent.newest() == self.to;
        self.from.next() == self.to && is_last && self.floor <= self.from
    }

    /// Whether the delta is the last one of what the sender has, so that it also holds the commits above the head.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.to == self.extent.head()
    }

    fn brings_early(&self) -> bool {
        self.is_last() && !self.extent.early().is_empty()
    }
}
