//! The distances of zones, and the order of endpoints that follows from them.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::model::{InstanceId, NodeId, NodeRow, ZoneName};

/// The zone of this agent, and the order of the other zones by distance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// The zone that this agent belongs to.
    pub own_zone: ZoneName,
    /// Other zones, nearest first. Zones that are not listed come after these, by name.
    pub nearest_zones: Vec<ZoneName>,
}

/// What the order of endpoints within a service depends on.
#[derive(Clone, Copy)]
pub(super) struct EndpointPlace<'a> {
    pub(super) node: &'a Arc<NodeRow>,
    pub(super) node_id: NodeId,
    pub(super) instance: &'a InstanceId,
}

impl Topology {
    /// A zone's distance: 0 for the own, 1 and up for others in order of nearness.
    #[must_use]
    pub fn rank(&self, zone: &ZoneName) -> u16 {
        if *zone == self.own_zone {
            return 0;
        }
        let position = self.nearest_zones.iter().position(|z| z == zone);
        let rank = position.unwrap_or(self.nearest_zones.len()) + 1;
        u16::try_from(rank).unwrap_or(u16::MAX)
    }

    /// The order of endpoints within a service: distance of the zone, zone, node's name, instance's id.
    /// Where two nodes share a name, their ids decide.
    pub(super) fn compare<'a>(
        &self,
        a: impl Into<EndpointPlace<'a>>,
        b: impl Into<EndpointPlace<'a>>,
    ) -> Ordering {
        let (a, b) = (a.into(), b.into());
        let (x, y) = (a.node, b.node);
        let by_zone = || match x.zone == y.zone {
            true => Ordering::Equal,
            false => self.rank(&x.zone).cmp(&self.rank(&y.zone)).then_with(|| x.zone.cmp(&y.zone)),
        };
        let by_node = if Arc::ptr_eq(x, y) {
            Ordering::Equal
        } else {
            by_zone().then_with(|| x.name.cmp(&y.name))
        };
        by_node.then_with(|| a.instance.cmp(b.instance)).then_with(|| a.node_id.cmp(&b.node_id))
    }
}
