//! The frames that two agents send each other on a link.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Hello, Peer};
use crate::fields::{FieldReader, FieldWriter};
use crate::model::NodeId;
use crate::replica::{BUCKETS, Delta, DeltaRequest, Extent};

/// One message on a link. Frames of unknown kinds are ignored, and so are octets behind the known fields of a frame, so
/// that newer versions may add both. A new field has to be read by the rules of [`crate::fields`], as those of a hello
/// are, since older agents send frames without it; elements of a list within a frame cannot grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The first frame on every link, in both directions.
    Hello(Hello),
    /// New commits, as they happen.
    Push(Vec<Delta>),
    /// The answer to a [`Frame::Want`].
    Rows(Vec<Delta>),
    /// The digest of all rows that the sender has. A receiver with another digest answers with [`Frame::Buckets`].
    Summary(u64),
    /// The sender's digest of each group of nodes. A receiver with other digests answers with [`Frame::Heads`].
    Buckets(Vec<u64>),
    /// All heads that the sender has in some groups of nodes.
    Heads {
        /// The groups, one bit for each.
        buckets: u64,
        /// Whether the sender wants the receiver's heads of the same groups.
        wants_reply: bool,
        /// The heads, in the order of the nodes' ids.
        heads: Vec<HeadEntry>,
    },
    /// Asks for rows that the sender lacks and the receiver has.
    Want(Vec<Want>),
    /// The sender already had a pushed commit and asks for no further pushes on this link.
    Prune,
    /// The sender has found that it lacked commits and asks for pushes on this link again.
    Graft,
    /// Members that the sender knows, and whether it considers them alive; for
    /// [`Membership::introduce`](super::Membership::introduce).
    Members(Vec<(Peer, bool)>),
    /// Keys that seal packets, as the agent's network encodes them.
    Keys(Vec<u8>),
    /// A packet that does not arrive as a datagram, perhaps because of a firewall.
    Packet(Vec<u8>),
}

/// How far one node's history is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadEntry {
    /// The node whose history it is.
    pub origin: NodeId,
    /// The commits of the history that are known.
    pub extent: Extent,
    /// The digest of the node's rows; see [`Replica::told`](crate::replica::Replica::told).
    pub digest: u64,
}

/// Asks for the missing part of one node's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// The node whose history it is.
    pub origin: NodeId,
    /// The version from which the history is missing.
    pub request: DeltaRequest,
}

/// Why octets cannot be decoded as a frame. The sender is faulty or runs a newer version.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The kind is one that only newer versions know. The frame is to be ignored.
    #[error("frame of unknown kind {0}")]
    UnknownKind(u8),
    /// The fields of the frame are missing or cannot be valid.
    #[error("malformed frame of kind {kind}: {problem}")]
    Malformed {
        /// The kind of the frame.
        kind: u8,
        /// A description of the fault, for the log.
        problem: String,
    },
    /// The frame has no octets.
    #[error("empty frame")]
    Empty,
}

const HELLO: u8 = 1;
const PUSH: u8 = 2;
const ROWS: u8 = 3;
const SUMMARY: u8 = 4;
const BUCKETS_KIND: u8 = 5;
const HEADS: u8 = 6;
const WANT: u8 = 7;
const PRUNE: u8 = 8;
const GRAFT: u8 = 9;
const MEMBERS: u8 = 10;
const KEYS: u8 = 11;
const PACKET: u8 = 12;

impl Frame {
    /// The frame's octets.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Hello(hello) => put_hello(hello),
            Self::Push(deltas) => with_deltas(PUSH, deltas.iter()),
            Self::Rows(deltas) => with_deltas(ROWS, deltas.iter()),
            Self::Summary(summary) => plain(SUMMARY, summary),
            Self::Buckets(buckets) => plain(BUCKETS_KIND, buckets),
            Self::Heads { buckets, wants_reply, heads } => {
                plain(HEADS, &(buckets, wants_reply, heads))
            }
            Self::Want(wants) => plain(WANT, wants),
            Self::Prune => vec![PRUNE],
            Self::Graft => vec![GRAFT],
            Self::Members(members) => plain(MEMBERS, members),
            Self::Keys(keys) => raw(KEYS, keys),
            Self::Packet(packet) => raw(PACKET, packet),
        }
    }

    /// The octets of a [`Frame::Push`] with commits that are shared with other links.
    pub(super) fn encode_push<'a>(deltas: impl Iterator<Item = &'a Delta>) -> Vec<u8> {
        with_deltas(PUSH, deltas)
    }

    /// Decodes a frame.
    ///
    /// # Errors
    /// When the octets are malformed, or of a kind that this version does not know.
    pub fn decode(octets: &[u8]) -> Result<Self, FrameError> {
        let (&kind, body) = octets.split_first().ok_or(FrameError::Empty)?;
        let malformed = |problem: String| FrameError::Malformed { kind, problem };
        match kind {
            HELLO => Ok(Self::Hello(read_hello(body).map_err(|e| malformed(e.to_string()))?)),
            PUSH => Ok(Self::Push(deltas(body).map_err(malformed)?)),
            ROWS => Ok(Self::Rows(deltas(body).map_err(malformed)?)),
            SUMMARY => Ok(Self::Summary(read(kind, body)?)),
            BUCKETS_KIND => {
                let buckets: Vec<u64> = read(kind, body)?;
                if buckets.len() != BUCKETS {
                    return Err(malformed(format!("{} groups", buckets.len())));
                }
                Ok(Self::Buckets(buckets))
            }
            HEADS => {
                let (buckets, wants_reply, heads) = read(kind, body)?;
                Ok(Self::Heads { buckets, wants_reply, heads })
            }
            WANT => Ok(Self::Want(read(kind, body)?)),
            PRUNE => Ok(Self::Prune),
            GRAFT => Ok(Self::Graft),
            MEMBERS => Ok(Self::Members(read(kind, body)?)),
            KEYS => Ok(Self::Keys(body.to_vec())),
            PACKET => Ok(Self::Packet(body.to_vec())),
            other => Err(FrameError::UnknownKind(other)),
        }
    }
}

