//! DNS: from a question and a [`CatalogView`](crate::catalog::CatalogView) to an answer.
//!
//! This module is the server side of RFC 1034 and RFC 1035 for one domain, whose names are computed from the catalog,
//! with EDNS0 (RFC 6891), negative answers (RFC 2308), SRV (RFC 2782) and minimal answers to ANY (RFC 8482). It has no
//! sockets, caches and resolvers, which are in the agent, and neither zone transfers, updates nor DNSSEC.
//!
//! What always holds:
//! - No octets make it panic, loop, or allocate more than one answer.
//! - An answer is never longer than its client accepts; records that do not fit are left out whole.
//! - An [`Answer`] is a template: it serves any client that asks the same question, in any case, over any transport,
//!   until [`Answer::is_current`] says that the data behind it has changed.
//!
//! A packet is answered by [`Query::parse`], [`resolve`] and [`Answer::write`]; [`respond`] does all three.

mod absent;
mod alike;
mod answer;
mod domain;
mod query;
mod rate_limit;
mod reading;
mod record;
mod resolve;
mod settings;
mod shuffle;
#[cfg(test)]
mod tests;

pub use absent::{AbsentNames, no_such_name};
pub use answer::{Answer, Written};
pub use domain::{Domain, DomainError};
pub use query::{Edns, Query, QuestionKey, Rcode, Reject};
pub use rate_limit::{RateLimiter, ReplyPermit, write_slip};
pub use resolve::{DnsOutcome, Resolution, resolve, respond};
pub use settings::DnsSettings;
pub use shuffle::Shuffler;

/// The length of a message's header in octets (RFC 1035 §4.1.1).
pub const HEADER_OCTETS: usize = 12;
/// The limit of a message over TCP in octets (RFC 1035 §4.2.2).
pub const TCP_MESSAGE_OCTETS: usize = 65_535;
/// The length in octets that every client accepts over UDP (RFC 1035 §2.3.4).
pub const MIN_UDP_OCTETS: u16 = 512;

/// The transport by which a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// The question came in a datagram: the answer is limited by the client's announcement, or to 512 octets.
    Udp,
    /// The question came on a stream: the answer may have 65,535 octets.
    Tcp,
}

/// Record types (RFC 1035 §3.2.2, RFC 2782, RFC 3596, RFC 6891).
pub mod rtype {
    /// An IPv4 address.
    pub const A: u16 = 1;
    /// A name server.
    pub const NS: u16 = 2;
    /// The start of authority.
    pub const SOA: u16 = 6;
    /// A name for an address.
    pub const PTR: u16 = 12;
    /// Host information, of which minimal answers to ANY consist (RFC 8482 §4.2).
    pub const HINFO: u16 = 13;
    /// Text strings.
    pub const TXT: u16 = 16;
    /// An IPv6 address.
    pub const AAAA: u16 = 28;
    /// A service's target and port.
    pub const SRV: u16 = 33;
    /// EDNS options; it cannot be asked for.
    pub const OPT: u16 = 41;
    /// An incremental zone transfer, which is refused.
    pub const IXFR: u16 = 251;
    /// A whole zone transfer, which is refused.
    pub const AXFR: u16 = 252;
    /// All types of records.
    pub const ANY: u16 = 255;
}

/// The Internet class, the only one answered.
pub const CLASS_IN: u16 = 1;
