//! The Dunlin agent: every socket, file, timer and task around `dunlin-core`.
//!
//! `node` composes the parts; the driver owns everything that changes and is the only one to change it;
//! all others hold a [`Handle`] to ask it, and a published view to read.

mod events;
mod handle;
pub mod http;
pub mod observe;
pub mod registry;
mod watchers;

pub use events::EventLog;
pub use handle::{Command, Handle, Identity, Problems, Registered, Reply, RequestError, Shared};
pub use watchers::{Watcher, Watchers};
