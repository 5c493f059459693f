//! What answers depend on besides the view.

use std::net::SocketAddr;
use std::time::Duration;

use super::MIN_UDP_OCTETS;
use super::domain::Domain;
use crate::model::NodeName;

/// How this agent answers. Cheap to compare; replaced as a whole on reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The suffix of all names; questions outside are refused or forwarded.
    pub domain: Domain,
    /// This agent's node: the first name server in the SOA.
    pub node: NodeName,
    /// How long others may keep an answer, positive or negative. Short means that clients which cache
    /// follow quickly; long means fewer questions. Counted in whole seconds, rounded up.
    pub ttl: Duration,
    /// The longest datagram to send, and what replies announce. 1,232 octets pass any path without
    /// fragments; less than 512 counts as 512.
    pub udp_payload: u16,
    /// Where questions outside the domain go, tried in this order; none: they are refused.
    pub upstreams: Vec<SocketAddr>,
}

impl Settings {
    /// The datagram size that no usual path fragments (DNS Flag Day 2020).
    pub const DEFAULT_UDP_PAYLOAD: u16 = 1232;
    /// One second.
    pub const DEFAULT_TTL: Duration = Duration::from_secs(1);

    /// Settings with defaults, without upstreams.
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
