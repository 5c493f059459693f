//! The world: whatever happens, in order of time, to nodes on one network.

mod delivery;
mod load;
mod processes;
mod script;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dunlin_core::catalog::EndpointKey;
use dunlin_core::gossip::{ExchangeSettings, MembershipSettings};
use dunlin_core::health::{CheckKey, RunId};
use dunlin_core::host::{Batch, RequestError};
use dunlin_core::model::{NodeId, NodeName, ServiceName, ZoneName};
use dunlin_core::random::Random;

use crate::client::{Client, Stamps};
use crate::clock::Clock;
use crate::invariants::{Invariants, Violation};
use crate::network::Network;
use crate::node::{Action, Condition, Identity, SimNode};
use crate::oracle::Oracle;
use crate::stream::{Stream, StreamId};

/// Octets in front of and behind what a datagram holds: IP, UDP and the seal.
const DATAGRAM_OVERHEAD: u64 = 28 + 34;
/// Octets around what a segment of a stream holds: IP, TCP and the TLS record; and an acknowledgement's.
const SEGMENT_OVERHEAD: u64 = 60 + 22 + 60;
const SEGMENT_OCTETS: u64 = 1_400;

/// What is going to happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// A node's timer.
    Wake {
        node: usize,
    },
    /// A datagram arrives.
    Datagram {
        from: usize,
        to: usize,
        octets: Arc<[u8]>,
    },
    /// A connection request arrives.
    Connect {
        stream: StreamId,
    },
    /// The answer to it arrives.
    Connected {
        stream: StreamId,
    },
    Refused {
        stream: StreamId,
        is_certain: bool,
    },
    /// A frame arrives that this end sent; none is the end of the stream.
    Frame {
        stream: StreamId,
        end: usize,
        octets: Option<Vec<u8>>,
    },
    /// A frame has left this end.
    Sent {
        stream: StreamId,
        end: usize,
    },
    /// This end of the stream has heard nothing for too long, if it is still so.
    Silence {
        stream: StreamId,
        end: usize,
        since: Duration,
    },
    /// A batch of this process is on the disk.
    Written {
        node: usize,
        life: u32,
    },
    /// A check that this process runs has its result.
    Checked {
        node: usize,
        life: u32,
        key: CheckKey,
        run: RunId,
    },
    /// A probe of this process' guard has its result.
    Probed {
        node: usize,
        life: u32,
        service: ServiceName,
        key: EndpointKey,
    },
    /// The next step of a script.
    Step(usize),
    /// Clients do something.
    Load,
    /// Limits are looked at.
    Look,
}

#[derive(Debug)]
struct Scheduled {
    at: Duration,
    number: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// What was sent, for reports.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Traffic {
    pub(crate) datagrams: u64,
    pub(crate) frames: u64,
    /// With everything that goes around them.
    pub(crate) datagram_octets: u64,
    pub(crate) frame_octets: u64,
}

impl Traffic {
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            datagrams: self.datagrams - before.datagrams,
            frames: self.frames - before.frames,
            datagram_octets: self.datagram_octets - before.datagram_octets,
            frame_octets: self.frame_octets - before.frame_octets,
        }
    }
}

/// The nodes that have seen news of a node since it is watched, each with the time.
#[derive(Debug)]
struct Watch {
    origin: NodeId,
    seen: BTreeMap<usize, Duration>,
}

/// How a world is made.
#[derive(Debug, Clone)]
pub(crate) struct WorldSettings {
    pub(crate) seed: u64,
    /// The zone of each node.
    pub(crate) zones: Vec<usize>,
    pub(crate) membership: MembershipSettings,
    pub(crate) exchange: ExchangeSettings,
    /// How much clocks may be off.
    pub(crate) deviation_ppm: u32,
    pub(crate) wall_offset_millis: u32,
    /// How long a node that is gone is remembered.
    pub(crate) reap_after: Duration,
    /// Invariants are held to, and the whole of the engine runs.
    pub(crate) is_checked: bool,
    pub(crate) is_traced: bool,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: Duration,
    queue: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    pub(crate) nodes: Vec<SimNode>,
    pub(crate) network: Network,
    pub(crate) streams: BTreeMap<StreamId, Stream>,
    /// What came for a paused process, by node.
    inboxes: BTreeMap<usize, VecDeque<Event>>,
    /// What is being written, by node.
    writing: BTreeMap<usize, Box<Batch>>,
    pub(crate) client: Client,
    pub(crate) stamps: Stamps,
    pub(crate) oracle: Oracle,
    pub(crate) invariants: Invariants,
    pub(crate) traffic: Traffic,
    pub(crate) events: u64,
    pub(crate) script: Vec<crate::faults::Step>,
    pub(crate) random: Random,
    pub(crate) is_traced: bool,
    pub(crate) is_checked: bool,
    actions: Vec<Action>,
    watch: Option<Watch>,
}

