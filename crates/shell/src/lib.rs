//! What every server process of Dunlin needs once: listening and admission, fair limits, files that are read again
//! when they change, TLS from files, metrics, the conversation with systemd.
//!
//! Nothing in this crate knows services, instances, the cluster, or a protocol above TLS. The agent builds its API
//! and its cluster port on it; a process without an agent builds on the same parts.
//!
//! What always holds: each limit is an argument with a stated behaviour when it is reached; each task ends with the token
//! that it was given; a value that was read from files stays in use until the new files are good.

#![warn(missing_docs)]

mod client;
mod fair_limit;
pub mod listen;
pub mod metrics;
mod origin;
mod problems;
mod reloadable;
pub mod systemd;
pub mod tls;
mod watched_files;
mod write_timeout;

pub use client::Client;
pub use fair_limit::{FairLimit, Slot};
pub use origin::Origin;
pub use problems::Problems;
pub use reloadable::{FileContents, Reload, Reloadable, Source, keep_current, open_to_all};
pub use watched_files::{Nudge, WatchedFiles, read_file};
pub use write_timeout::{Stalled, WriteTimeout};
