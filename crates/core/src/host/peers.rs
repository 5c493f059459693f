//! What this host has to do with others: the exchange of rows, the links it goes by, and the members it knows of.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::output::LinkId;
use crate::catalog::NodeStatus;
use crate::gossip::{Exchange, Hello, Liveness, Peer, ZoneOrder};
use crate::model::NodeId;
use crate::replica::{Delta, Replica, RowChange};

/// Once frames made this many rows visible, they are shown. That takes some milliseconds, for which urgent news waits.
const MAX_UNSHOWN_ROWS: usize = 1_000;

/// What the members' machine and the transport tell a host.
#[derive(Debug)]
pub enum PeerEvent {
    /// A link is open: both sides have said hello, and this one's hello was judged.
    Linked {
        /// What the peer said.
        hello: Box<Hello>,
        /// Whether this host opened it.
        is_dialed: bool,
        /// The link.
        link: LinkId,
    },
    /// A link has ended.
    LinkClosed {
        /// The node at its other end.
        node: NodeId,
        /// The link.
        link: LinkId,
    },
    /// A member could not be dialled.
    DialFailed(NodeId),
    /// A member is there, or is gone.
    Member {
        /// The member.
        peer: Peer,
        /// Whether it is there.
        is_live: bool,
    },
    /// All members as they are now, from time to time: it also tells what an event was lost of.
    Members(Vec<Measured>),
    /// A commit came in an urgent packet.
    Urgent {
        /// The member that sent it.
        from: NodeId,
        /// The commit.
        delta: Delta,
    },
    /// A member's rows have another summary than this host's.
    Summary {
        /// The member.
        from: NodeId,
        /// Its summary.
        summary: u64,
    },
    /// The members as they are to be stored for the next start, one encoded entry for each.
    KnownMembers(Vec<(NodeId, Vec<u8>)>),
}

/// One member at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// The member.
    pub peer: Peer,
    /// What membership says of it.
    pub liveness: Liveness,
    /// The smoothed round-trip time, once there is one.
    pub rtt: Option<Duration>,
}

/// The exchange of rows with other hosts, and the links it goes by.
#[derive(Debug)]
pub(super) struct Peers {
    pub(super) exchange: Exchange,
    links: BTreeMap<NodeId, LinkId>,
    generations: BTreeMap<NodeId, u64>,
    pub(super) live: BTreeSet<NodeId>,
    pub(super) zones: ZoneOrder,
    pub(super) news: News,
}

/// What came of frames and events, and waits to be shown together.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) visible: Vec<(NodeId, Vec<RowChange>)>,
    rows: usize,
    /// The links for which there is more to send.
    pub(super) ready: BTreeSet<NodeId>,
    pub(super) statuses: Vec<(NodeId, NodeStatus)>,
}

impl News {
    /// Takes rows that became visible together.
    pub(super) fn push(&mut self, origin: NodeId, rows: Vec<RowChange>) {
        if !rows.is_empty() {
            self.rows += rows.len();
            self.visible.push((origin, rows));
        }
    }

    /// Whether what waits should be shown before more is taken in.
    pub(super) fn is_full(&self) -> bool {
        self.rows >= MAX_UNSHOWN_ROWS
    }
}

/// What a host decides on a link that is open.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is kept, in place of another link if there was one.
    Kept {
        /// The link that it replaces.
        replaced: Option<LinkId>,
    },
    /// The link that there is already stays.
    Refused,
}

impl Peers {
    pub(super) fn new(exchange: Exchange) -> Self {
        Self {
            exchange,
            links: BTreeMap::new(),
            generations: BTreeMap::new(),
            live: BTreeSet::new(),
            zones: ZoneOrder::default(),
            news: News::default(),
        }
    }

    /// The link to a node, if there is one.
    pub(super) fn link(&self, node: NodeId) -> Option<LinkId> {
        self.links.get(&node).copied()
    }

    /// The nodes to which there are links.
    pub(super) fn links(&self) -> impl Iterator<Item = (NodeId, LinkId)> {
        self.links.iter().map(|(node, link)| (*node, *link))
    }

    /// The last known generation of a node; zero if none is known.
    pub(super) fn generation(&self, node: NodeId) -> u64 {
        self.generations.get(&node).copied().unwrap_or_default()
    }

    /// Whether a link that is open is kept. Both sides decide alike: of two links that the two sides opened, the one
    /// that the smaller id opened stays; of two that one side opened, the newer. A link of a former life of the peer
    /// is dead, whether or not that has been noticed.
    pub(super) fn judge(
        &mut self,
        own: NodeId,
        hello: &Hello,
        is_dialed: bool,
        link: LinkId,
    ) -> Verdict {
        let node = hello.peer.id;
        let was_dialed = self.exchange.links().find(|(linked, _)| *linked == node);
        let is_same_life = self.generations.get(&node) == Some(&hello.peer.generation);
        if let Some((_, was_dialed)) = was_dialed
            && is_same_life
            && was_dialed != is_dialed
            && (own < node) != is_dialed
        {
            return Verdict::Refused;
        }
        self.generations.insert(node, hello.peer.generation);
        Verdict::Kept { replaced: self.links.insert(node, link) }
    }

    /// Takes a link out. Returns it if there was one.
    pub(super) fn drop_link(&mut self, node: NodeId) -> Option<LinkId> {
        self.links.remove(&node)
    }

    /// A link has ended. What is told of a link that was replaced says nothing of the one in its place.
    pub(super) fn handle_link_closed(&mut self, now: Instant, node: NodeId, link: LinkId) {
        if self.link(node) == Some(link) {
            self.links.remove(&node);
            self.exchange.handle_link_closed(now, node);
        }
    }

    pub(super) fn note_member(
        &mut self,
        now: Instant,
        peer: Peer,
        is_live: bool,
        replica: &Replica,
    ) {
        self.generations.insert(peer.id, peer.generation);
        self.exchange.handle_member(now, peer, is_live, replica);
        if is_live {
            self.live.insert(peer.id);
        } else {
            self.live.remove(&peer.id);
        }
    }

    pub(super) fn forget(&mut self, node: NodeId) {
        self.generations.remove(&node);
    }
}
