//! How far other members are: round-trip times, and the order of zones that follows from them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{NodeId, ZoneName};

/// The number of members whose round-trip times are kept; beyond it a new member replaces another.
const MAX_MEASURED: usize = 4096;
/// The weight of a new measurement, as in TCP's estimate (RFC 6298 §2).
const GAIN: f64 = 0.125;

/// The smoothed round-trip times of members.
#[derive(Debug, Default)]
pub struct Distances {
    members: BTreeMap<NodeId, Duration>,
}

impl Distances {
    /// Includes a measured round-trip time in the smoothed one.
    pub fn handle_rtt(&mut self, node: NodeId, rtt: Duration) {
        if let Some(smoothed) = self.members.get_mut(&node) {
            *smoothed = smoothed.mul_f64(1.0 - GAIN) + rtt.mul_f64(GAIN);
            return;
        }
        if self.members.len() >= MAX_MEASURED {
            self.members.pop_first();
        }
        self.members.insert(node, rtt);
    }

    /// Forgets a member that is gone.
    pub fn forget(&mut self, node: NodeId) {
        self.members.remove(&node);
    }

    /// The smoothed round-trip time of a member.
    #[must_use]
    pub fn rtt(&self, node: NodeId) -> Option<Duration> {
        self.members.get(&node).copied()
    }

    /// All smoothed round-trip times.
    pub fn all(&self) -> impl Iterator<Item = (NodeId, Duration)> {
        self.members.iter().map(|(node, rtt)| (*node, *rtt))
    }
}

/// A zone moves in front of another only if it is nearer by more than this share, so that noise does not change the
/// order.
const CLEARLY_NEARER: f64 = 0.2;

/// The other zones in the order of their distance.
#[derive(Debug, Default)]
pub struct ZoneOrder(Vec<ZoneName>);

impl ZoneOrder {
    /// The zones of the measured members without the own zone, nearest first. The distance of a zone is the median of
    /// its measured members. The order stays as it was unless a zone is clearly nearer.
    pub fn update<'a>(
        &mut self,
        own: &ZoneName,
        measured: impl IntoIterator<Item = (&'a ZoneName, Duration)>,
    ) -> Vec<ZoneName> {
        let mut times: BTreeMap<&ZoneName, Vec<Duration>> = BTreeMap::new();
        for (zone, rtt) in measured {
            if zone != own {
                times.entry(zone).or_default().push(rtt);
            }
        }
        let median = |mut times: Vec<Duration>| {
            times.sort_unstable();
            times[times.len() / 2]
        };
        let medians: BTreeMap<&ZoneName, Duration> =
            times.into_iter().map(|(zone, times)| (zone, median(times))).collect();
        let mut order = std::mem::take(&mut self.0);
        order.retain(|zone| medians.contains_key(zone));
        for zone in medians.keys() {
            if !order.contains(zone) {
                order.push((*zone).clone());
            }
        }
        // Insertion by comparison with the neighbour in front: stable where differences are small.
        for end in 1..order.len() {
            let mut at = end;
            while at > 0 {
                let (front, here) = (medians[&order[at - 1]], medians[&order[at]]);
                if here >= front.mul_f64(1.0 - CLEARLY_NEARER) {
                    break;
                }
                order.swap(at - 1, at);
                at -= 1;
            }
        }
        self.0.clone_from(&order);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> ZoneName {
        ZoneName::parse(name).unwrap()
    }

    /// Distances, and the zones of members as far as they are known.
    #[derive(Default)]
    struct World {
        distances: Distances,
        order: ZoneOrder,
        zones: BTreeMap<NodeId, ZoneName>,
    }

    impl World {
        fn measure(&mut self, node: u8, name: &str, millis: u64) {
            let node = NodeId::from_bytes([node; 16]);
            self.zones.insert(node, zone(name));
            self.distances.handle_rtt(node, Duration::from_millis(millis));
        }

        fn nearest_to_here(&mut self) -> Vec<ZoneName> {
            let zones = &self.zones;
            let known = |(node, rtt)| Some((zones.get(&node)?, rtt));
            self.order.update(&zone("here"), self.distances.all().filter_map(known))
        }
    }

    #[test]
    fn zones_come_in_the_order_of_their_median_round_trip() {
        let mut world = World::default();
        for (node, name, millis) in
            [(1, "far", 90), (2, "near", 5), (3, "near", 400), (4, "near", 6), (5, "here", 1)]
        {
            world.measure(node, name, millis);
        }
        assert_eq!(world.nearest_to_here(), [zone("near"), zone("far")]);
    }

    #[test]
    fn a_zone_that_becomes_known_after_the_round_trip_counts() {
        let mut world = World::default();
        world.measure(1, "a", 50);
        let late = NodeId::from_bytes([2; 16]);
        world.distances.handle_rtt(late, Duration::from_millis(5));
        assert_eq!(world.nearest_to_here(), [zone("a")]);
        world.zones.insert(late, zone("b"));
        assert_eq!(world.nearest_to_here(), [zone("b"), zone("a")]);
    }

    #[test]
    fn noise_does_not_change_the_order() {
        let mut world = World::default();
        world.measure(1, "a", 100);
        world.measure(2, "b", 110);
        assert_eq!(world.nearest_to_here(), [zone("a"), zone("b")]);
        for _ in 0..50 {
            world.measure(2, "b", 90);
        }
        assert_eq!(world.nearest_to_here(), [zone("a"), zone("b")]);
        for _ in 0..50 {
            world.measure(2, "b", 20);
        }
        assert_eq!(world.nearest_to_here(), [zone("b"), zone("a")]);
    }
}
