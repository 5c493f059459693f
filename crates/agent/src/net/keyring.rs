//! The keys that seal datagrams: which one seals, which ones open, and when the next is due.
//!
//! A keyring is a value without input and output; time is an argument. What always holds:
//!
//! - A key seals only after it has been known here for [`SETTLE_AFTER`], so every agent that learns of it within that
//!   time can open every packet. The only key there is seals at once.
//! - A key opens packets until [`RETIRE_AFTER`] after a newer one took its place here.
//! - Keys have one order (generation, then id), and a union of keys does not depend on the order in which agents meet,
//!   so clusters that meet end up sealing with the same key.
//!
//! Ages count from when this agent learned of a key, by its own monotonic clock. A newcomer takes over
//! the ages that its peer tells ([`Keyring::join`]), since it has no other peer that might have learned of the
//! keys later.

pub mod file;
pub(super) mod handover;

use std::fmt;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// How long a key is known before it seals: the time within which all agents have to learn of it.
pub const SETTLE_AFTER: Duration = Duration::from_secs(60);
/// How long a key opens packets after a newer one took its place.
pub const RETIRE_AFTER: Duration = Duration::from_secs(600);
/// How long a key seals before a new one is due.
pub const ROTATE_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Packets that one agent seals with a key until a new one is due: it stays most unlikely that two random nonces of 96
/// bits are equal.
pub const MAX_SEALED: u64 = 1 << 30;
/// Keys that are kept. With more, the oldest are forgotten: two clusters that meet while both change
/// their key have four.
pub const MAX_KEYS: usize = 4;

/// 256 bits that nobody outside of the cluster knows. They are never printed, and are wiped when dropped.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Takes the octets, which must come from the system's random source.
    #[must_use]
    pub fn from_bytes(octets: [u8; 32]) -> Self {
        Self(octets)
    }

    pub(super) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// A key. Keys are ordered by age of their making: a newer one has a higher generation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    generation: u64,
    id: u32,
    secret: Secret,
}

impl Key {
    fn new(generation: u64, secret: Secret) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"dunlin datagram key id");
        context.update(secret.as_bytes());
        let digest = context.finish();
        let mut id = [0; 4];
        id.copy_from_slice(&digest.as_ref()[..4]);
        Self { generation, id: u32::from_be_bytes(id), secret }
    }

    /// The id, which stands unencrypted in front of each packet. It follows from the secret and does not tell it.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// How many keys came before it.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn secret(&self) -> &Secret {
        &self.secret
    }
}

/// A key on its way to another agent, which is always over an authenticated stream, or to disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyOffer {
    /// See [`Key::generation`].
    pub generation: u64,
    /// The key itself.
    pub secret: Secret,
    /// For how many milliseconds the agent that offers the key has known it.
    pub age_millis: u64,
}

/// A key, and when this agent learned of it.
#[derive(Debug, Clone)]
struct Known {
    key: Key,
    since: Instant,
    /// The age that the key had at that time.
    head_start: Duration,
}

impl Known {
    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since).saturating_add(self.head_start)
    }
}

/// The keys an agent knows, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    known: Vec<Known>,
}

impl Keyring {
    /// Without keys: nothing can be sealed or opened until [`Keyring::join`] or [`Keyring::rotate`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is no key at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The key that seals: the newest one that has settled. While none has, the one known for longest.
    #[must_use]
    pub fn active(&self, now: Instant) -> Option<&Key> {
        let settled = self.known.iter().rev().find(|k| k.age(now) >= SETTLE_AFTER);
        let eldest = || self.known.iter().max_by_key(|k| k.age(now));
        settled.or_else(eldest).map(|k| &k.key)
    }

    /// The keys that open packets.
    pub fn accepted(&self, now: Instant) -> impl Iterator<Item = &Key> {
        self.split(now).filter(|(_, is_retired)| !is_retired).map(|(known, _)| &known.key)
    }

    /// Keys that are still known but open nothing any more.
    pub fn retired(&self, now: Instant) -> impl Iterator<Item = &Key> {
        self.split(now).filter(|(_, is_retired)| *is_retired).map(|(known, _)| &known.key)
    }

    fn split(&self, now: Instant) -> impl Iterator<Item = (&Known, bool)> {
        let is_retired = move |at| self.replaced_for(at, now).is_some_and(|t| t >= RETIRE_AFTER);
        self.known.iter().enumerate().map(move |(at, known)| (known, is_retired(at)))
    }

