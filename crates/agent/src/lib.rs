//! The Dunlin agent: every socket, file, timer and task around `dunlin-core`.
//!
//! `node` composes the parts; the driver owns everything that changes and is the only one to change it;
//! all others hold a [`Handle`] to ask it, and a published view to read.

pub mod checks;
pub mod dns;
mod driver;
mod events;
mod handle;
pub mod registry;
pub mod store;
mod watchers;

pub use events::EventLog;
pub use handle::{Command, Handle, Identity, Problems, Registered, Reply, RequestError, Shared};
pub use watchers::{Watcher, Watchers};