impl World {
    pub(crate) fn new(settings: &WorldSettings) -> Self {
        let mut random = Random::new(settings.seed);
        let base = Instant::now();
        let nodes = (0..settings.zones.len()).map(|n| node(n, base, settings, &mut random));
        let nodes: Vec<SimNode> = nodes.collect();
        let ids: Vec<NodeId> = nodes.iter().map(|node| node.identity.id).collect();
        Self {
            now: Duration::ZERO,
            queue: BinaryHeap::new(),
            scheduled: 0,
            network: Network::new(settings.zones.clone(), random.next()),
            streams: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            writing: BTreeMap::new(),
            client: Client::new(nodes.len(), random.next()),
            stamps: Stamps::default(),
            oracle: Oracle::new(nodes.len()),
            invariants: Invariants::new(ids, settings.is_checked),
            traffic: Traffic::default(),
            events: 0,
            script: Vec::new(),
            is_traced: settings.is_traced,
            is_checked: settings.is_checked,
            actions: Vec::new(),
            watch: None,
            random,
            nodes,
        }
    }

    pub(crate) fn schedule(&mut self, at: Duration, event: Event) {
        self.scheduled += 1;
        let number = self.scheduled;
        self.queue.push(Reverse(Scheduled { at: at.max(self.now), number, event }));
    }

