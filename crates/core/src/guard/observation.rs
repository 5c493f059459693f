//! What the owner of a guard tells it about a change.

use std::net::SocketAddr;

/// A change of a group of keys.
#[derive(Debug)]
pub struct Observation<K, T, O> {
    /// The keys that changed, each once.
    pub changes: Vec<KeyChange<K, T>>,
    /// [`KeyChange::failing_at`] of the keys that did not change, for those that have it. Read only when
    /// panic mode begins.
    pub others: O,
    /// How many keys there are, without those that exist only because the guard holds them.
    pub present: usize,
    /// How many of them are healthy.
    pub healthy: usize,
}

/// A key that changed.
#[derive(Debug)]
pub struct KeyChange<K, T> {
    /// Which one.
    pub key: K,
    /// What became of it.
    pub fate: Fate<T>,
    /// Where it listens, if it fails and has worked before: panic mode may ask whether it still accepts
    /// connections.
    pub failing_at: Option<SocketAddr>,
}

/// What became of a key.
#[derive(Debug)]
pub enum Fate<T> {
    /// It is healthy, or somebody took it away on purpose. There is nothing to remember of it.
    Settled,
    /// It was healthy and is not any more, and nobody meant that. This is what it was.
    Vanished(T),
    /// It is not healthy, and was not before.
    Open,
}

/// What a guard keeps of a key that vanished.
pub trait Target {
    /// Where to connect in order to learn whether it is still there.
    fn address(&self) -> SocketAddr;
}

impl Target for SocketAddr {
    fn address(&self) -> SocketAddr {
        *self
    }
}
