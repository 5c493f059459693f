//! The composition root: from settings to a running agent, and back to nothing.
//!
//! A [`Node`] is a list of parts, each of which has a file below `node/`. The file makes the part's settings from the
//! configuration and starts the part; what a part reads or binds is read and bound before any part starts, by
//! `prepare` in the same file. What the node knows of a part that runs is its `Part`: how it is reloaded, stopped and
//! killed, and in which phase it ends. To add a part, write its file and add a line to [`Node::start`].

mod api;
mod cluster;
mod dns;
mod driver;
mod error;
mod folder;
mod foundation;
mod parts;
mod readiness;
mod watchdog;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use dunlin_core::config::{Config, Reloadable};
use dunlin_core::model::NodeName;
use tokio_util::task::TaskTracker;
use tracing::info;

pub use self::error::NodeError;
use self::foundation::Foundation;
use self::parts::Parts;
use crate::dns::local_addr;
use crate::handle::{Handle, Shared};
use crate::inherited::Inherited;
use crate::net::fence::Fence;

/// A configuration in which everything that depends on the machine is settled.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// The configuration as it was read.
    pub config: Config,
    /// The node's name.
    pub name: NodeName,
    /// The node's address.
    pub address: IpAddr,
    /// Where the state is kept.
    pub data_dir: PathBuf,
    /// Keeps agents from talking to each other, to try out partitions; `None` in production.
    pub fence: Option<Arc<Fence>>,
    /// Starts the whole program again if a part of the agent hangs; returns only if that fails.
    pub start_anew: Option<fn()>,
}

/// A running agent.
#[derive(Debug)]
pub struct Node {
    handle: Handle,
    parts: Parts,
    /// The tasks of the driver's part, of which no further ones start.
    driver: TaskTracker,
}

impl Node {
    /// The local socket's name in the data directory.
    pub const SOCKET: &str = "agent.sock";

    /// Starts an agent. The answers that were last stored are served as soon as they are read from the disk; then the
    /// node states what is true of it now. Returns when the agent serves; one that joins a cluster may become ready
    /// a little later.
    ///
    /// # Errors
    /// When the agent lacks something it needs. Parts that were started by then end.
    pub async fn start(settings: NodeSettings, inherited: Inherited) -> Result<Self, NodeError> {
        let Inherited { api, local, dns_udp, dns_tcp } = inherited;
        let restored = driver::restore(&settings)?;
        let api = api::prepare(&settings, api, local)?;
        let dns = dns::prepare(&settings, dns_udp, dns_tcp)?;
        let cluster = cluster::prepare(&settings)?;
        let addresses = (api.address, dns.as_ref().map(local_addr).transpose()?.flatten());
        let view = restored.host.view().clone();
        let base = Foundation::new(settings, restored.node_id, view, addresses);

        let mut parts = Parts::default();
        parts.add(dns.map(|dns| dns::start(&base, dns)).transpose()?);
        let mut started = driver::start(&base, restored).await?;
        let joined = cluster.map(|cluster| cluster::start(&base, cluster, &mut started));
        let (cluster, network) = joined.transpose()?.unzip();
        let (driver, handle) = started.run();
        let driver_tasks = driver.tasks.clone();
        // Parts are killed in this order. The network comes before the driver, whose end would otherwise close each
        // link with a goodbye.
        parts.add(cluster);
        parts.add(driver);
        parts.add(api::start(&base, api, &handle)?);
        parts.add(folder::start(&base, &handle).await);
        parts.add(watchdog::beat(&base));
        parts.add(watchdog::start(&base)?);
        parts.add(readiness::start(&base, network));
        Ok(Self { handle, parts, driver: driver_tasks })
    }

    /// Everything that can be read without asking the driver.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        self.handle.shared()
    }

    /// A handle for requests to the driver.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits until the driver has ended. It ends by itself only because of a bug.
    pub async fn failed(&self) {
        self.driver.wait().await;
    }

    /// Takes from a new configuration what can change while the agent runs, and has watched files and the services
    /// folder read again.
    pub async fn reload(&mut self, config: Config) {
        let new = config.reloadable();
        // Each key with what takes it over. A key that is added does not compile until it is named here.
        let Reloadable { guard: _driver, dns_ttl: _dns, log_filter: _program } = &new;
        self.parts.reload(&new);
    }

    /// Stops the agent: instances that `run` announced are shown as draining, what is pending is stored, then watches
    /// and open requests end. Returns when nothing of the agent runs any more.
    pub async fn stop(self) {
        info!("agent is stopping");
        let shared = Arc::clone(self.shared());
        shared.set_ready(false);
        self.parts.stop().await;
        // A stale socket does no harm, since the next start replaces it.
        let _ = std::fs::remove_file(&shared.identity.socket);
    }

    /// Ends everything at once, as a crash would: nothing that is pending is stored, and no client or other agent is
    /// told. Ports and data directory are free when this returns.
    pub async fn kill(self) {
        info!("agent is killed");
        self.shared().set_ready(false);
        self.parts.kill().await;
    }
}
