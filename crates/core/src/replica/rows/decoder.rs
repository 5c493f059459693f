//! What reading rows needs and may end with: what they share with earlier ones, and the errors.

use std::sync::Arc;

use thiserror::Error;

use super::RowKey;
use crate::model::Instance;

/// Why octets are not a row. Whoever sent or stored them is at fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RowError {
    /// The key is malformed.
    #[error("a malformed key {octets:02x?}: {problem}")]
    Key {
        /// The octets of the key, or the first of them.
        octets: Vec<u8>,
        /// What is wrong with them.
        problem: RowProblem,
    },
    /// The row is of a known kind and malformed, or does not belong to its key.
    #[error("malformed row {key:?}: {problem}")]
    State {
        /// The key of the row.
        key: RowKey,
        /// What is wrong with it.
        problem: RowProblem,
    },
}

/// What is wrong with the octets of a key or a row.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RowProblem {
    /// There is nothing where a kind should stand.
    #[error("it is empty")]
    Empty,
    /// The octets are neither those of a row nor those of a tombstone.
    #[error("it begins with the unknown octet {0}")]
    UnknownState(u8),
    /// The octets are not what postcard writes.
    #[error(transparent)]
    Malformed(#[from] postcard::Error),
    /// There are octets behind a value that may not grow.
    #[error("{0} octets too many")]
    TooMany(usize),
    /// The row is of another kind than its key.
    #[error("it is of another kind than its key")]
    Kind,
}

/// Reads rows. The instances of a node are much alike, so that each shares with the one before whatever is equal.
#[derive(Debug, Default)]
pub struct RowDecoder {
    pub(super) last_instance: Option<Arc<Instance>>,
}
