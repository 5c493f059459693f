//! One node: the engine that the agent runs, on virtual clocks, disk and network.
//!
//! [`process`] feeds it and turns what it wants done into [`Action`]s, as the agent's driver does.

mod process;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dunlin_core::catalog::{EndpointKey, GuardSettings};
use dunlin_core::gossip::{ExchangeSettings, Lane, MembershipSettings, Peer};
use dunlin_core::health::{CheckKey, RunId};
use dunlin_core::host::{
    Answer, Batch, Event, Host, HostSettings, MembersSettings, Moment, RequestError, Ticket,
    known_members,
};
use dunlin_core::model::{NodeId, NodeName, NodePhase, NodeRow, ServiceName, ZoneName};
use dunlin_core::replica::{Replica, RowChange, RowKey, RowState, Version};

pub(crate) use process::Process;

use crate::clock::Clock;
use crate::disk::Disk;
use crate::stream::StreamId;

/// Rows of other nodes that one batch stores: few, so that a crash finds some stored and some not.
const MAX_STORED_ROWS: usize = 20;
/// How long tombstones are kept: far less than by an agent, so that nodes that were away meet histories whose
/// tombstones are gone.
const KEEP_TOMBSTONES: Duration = Duration::from_secs(5);
const PURGE_INTERVAL: Duration = Duration::from_secs(2);
/// Time between two rounds of pings: longer than an agent's, since no event of a round is lost here.
const ROUND_INTERVAL: Duration = Duration::from_secs(5);

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
    /// A frame that no engine made: of the handshake, of members, or a packet that goes by a link.
    Push {
        stream: StreamId,
        lane: Lane,
        octets: Vec<u8>,
    },
    Close(StreamId),
    Store(Box<Batch>),
    /// Rows became visible on this node.
    Visible {
        origin: NodeId,
        rows: Vec<RowChange>,
    },
    Answered {
        ticket: Ticket,
        result: Result<Answer, RequestError>,
    },
    Check {
        key: CheckKey,
        run: RunId,
    },
    Probe {
        service: ServiceName,
        key: EndpointKey,
    },
    Misbehaved {
        peer: NodeId,
        problem: String,
    },
    Happened(Event),
    /// The process has stopped in good order.
    Stopped,
    /// A line of a trace.
    Note(String),
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
    /// How long a node that is gone is remembered.
    pub(crate) reap_after: Duration,
    /// Runs that only measure build the engine without catalog, guard and health.
    pub(crate) is_bare: bool,
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
    pub(crate) process: Option<Box<Process>>,
    /// Numbers the processes.
    pub(crate) life: u32,
    /// When the world wakes it next.
    pub(crate) wake: Option<Duration>,
    /// What a reader that follows [`Action::Visible`] shows.
    pub(crate) shown: BTreeMap<NodeId, BTreeMap<RowKey, RowState>>,
}

impl SimNode {
    pub(crate) fn new(identity: Identity, clock: Clock) -> Self {
        Self {
            identity,
            clock,
            disk: Disk::default(),
            condition: Condition::Stopped,
            process: None,
            life: 0,
            wake: None,
            shown: BTreeMap::new(),
        }
    }

    /// Both of the node's clocks.
    pub(crate) fn moment(&self, time: Duration) -> Moment {
        Moment { now: self.clock.local(time), wall: self.clock.wall(time) }
    }

    /// The running process, unless it is paused.
    pub(crate) fn running(&mut self) -> Option<&mut Process> {
        if self.condition == Condition::Running { self.process.as_deref_mut() } else { None }
    }

    /// Starts a process on what the disk has; `stamp` marks what the node says of itself.
    pub(crate) fn start(&mut self, time: Duration, seed: u64, stamp: u64, out: &mut Vec<Action>) {
        let moment = self.moment(time);
        let stored = self.disk.content.stored();
        let members = known_members(&stored.peers);
        let former = members.iter().find(|(peer, _)| peer.id == self.identity.id);
        let former = former.map_or(0, |(own, _)| own.generation);
        let generation = moment.wall.as_millis().max(former + 1);
        let settings = host_settings(&self.identity, seed, stamp);
        let host = Host::restore(moment, settings, self.identity.id, stored);
        self.shown = shown_by(host.replica());
        self.run(moment, host, generation, &members, seed);
        if let Some(process) = &mut self.process {
            process.begin(moment, &members, out);
        }
    }