    /// Lets everything happen up to a moment, or to the first broken invariant.
    pub(crate) fn run_until(&mut self, end: Duration) -> Result<(), Violation> {
        while let Some(Reverse(next)) = self.queue.peek()
            && next.at <= end
        {
            let Some(Reverse(Scheduled { at, event, .. })) = self.queue.pop() else { break };
            self.now = at;
            self.events += 1;
            self.happen(event)?;
        }
        self.now = end;
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Step(step) => return self.perform_step(step),
            Event::Load => return self.load(),
            Event::Look => {
                let after = self.now + Duration::from_secs(1);
                self.schedule(after, Event::Look);
                return self.invariants.look(self.now, &self.nodes);
            }
            Event::Sent { stream, end } => return self.handle_sent(stream, end),
            Event::Wake { .. }
            | Event::Datagram { .. }
            | Event::Connect { .. }
            | Event::Connected { .. }
            | Event::Refused { .. }
            | Event::Frame { .. }
            | Event::Silence { .. }
            | Event::Written { .. }
            | Event::Checked { .. }
            | Event::Probed { .. } => {}
        }
        match self.deliver(event) {
            Some(node) => self.settle(node),
            None => Ok(()),
        }
    }

    /// Performs what a node wants done until it wants no more, and notes when to wake it.
    pub(crate) fn settle(&mut self, node: usize) -> Result<(), Violation> {
        while !self.actions.is_empty() {
            for action in std::mem::take(&mut self.actions) {
                self.perform(node, action)?;
            }
        }
        let clock = &self.nodes[node].clock;
        let is_running = self.nodes[node].condition == Condition::Running;
        let process = self.nodes[node].process.as_ref().filter(|_| is_running);
        let due = process.map(|process| clock.global(process.next_deadline()).max(self.now));
        if let Some(due) = due
            && self.nodes[node].wake.is_none_or(|wake| due < wake || wake < self.now)
        {
            self.nodes[node].wake = Some(due);
            self.schedule(due, Event::Wake { node });
        }
        Ok(())
    }

    fn perform(&mut self, node: usize, action: Action) -> Result<(), Violation> {
        match action {
            Action::Datagram { to, octets } => self.send_datagram(node, to, octets),
            Action::Dial { to, stream } => self.dial(node, to, stream),
            Action::Ready(stream) => self.pull(node, stream)?,
            Action::Push { stream, lane, octets } => {
                let end = self.end_of(node, stream);
                if let Some(ends) = self.streams.get_mut(&stream).map(|stream| &mut stream.ends) {
                    ends[end].push(lane, octets);
                }
                self.transmit(stream, end)?;
            }
            Action::Close(stream) => self.close(node, stream),
            Action::Store(batch) => self.begin_write(node, batch),
            Action::Visible { origin, rows } => {
                self.trace(node, || format!("shows {} rows of {origin:?}", rows.len()));
                if let Some(watch) = self.watch.as_mut().filter(|watch| watch.origin == origin) {
                    watch.seen.entry(node).or_insert(self.now);
                }
                if self.is_checked {
                    self.nodes[node].show(origin, &rows);
                }
                return self.invariants.visible(self.now, &self.nodes[node], origin, &rows);
            }
            Action::Answered { ticket, result } => {
                self.trace(node, || format!("answers {ticket:?}: {result:?}"));
                match result {
                    Ok(_) => self.oracle.acknowledge(ticket),
                    Err(RequestError::Storage(_) | RequestError::Stopping) => {
                        self.oracle.refuse_by_disk(ticket);
                    }
                    Err(_) => self.oracle.refuse(ticket),
                }
            }
            Action::Check { key, run } => self.begin_check(node, key, run),
            Action::Probe { service, key } => self.begin_probe(node, service, key),
            Action::Happened(dunlin_core::host::Event::NodeForgotten { id }) => {
                self.invariants.forgotten(node, id);
            }
            Action::Happened(_) => {}
            Action::Stopped => self.has_stopped(node)?,
            Action::Note(note) => self.trace(node, || note),
            Action::Misbehaved { peer, problem } => {
                return self.invariants.misbehaved(self.now, node, peer, &problem);
            }
        }
        Ok(())
    }

    /// Notes from now on when each node sees news of this one.
    pub(crate) fn watch(&mut self, origin: NodeId) {
        self.watch = Some(Watch { origin, seen: BTreeMap::new() });
    }

    /// When each node saw news since [`World::watch`].
    pub(crate) fn unwatch(&mut self) -> Vec<Duration> {
        self.watch.take().map(|watch| watch.seen.into_values().collect()).unwrap_or_default()
    }

    pub(crate) fn trace(&self, node: usize, what: impl FnOnce() -> String) {
        if self.is_traced {
            print_trace(self.now, node, &what());
        }
    }
}

fn node(index: usize, base: Instant, settings: &WorldSettings, random: &mut Random) -> SimNode {
    let [high, low] = [random.next(), random.next()];
    let id = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
    let spread = |random: &mut Random, most: u32| {
        let value = random.below(2 * most as usize + 1) as i64 - i64::from(most);
        i32::try_from(value).unwrap_or(0)
    };
    let deviation = spread(random, settings.deviation_ppm);
    let offset = spread(random, settings.wall_offset_millis);
    let identity = Identity {
        index,
        id: NodeId::from_bytes(id),
        name: NodeName::parse(&format!("n{index}")).expect("a short label is a name"),
        zone: ZoneName::parse(&format!("z{}", settings.zones[index])).expect("so is this"),
        seeds: (0..settings.zones.len().min(3)).collect(),
        membership: settings.membership.clone(),
        exchange: settings.exchange.clone(),
        reap_after: settings.reap_after,
        is_bare: !settings.is_checked,
        is_traced: settings.is_traced,
    };
    SimNode::new(identity, Clock::new(base, deviation, offset.into()))
}

/// One line of what happens, for a look into a failing seed.
fn print_trace(now: Duration, node: usize, what: &str) {
    // A closed pipe ends the reading, not the run.
    let _ = writeln!(std::io::stderr(), "{:>10.6} n{node}: {what}", now.as_secs_f64());
}
