//! Digests of contents, so that two replicas notice that they differ without listing everything.
//!
//! A row's hash is XXH3-64 of its octets as in an encoded delta: version, key, state. A node's digest
//! is the wrapping sum over its present rows, so that order does not count and a change costs one
//! subtraction and one addition. The hash guards against mistakes, not against malice: senders of rows
//! have been authenticated.

use twox_hash::XxHash3_64;

use super::extent::Extent;
use super::rows::{RowKey, RowState, put_row};
use super::version::Version;
use crate::model::NodeId;

/// The number of groups of origins with a digest of their own, so that two replicas find what differs without
/// listing everything.
pub const BUCKETS: usize = 64;

/// The group that a node belongs to: the low 6 bits of the last octet of its id.
#[must_use]
pub fn bucket_of(origin: NodeId) -> usize {
    usize::from(origin.as_bytes()[15]) % BUCKETS
}

/// What a row adds to its node's digest. A tombstone adds nothing: peers purge it at different times.
pub(super) fn of_row(version: Version, key: &RowKey, state: &RowState) -> u64 {
    match state {
        RowState::Present(_) => {
            let mut octets = Vec::with_capacity(160);
            put_row(&mut octets, version, key, state);
            XxHash3_64::oneshot(&octets)
        }
        RowState::Gone(_) => 0,
    }
}

/// Sums of what each node adds, see [`of_node`]: of all nodes, and of the nodes of each bucket.
#[derive(Debug, Clone)]
pub(super) struct Summaries {
    all: u64,
    buckets: [u64; BUCKETS],
}

impl Summaries {
    pub(super) fn new() -> Self {
        Self { all: 0, buckets: [0; BUCKETS] }
    }

    pub(super) fn all(&self) -> u64 {
        self.all
    }

    /// The sum of one bucket; zero if there is no bucket of that number.
    pub(super) fn bucket(&self, bucket: usize) -> u64 {
        self.buckets.get(bucket).copied().unwrap_or_default()
    }

    /// Replaces what a node adds, see [`of_node`].
    pub(super) fn replace(&mut self, origin: NodeId, before: u64, after: u64) {
        let difference = after.wrapping_sub(before);
        self.all = self.all.wrapping_add(difference);
        let bucket = &mut self.buckets[bucket_of(origin)];
        *bucket = bucket.wrapping_add(difference);
    }
}

/// What a node adds to the summaries, given which of its commits are here and the digest of its rows.
pub(super) fn of_node(origin: NodeId, extent: &Extent, digest: u64) -> u64 {
    let mut octets = [0; 32];
    octets[..16].copy_from_slice(origin.as_bytes());
    octets[16..24].copy_from_slice(&extent.head().as_u64().to_le_bytes());
    octets[24..].copy_from_slice(&digest.to_le_bytes());
    if extent.early().is_empty() {
        return XxHash3_64::oneshot(&octets);
    }
    let mut octets = octets.to_vec();
    for (from, to) in extent.early() {
        octets.extend_from_slice(&from.as_u64().to_le_bytes());
        octets.extend_from_slice(&to.as_u64().to_le_bytes());
    }
    XxHash3_64::oneshot(&octets)
}
