//! What a guard wants done, or has to tell.

use std::net::SocketAddr;

/// What the owner of a guard does for it. There are at most a few for each key that changed, so the owner
/// takes all of them after each call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuardOutput<K> {
    /// Try to connect to this address, then call [`Guard::handle_probe`](super::Guard::handle_probe).
    Probe {
        /// The key in question.
        key: K,
        /// Where to connect.
        address: SocketAddr,
    },
    /// Ask again whether this key is [held](super::Guard::held), or
    /// [answers in panic](super::Guard::answers_in_panic): it may be otherwise than before. The same key
    /// may come several times.
    Reconsider {
        /// The key in question.
        key: K,
    },
    /// The guard began to hold keys.
    Began {
        /// How many.
        held: usize,
    },
    /// The guard holds no key any more.
    Ended {
        /// Why the hold ended.
        reason: &'static str,
    },
}