    /// How long both this key and a settled newer one have been known, if there is a newer one.
    fn replaced_for(&self, at: usize, now: Instant) -> Option<Duration> {
        let newer = self.known[at + 1..].iter().map(|k| k.age(now)).max()?;
        Some(self.known[at].age(now).min(newer.saturating_sub(SETTLE_AFTER)))
    }

    /// Takes keys that a peer offers, as known from now on. Returns whether any was new.
    pub fn merge(&mut self, now: Instant, offered: &[KeyOffer]) -> bool {
        self.take(now, offered, |_| Duration::ZERO)
    }

    /// Takes keys with the ages that they have where they come from: for an agent that has no live peer but the one
    /// that offers them, and for keys from disk. Returns whether any was new.
    pub fn join(&mut self, now: Instant, offered: &[KeyOffer]) -> bool {
        self.take(now, offered, |offer| Duration::from_millis(offer.age_millis))
    }

    fn take(
        &mut self,
        now: Instant,
        offered: &[KeyOffer],
        age: impl Fn(&KeyOffer) -> Duration,
    ) -> bool {
        let before: Vec<Key> = self.known.iter().map(|k| k.key.clone()).collect();
        for offer in offered {
            let key = Key::new(offer.generation, offer.secret.clone());
            self.insert(Known { key, since: now, head_start: age(offer) }, now);
        }
        !self.known.iter().map(|k| &k.key).eq(&before)
    }

    fn insert(&mut self, new: Known, now: Instant) {
        if let Some(at) = self.known.iter().position(|k| k.key.id == new.key.id) {
            let old = &self.known[at];
            if old.key == new.key && new.age(now) > old.age(now) {
                self.known[at] = new;
                return;
            }
            // Two keys with one id could not be told apart in packets: the higher one stays.
            if old.key >= new.key {
                return;
            }
            self.known.remove(at);
        }
        let at = self.known.partition_point(|k| k.key < new.key);
        self.known.insert(at, new);
        if self.known.len() > MAX_KEYS {
            // Others seal with the settled key: without it, nothing of theirs could be opened, however many keys
            // newcomers bring. Before any has settled, only the order counts, so that all keep the same keys.
            let settled = self.known.iter().rposition(|k| k.age(now) >= SETTLE_AFTER);
            self.known.remove(usize::from(settled == Some(0)));
        }
    }

    /// Whether a new key is due; `sealed` is how many packets the active one has sealed here. Only the
    /// live member with the smallest id makes it. Never due without any key.
    #[must_use]
    pub fn should_rotate(&self, now: Instant, sealed: u64) -> bool {
        let Some(newest) = self.known.last() else { return false };
        let is_active = self.active(now) == Some(&newest.key);
        is_active && (newest.age(now) >= ROTATE_AFTER || sealed >= MAX_SEALED)
    }

    /// Adds a new key, which seals when it has settled; the first one of a cluster seals at once.
    pub fn rotate(&mut self, now: Instant, secret: Secret) -> &Key {
        let newest = self.known.last().map_or(0, |k| k.key.generation);
        let key = Key::new(newest.saturating_add(1), secret);
        self.insert(Known { key, since: now, head_start: Duration::ZERO }, now);
        &self.known.last().expect("one was just added, and the oldest go first").key
    }

    /// What a joining peer is given, and what is saved: all keys that open packets.
    #[must_use]
    pub fn offers(&self, now: Instant) -> Vec<KeyOffer> {
        let kept = self.split(now).filter(|(_, is_retired)| !is_retired);
        let offer = |(known, _): (&Known, bool)| KeyOffer {
            generation: known.key.generation,
            secret: known.key.secret.clone(),
            age_millis: u64::try_from(known.age(now).as_millis()).unwrap_or(u64::MAX),
        };
        kept.map(offer).collect()
    }

    /// When a key settles, retires or grows too old by time alone; `None` if nothing of it lies ahead.
    #[must_use]
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let ahead = |limit: Duration, passed: Duration| limit.checked_sub(passed);
        let of_one = |(at, known): (usize, &Known)| {
            let age = known.age(now);
            let replaced = self.replaced_for(at, now).filter(|t| !t.is_zero());
            [
                ahead(SETTLE_AFTER, age),
                ahead(ROTATE_AFTER, age),
                replaced.and_then(|t| ahead(RETIRE_AFTER, t)),
            ]
        };
        let times = self.known.iter().enumerate().flat_map(of_one).flatten();
        times.filter(|t| !t.is_zero()).min().map(|t| now + t)
    }
}

#[cfg(test)]
mod tests;
