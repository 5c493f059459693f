//! What only newer versions know.
//!
//! A cluster is upgraded host by host, so that for a while agents hold rows of nodes with a newer version. They keep
//! what they do not know as octets, store it and pass it on, so that digests are the same everywhere and the upgrade
//! of an agent brings to light what it held all along. A row of an unknown kind is [`Row::Other`], with a key that is
//! `RowKey::Other`; a row of a known kind with unknown fields is a [`NewerRow`]. Unknown rows are never urgent, and
//! readers of the catalog do not see them.

use super::Row;

/// A row of a known kind with fields that only newer versions know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewerRow {
    /// What is known of the row, never itself [`Row::Newer`].
    pub known: Row,
    /// The octets that follow those which the known fields are written as.
    pub rest: Box<[u8]>,
}
