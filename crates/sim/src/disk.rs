//! A virtual disk: what was written survives a crash, what was being written does not.

use std::collections::BTreeMap;
use std::time::Duration;

use dunlin_core::gossip::Peer;
use dunlin_core::model::NodeId;
use dunlin_core::random::Random;
use dunlin_core::replica::{Entry, Extent, Replica, RowKey, Version};

/// One node's rows as they are stored.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stored {
    pub(crate) extent: Extent,
    pub(crate) floor: Version,
    pub(crate) rows: BTreeMap<RowKey, Entry>,
}

/// What is on a disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Content {
    pub(crate) histories: BTreeMap<NodeId, Stored>,
    pub(crate) generation: u64,
    pub(crate) members: Vec<(Peer, bool)>,
}

impl Content {
    /// All rows, as the node with this id has them after a start.
    pub(crate) fn replica(&self, own: NodeId) -> Replica {
        let mut replica = Replica::new(own);
        for (origin, stored) in &self.histories {
            replica.restore(*origin, stored.extent.clone(), stored.floor, stored.rows.clone());
        }
        replica
    }
}

/// Rows of one node to be written, with the commits that they complete and the floor.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) origin: NodeId,
    /// None while rows of them are still to come.
    pub(crate) extent: Option<Extent>,
    pub(crate) floor: Version,
    /// None deletes.
    pub(crate) rows: Vec<(RowKey, Option<Entry>)>,
    /// Rows that are not mentioned go.
    pub(crate) replaces_all: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) content: Content,
    /// An older copy, which an operator may put back.
    pub(crate) copy: Option<Content>,
    /// Writes take this much longer than usual.
    pub(crate) slowness: Duration,
    pub(crate) refuses: bool,
}

impl Disk {
    /// How long the next batch takes.
    pub(crate) fn latency(&self, random: &mut Random) -> Duration {
        Duration::from_micros(500 + random.below(4_000) as u64) + self.slowness
    }

    /// All of a batch becomes durable at once; false if the disk refuses.
    pub(crate) fn write(&mut self, writes: Vec<Write>) -> bool {
        if self.refuses {
            return false;
        }
        for write in writes {
            let stored = self.content.histories.entry(write.origin).or_default();
            if let Some(extent) = write.extent {
                (stored.extent, stored.floor) = (extent, write.floor);
            }
            if write.replaces_all {
                stored.rows.clear();
            }
            for (key, entry) in write.rows {
                match entry {
                    Some(entry) => stored.rows.insert(key, entry),
                    None => stored.rows.remove(&key),
                };
            }
        }
        true
    }
}
