//! Sealed datagrams: AES-256-GCM under a key of the cluster (RFC 5116).
//!
//! ```text
//! version 1 | key id, 4 octets | nonce, 12 octets | ciphertext | tag, 16 octets
//! ```
//!
//! Version and key id are authenticated with the rest. Nonces are random: agents share a key and could
//! not agree on a count. What is sealed begins with a [`Stamp`](super::replay::Stamp).
//!
//! Any thread can seal and open, without a lock and without allocating. The owner of the [`Keyring`] calls
//! [`Sealer::update`] after each change of it and at each of its deadlines.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use thiserror::Error;

use super::keyring::{Key, Keyring};

/// The largest datagram, sealed: it passes every path without being cut (RFC 8899 §5.1.2).
pub const MAX_DATAGRAM: usize = 1200;
/// What sealing adds.
pub const OVERHEAD: usize = HEADER + NONCE_LEN + TAG;
/// The largest message that fits into a datagram, its stamp included.
pub const MAX_MESSAGE: usize = MAX_DATAGRAM - OVERHEAD;

const VERSION: u8 = 1;
const HEADER: usize = 5;
const TAG: usize = 16;

/// Why a message was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SealError {
    /// The agent has no key yet, since it has joined no other agent.
    #[error("there is no cluster key yet")]
    NoKey,
    /// The message is larger than [`MAX_MESSAGE`], which is a mistake of the caller.
    #[error("the message has {octets} octets; at most {MAX_MESSAGE} fit into a datagram")]
    TooLarge {
        /// The size of the message.
        octets: usize,
    },
    /// The system gave no random numbers.
    #[error("the system gave no random numbers")]
    Random,
}

/// Why a datagram was not opened. The datagram is dropped and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OpenError {
    /// The datagram is shorter than any sealed message.
    #[error("the datagram is too short")]
    Short,
    /// The datagram has another version of this format.
    #[error("the datagram has the unknown version {0}")]
    Version(u8),
    /// The datagram is sealed with a key that is not known here: one of another cluster, or one newer than what was
    /// handed over.
    #[error("the datagram is sealed with the unknown key {0:08x}")]
    UnknownKey(u32),
    /// The datagram is sealed with a key that was replaced some time ago.
    #[error("the datagram is sealed with the retired key {0:08x}")]
    RetiredKey(u32),
    /// The datagram is not what its sender sealed.
    #[error("the datagram is damaged or forged")]
    Damaged,
}

impl OpenError {
    /// A word for the reason, for counting.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Version(_) => "version",
            Self::UnknownKey(_) => "unknown_key",
            Self::RetiredKey(_) => "retired_key",
            Self::Damaged => "damaged",
        }
    }
}

/// A key made ready, and how often it has sealed.
struct Cipher {
    id: u32,
    key: LessSafeKey,
    sealed: AtomicU64,
}

impl Cipher {
    fn new(key: &Key) -> Self {
        let unbound = UnboundKey::new(&AES_256_GCM, key.secret().as_bytes());
        let unbound = unbound.expect("a secret has the length of the algorithm's keys");
        Self { id: key.id(), key: LessSafeKey::new(unbound), sealed: AtomicU64::new(0) }
    }

    fn header(&self) -> [u8; HEADER] {
        let [a, b, c, d] = self.id.to_be_bytes();
        [VERSION, a, b, c, d]
    }
}

#[derive(Default)]
struct Ciphers {
    active: Option<Arc<Cipher>>,
    accepted: Vec<Arc<Cipher>>,
    retired: Vec<u32>,
}

/// Seals and opens datagrams.
#[derive(Default)]
pub struct Sealer {
    ciphers: ArcSwap<Ciphers>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ciphers = self.ciphers.load();
        let active = ciphers.active.as_ref().map(|c| c.id);
        f.debug_struct("Sealer").field("active", &active).finish_non_exhaustive()
    }
}

impl Sealer {
    /// A sealer with the keys of the keyring as they are now.
    #[must_use]
    pub fn new(keyring: &Keyring, now: Instant) -> Self {
        let sealer = Self::default();
        sealer.update(keyring, now);
        sealer
    }

    /// Takes over what the keyring says now. Datagrams under way in other threads keep their key.
    pub fn update(&self, keyring: &Keyring, now: Instant) {
        let old = self.ciphers.load();
        let ready = |key: &Key| {
            let same = old.accepted.iter().find(|c| c.id == key.id());
            same.map_or_else(|| Arc::new(Cipher::new(key)), Arc::clone)
        };
        let accepted: Vec<_> = keyring.accepted(now).map(ready).collect();
        let active = keyring.active(now).map(Key::id);
        let active = accepted.iter().find(|c| Some(c.id) == active).cloned();
        let retired = keyring.retired(now).map(Key::id).collect();
        self.ciphers.store(Arc::new(Ciphers { active, accepted, retired }));
    }

    /// How many datagrams the active key has sealed here, for [`Keyring::should_rotate`].
    #[must_use]
    pub fn sealed(&self) -> u64 {
        let ciphers = self.ciphers.load();
        ciphers.active.as_ref().map_or(0, |c| c.sealed.load(Ordering::Relaxed))
    }

    /// Seals a message; `out` then holds the datagram and nothing else. With room for
    /// [`MAX_DATAGRAM`] octets in `out`, nothing is allocated.
    ///
    /// # Errors
    /// Without a key, with too large a message, or without random numbers. `out` is then empty.
    pub fn seal(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        out.clear();
        if message.len() > MAX_MESSAGE {
            return Err(SealError::TooLarge { octets: message.len() });
        }
        let ciphers = self.ciphers.load();
        let cipher = ciphers.active.as_ref().ok_or(SealError::NoKey)?;
        let header = cipher.header();
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| SealError::Random)?;
        out.extend_from_slice(&header);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(message);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let secret = &mut out[HEADER + NONCE_LEN..];
        let tag = cipher.key.seal_in_place_separate_tag(nonce, Aad::from(header), secret);
        let tag = tag.expect("no message is near the algorithm's limit of 64 GiB");
        out.extend_from_slice(tag.as_ref());
        cipher.sealed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Opens a datagram in its own place and gives the message in it.
    ///
    /// # Errors
    /// When it is not one that an agent of this cluster sealed lately. It then holds nothing useful.
    pub fn open<'p>(&self, datagram: &'p mut [u8]) -> Result<&'p mut [u8], OpenError> {
        if datagram.len() < OVERHEAD {
            return Err(OpenError::Short);
        }
        let (header, rest) = datagram.split_first_chunk_mut::<HEADER>().ok_or(OpenError::Short)?;
        let [version, a, b, c, d] = *header;
        if version != VERSION {
            return Err(OpenError::Version(version));
        }
        let id = u32::from_be_bytes([a, b, c, d]);
        let ciphers = self.ciphers.load();
        let Some(cipher) = ciphers.accepted.iter().find(|c| c.id == id) else {
            let is_retired = ciphers.retired.contains(&id);
            return Err(if is_retired { OpenError::RetiredKey } else { OpenError::UnknownKey }(id));
        };
        let (nonce, secret) = rest.split_first_chunk_mut().ok_or(OpenError::Short)?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = cipher.key.open_in_place(nonce, Aad::from(*header), secret);
        opened.map_err(|_| OpenError::Damaged)
    }
}

#[cfg(test)]
mod tests;
