//! Rows, their keys and their versions.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{CheckId, CheckRow, Instance, InstanceId, NodeRow};

/// The number of a commit in its node's history. Zero is before the first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Version(u64);

impl Version {
    /// Before the first commit.
    pub const ZERO: Self = Self(0);

    /// The version with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The one after; the last stays the last.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The one before it; zero for zero.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// Which row of a node's history. Keys are in the order of their octets, so that agents agree on it that
/// do not know the same kinds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RowKey {
    /// The node itself.
    Node,
    /// One of its instances.
    Instance(InstanceId),
    /// One check of one of its instances.
    Check(InstanceId, CheckId),
    /// A kind that only newer versions know: the key's octets.
    Other(Arc<[u8]>),
}

/// What a row holds. Readers look at [`Row::known`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// The node itself.
    Node(Arc<NodeRow>),
    /// An instance.
    Instance(Arc<Instance>),
    /// A check's state.
    Check(Arc<CheckRow>),
    /// One of those above, with fields that only newer versions know.
    Newer(Arc<NewerRow>),
    /// A kind that only newer versions know: the row's octets.
    Other(Arc<Box<[u8]>>),
}

/// A row of a known kind with fields that only newer versions know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewerRow {
    /// What is known of it.
    pub known: Row,
    /// The octets of the rest.
    pub rest: Box<[u8]>,
}

impl Row {
    /// What this version knows of the row: a node, an instance, a check, or a kind of no meaning here.
    #[must_use]
    pub fn known(&self) -> &Self {
        match self {
            Self::Newer(newer) => &newer.known,
            Self::Node(_) | Self::Instance(_) | Self::Check(_) | Self::Other(_) => self,
        }
    }
}

/// Why a row is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Departure {
    /// Somebody asked for it by name: believed at once.
    Deregistered,
    /// Its provider no longer states it: perhaps a lie, so the guard may hold it.
    Dropped,
}

/// A row, or its tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowState {
    /// There.
    Present(Row),
    /// Deleted.
    Gone(Departure),
}

/// A row with the version that last wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The commit that wrote it.
    pub version: Version,
    /// What it wrote.
    pub state: RowState,
}

/// A row that was written, or vanished. In a history that is stated anew it may be as it was, but for its
/// version, and what vanished may have been a tombstone: whoever stores rows has to know of both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowChange {
    /// Which row.
    pub key: RowKey,
    /// What it is now.
    pub state: RowState,
}

impl RowKey {
    /// Whether a state is of the kind that this key names.
    #[must_use]
    pub fn fits(&self, state: &RowState) -> bool {
        match (self, state.present()) {
            (_, None) => true,
            (Self::Instance(id), Some(Row::Instance(row))) => row.id == *id,
            (Self::Node, Some(row)) => matches!(row, Row::Node(_)),
            (Self::Check(..), Some(row)) => matches!(row, Row::Check(_)),
            (Self::Other(_), Some(row)) => matches!(row, Row::Other(_)),
            (Self::Instance(_), Some(_)) => false,
        }
    }

    /// The kind, and the texts that follow it.
    fn parts(&self) -> (u8, &str, &str) {
        match self {
            Self::Node => (0, "", ""),
            Self::Instance(id) => (1, id.as_str(), ""),
            Self::Check(id, check) => (2, id.as_str(), check.as_str()),
            Self::Other(_) => (3, "", ""),
        }
    }

    fn approx_bytes(&self) -> usize {
        match self {
            Self::Node => 1,
            Self::Instance(id) => id.as_str().len() + 2,
            Self::Check(id, check) => id.as_str().len() + check.as_str().len() + 3,
            Self::Other(octets) => octets.len(),
        }
    }
}

impl Ord for RowKey {
    fn cmp(&self, other: &Self) -> Ordering {
        // The octets hold each text's length in front of it.
        let by_length = |a: &str, b: &str| a.len().cmp(&b.len()).then_with(|| a.cmp(b));
        match (self, other) {
            (Self::Other(a), Self::Other(b)) => return a.cmp(b),
            // Most rows are instances.
            (Self::Instance(a), Self::Instance(b)) => return by_length(a.as_str(), b.as_str()),
            _ => {}
        }
        let ((kind, id, check), (other_kind, other_id, other_check)) =
            (self.parts(), other.parts());
        kind.cmp(&other_kind)
            .then_with(|| by_length(id, other_id))
            .then_with(|| by_length(check, other_check))
    }
}

impl PartialOrd for RowKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl RowState {
    /// What is known of the row, if it is there.
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

    fn approx_bytes(&self) -> usize {
        match self {
            Self::Gone(_) => 2,
            Self::Present(row) => row.approx_bytes(),
        }
    }
}

impl Row {
    fn approx_bytes(&self) -> usize {
        let pair = |(k, v): (&Arc<str>, &Arc<str>)| k.len() + v.len() + 2;
        match self {
            Self::Node(node) => {
                let meta: usize = node.meta.iter().map(pair).sum();
                node.name.as_str().len() + node.zone.as_str().len() + 24 + meta
            }
            Self::Instance(instance) => instance.approx_octets(),
            Self::Check(check) => check.output.len() + 16,
            Self::Newer(newer) => newer.known.approx_bytes() + newer.rest.len(),
            Self::Other(octets) => octets.len() + 1,
        }
    }
}

/// About how many octets a row takes on the wire, for chunking.
pub(super) fn approx_bytes(key: &RowKey, state: &RowState) -> usize {
    key.approx_bytes() + state.approx_bytes() + 8
}
