//! Rows, their keys and their versions.

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

/// Which row of a node's history. Variants are only ever added at the end: the order is stored.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RowKey {
    /// The node itself.
    Node,
    /// One of its instances.
    Instance(InstanceId),
    /// One check of one of its instances.
    Check(InstanceId, CheckId),
}

/// What a row holds. Variants are only ever added at the end: the order is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Row {
    /// The node itself.
    Node(Arc<NodeRow>),
    /// An instance.
    Instance(Arc<Instance>),
    /// A check's state.
    Check(Arc<CheckRow>),
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RowState {
    /// There.
    Present(Row),
    /// Deleted.
    Gone(Departure),
}

/// A row with the version that last wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The commit that wrote it.
    pub version: Version,
    /// What it wrote.
    pub state: RowState,
}

/// A row that became visible, or vanished.
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
        matches!(
            (self, state),
            (_, RowState::Gone(_))
                | (Self::Node, RowState::Present(Row::Node(_)))
                | (Self::Check(..), RowState::Present(Row::Check(_)))
        ) || matches!((self, state), (Self::Instance(id), RowState::Present(Row::Instance(row))) if row.id == *id)
    }

    fn approx_bytes(&self) -> usize {
        match self {
            Self::Node => 1,
            Self::Instance(id) => id.as_str().len() + 2,
            Self::Check(id, check) => id.as_str().len() + check.as_str().len() + 3,
        }
    }
}

impl RowState {
    fn approx_bytes(&self) -> usize {
        let meta = |pairs: &std::collections::BTreeMap<Arc<str>, Arc<str>>| -> usize {
            pairs.iter().map(|(k, v)| k.len() + v.len() + 2).sum()
        };
        match self {
            Self::Gone(_) => 2,
            Self::Present(Row::Node(node)) => {
                node.name.as_str().len() + node.zone.as_str().len() + 24 + meta(&node.meta)
            }
            Self::Present(Row::Instance(instance)) => {
                let tags: usize = instance.tags.iter().map(|t| t.len() + 1).sum();
                let names = instance.id.as_str().len() + instance.service.as_str().len();
                names + instance.provider.name().len() + 40 + tags + meta(&instance.meta)
            }
            Self::Present(Row::Check(check)) => check.output.len() + 16,
        }
    }
}

/// About how many octets a row takes on the wire, for chunking.
pub(super) fn approx_bytes(key: &RowKey, state: &RowState) -> usize {
    key.approx_bytes() + state.approx_bytes() + 8
}
