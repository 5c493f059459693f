//! What travels in one datagram, inside its seal. The sender is known from the seal.

use thiserror::Error;

use crate::model::Timestamp;
use crate::replica::Delta;

/// One datagram's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// A packet of [`Membership`](super::Membership).
    Membership {
        /// What the sender's catalog comes to; see [`Replica::summary`](crate::replica::Replica::summary).
        summary: u64,
        /// As membership made it.
        packet: Vec<u8>,
    },
    /// One whole commit that must not wait.
    Urgent(Delta),
    /// To be sent back at once, for the time it takes and as a sign of life.
    Echo {
        /// The sender's own clock.
        stamp: u64,
    },
    /// The answer to an echo.
    EchoReply {
        /// As it came.
        stamp: u64,
        /// What the answerer's wall clock says, so that a wrong one is noticed.
        wall: Timestamp,
    },
}

/// Why octets are no packet. The sender is at fault, or newer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PacketDecodeError {
    /// Nothing of what it announces is there.
    #[error("the packet is cut short")]
    Short,
    /// A kind that only newer versions know.
    #[error("packet of unknown kind {0}")]
    UnknownKind(u8),
    /// The commit in it cannot be one.
    #[error("malformed commit: {0}")]
    Delta(String),
}

const MEMBERSHIP: u8 = 1;
const URGENT: u8 = 2;
const ECHO: u8 = 3;
const ECHO_REPLY: u8 = 4;

impl Packet {
    /// Appends the packet.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Membership { summary, packet } => {
                out.push(MEMBERSHIP);
                out.extend(summary.to_le_bytes());
                out.extend(packet);
            }
            Self::Urgent(delta) => Self::encode_urgent(delta, out),
            Self::Echo { stamp } => {
                out.push(ECHO);
                out.extend(stamp.to_le_bytes());
            }
            Self::EchoReply { stamp, wall } => {
                out.push(ECHO_REPLY);
                out.extend(stamp.to_le_bytes());
                out.extend(wall.as_millis().to_le_bytes());
            }
        }
    }

    /// Appends [`Packet::Urgent`] of this delta.
    pub fn encode_urgent(delta: &Delta, out: &mut Vec<u8>) {
        out.push(URGENT);
        delta.encode(out);
    }

    /// Reads a packet. Octets that a newer version put behind a number are passed over.
    ///
    /// # Errors
    /// When the octets are cut short, malformed, or of a kind that is not known here.
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
            ECHO => Ok(Self::Echo { stamp: number(body)? }),
            ECHO_REPLY => {
                let stamp = number(body)?;
                let wall = Timestamp::from_millis(number(&body[8..])?);
                Ok(Self::EchoReply { stamp, wall })
            }
            other => Err(PacketDecodeError::UnknownKind(other)),
        }
    }
}
