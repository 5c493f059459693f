//! Gossip on streams: how links come about and what runs on them.

mod allowance;
pub(super) mod connect;
mod framing;
pub(crate) mod link;
