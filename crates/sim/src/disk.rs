//! A virtual disk: what was written survives a crash, what was being written does not.

use std::collections::BTreeMap;
use std::time::Duration;

use dunlin_core::host::{
    Batch, HistoryWrite, ProviderWrite, Stored, StoredHistory, StoredProvider,
};
use dunlin_core::model::{InstanceId, NodeId, ProviderId, Registration, Timestamp};
use dunlin_core::random::Random;
use dunlin_core::replica::{Delta, Entry, Extent, RowKey, RowState, Version};

/// One node's rows as they are stored.
#[derive(Debug, Clone, Default)]
struct History {
    extent: Extent,
    floor: Version,
    rows: BTreeMap<RowKey, Entry>,
}

/// What is stored of one provider.
#[derive(Debug, Clone, Default)]
struct Provider {
    ttl: Option<Duration>,
    registrations: BTreeMap<InstanceId, Registration>,
}

/// What is on a disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Content {
    histories: BTreeMap<NodeId, History>,
    providers: BTreeMap<ProviderId, Provider>,
    forgotten: BTreeMap<NodeId, Version>,
    peers: Vec<(NodeId, Vec<u8>)>,
    gone: Vec<(NodeId, Timestamp)>,
}

impl Content {
    /// All that is on the disk, as a start reads it.
    pub(crate) fn stored(&self) -> Stored {
        let history = |(origin, history): (&NodeId, &History)| StoredHistory {
            origin: *origin,
            extent: history.extent.clone(),
            floor: history.floor,
            rows: history.rows.iter().map(|(key, entry)| (key.clone(), entry.clone())).collect(),
        };
        let provider = |(id, provider): (&ProviderId, &Provider)| StoredProvider {
            provider: id.clone(),
            ttl: provider.ttl,
            registrations: provider.registrations.values().cloned().collect(),
        };
        Stored {
            index: 0,
            histories: self.histories.iter().map(history).collect(),
            providers: self.providers.iter().map(provider).collect(),
            forgotten: self.forgotten.iter().map(|(node, up_to)| (*node, *up_to)).collect(),
            peers: self.peers.clone(),
            gone: self.gone.clone(),
            moved_aside: None,
        }
    }

    /// Applies a batch as the agent's store does, statement by statement.
    fn apply(&mut self, batch: Batch) {
        let Batch { forget, deltas, histories, providers, purge, peers, gone } = batch;
        for (origin, up_to) in forget {
            self.histories.remove(&origin);
            let marker = self.forgotten.entry(origin).or_default();
            *marker = up_to.max(*marker);
        }
        deltas.iter().for_each(|delta| self.write_delta(delta));
        histories.into_iter().for_each(|write| self.write_history(write));
        providers.into_iter().for_each(|write| self.write_provider(write));
        if let Some((origin, up_to)) = purge {
            self.purge(origin, up_to);
        }
        if let Some(peers) = peers {
            self.peers = peers;
        }
        if let Some(gone) = gone {
            self.gone = gone;
        }
    }

    fn write_delta(&mut self, delta: &Delta) {
        let stored = self.histories.entry(delta.origin).or_default();
        for row in &delta.rows {
            let is_newer = stored.rows.get(&row.key).is_none_or(|old| old.version < row.version);
            if is_newer {
                let entry = Entry { version: row.version, state: row.state.clone() };
                stored.rows.insert(row.key.clone(), entry);
            }
        }
        stored.extent = Extent::up_to(stored.extent.head().max(delta.to));
        stored.floor = stored.floor.max(delta.floor);
    }

    fn write_history(&mut self, write: HistoryWrite) {
        let stored = self.histories.entry(write.origin).or_default();
        if let Some(extent) = write.extent {
            (stored.extent, stored.floor) = (extent, write.floor);
        }
        if write.replaces_all {
            stored.rows.clear();
        }
        stored.rows.extend(write.rows);
        for key in &write.gone {
            stored.rows.remove(key);
        }
    }

    fn write_provider(&mut self, write: ProviderWrite) {
        match write {
            ProviderWrite::Put(id, ttl) => self.providers.entry(id).or_default().ttl = ttl,
            ProviderWrite::PutRegistration(id, registration) => {
                let stored = &mut self.providers.entry(id).or_default().registrations;
                stored.insert(registration.instance.id.clone(), *registration);
            }
            ProviderWrite::RemoveRegistration(id, instance) => {
                if let Some(provider) = self.providers.get_mut(&id) {
                    provider.registrations.remove(&instance);
                }
            }
            ProviderWrite::Remove(id) => _ = self.providers.remove(&id),
        }
    }

    fn purge(&mut self, origin: NodeId, up_to: Version) {
        let Some(stored) = self.histories.get_mut(&origin) else { return };
        stored.floor = stored.floor.max(up_to);
        let is_old =
            |entry: &Entry| matches!(entry.state, RowState::Gone(_)) && entry.version <= up_to;
        stored.rows.retain(|_, entry| !is_old(entry));
    }
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
    pub(crate) fn write(&mut self, batch: Batch) -> bool {
        if !self.refuses {
            self.content.apply(batch);
        }
        !self.refuses
    }
}
