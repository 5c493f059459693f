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

    /// What its place among other keys depends on.
    pub(super) fn place(&self) -> Place<'_> {
        match self {
            Self::Node => Place::Node,
            Self::Instance(id) => Place::of_instance(id),
            Self::Check(id, check) => Place::Check(id.as_str().into(), check.as_str().into()),
            Self::Other(octets) => Place::Other(octets),
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

/// A key's place among others.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place<'a> {
    Node,
    Instance(ByLength<'a>),
    Check(ByLength<'a>, ByLength<'a>),
    Other(&'a [u8]),
}

impl<'a> Place<'a> {
    pub(super) fn of_instance(id: &'a InstanceId) -> Self {
        Self::Instance(id.as_str().into())
    }
}

/// A text in the order of its octets with the length in front.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ByLength<'a> {
    length: usize,
    text: &'a str,
}

impl<'a> From<&'a str> for ByLength<'a> {
    fn from(text: &'a str) -> Self {
        Self { length: text.len(), text }
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
