//! The first frame on each link, and which of its claims the receiver accepts.
//!
//! A certificate vouches for a node's name and zone, and for nothing else. All other claims of a [`Hello`] are checked
//! here against the receiver's own knowledge: the identity in the certificate, the name under which it knows the
//! sender's id, its own id, and its wall clock. This module knows neither the transport nor how the certificate was
//! verified.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Peer;
use crate::model::{NodeId, NodeName, Timestamp, ZoneName};
use crate::replica::Version;

/// How many years the wall clocks of two agents may be apart for a generation to be believed.
const MAX_YEARS_AHEAD: u64 = 10;
/// The same in milliseconds.
const MAX_MILLIS_AHEAD: u64 = MAX_YEARS_AHEAD * 365 * 24 * 60 * 60 * 1000;

/// The first frame on every link, in both directions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The minor version of the protocol that the sender speaks. Both sides have agreed on the major one before.
    pub minor: u16,
    /// The sender: its id, its generation and the address at which it is reached.
    pub peer: Peer,
    /// The name of the sender's node, as in its certificate.
    pub name: NodeName,
    /// The zone of the sender's node, as in its certificate.
    pub zone: ZoneName,
    /// The receiver's generation, as the sender knows it; 0 if the sender does not know it.
    pub your_generation: u64,
    /// The newest of the receiver's versions that the sender has seen.
    pub your_head: Version,
    /// The digest of the receiver's rows at that version, as the sender has them; 0 if the sender does not know it.
    pub your_digest: u64,
    /// Whether the sender has forgotten the receiver, so that it ignores whatever the receiver said before.
    pub has_forgotten_you: bool,
    /// The digest of all rows that the sender has.
    pub summary: u64,
    /// The node for which the fields about the receiver are meant; none when the sender does not know which node it
    /// has reached.
    pub to: Option<NodeId>,
}

/// The receiver's own knowledge about the sender of a [`Hello`].
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The node that the sender's certificate names.
    pub node: &'a NodeName,
    /// The zone that the sender's certificate names.
    pub zone: &'a ZoneName,
    /// The name of the live node that bears the id in the hello, if the receiver knows one. Once the former life of a
    /// node has ended it may come back under another name, so nodes that are down do not count.
    pub known_as: Option<&'a NodeName>,
    /// The member that the receiver dialled; none when it was dialled itself, or dialled an address of which it did
    /// not know the node.
    pub dialed: Option<Peer>,
}

/// Why a [`Hello`] is refused. The sender is at fault, or one of both sides is configured wrongly; no link is opened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HelloError {
    /// The hello names another node than the certificate does.
    #[error(
        "the peer says that it is node {name} of zone {zone}; its certificate is for node {certified_name} of zone \
         {certified_zone}"
    )]
    OtherIdentity {
        /// The node that the hello names.
        name: NodeName,
        /// The zone that the hello names.
        zone: ZoneName,
        /// The node that the certificate names.
        certified_name: NodeName,
        /// The zone that the certificate names.
        certified_zone: ZoneName,
    },
    /// The id in the hello is that of another node.
    #[error("node {name} says that its id is {id}, which is node {known_as}'s")]
    TakenId {
        /// The node that sent the hello.
        name: NodeName,
        /// The id that it claims.
        id: NodeId,
        /// The node that has this id.
        known_as: NodeName,
    },
    /// The generation lies so far ahead of the receiver's clock that no later life could surpass it.
    #[error(
        "node {name} says that its generation is {generation}, more than {MAX_YEARS_AHEAD} years ahead of this clock"
    )]
    FarAhead {
        /// The node that sent the hello.
        name: NodeName,
        /// The generation that it claims.
        generation: u64,
    },
    /// The receiver is at both ends of the link.
    #[error("the agent has dialled itself")]
    Itself,
    /// The receiver dialled one node and reached another.
    #[error(
        "{} is no longer the address of node {}: node {found} ({name}) answers there",
        dialed.address, dialed.id
    )]
    OtherNode {
        /// The member that was dialled.
        dialed: Peer,
        /// The id of the node that answered.
        found: NodeId,
        /// The name of the node that answered.
        name: NodeName,
    },
}

impl Hello {
    /// Refuses a hello that cannot be true, and clears a claim that is not to be believed: a generation of the receiver
    /// that is meant for another node or lies far ahead of the clock becomes 0, which means unknown. `own` is the
    /// receiver's id, `now` its wall clock.
    ///
    /// # Errors
    /// The first claim that cannot be true, in the order of the variants of [`HelloError`].
    pub fn judge(
        mut self,
        evidence: &Evidence<'_>,
        own: NodeId,
        now: Timestamp,
    ) -> Result<Self, HelloError> {
        self.check_name(evidence)?;
        // Generations begin at the wall clock; one far beyond it could never be surpassed.
        let latest = now.as_millis().saturating_add(MAX_MILLIS_AHEAD);
        let generation = self.peer.generation;
        if generation > latest {
            return Err(HelloError::FarAhead { name: self.name, generation });
        }
        let found = self.peer.id;
        if found == own {
            return Err(HelloError::Itself);
        }
        if let Some(dialed) = evidence.dialed.filter(|dialed| dialed.id != found) {
            return Err(HelloError::OtherNode { dialed, found, name: self.name });
        }
        if self.to != Some(own) || self.your_generation > latest {
            self.your_generation = 0;
        }
        Ok(self)
    }

