//! What happened on a host, for people to read. The words are chosen at the edge that shows them.

use std::net::SocketAddr;

use crate::catalog::NodeStatus;
use crate::model::{
    CheckId, Health, InstanceId, NodeId, NodeName, ProviderId, ServiceName, ZoneName,
};
use crate::replica::Version;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An instance was registered somewhere in the cluster.
    InstanceRegistered {
        /// Where it runs, and its service.
        place: Place,
        /// Its health at first.
        health: Health,
    },
    /// An instance is no longer registered.
    InstanceDeregistered {
        /// Where it ran, and its service.
        place: Place,
        /// Whether that is because its node left.
        has_node_left: bool,
    },
    /// The health of an instance is another than before.
    HealthChanged {
        /// Where it runs, and its service.
        place: Place,
        /// What it was.
        from: Health,
        /// What it is.
        to: Health,
        /// The check that says so, with its output. `None` where no check decides.
        why: Option<(CheckId, String)>,
    },
    /// An instance of this host was taken out since it was critical for too long.
    InstanceExpired {
        /// The instance.
        instance: InstanceId,
        /// The provider that states it.
        provider: ProviderId,
        /// The check, the time and what the check says.
        reason: String,
    },
    /// The guard began to hold instances of a service that vanished together.
    ServiceGuarded {
        /// The service.
        service: ServiceName,
        /// How many instances are held.
        held: usize,
    },
    /// The guard holds nothing of the service any more.
    ServiceReleased {
        /// The service.
        service: ServiceName,
        /// Why the hold ended.
        reason: &'static str,
    },
    /// The status of a node is another than before.
    NodeChanged {
        /// Its name.
        node: NodeName,
        /// Its id: for a while, two nodes can have one name.
        id: NodeId,
        /// What it was; `None` if the node was not known.
        from: Option<NodeStatus>,
        /// What it is.
        to: NodeStatus,
    },
    /// An operator took a node out of service, or put it back.
    NodeDraining {
        /// Its name.
        node: NodeName,
        /// Whether it is taken out.
        is_draining: bool,
    },
    /// Several live nodes have one name.
    NodeNameConflict {
        /// The name.
        node: NodeName,
        /// Their ids; the first is shown.
        ids: Vec<NodeId>,
    },
    /// A node was gone for too long, or another one took its name: its rows are forgotten.
    NodeForgotten {
        /// Its id.
        id: NodeId,
    },
    /// A provider's statement was taken and differs from the one before.
    ProviderChanged {
        /// The provider.
        provider: ProviderId,
        /// Instances that are new or different.
        stated: usize,
        /// Instances that are gone.
        gone: usize,
    },
    /// A provider's statement could not be read. Its last good state holds.
    ProviderFailed {
        /// The provider.
        provider: ProviderId,
        /// What was wrong.
        error: String,
    },
    /// A provider did not state its set again in time and is forgotten.
    ProviderExpired {
        /// The provider.
        provider: ProviderId,
    },
    /// The node's own rows are stored and shown after a start.
    OwnStateRestored {
        /// How many instances are registered.
        instances: usize,
    },
    /// Peers know the own rows otherwise than this host does, so that all of them are stated again.
    HistoryRestated {
        /// The newest version that some peer knows.
        above: Version,
    },
    /// A link to a peer is open.
    LinkOpened {
        /// The peer's node.
        node: NodeName,
        /// Its zone.
        zone: ZoneName,
        /// Where its agent is reached.
        address: SocketAddr,
        /// Whether this host opened it.
        is_dialed: bool,
    },
    /// The disk did not take a batch. Told once, until it takes one again.
    DiskRefuses {
        /// What the disk said.
        error: String,
    },
    /// The disk takes batches again.
    DiskAccepts,
}

/// An instance in the cluster, by the names that people know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The node on which it runs.
    pub node: NodeName,
    /// Its service.
    pub service: ServiceName,
    /// Its id.
    pub instance: InstanceId,
}
