//! How agents find each other and send each other their rows.
//!
//! Two state machines without input and output, which the agent and the simulator drive alike:
//! - [`Membership`] determines by packets which members are alive.
//! - [`Exchange`] spreads rows: new commits are pushed along links, bad news overtakes everything in packets of its
//!   own, and digests find rows that were lost on the way.

mod distance;
mod exchange;
mod frame;
mod hello;
mod membership;
mod packet;
mod peer;

pub use distance::{Distances, ZoneOrder};
pub use exchange::{Exchange, ExchangeOutput, ExchangeSettings, ExchangeStats, Lane, Outgoing};
pub use frame::{Frame, FrameError, HeadEntry, Want};
pub use hello::{Evidence, Hello, HelloError};
pub use membership::{Liveness, Membership, MembershipOutput, MembershipSettings, PacketError};
pub use packet::{Packet, PacketDecodeError};
pub use peer::Peer;
