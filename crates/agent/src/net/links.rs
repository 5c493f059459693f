//! Gossip on streams: how links come about, and what runs on them.
//!
//! A link is a stream of the protocol [`GOSSIP`] on which both sides have said hello. The transport opens the stream;
//! this part exchanges and judges hellos, cuts frames into pieces, and gives the driver its end of each link.
//!
//! - `accept` and `dial`: the two ways to a link, over `greeting`, which exchanges the hellos.
//! - `link`: the driver's end. `running`: the two tasks of a link, with `framing` and `allowance`.
//! - `join`: dials the configured agents while there is no link. `verify`: asks whether a peer's agent died.

mod accept;
mod allowance;
mod dial;
mod framing;
mod greeting;
mod join;
pub(crate) mod link;
mod running;
mod verify;

pub(super) use self::accept::accept;
pub(super) use self::join::join_all;
use super::transport::Protocol;

/// What agents of a cluster speak on links.
pub const GOSSIP: Protocol = Protocol::new("dunlin/1");
