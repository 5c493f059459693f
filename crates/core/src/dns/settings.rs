//! The settings on which answers depend, besides the view.

use std::net::SocketAddr;
use std::time::Duration;

use super::MIN_UDP_OCTETS;
use super::domain::Domain;
use crate::model::NodeName;

/// How this agent answers. The settings are cheap to compare and are replaced as a whole on reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsSettings {
    /// The suffix of all names; questions outside of it are refused or forwarded.
    pub domain: Domain,
    /// This agent's node: the first name server in the SOA.
    pub node: NodeName,
    /// How long clients may cache an answer, positive or negative. With a short TTL they follow changes quickly; with a
    /// long one they ask less. It is rounded up to whole seconds.
    pub ttl: Duration,
    /// The longest datagram to send, in octets, which replies also announce. 1,232 octets pass any path without
    /// fragmentation; less than 512 counts as 512.
    pub udp_payload: u16,
    /// The servers to which questions outside the domain are forwarded, tried in this order. If there are none, these
    /// questions are refused.
    pub upstreams: Vec<SocketAddr>,
}

impl DnsSettings {
    /// The datagram size that no usual path fragments (DNS Flag Day 2020).
    pub const DEFAULT_UDP_PAYLOAD: u16 = 1232;
    /// The TTL when none is configured.
    pub const DEFAULT_TTL: Duration = Duration::from_secs(1);

    /// DnsSettings with defaults, without upstreams.
    #[must_use]
    pub fn new(domain: Domain, node: NodeName) -> Self {
        Self {
            domain,
            node,
            ttl: Self::DEFAULT_TTL,
            udp_payload: Self::DEFAULT_UDP_PAYLOAD,
            upstreams: Vec::new(),
        }
    }

    /// The TTL as records carry it: at most 2^31 - 1 (RFC 2181 §8).
    pub(super) fn ttl_secs(&self) -> u32 {
        let secs = self.ttl.as_secs() + u64::from(self.ttl.subsec_nanos() > 0);
        u32::try_from(secs).unwrap_or(u32::MAX).min(0x7FFF_FFFF)
    }

    pub(super) fn udp_octets(&self) -> u16 {
        self.udp_payload.max(MIN_UDP_OCTETS)
    }
}
