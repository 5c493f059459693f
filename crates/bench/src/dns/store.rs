//! The names that all servers serve: services of a seeded agent, and the same records as text for the other servers.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

/// The services of one node: a node may not have more instances.
const MAX_PER_NODE: u64 = 10_000;
/// The end of the names of all services.
pub(super) const SUFFIX: &str = "api.prod.shop.dunlin.internal";
const TTL_SECONDS: u32 = 1;

/// Services and how many instances each has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Store {
    pub(super) services: u64,
    pub(super) copies: u64,
}

/// The first label of a service.
pub(super) fn service(number: u64) -> String {
    format!("s{number:03}")
}

impl Store {
    /// Nodes, instances on each, and nodes that have the same services.
    pub(super) fn shape(self) -> [u64; 3] {
        let rows = self.services.min(MAX_PER_NODE);
        [self.services.div_ceil(rows) * self.copies, rows, self.copies]
    }

    /// The nodes that a service runs on.
    fn nodes(self, service: u64) -> impl Iterator<Item = u64> {
        let [_, rows, copies] = self.shape();
        let first = service / rows * copies;
        first..first + copies
    }

    /// Every record, as a line of a zone file in which all names are complete.
    pub(super) fn records(self) -> String {
        let mut text = format!(
            "dunlin.internal. {TTL_SECONDS} IN SOA n1.node.z1.dunlin.internal. hostmaster.dunlin.internal. \
             1 3600 600 86400 {TTL_SECONDS}\n"
        );
        let [nodes, ..] = self.shape();
        for node in 0..nodes {
            let (name, address) = (host(node), address(node));
            let _ = writeln!(text, "{name} {TTL_SECONDS} IN A {address}");
        }
        for number in 0..self.services {
            let name = service(number);
            for node in self.nodes(number) {
                let (host, address) = (host(node), address(node));
                let _ = writeln!(text, "{name}.{SUFFIX}. {TTL_SECONDS} IN A {address}");
                let _ = writeln!(text, "{name}.{SUFFIX}. {TTL_SECONDS} IN SRV 0 100 8080 {host}");
            }
        }
        text
    }
}

fn host(node: u64) -> String {
    format!("m{node:04}.node.z1.dunlin.internal.")
}

fn address(node: u64) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 10, 0, 1).to_bits() + node as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_beyond_the_limit_of_a_node_are_on_other_nodes() {
        let store = Store { services: 100_000, copies: 3 };
        assert_eq!(store.shape(), [30, 10_000, 3]);
        assert_eq!(store.nodes(9_999).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(store.nodes(10_000).collect::<Vec<_>>(), [3, 4, 5]);
    }

    #[test]
    fn each_instance_is_an_address_and_a_target() {
        let records = Store { services: 2, copies: 3 }.records();
        assert_eq!(records.lines().count(), 1 + 3 + 2 * 3 * 2);
        let line = "s001.api.prod.shop.dunlin.internal. 1 IN SRV 0 100 8080 m0002.node.z1.dunlin.internal.";
        assert!(records.lines().any(|l| l == line), "{records}");
    }
}
