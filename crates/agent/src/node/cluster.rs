//! The network between agents as a part of the node.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use dunlin_core::gossip::{MembershipSettings, Peer};
use dunlin_core::model::NodeId;
use tracing::info;

use super::driver::StartedDriver;
use super::foundation::Foundation;
use super::parts::{Part, Phase};
use super::{NodeError, NodeSettings};
use crate::net::tls::{SharedCredentials, watch};
use crate::net::{Bound, Context, Net, NetSettings, bind};
use crate::observe;

/// Sockets that are bound and certificates that were read.
pub(super) type PreparedCluster = (Bound, Arc<SharedCredentials>);

/// Reads the certificates and binds the port. `None` for an agent that stands alone.
///
/// # Errors
/// When the certificates cannot be used, or the port cannot be bound.
pub(super) fn prepare(settings: &NodeSettings) -> Result<Option<PreparedCluster>, NodeError> {
    let config = &settings.config.cluster;
    let Some(files) = config.tls.clone() else { return Ok(None) };
    let zone = settings.config.node.zone.clone();
    let credentials = Arc::new(SharedCredentials::load(files, settings.name.clone(), zone)?);
    let sockets = bind(config.listen).map_err(NodeError::listen("the cluster", config.listen))?;
    Ok(Some((sockets, credentials)))
}

/// Starts the network, joins the driver with it, and takes new certificates as they appear.
///
/// # Errors
/// When the system refuses a socket or a thread.
pub(super) fn start(
    base: &Foundation,
    (sockets, credentials): PreparedCluster,
    StartedDriver { driver, peers, .. }: &mut StartedDriver,
) -> Result<(Part, Arc<Context>), NodeError> {
    let mut part = Part::new("cluster", Phase::Second);
    let listen = sockets.local_addr()?;
    let is_down = |(peer, is_live): &(Peer, bool)| (!is_live).then_some(peer.id);
    let down: Vec<NodeId> = peers.iter().filter_map(is_down).collect();
    let settings = net_settings(base, listen, std::mem::take(peers), driver.seed());
    let (tls, fence) = (Arc::clone(&credentials), base.settings.fence.clone());
    let shared = Arc::clone(&base.shared);
    let net = Net::start(settings, sockets, tls, fence, shared, part.stop.clone())?;
    let context = Arc::clone(net.context());
    driver.join(net, &down);
    base.observer.collect(observe::Cluster::new(Arc::clone(&context)));
    base.observer.collect(observe::Certificate::new(Arc::clone(&credentials)));
    part.tasks.spawn(watch(credentials, base.reporter("certificate"), part.stop.clone()));
    let (network, stop) = (Arc::clone(&context), part.stop.clone());
    part.tasks.spawn(async move {
        stop.cancelled().await;
        network.stopped().await;
    });
    let network = Arc::clone(&context);
    part.on_kill(move || network.cut_off());
    info!(%listen, "agents can reach this one");
    Ok((part, context))
}

fn net_settings(
    base: &Foundation,
    listen: SocketAddr,
    peers: Vec<(Peer, bool)>,
    seed: u64,
) -> NetSettings {
    let config = &base.settings.config.cluster;
    let id = base.shared.identity.node_id;
    let former = peers.iter().find(|(peer, _)| peer.id == id).map_or(0, |(own, _)| own.generation);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let advertise = SocketAddr::new(base.settings.address, listen.port());
    NetSettings {
        id,
        listen,
        advertise: config.advertise.unwrap_or(advertise),
        join: config.join.clone(),
        data_dir: base.settings.data_dir.clone(),
        peers,
        generation: u64::try_from(now).unwrap_or_default().max(former.saturating_add(1)),
        seed,
        membership: MembershipSettings {
            forget_down_after: config.reap_after,
            ..MembershipSettings::default()
        },
    }
}
