//! What a host keeps on its disk: what is written together, and what a start finds.

use std::time::Duration;

use crate::model::{InstanceId, NodeId, ProviderId, Registration, Timestamp};
use crate::replica::{Delta, DeltaRow, Entry, Extent, RowKey, RowState, Version};

/// A node's rows that are written, and the commits that are stored whole once they are.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryWrite {
    /// The node whose rows these are.
    pub origin: NodeId,
    /// The commits that are stored whole from now on. `None` while more rows of the same commits are to follow.
    pub extent: Option<Extent>,
    /// The version up to which tombstones are purged from now on.
    pub floor: Version,
    /// Rows and tombstones to put, whatever version of them is stored.
    pub rows: Vec<(RowKey, Entry)>,
    /// Rows and tombstones to remove.
    pub gone: Vec<RowKey>,
    /// Whether all that is stored of this history is removed first.
    pub replaces_all: bool,
}

impl HistoryWrite {
    /// A history that is stated from the beginning: it replaces what is stored.
    pub(super) fn whole(delta: &Delta) -> Self {
        let entry = |row: &DeltaRow| {
            (row.key.clone(), Entry { version: row.version, state: row.state.clone() })
        };
        Self {
            origin: delta.origin,
            extent: Some(Extent::up_to(delta.to)),
            floor: delta.floor,
            rows: delta.rows.iter().map(entry).collect(),
            gone: Vec::new(),
            replaces_all: true,
        }
    }
}

/// A change to what is stored of a provider's statement.
#[derive(Debug, Clone, PartialEq)]
pub enum ProviderWrite {
    /// Note the provider, and how long its statement holds.
    Put(ProviderId, Option<Duration>),
    /// Note one of its registrations that the node's own rows do not tell.
    PutRegistration(ProviderId, Box<Registration>),
    /// Forget one of its registrations, if it was noted.
    RemoveRegistration(ProviderId, InstanceId),
    /// Forget the provider with all its registrations.
    Remove(ProviderId),
}

/// What is stored together, or not at all.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch {
    /// Nodes to forget for good, and up to which version. Their histories are removed, a marker stays.
    pub forget: Vec<(NodeId, Version)>,
    /// Commits to merge, in order.
    pub deltas: Vec<Delta>,
    /// What other nodes' histories have become, or the own one by a restatement, in order.
    pub histories: Vec<HistoryWrite>,
    /// Statements of providers, in order.
    pub providers: Vec<ProviderWrite>,
    /// Tombstones to forget: of which node, up to which version.
    pub purge: Option<(NodeId, Version)>,
    /// All that membership wants to know at the next start, one entry per member. It replaces what was stored.
    pub peers: Option<Vec<(NodeId, Vec<u8>)>>,
    /// Since when nodes with rows are gone. It replaces what was stored.
    pub gone: Option<Vec<(NodeId, Timestamp)>>,
}

impl Batch {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { forget, deltas, histories, providers, purge, peers, gone } = self;
        forget.is_empty()
            && deltas.is_empty()
            && histories.is_empty()
            && providers.is_empty()
            && purge.is_none()
            && peers.is_none()
            && gone.is_none()
    }
}

/// One node's history as it was stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredHistory {
    /// The node whose rows these are.
    pub origin: NodeId,
    /// The commits that are stored whole. Rows of other commits are pieces.
    pub extent: Extent,
    /// The version up to which tombstones were purged.
    pub floor: Version,
    /// Rows and tombstones.
    pub rows: Vec<(RowKey, Entry)>,
}

/// A provider's last statement as it was stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredProvider {
    /// The provider.
    pub provider: ProviderId,
    /// How long its statement holds; `None` is for good.
    pub ttl: Option<Duration>,
    /// Its registrations, except those of which the node's own rows say everything. Where there is a row of
    /// this provider, the row is newer than what is here of its instance.
    pub registrations: Vec<Registration>,
}

/// All that a start finds on the disk.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stored {
    /// Indexes of views up to here may have been given out.
    pub index: u64,
    /// The histories, ordered by origin.
    pub histories: Vec<StoredHistory>,
    /// The providers, ordered by id.
    pub providers: Vec<StoredProvider>,
    /// Nodes that were forgotten for good, and up to which version of their history.
    pub forgotten: Vec<(NodeId, Version)>,
    /// What [`Batch::peers`] last held.
    pub peers: Vec<(NodeId, Vec<u8>)>,
    /// What [`Batch::gone`] last held.
    pub gone: Vec<(NodeId, Timestamp)>,
    /// Where a damaged database was moved, and what was wrong with it.
    pub moved_aside: Option<String>,
}

/// The rows of stored histories, as [`Catalog::load`](crate::catalog::Catalog::load) takes them.
pub fn rows_of(histories: &[StoredHistory]) -> impl Iterator<Item = (NodeId, &RowKey, &RowState)> {
    histories.iter().flat_map(|h| h.rows.iter().map(|(key, e)| (h.origin, key, &e.state)))
}