    /// Checks the name and the zone against the certificate, and the id against the node that is known to have it.
    fn check_name(&self, evidence: &Evidence<'_>) -> Result<(), HelloError> {
        if self.name != *evidence.node || self.zone != *evidence.zone {
            return Err(HelloError::OtherIdentity {
                name: self.name.clone(),
                zone: self.zone.clone(),
                certified_name: evidence.node.clone(),
                certified_zone: evidence.zone.clone(),
            });
        }
        match evidence.known_as {
            Some(known_as) if *known_as != self.name => Err(HelloError::TakenId {
                name: self.name.clone(),
                id: self.peer.id,
                known_as: known_as.clone(),
            }),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::gossip::Frame;

    const OWN: NodeId = NodeId::from_bytes([9; 16]);
    const NOW: u64 = 1_800_000_000_000;

    fn node(name: &str) -> NodeName {
        NodeName::parse(name).unwrap()
    }

    fn zone(name: &str) -> ZoneName {
        ZoneName::parse(name).unwrap()
    }

    fn hello(generation: u64, your_generation: u64, to: Option<NodeId>) -> Hello {
        let address = SocketAddr::from(([127, 0, 0, 2], 7000));
        Hello {
            minor: 0,
            peer: Peer { id: NodeId::from_bytes([1; 16]), generation, address },
            name: node("b"),
            zone: zone("z"),
            your_generation,
            your_head: Version::ZERO,
            your_digest: 0,
            has_forgotten_you: false,
            summary: 0,
            to,
        }
    }

    /// Judges it with a certificate that names the node and zone of the hello.
    fn judge(hello: Hello, known_as: Option<&NodeName>) -> Result<Hello, HelloError> {
        let (name, zone) = (hello.name.clone(), hello.zone.clone());
        let evidence = Evidence { node: &name, zone: &zone, known_as, dialed: None };
        hello.judge(&evidence, OWN, Timestamp::from_millis(NOW))
    }

    #[test]
    fn a_hello_names_the_node_and_the_zone_of_its_certificate() {
        let now = Timestamp::from_millis(NOW);
        let (b, z) = (node("b"), zone("z"));
        for (name, zone) in [(node("c"), z.clone()), (b.clone(), zone("y"))] {
            let evidence = Evidence { node: &name, zone: &zone, known_as: None, dialed: None };
            let error = hello(NOW, 0, None).judge(&evidence, OWN, now).unwrap_err();
            assert!(matches!(error, HelloError::OtherIdentity { .. }), "{error}");
            let words = format!(
                "it is node b of zone z; its certificate is for node {name} of zone {zone}"
            );
            assert!(error.to_string().ends_with(&words), "{error}");
        }
        let evidence = Evidence { node: &b, zone: &z, known_as: None, dialed: None };
        assert!(hello(NOW, 0, None).judge(&evidence, OWN, now).is_ok());
    }

    #[test]
    fn an_id_that_is_known_under_another_name_is_refused() {
        let (b, c) = (node("b"), node("c"));
        assert!(judge(hello(NOW, 0, None), None).is_ok());
        assert!(judge(hello(NOW, 0, None), Some(&b)).is_ok());
        let error = judge(hello(NOW, 0, None), Some(&c)).unwrap_err().to_string();
        assert!(error.contains("node b") && error.contains("node c"), "{error}");
    }

    #[test]
    fn an_agent_that_meets_itself_opens_no_link() {
        let mut own = hello(NOW, 0, None);
        own.peer.id = OWN;
        let name = own.name.clone();
        let error = judge(own.clone(), Some(&name)).unwrap_err().to_string();
        assert!(error.contains("dialled itself"), "{error}");
        let error = judge(own, Some(&node("c"))).unwrap_err().to_string();
        assert!(error.contains("which is node c's"), "another node with our id: {error}");
    }

    #[test]
    fn a_generation_far_ahead_of_the_clock_is_not_believed() {
        let latest = NOW + MAX_MILLIS_AHEAD;
        assert!(judge(hello(latest, 0, None), None).is_ok());
        let error = judge(hello(latest + 1, 0, None), None).unwrap_err().to_string();
        assert!(error.contains("more than 10 years ahead"), "{error}");
        let believed = |yours, to| judge(hello(NOW, yours, to), None).unwrap().your_generation;
        assert_eq!(believed(latest, Some(OWN)), latest);
        assert_eq!(believed(u64::MAX, Some(OWN)), 0);
        assert_eq!(believed(7, Some(NodeId::from_bytes([2; 16]))), 0);
    }

    #[test]
    fn another_node_at_the_address_of_the_dialled_one_is_refused() {
        let (b, z) = (node("b"), zone("z"));
        let answered = hello(NOW, 0, None);
        let judge = |dialed| {
            let evidence = Evidence { node: &b, zone: &z, known_as: None, dialed: Some(dialed) };
            answered.clone().judge(&evidence, OWN, Timestamp::from_millis(NOW))
        };
        let former = Peer { generation: 1, ..answered.peer };
        assert!(judge(former).is_ok(), "a later life of the same node");
        let other = Peer { id: NodeId::from_bytes([2; 16]), ..answered.peer };
        let error = judge(other).unwrap_err().to_string();
        let words = format!("127.0.0.2:7000 is no longer the address of node {}: node ", other.id);
        assert!(error.starts_with(&words), "{error}");
        assert!(error.ends_with(&format!("{} (b) answers there", answered.peer.id)), "{error}");
    }

    /// Agents of different versions must understand each other's first frame.
    #[test]
    fn the_octets_of_a_hello_stay_as_they_are() {
        let mut octets = vec![1, 0];
        octets.extend([1; 16]);
        octets.extend([7, 0, 127, 0, 0, 2]);
        octets.extend([0xd8, 0x36]);
        octets.extend([1, b'b', 1, b'z']);
        octets.extend([3, 0, 0, 0, 0, 1]);
        octets.extend([9; 16]);
        let frame = Frame::Hello(hello(7, 3, Some(OWN)));
        assert_eq!(frame.encode(), octets);
        assert_eq!(Frame::decode(&octets), Ok(frame));
    }
}