    /// Starts a process of a large cluster, on rows and members that its disk does not have.
    pub(crate) fn start_bare(
        &mut self,
        time: Duration,
        seed: u64,
        replica: Replica,
        (generation, members): (u64, &[(Peer, bool)]),
    ) {
        let moment = self.moment(time);
        let settings = host_settings(&self.identity, seed, 0);
        let host = Host::bare(moment, settings, replica);
        self.run(moment, host, generation, members, seed);
        if let Some(process) = &mut self.process {
            process.host.join(moment, []);
        }
    }

    fn run(
        &mut self,
        moment: Moment,
        host: Host,
        generation: u64,
        members: &[(Peer, bool)],
        seed: u64,
    ) {
        self.life += 1;
        self.condition = Condition::Running;
        let own =
            Peer { id: self.identity.id, generation, address: address_of(self.identity.index) };
        let settings = MembersSettings {
            membership: self.identity.membership.clone(),
            round_interval: ROUND_INTERVAL,
            tells_all: !self.identity.is_bare,
            seed: seed ^ 3,
        };
        let process =
            Process::new(moment.now, &self.identity, (own, self.life), host, settings, members);
        self.process = Some(Box::new(process));
    }

    /// Ends the process; what was not on the disk is lost.
    pub(crate) fn stop(&mut self, condition: Condition) {
        self.condition = condition;
        self.process = None;
        self.wake = None;
        self.shown = BTreeMap::new();
    }

    /// The engine of the process, if one runs.
    pub(crate) fn host(&self) -> Option<&Host> {
        self.process.as_ref().map(|process| &process.host)
    }

    /// The head of a node's history, as this one has it.
    pub(crate) fn head(&self, origin: NodeId) -> Version {
        self.host().map_or(Version::ZERO, |host| host.replica().head(origin))
    }

    /// Follows what became visible, as a reader does.
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

fn host_settings(identity: &Identity, seed: u64, stamp: u64) -> HostSettings {
    let row = NodeRow {
        name: identity.name.clone(),
        zone: identity.zone.clone(),
        address: address_of(identity.index).ip(),
        serves_dns: false,
        meta: BTreeMap::from([(Arc::from("stamp"), Arc::from(stamp.to_string()))]),
        phase: NodePhase::Active,
    };
    HostSettings {
        guard: guard(),
        reap_after: identity.reap_after,
        keep_tombstones: KEEP_TOMBSTONES,
        purge_interval: PURGE_INTERVAL,
        max_stored_rows: MAX_STORED_ROWS,
        exchange: identity.exchange.clone(),
        seed: seed ^ 1,
        leaves_on_stop: true,
        tells_rows: true,
        ..HostSettings::new(row)
    }
}

/// When the guard steps in: sooner than usual, and it holds for a shorter time, so that runs see all of it.
fn guard() -> GuardSettings {
    let (window, hold) = (Duration::from_secs(4), Duration::from_secs(8));
    GuardSettings { window, hold, ..GuardSettings::default() }
}

/// All present rows, as a reader shows them after a start.
fn shown_by(replica: &Replica) -> BTreeMap<NodeId, BTreeMap<RowKey, RowState>> {
    let present = |origin: NodeId| {
        let rows = replica.rows(origin);
        let rows = rows.filter(|(_, entry)| matches!(entry.state, RowState::Present(_)));
        rows.map(|(key, entry)| (key, entry.state)).collect()
    };
    replica.heads().map(|(origin, _)| (origin, present(origin))).collect()
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

/// The earlier of a deadline and one that may be.
fn sooner(at: Instant, other: Option<Instant>) -> Instant {
    other.map_or(at, |other| at.min(other))
}
