//! `[dns]`: where DNS is answered, and how.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds::{require, require_within};
use super::text::DomainName;
use super::{ConfigError, duration, text};

/// The limit of servers to which questions are forwarded.
const MAX_UPSTREAMS: usize = 8;
/// The longest time for which clients may cache an answer.
const MAX_TTL: Duration = Duration::from_secs(86_400);

/// The settings of `[dns]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DnsConfig {
    /// Whether the agent answers DNS at all.
    pub enabled: bool,
    /// Where DNS listens, UDP and TCP.
    #[serde(deserialize_with = "text::socket_address")]
    #[schemars(with = "text::SocketText")]
    pub listen: SocketAddr,
    /// The suffix of all names: `web` is asked for as `web.dunlin.internal`. The same on all agents.
    #[schemars(with = "text::DomainText")]
    pub domain: DomainName,
    /// How long others may keep an answer, positive or negative: whole seconds, at most 1 day. With more
    /// than a few seconds, clients go on using instances that are gone.
    #[serde(with = "duration")]
    #[schemars(with = "text::DurationText")]
    pub ttl: Duration,
    /// Servers that questions outside the domain are forwarded to, in order: `address:port`, or an address
    /// for port 53. Without any, such questions are refused.
    #[serde(deserialize_with = "text::upstreams")]
    #[schemars(with = "Vec<text::SocketText>")]
    pub upstreams: Vec<SocketAddr>,
    /// The largest answer sent over UDP, in octets, 512 to 4096: larger ones are cut and asked for again
    /// over TCP. Above 1232, answers may be fragmented on the way and lost.
    #[schemars(range(min = 512, max = 4096))]
    pub udp_payload: u16,
    /// Threads that answer, each with its own sockets, 1 to 64. When absent: one per processor.
    #[schemars(range(min = 1, max = 64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<u16>,
    /// Replies per second over UDP to one network (IPv4 /24, IPv6 /56), so that questions with a forged
    /// sender cannot turn the agent against others; 0 for no limit. Each worker counts by itself.
    pub rate_limit: u32,
    /// Beyond `dns.rate_limit`, one question in this many gets an empty reply that sends its client to TCP,
    /// where a sender cannot be forged; the others get no reply. With 1 all get one, with 0 none.
    pub rate_limit_slip: u32,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: (Ipv4Addr::LOCALHOST, 5300).into(),
            domain: DomainName::parse("dunlin.internal").expect("a valid name"),
            ttl: Duration::from_secs(1),
            upstreams: Vec::new(),
            udp_payload: 1232,
            workers: None,
            rate_limit: 0,
            rate_limit_slip: 2,
        }
    }
}

impl DnsConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        require(self.ttl <= MAX_TTL && self.ttl.subsec_nanos() == 0, "dns.ttl", || {
            let found = humantime::format_duration(self.ttl);
            format!("is {found}; whole seconds up to 1day are allowed")
        })?;
        require_within("dns.udp_payload", self.udp_payload, 512, 4096)?;
        if let Some(workers) = self.workers {
            require_within("dns.workers", workers, 1, 64)?;
        }
        require_within("dns.rate_limit", self.rate_limit, 0, 1_000_000)?;
        require_within("dns.rate_limit_slip", self.rate_limit_slip, 0, 100)?;
        let itself = self.upstreams.iter().find(|u| **u == self.listen);
        require(itself.is_none(), "dns.upstreams", || {
            format!("holds {}, where this server itself listens", self.listen)
        })?;
        let upstreams = self.upstreams.len();
        require(upstreams <= MAX_UPSTREAMS, "dns.upstreams", || {
            format!("has {upstreams} servers; at most {MAX_UPSTREAMS} are allowed")
        })
    }
}
