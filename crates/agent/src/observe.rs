//! What the agent shows in its metrics beside what its parts register themselves.

mod agent;
mod certificate;
mod cluster;
mod dns;

use std::sync::Arc;

use dunlin_shell::metrics::Observer;

use crate::Shared;

pub use certificate::Certificate;
pub(crate) use cluster::Cluster;
pub use dns::Dns;

/// Metrics of the process, the catalog, watchers and events; further parts add theirs.
#[must_use]
pub fn observer(shared: Arc<Shared>) -> Observer {
    let observer = Observer::new();
    observer.collect(agent::Agent::new(shared));
    observer
}
