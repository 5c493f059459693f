//! Partitions of the network, to try out in one process.
//!
//! A fence says which addresses do not reach which others. The network asks it before each datagram, and now and then
//! for each stream. Without a partition, which is nearly always, an answer costs one atomic load. Addresses are
//! compared without their ports, and an IPv4 address is the same however it is written (RFC 4291 §2.5.5.2). A fence is
//! no firewall: an agent in production has none.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;

/// How often a stream looks whether its peer was fenced off.
const FENCE_INTERVAL: Duration = Duration::from_millis(50);

/// Cuts addresses off from each other until it is healed.
#[derive(Debug, Default)]
pub struct Fence(ArcSwapOption<Cuts>);

/// A fence as one agent sees it.
#[derive(Debug)]
pub(in crate::net) struct Side {
    /// The fence, of which there is none in production.
    pub(in crate::net) fence: Option<Arc<Fence>>,
    /// The agent's own address.
    pub(in crate::net) here: IpAddr,
}

impl Side {
    /// Whether nothing that is sent from there arrives here.
    pub(in crate::net) fn is_deaf_to(&self, there: IpAddr) -> bool {
        self.fence.as_ref().is_some_and(|fence| fence.blocks(there, self.here))
    }

    /// Whether nothing that is sent from here arrives there.
    pub(in crate::net) fn is_mute_to(&self, there: IpAddr) -> bool {
        self.fence.as_ref().is_some_and(|fence| fence.blocks(self.here, there))
    }

