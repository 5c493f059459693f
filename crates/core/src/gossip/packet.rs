//! The content of one datagram, inside its seal. The sender is known from the seal.

use thiserror::Error;

use crate::model::Timestamp;
use crate::replica::Delta;

/// The content of one datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// A packet of [`Membership`](super::Membership).
    Membership {
        /// The digest of all rows that the sender has; see [`Replica::summary`](crate::replica::Replica::summary).
        summary: u64,
        /// The octets of a [`MembershipOutput::Send`](super::MembershipOutput::Send).
        packet: Vec<u8>,
    },
    /// One whole commit that must not wait.
    Urgent(Delta),
    /// Asks the receiver to answer at once with a [`Packet::Pong`], which measures the round-trip time and shows that
    /// the receiver is alive.
    Ping {
        /// A reading of the sender's own clock, which the answer repeats.
        stamp: u64,
    },
    /// The answer to a [`Packet::Ping`].
    Pong {
        /// The stamp of the ping.
        stamp: u64,
        /// The wall clock of the agent that answers, so that a wrong clock is noticed.
        wall: Timestamp,
    },
}

/// Why octets cannot be decoded as a packet. The sender is faulty or runs a newer version.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PacketDecodeError {
    /// The octets end before the fields of the packet do.
    #[error("the packet is cut short")]
    Short,
    /// The kind is one that only newer versions know.
    #[error("packet of unknown kind {0}")]
    UnknownKind(u8),
    /// The commit in an urgent packet is malformed.
    #[error("malformed commit: {0}")]
    Delta(String),
}

const MEMBERSHIP: u8 = 1;
const URGENT: u8 = 2;
const PING: u8 = 3;
const PONG: u8 = 4;

impl Packet {
    /// Appends the packet's octets.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Membership { summary, packet } => {
                out.push(MEMBERSHIP);
                out.extend(summary.to_le_bytes());
                out.extend(packet);
            }
            Self::Urgent(delta) => Self::encode_urgent(delta, out),
            Self::Ping { stamp } => {
                out.push(PING);
                out.extend(stamp.to_le_bytes());
            }
            Self::Pong { stamp, wall } => {
                out.push(PONG);
                out.extend(stamp.to_le_bytes());
                out.extend(wall.as_millis().to_le_bytes());
            }
        }
    }

    /// Appends the octets of a [`Packet::Urgent`] with this delta.
    pub fn encode_urgent(delta: &Delta, out: &mut Vec<u8>) {
        out.push(URGENT);
        delta.encode(out);
    }

    /// Decodes a packet. Octets that a newer version has appended are ignored.
    ///
    /// # Errors
    /// When the octets are cut short, malformed, or of a kind that this version does not know.
    pub fn decode(octets: &[u8]) -> Result<Self, PacketDecodeError> {
        let (&kind, body) = octets.split_first().ok_or(PacketDecodeError::Short)?;
        let number = |body: &[u8]| {
            let first = body.first_chunk::<8>().ok_or(PacketDecodeError::Short)?;
            Ok(u64::from_le_bytes(*first))
        };
        match kind {
            MEMBERSHIP => {
                let summary = number(body)?;
                Ok(Self::Membership { summary, packet: body[8..].to_vec() })
            }
            URGENT => Delta::decode(body)
                .map(Self::Urgent)
                .map_err(|error| PacketDecodeError::Delta(error.to_string())),
            PING => Ok(Self::Ping { stamp: number(body)? }),
            PONG => {
                let stamp = number(body)?;
                let wall = Timestamp::from_millis(number(&body[8..])?);
                Ok(Self::Pong { stamp, wall })
            }
            other => Err(PacketDecodeError::UnknownKind(other)),
        }
    }
}
