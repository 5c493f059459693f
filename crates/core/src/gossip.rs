//! How agents find each other and tell each other their rows.
//!
//! Two state machines without input and output, driven by the agent and by the simulator alike:
//! - [`Membership`] knows who is alive, by packets.
//! - [`Exchange`] spreads rows: what was just committed is pushed along links, bad news overtakes everything in
//!   packets of its own, and digests find what is missing all the same.

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
