//! The Dunlin agent: every socket, file, timer and task around `dunlin-core`.
//!
//! `node` composes the parts; the driver owns everything that changes and is the only one to change it;
//! all others hold a [`Handle`] to ask it, and a published view to read.

pub mod access;
pub mod checks;
pub mod dns;
pub mod driver;
mod events;
#[doc(hidden)]
pub mod fuzzing;
mod handle;
pub mod http;
mod inherited;
mod last_known;
pub mod net;
mod node;
pub mod observe;
pub mod providers;
pub mod store;
mod vitals;
mod watchdog;
mod watchers;

pub use events::EventLog;
pub use handle::{Command, Handle, Identity, MemberInfo, Members, Problems, Reply, Shared};
pub use inherited::Inherited;
pub use last_known::{LastKnown, last_known};
pub use node::{Node, NodeError, NodeSettings};
pub use watchers::{Watcher, Watchers};
