//! One node: the agent's driver in small. It feeds core's state machines with what comes from network, disk and
//! clients, and turns what they want done into [`Action`]s.

mod agent;
mod commits;
mod links;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dunlin_core::gossip::{ExchangeSettings, MembershipSettings, Peer};
use dunlin_core::model::{NodeId, NodeName, ZoneName};
use dunlin_core::replica::{Change, Delta, Replica, RowChange, RowState, Version};

pub(crate) use agent::Agent;

use crate::clock::Clock;
use crate::disk::{Disk, Write};
use crate::stream::StreamId;

/// Numbers a client's request.
pub(crate) type OpId = u64;

/// What a node wants done, or what happened in it.
#[derive(Debug)]
pub(crate) enum Action {
    Datagram {
        to: usize,
        octets: Arc<[u8]>,
    },
    Dial {
        to: usize,
        stream: StreamId,
    },
    /// There may be frames for this stream.
    Ready(StreamId),
    /// A frame of the handshake.
    Hello {
        stream: StreamId,
        octets: Vec<u8>,
    },
    Close(StreamId),
    Write(Vec<Write>),
    /// Rows became visible on this node.
    Visible {
        origin: NodeId,
        rows: Vec<RowChange>,
    },
    /// A commit was numbered; it may be on the disk from now on.
    Prepared(Arc<Delta>),
    Acknowledged(OpId),
    Refused(OpId),
    Misbehaved {
        peer: NodeId,
        problem: String,
    },
    /// For whoever reads a trace.
    Note(String),
}

/// What a client asks of a node: all of it becomes one commit, perhaps with others.
#[derive(Debug, Clone)]
pub(crate) struct Op {
    pub(crate) id: OpId,
    pub(crate) changes: Vec<Change>,
}

/// What stays the same through all lives of a node.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) index: usize,
    pub(crate) id: NodeId,
    pub(crate) name: NodeName,
    pub(crate) zone: ZoneName,
    pub(crate) seeds: Vec<usize>,
    pub(crate) membership: MembershipSettings,
    pub(crate) exchange: ExchangeSettings,
    /// Rows of others go to the disk too; not in runs that only measure.
    pub(crate) stores: bool,
    pub(crate) is_traced: bool,
}

/// Whether a node's process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Running,
    /// Stopped by a signal; the kernel goes on for a while.
    Paused,
    /// No process; the kernel refuses connections.
    Stopped,
    /// No machine.
    Dark,
}

#[derive(Debug)]
pub(crate) struct SimNode {
    pub(crate) identity: Identity,
    pub(crate) clock: Clock,
    pub(crate) disk: Disk,
    pub(crate) condition: Condition,
    pub(crate) agent: Option<Box<Agent>>,
    /// Numbers the processes.
    pub(crate) life: u32,
    /// When the world wakes it next.
    pub(crate) wake: Option<Duration>,
    /// What the catalog that follows [`Action::Visible`] shows.
    pub(crate) shown: BTreeMap<NodeId, BTreeMap<dunlin_core::replica::RowKey, RowState>>,
}

impl SimNode {
    pub(crate) fn new(identity: Identity, clock: Clock) -> Self {
        Self {
            identity,
            clock,
            disk: Disk::default(),
            condition: Condition::Stopped,
            agent: None,
            life: 0,
            wake: None,
            shown: BTreeMap::new(),
        }
    }

    /// The running process, unless it is paused.
    pub(crate) fn running(&mut self) -> Option<&mut Agent> {
        if self.condition == Condition::Running { self.agent.as_deref_mut() } else { None }
    }

    /// Starts a process on what the disk has.
    pub(crate) fn start(&mut self, time: Duration, seed: u64) {
        let replica = self.disk.content.replica(self.identity.id);
        let members = self.disk.content.members.clone();
        self.start_with(time, seed, replica, &members);
    }

    /// Starts a process on rows and members that its disk need not have.
    pub(crate) fn start_with(
        &mut self,
        time: Duration,
        seed: u64,
        replica: Replica,
        members: &[(Peer, bool)],
    ) {
        let wall = self.clock.wall(time).as_millis();
        let generation = wall.max(self.disk.content.generation + 1);
        self.disk.content.generation = generation;
        self.life += 1;
        self.condition = Condition::Running;
        let peer =
            Peer { id: self.identity.id, generation, address: address_of(self.identity.index) };
        let now = self.clock.local(time);
        let mut agent = Agent::new(now, &self.identity, (peer, self.life), replica, seed);
        agent.membership.introduce(now, members.iter().copied());
        if self.identity.stores {
            self.shown = agent.catalog();
        }
        self.agent = Some(Box::new(agent));
    }

    /// Ends the process; what was not on the disk is lost.
    pub(crate) fn stop(&mut self, condition: Condition) {
        self.condition = condition;
        self.agent = None;
        self.wake = None;
        self.shown = BTreeMap::new();
    }

    /// The head of a node's history, as this one has it.
    pub(crate) fn head(&self, origin: NodeId) -> Version {
        self.agent.as_ref().map_or(Version::ZERO, |agent| agent.replica.head(origin))
    }

    /// Follows what became visible, as a catalog does.
    pub(crate) fn show(&mut self, origin: NodeId, rows: &[RowChange]) {
        let shown = self.shown.entry(origin).or_default();
        for row in rows {
            match &row.state {
                RowState::Present(_) => shown.insert(row.key.clone(), row.state.clone()),
                RowState::Gone(_) => shown.remove(&row.key),
            };
        }
    }
}

/// Where a node is reached; its number is in it.
pub(crate) fn address_of(index: usize) -> SocketAddr {
    let [_, a, b, c] = u32::try_from(index).unwrap_or(u32::MAX).to_be_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, a, b, c)), 7_946)
}

/// The number of the node that is reached at an address.
pub(crate) fn index_of(address: SocketAddr) -> usize {
    match address.ip() {
        IpAddr::V4(ip) => {
            let [_, a, b, c] = ip.octets();
            u32::from_be_bytes([0, a, b, c]) as usize
        }
        IpAddr::V6(_) => usize::MAX,
    }
}