    /// Waits until nothing that is sent arrives, in one direction or the other; without a fence, for ever.
    pub(in crate::net) async fn fenced_off(&self, there: IpAddr) {
        if self.fence.is_none() {
            return std::future::pending().await;
        }
        let mut ticks = tokio::time::interval(FENCE_INTERVAL);
        while !self.is_mute_to(there) && !self.is_deaf_to(there) {
            ticks.tick().await;
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Cuts {
    groups: Vec<BTreeSet<IpAddr>>,
    /// Pairs of an address and one that it does not reach.
    one_way: BTreeSet<(IpAddr, IpAddr)>,
}

impl Fence {
    /// A fence that blocks nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing that `from` sends reaches `to`.
    #[must_use]
    pub fn blocks(&self, from: IpAddr, to: IpAddr) -> bool {
        let cuts = self.0.load();
        let Some(cuts) = cuts.as_deref() else { return false };
        cuts.block(from.to_canonical(), to.to_canonical())
    }

    /// Cuts addresses of different groups off from each other. An address in no group is reached by all, and one in two
    /// groups stands between them. The partition takes the place of an earlier one; what [`Fence::cut`] did stays.
    pub fn partition(&self, groups: &[Vec<IpAddr>]) {
        let group = |group: &Vec<IpAddr>| group.iter().map(IpAddr::to_canonical).collect();
        let groups: Vec<_> = groups.iter().map(group).collect();
        self.change(|cuts| cuts.groups.clone_from(&groups));
    }

    /// Lets nothing that `from` sends reach `to`. The other direction stays as it is.
    pub fn cut(&self, from: IpAddr, to: IpAddr) {
        let pair = (from.to_canonical(), to.to_canonical());
        self.change(|cuts| {
            cuts.one_way.insert(pair);
        });
    }

    /// Lets all addresses reach each other again.
    pub fn heal(&self) {
        self.0.store(None);
    }

    /// Runs `change` again if another change comes between.
    fn change(&self, mut change: impl FnMut(&mut Cuts)) {
        self.0.rcu(|cuts| {
            let mut cuts = cuts.as_deref().cloned().unwrap_or_default();
            change(&mut cuts);
            Some(cuts.into())
        });
    }
}

impl Cuts {
    fn block(&self, from: IpAddr, to: IpAddr) -> bool {
        let is_grouped = |address| self.groups.iter().any(|group| group.contains(address));
        let share_group = || self.groups.iter().any(|g| g.contains(&from) && g.contains(&to));
        self.one_way.contains(&(from, to))
            || (is_grouped(&from) && is_grouped(&to) && !share_group())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn ip(last: u8) -> IpAddr {
        Ipv4Addr::new(127, 0, 0, last).into()
    }

    #[test]
    fn a_new_or_healed_fence_blocks_no_address() {
        let fence = Fence::new();
        assert!(!fence.blocks(ip(1), ip(2)));
        fence.partition(&[vec![ip(1)], vec![ip(2)]]);
        fence.cut(ip(1), ip(3));
        fence.heal();
        assert!(!fence.blocks(ip(1), ip(2)) && !fence.blocks(ip(1), ip(3)));
    }

    #[test]
    fn groups_are_cut_off_from_each_other_and_other_addresses_reach_all() {
        let fence = Fence::new();
        fence.partition(&[vec![ip(1)], vec![ip(2), ip(3)]]);
        for (from, to, blocked) in
            [(1, 2, true), (3, 1, true), (2, 3, false), (1, 1, false), (4, 1, false), (2, 4, false)]
        {
            assert_eq!(fence.blocks(ip(from), ip(to)), blocked, "{from} to {to}");
        }
    }

    #[test]
    fn an_address_in_two_groups_stands_between_them() {
        let fence = Fence::new();
        fence.partition(&[vec![ip(1), ip(2)], vec![ip(2), ip(3)]]);
        assert!(fence.blocks(ip(1), ip(3)));
        assert!(!fence.blocks(ip(1), ip(2)) && !fence.blocks(ip(3), ip(2)));
    }

    #[test]
    fn a_cut_goes_one_way_and_outlasts_another_partition() {
        let fence = Fence::new();
        fence.cut(ip(1), ip(2));
        assert!(fence.blocks(ip(1), ip(2)) && !fence.blocks(ip(2), ip(1)));
        fence.partition(&[vec![ip(1)], vec![ip(3)]]);
        fence.partition(&[vec![ip(2)], vec![ip(3)]]);
        assert!(fence.blocks(ip(1), ip(2)) && fence.blocks(ip(3), ip(2)));
        assert!(!fence.blocks(ip(1), ip(3)), "the later partition took the place of the earlier");
    }

    #[test]
    fn one_side_of_a_cut_is_deaf_and_the_other_mute() {
        let fence = Arc::new(Fence::new());
        let side = |last| Side { fence: Some(Arc::clone(&fence)), here: ip(last) };
        let (from, to) = (side(1), side(2));
        fence.cut(ip(1), ip(2));
        assert!(from.is_mute_to(ip(2)) && !from.is_deaf_to(ip(2)));
        assert!(to.is_deaf_to(ip(1)) && !to.is_mute_to(ip(1)));
        let open = Side { fence: None, here: ip(1) };
        assert!(!open.is_mute_to(ip(2)) && !open.is_deaf_to(ip(2)));
    }

    /// The clock stands still and jumps to the next deadline when nothing else is to be done.
    #[tokio::test(start_paused = true)]
    async fn a_cut_in_either_direction_is_noticed() {
        for (from, to) in [(1, 2), (2, 1)] {
            let fence = Arc::new(Fence::new());
            let side = Side { fence: Some(Arc::clone(&fence)), here: ip(1) };
            let is_open = tokio::time::timeout(2 * FENCE_INTERVAL, side.fenced_off(ip(2))).await;
            assert!(is_open.is_err());
            fence.cut(ip(from), ip(to));
            side.fenced_off(ip(2)).await;
        }
    }

    #[test]
    fn a_mapped_address_is_the_same_address() {
        let fence = Fence::new();
        let mapped = IpAddr::from(Ipv4Addr::new(127, 0, 0, 2).to_ipv6_mapped());
        fence.cut(mapped, ip(1));
        assert!(fence.blocks(ip(2), ip(1)));
        assert!(!fence.blocks(Ipv6Addr::LOCALHOST.into(), ip(1)));
    }
}
