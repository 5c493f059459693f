//! How far the others are: round-trip times, per member and per zone.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{NodeId, ZoneName};

/// Members whose round-trip times are kept; a newcomer beyond it replaces one of the kept.
const MOST_MEASURED: usize = 4096;
/// What a new measurement counts for, as in TCP's estimate (RFC 6298 §2).
const GAIN: f64 = 0.125;
/// A zone comes before another only if it is nearer by more than this share, so that noise moves nothing.
const CLEARLY_NEARER: f64 = 0.2;

/// Round-trip times and what follows from them.
#[derive(Debug, Default)]
pub struct Distances {
    members: BTreeMap<NodeId, Measured>,
    order: Vec<ZoneName>,
}

#[derive(Debug, Clone)]
struct Measured {
    zone: Option<ZoneName>,
    smoothed: Duration,
}

impl Distances {
    /// Takes a measured round-trip time. The zone is none while it is not known.
    pub fn handle_rtt(&mut self, node: NodeId, zone: Option<ZoneName>, rtt: Duration) {
        if let Some(known) = self.members.get_mut(&node) {
            known.zone = zone.or(known.zone.take());
            known.smoothed = known.smoothed.mul_f64(1.0 - GAIN) + rtt.mul_f64(GAIN);
            return;
        }
        if self.members.len() >= MOST_MEASURED {
            self.members.pop_first();
        }
        self.members.insert(node, Measured { zone, smoothed: rtt });
    }

    /// Forgets a member that is gone.
    pub fn forget(&mut self, node: NodeId) {
        self.members.remove(&node);
    }

    /// The smoothed round-trip time of a member.
    #[must_use]
    pub fn rtt(&self, node: NodeId) -> Option<Duration> {
        self.members.get(&node).map(|measured| measured.smoothed)
    }

    /// Zones but the own, nearest first. A zone is as far as the median of its measured members; the order
    /// stays as it was unless a zone is clearly nearer.
    pub fn nearest_zones(&mut self, own: &ZoneName) -> Vec<ZoneName> {
        let mut times: BTreeMap<&ZoneName, Vec<Duration>> = BTreeMap::new();
        for measured in self.members.values() {
            if let Some(zone) = measured.zone.as_ref().filter(|zone| *zone != own) {
                times.entry(zone).or_default().push(measured.smoothed);
            }
        }
        let median = |mut times: Vec<Duration>| {
            times.sort_unstable();
            times[times.len() / 2]
        };
        let medians: BTreeMap<&ZoneName, Duration> =
            times.into_iter().map(|(zone, times)| (zone, median(times))).collect();
        let mut order: Vec<ZoneName> =
            self.order.iter().filter(|zone| medians.contains_key(zone)).cloned().collect();
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
        self.order.clone_from(&order);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> ZoneName {
        ZoneName::parse(name).unwrap()
    }

    fn measure(distances: &mut Distances, node: u8, name: &str, millis: u64) {
        let rtt = Duration::from_millis(millis);
        distances.handle_rtt(NodeId::from_bytes([node; 16]), Some(zone(name)), rtt);
    }

    #[test]
    fn zones_come_in_the_order_of_their_median_round_trip() {
        let mut distances = Distances::default();
        for (node, name, millis) in
            [(1, "far", 90), (2, "near", 5), (3, "near", 400), (4, "near", 6), (5, "here", 1)]
        {
            measure(&mut distances, node, name, millis);
        }
        assert_eq!(distances.nearest_zones(&zone("here")), [zone("near"), zone("far")]);
    }

    #[test]
    fn noise_does_not_change_the_order() {
        let mut distances = Distances::default();
        measure(&mut distances, 1, "a", 100);
        measure(&mut distances, 2, "b", 110);
        assert_eq!(distances.nearest_zones(&zone("here")), [zone("a"), zone("b")]);
        for _ in 0..50 {
            measure(&mut distances, 2, "b", 90);
        }
        assert_eq!(distances.nearest_zones(&zone("here")), [zone("a"), zone("b")]);
        for _ in 0..50 {
            measure(&mut distances, 2, "b", 20);
        }
        assert_eq!(distances.nearest_zones(&zone("here")), [zone("b"), zone("a")]);
    }
}
