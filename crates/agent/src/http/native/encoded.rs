//! Services as bytes, encoded once for all clients that want the same.
//!
//! Ten thousand watchers of one service, and every lookup until it changes again, share one encoding. An
//! entry holds the very view it was made from, so it can never be taken for another's. Not more than two
//! generations of entries are kept: when the young one is full it becomes the old one, whose entries
//! go unless a client asks for them meanwhile.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use dunlin_core::catalog::ServiceView;
use dunlin_core::model::ServiceName;

use super::filter::Filter;
use super::present;

/// Entries of one generation.
const MAX_ENTRIES: usize = 4096;
/// Octets of the encodings of one generation; a single larger one is kept alone.
const MAX_OCTETS: usize = 32 << 20;

/// A service as bytes: a whole `change` event, of which the JSON is a part.
#[derive(Debug)]
pub(super) struct Encoded {
    view: Arc<ServiceView>,
    event: Bytes,
    id: Range<usize>,
    json: Range<usize>,
}

impl Encoded {
    pub(super) fn new(view: &Arc<ServiceView>, filter: &Filter) -> Self {
        let service = present::service(view, filter);
        let id = format!("id: {}\n", view.index);
        let mut event = Vec::with_capacity(256 + 256 * service.instances.len());
        event.extend_from_slice(id.as_bytes());
        event.extend_from_slice(b"event: change\ndata: ");
        let start = event.len();
        serde_json::to_writer(&mut event, &service).expect("plain data always encodes");
        let json = start..event.len();
        event.extend_from_slice(b"\n\n");
        Self { view: Arc::clone(view), event: event.into(), id: 0..id.len(), json }
    }

    /// The service as JSON.
    pub(super) fn json(&self) -> Bytes {
        self.event.slice(self.json.clone())
    }

    /// The `change` event. Without an id, a reader that loses its connection after it resumes before it.
    pub(super) fn event(&self, with_id: bool) -> Bytes {
        if with_id { self.event.clone() } else { self.event.slice(self.id.end..) }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct EncodingKey {
    service: ServiceName,
    filter: Filter,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<EncodingKey, Arc<Encoded>>,
    young_octets: usize,
    old: HashMap<EncodingKey, Arc<Encoded>>,
}

/// The encodings that are kept.
#[derive(Debug, Default)]
pub(super) struct Encodings {
    generations: Mutex<Generations>,
    encoded: AtomicU64,
}

impl Encodings {
    /// A service as a filter shows it.
    pub(super) fn of(&self, view: &Arc<ServiceView>, filter: &Filter) -> Arc<Encoded> {
        let key = EncodingKey { service: view.name.clone(), filter: filter.clone() };
        if let Some(found) = self.lock().find(&key, view) {
            return found;
        }
        // Encoded without the lock: at worst several threads encode the same at the same time.
        self.encoded.fetch_add(1, Ordering::Relaxed);
        let encoded = Arc::new(Encoded::new(view, filter));
        self.lock().insert(key, Arc::clone(&encoded));
        encoded
    }

    /// How many times a service was encoded.
    pub(super) fn encoded(&self) -> u64 {
        self.encoded.load(Ordering::Relaxed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Generations> {
        // Only whole entries are put in, so a panic leaves nothing half done.
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn find(&mut self, key: &EncodingKey, view: &Arc<ServiceView>) -> Option<Arc<Encoded>> {
        let is_of = |found: &&Arc<Encoded>| Arc::ptr_eq(&found.view, view);
        if let Some(found) = self.young.get(key).filter(is_of) {
            return Some(Arc::clone(found));
        }
        let (key, found) = self.old.remove_entry(key)?;
        if !Arc::ptr_eq(&found.view, view) {
            return None;
        }
        self.insert(key, Arc::clone(&found));
        Some(found)
    }

    fn insert(&mut self, key: EncodingKey, encoded: Arc<Encoded>) {
        self.young_octets += encoded.event.len();
        if let Some(replaced) = self.young.insert(key, encoded) {
            self.young_octets -= replaced.event.len();
        }
        if self.young.len() >= MAX_ENTRIES || self.young_octets >= MAX_OCTETS {
            self.old = std::mem::take(&mut self.young);
            self.young_octets = 0;
        }
    }
}
