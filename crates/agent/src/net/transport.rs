//! Streams between agents: TLS, certificates, and what stands between two addresses.

pub mod fence;
pub mod tls;
