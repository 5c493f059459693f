//! The driver and its store as a part of the node.

use std::sync::Arc;

use dunlin_core::catalog::{GuardOverride, GuardSettings};
use dunlin_core::config::GuardConfig;
use dunlin_core::gossip::Peer;
use dunlin_core::host::{Host, HostSettings, known_members};
use dunlin_core::model::{NodeId, NodePhase, NodeRow};
use tokio::sync::watch;
use tracing::{error, warn};

use super::foundation::Foundation;
use super::parts::{Part, Phase};
use super::{NodeError, NodeSettings};
use crate::checks::{Limits, Runner};
use crate::driver::{Driver, moment};
use crate::handle::Handle;
use crate::store::Store;

/// The host as it was when the data directory was last in use. The directory is locked while the store lives.
pub(super) struct Restored {
    pub(super) node_id: NodeId,
    pub(super) host: Host,
    store: Store,
    peers: Vec<(Peer, bool)>,
    damage: Option<String>,
}

/// Opens the data directory.
///
/// # Errors
/// When the directory is in use or cannot be read.
pub(super) fn restore(settings: &NodeSettings) -> Result<Restored, NodeError> {
    let (store, node_id, stored) = Store::open(&settings.data_dir)?;
    let damage = stored.moved_aside.clone();
    if let Some(problem) = &damage {
        error!(problem, "the database was damaged; starting with an empty one");
    }
    let peers = known_members(&stored.peers);
    let host = Host::restore(moment(), host_settings(settings, node_id), node_id, stored);
    Ok(Restored { node_id, host, store, peers, damage })
}

/// A driver that has stated what its node says of itself, and does not run yet.
pub(super) struct StartedDriver {
    part: Part,
    pub(super) driver: Driver,
    handle: Handle,
    guard: watch::Sender<GuardSettings>,
    /// All members that were known, this node included, and whether they were alive.
    pub(super) peers: Vec<(Peer, bool)>,
}

/// Starts the driver up to the point where the network can join it.
///
/// # Errors
/// When the node's own state cannot be stored.
pub(super) async fn start(
    base: &Foundation,
    restored: Restored,
) -> Result<StartedDriver, NodeError> {
    let Restored { host, store, peers, damage, .. } = restored;
    if let Some(damage) = damage {
        base.shared.problems.set("database", format!("was damaged and replaced: {damage}"));
    }
    let part = Part::new("driver", Phase::First);
    let runner = Arc::new(Runner::new(Limits::default()));
    let (shared, stop) = (Arc::clone(&base.shared), part.stop.clone());
    let (driver, handle, guard) = Driver::start(host, store, shared, runner, stop).await?;
    Ok(StartedDriver { part, driver, handle, guard, peers })
}

impl StartedDriver {
    /// Runs the driver. No further tasks are added to its part, so the part's tasks tell when the driver has ended.
    pub(super) fn run(self) -> (Part, Handle) {
        let Self { mut part, driver, handle, guard, .. } = self;
        part.on_reload(move |new| _ = guard.send_replace(guard_settings(&new.guard)));
        let running = part.tasks.spawn(driver.run());
        let abort = running.abort_handle();
        part.on_kill(move || abort.abort());
        part.tasks.spawn(async {
            if running.await.is_err_and(|error| error.is_panic()) {
                warn!("the driver ended by a panic");
            }
        });
        part.tasks.close();
        (part, handle)
    }
}

fn host_settings(settings: &NodeSettings, node_id: NodeId) -> HostSettings {
    let config = &settings.config;
    let meta = config.node.meta.iter().map(|(k, v)| (k.as_str().into(), v.as_str().into()));
    let node = NodeRow {
        name: settings.name.clone(),
        zone: config.node.zone.clone(),
        address: settings.address,
        serves_dns: config.dns.enabled,
        meta: meta.collect(),
        phase: NodePhase::Active,
    };
    let [a, b, c, d, e, f, g, h, ..] = *node_id.as_bytes();
    HostSettings {
        guard: guard_settings(&config.guard),
        reap_after: config.cluster.reap_after,
        keep_tombstones: config.cluster.reap_after,
        seed: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        leaves_on_stop: config.cluster.tls.is_some() && config.cluster.leave_on_stop,
        ..HostSettings::new(node)
    }
}

fn guard_settings(guard: &GuardConfig) -> GuardSettings {
    let over = guard.service.iter().map(|(name, over)| {
        (name.clone(), GuardOverride { max_drop: over.max_drop, panic: over.panic })
    });
    GuardSettings {
        max_drop: guard.max_drop,
        min_instances: usize::try_from(guard.min_instances).unwrap_or(usize::MAX),
        window: guard.window,
        hold: guard.hold,
        panic: guard.panic,
        services: over.collect(),
    }
}