/// A hello grows by the rules of [`crate::fields`]: agents of different versions link to each other.
fn put_hello(hello: &Hello) -> Vec<u8> {
    let Hello { minor, peer, name, zone, summary, to, .. } = hello;
    let Hello { your_generation, your_head, your_digest, has_forgotten_you, .. } = hello;
    let receiver = (your_generation, your_head, your_digest, has_forgotten_you);
    let mut out = vec![HELLO];
    FieldWriter::new(&mut out, &((minor, peer, name, zone), receiver, summary, to)).finish();
    out
}

fn read_hello(octets: &[u8]) -> Result<Hello, postcard::Error> {
    let ((sender, receiver, summary, to), _appended) = FieldReader::new(octets)?;
    let (minor, peer, name, zone) = sender;
    let (your_generation, your_head, your_digest, has_forgotten_you) = receiver;
    Ok(Hello {
        minor,
        peer,
        name,
        zone,
        your_generation,
        your_head,
        your_digest,
        has_forgotten_you,
        summary,
        to,
    })
}

fn raw(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 1);
    out.push(kind);
    out.extend(body);
    out
}

fn plain(kind: u8, body: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(body, vec![kind]).expect("plain data always encodes")
}

fn read<'a, T: Deserialize<'a>>(kind: u8, body: &'a [u8]) -> Result<T, FrameError> {
    let read = postcard::take_from_bytes(body).map(|(value, _newer)| value);
    read.map_err(|error| FrameError::Malformed { kind, problem: error.to_string() })
}

/// Each delta with its length in front.
fn with_deltas<'a>(kind: u8, deltas: impl Iterator<Item = &'a Delta>) -> Vec<u8> {
    let mut out = vec![kind];
    for delta in deltas {
        let start = out.len();
        out.extend([0; 4]);
        delta.encode(&mut out);
        let octets = u32::try_from(out.len() - start - 4).expect("a commit is far below 4 GiB");
        out[start..start + 4].copy_from_slice(&octets.to_le_bytes());
    }
    out
}

fn deltas(mut body: &[u8]) -> Result<Vec<Delta>, String> {
    let mut deltas = Vec::new();
    while !body.is_empty() {
        let (octets, rest) = body.split_first_chunk::<4>().ok_or("cut short in a length")?;
        let octets = usize::try_from(u32::from_le_bytes(*octets)).map_err(|e| e.to_string())?;
        let (delta, rest) = rest.split_at_checked(octets).ok_or("cut short in a commit")?;
        deltas.push(Delta::decode(delta).map_err(|error| error.to_string())?);
        body = rest;
    }
    Ok(deltas)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{NodeName, ZoneName};
    use crate::replica::Version;

    #[test]
    fn a_kind_of_a_newer_version_is_told_apart_from_nonsense() {
        assert_eq!(Frame::decode(&[200, 1, 2]), Err(FrameError::UnknownKind(200)));
        assert!(matches!(Frame::decode(&[SUMMARY]), Err(FrameError::Malformed { .. })));
        assert_eq!(Frame::decode(&[]), Err(FrameError::Empty));
    }

    #[test]
    fn octets_behind_what_is_known_are_passed_over() {
        let mut octets = Frame::Summary(77).encode();
        octets.extend([1, 2, 3]);
        assert_eq!(Frame::decode(&octets), Ok(Frame::Summary(77)));
    }

    #[test]
    fn a_hello_of_the_first_version_is_read_and_written_with_the_same_octets() {
        let id = NodeId::from_bytes([7; 16]);
        let hello = Hello {
            minor: 1,
            peer: Peer { id, generation: 300, address: ([10, 0, 0, 1], 5370).into() },
            name: NodeName::parse("n1").unwrap(),
            zone: ZoneName::parse("eu").unwrap(),
            your_generation: 2,
            your_head: Version::new(3),
            your_digest: 4,
            has_forgotten_you: true,
            summary: 5,
            to: Some(id),
        };
        let golden = [
            &[HELLO, 1][..],
            &[7; 16],
            &[0xac, 2, 0, 10, 0, 0, 1, 0xfa, 0x29, 2, b'n', b'1', 2, b'e', b'u', 2, 3, 4, 1, 5, 1],
            &[7; 16],
        ];
        let golden = golden.concat();
        assert_eq!(Frame::Hello(hello.clone()).encode(), golden);
        assert_eq!(postcard::to_allocvec(&hello).unwrap(), golden[1..]);
        assert_eq!(Frame::decode(&golden), Ok(Frame::Hello(hello.clone())));
        let newer = [&golden[..], b"appended"].concat();
        assert_eq!(Frame::decode(&newer), Ok(Frame::Hello(hello)));
    }

    proptest! {
        #[test]
        fn random_octets_never_panic(kind in 0_u8..14, body: Vec<u8>) {
            let octets: Vec<u8> = std::iter::once(kind).chain(body).collect();
            let _ = Frame::decode(&octets);
            let _ = super::super::Packet::decode(&octets);
        }
    }
}
