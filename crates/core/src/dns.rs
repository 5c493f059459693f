//! DNS: from a question and a [`CatalogView`](crate::catalog::CatalogView) to an answer.
//!
//! What it is: the server side of RFC 1034 and RFC 1035 for one domain, whose names are computed from
//! the catalog, with EDNS0 (RFC 6891), negative answers (RFC 2308), SRV (RFC 2782) and minimal answers
//! to ANY (RFC 8482). What it is not: sockets, caches, resolvers (the agent has those), zone transfers,
//! updates, DNSSEC.
//!
//! What always holds:
//! - No bytes make it panic, loop, or allocate more than one answer.
//! - An answer is never longer than what its client takes; what does not fit is dropped as whole records.
//! - An [`Answer`] is a template: it serves any client that asks the same question, in any case, over
//!   any transport, until [`Answer::is_current`] says that what it was made from has changed.
//!
//! The way through: [`Query::parse`] → [`resolve`] → [`Answer::write`]; [`respond`] does all three.

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
pub use rate_limit::{Permit, RateLimiter, write_slip};
pub use resolve::{Outcome, Resolution, resolve, respond};
pub use settings::Settings;
pub use shuffle::Shuffler;

/// Octets of a message's header (RFC 1035 §4.1.1).
pub const HEADER_OCTETS: usize = 12;
/// The longest message over TCP (RFC 1035 §4.2.2).
pub const TCP_MESSAGE_OCTETS: usize = 65_535;
/// What every client takes over UDP (RFC 1035 §2.3.4).
pub const MIN_UDP_OCTETS: u16 = 512;

/// How a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram: the answer is limited by what the client announced, or 512 octets.
    Udp,
    /// On a stream: the answer may have 65,535 octets.
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
    /// Host information; what minimal answers to ANY hold (RFC 8482 §4.2).
    pub const HINFO: u16 = 13;
    /// Text.
    pub const TXT: u16 = 16;
    /// An IPv6 address.
    pub const AAAA: u16 = 28;
    /// A service's target and port.
    pub const SRV: u16 = 33;
    /// EDNS options; never a question.
    pub const OPT: u16 = 41;
    /// Incremental transfer; refused.
    pub const IXFR: u16 = 251;
    /// Whole transfer; refused.
    pub const AXFR: u16 = 252;
    /// Whatever there is.
    pub const ANY: u16 = 255;
}

/// The Internet class, the only one answered.
pub const CLASS_IN: u16 = 1;
