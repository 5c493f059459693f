//! How far news travels in how much time, and what that costs, in large clusters that have long converged.

use std::collections::BTreeMap;
use std::time::Duration;

use dunlin_core::gossip::{ExchangeSettings, MembershipSettings, Peer};
use dunlin_core::model::{Mode, NodeId, NodePhase, ProviderId};
use dunlin_core::replica::{Change, Entry, Extent, Version};

use crate::client::{Stamps, check, instance, instance_id, node_row};
use crate::disk::{Content, Stored};
use crate::node::address_of;
use crate::world::{Traffic, World, WorldSettings};

/// Nodes in one zone.
const ZONE: usize = 200;
/// The links have grown, and what starting caused has calmed down.
const SETTLE: Duration = Duration::from_secs(20);
/// How long a calm cluster is listened to at a time.
const IDLE: Duration = Duration::from_secs(5);
/// How often; the median counts, since now and then a lost packet makes somebody suspect, of which all hear.
const LISTENS: usize = 3;
/// How long one piece of news is followed.
const FOLLOW: Duration = Duration::from_secs(3);
/// Octets that a node's process takes for itself, and for each other node, as measured. All share rows that none has
/// changed; what is left is who is there and where.
const OCTETS_PER_NODE: u64 = 110_000;
const OCTETS_PER_PAIR: u64 = 165;

/// Above what a wall clock gives, so that it is taken as it is.
const GENERATION: u64 = 1 << 50;

/// About how many octets of memory a cluster of this size takes.
#[must_use]
pub fn memory_octets(nodes: usize) -> u64 {
    let nodes = nodes as u64;
    nodes * (OCTETS_PER_NODE + nodes * OCTETS_PER_PAIR)
}

/// What one piece of news took, as medians over several.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spread {
    /// Time until 99 % of the nodes show it.
    pub to_most: Duration,
    /// Time until the last node shows it; the longest of all, not the median.
    pub to_all: Duration,
    /// Packets sent for it, beyond those of a calm cluster.
    pub datagrams: f64,
    /// Frames sent for it, likewise.
    pub frames: f64,
    /// Whether every node showed every piece of news.
    pub is_complete: bool,
}

/// What was measured.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scale {
    /// Nodes in the cluster.
    pub nodes: usize,
    /// Octets that a node of a calm cluster sends a second, with all that goes around them.
    pub idle_octets: f64,
    /// Packets that it sends a second.
    pub idle_datagrams: f64,
    /// Frames that it sends a second.
    pub idle_frames: f64,
    /// Links of one node, on average.
    pub links: f64,
    /// Something is critical.
    pub urgent: Spread,
    /// An instance is registered.
    pub normal: Spread,
    /// Events that happened.
    pub events: u64,
}

/// Makes a cluster of this size and measures `rounds` urgent and as many normal changes. A trace tells on standard
/// error what happens.
#[must_use]
pub fn measure(nodes: usize, rounds: usize, seed: u64, is_traced: bool) -> Scale {
    let zones: Vec<usize> = (0..nodes).map(|node| node / ZONE).collect();
    let mut world = World::new(&WorldSettings {
        seed,
        zones,
        membership: MembershipSettings::default(),
        exchange: ExchangeSettings::default(),
        deviation_ppm: 100,
        wall_offset_millis: 0,
        is_checked: false,
        is_traced,
    });
    world.network.loss = 0.01;
    start(&mut world);
    run(&mut world, SETTLE);
    let calm = listen(&mut world);
    let per_second = nodes as f64 * IDLE.as_secs_f64();
    let links: usize =
        world.nodes.iter().filter_map(|n| n.agent.as_ref()).map(|a| a.exchange.stats().links).sum();
    let urgent = follow(&mut world, rounds, &calm, true);
    let normal = follow(&mut world, rounds, &calm, false);
    Scale {
        nodes,
        idle_octets: (calm.datagram_octets + calm.frame_octets) as f64 / per_second,
        idle_datagrams: calm.datagrams as f64 / per_second,
        idle_frames: calm.frames as f64 / per_second,
        links: links as f64 / nodes as f64,
        urgent,
        normal,
        events: world.events,
    }
}

/// Nothing is checked in these runs, so nothing can be broken.
fn run(world: &mut World, time: Duration) {
    let _ = world.run_until(world.now + time);
}

/// Starts all nodes as if they had known each other for long.
fn start(world: &mut World) {
    let mut stamps = Stamps::default();
    let peers: Vec<Peer> =
        world.nodes.iter().map(|node| peer(node.identity.index, node.identity.id)).collect();
    let mut histories: BTreeMap<NodeId, Stored> = BTreeMap::new();
    for node in &world.nodes {
        let Change { key, state } = node_row(node, NodePhase::Active, &mut stamps);
        let version = Version::new(1);
        let rows = BTreeMap::from([(key, Entry { version, state })]);
        let stored = Stored { extent: Extent::up_to(version), floor: Version::ZERO, rows };
        histories.insert(node.identity.id, stored);
    }
    let members: Vec<(Peer, bool)> = peers.iter().map(|peer| (*peer, true)).collect();
    let content = Content { histories, ..Content::default() };
    let replica = content.replica(NodeId::from_bytes([0; 16]));
    for index in 0..peers.len() {
        let (seed, node) = (world.random.next(), &mut world.nodes[index]);
        node.disk.content.generation = GENERATION - 1;
        node.start_with(Duration::ZERO, seed, replica.copy_for(node.identity.id), &members);
        let _ = world.settle(index);
    }
}

fn peer(index: usize, id: NodeId) -> Peer {
    Peer { id, generation: GENERATION, address: address_of(index) }
}

fn listen(world: &mut World) -> Traffic {
    let mut listens: Vec<Traffic> = Vec::new();
    for _ in 0..LISTENS {
        let before = world.traffic;
        run(world, IDLE);
        listens.push(world.traffic.since(&before));
    }
    listens.sort_by_key(|traffic| traffic.datagrams);
    listens[LISTENS / 2]
}

fn follow(world: &mut World, rounds: usize, calm: &Traffic, is_urgent: bool) -> Spread {
    let mut spreads: Vec<Spread> = Vec::new();
    for round in 0..rounds {
        let node = world.random.below(world.nodes.len());
        let at = world.nodes[node].clock.wall(world.now);
        let id = instance_id(&format!("measured-{round}"));
        let change = if is_urgent {
            check(&id, false, at, &mut world.stamps)
        } else {
            instance(&id, ProviderId::api(), Mode::Active, &mut world.stamps)
        };
        let before = world.traffic;
        let start = world.now;
        world.watch(world.nodes[node].identity.id);
        let _ = world.submit(node, vec![change]);
        run(world, FOLLOW);
        let mut seen = world.unwatch();
        seen.sort_unstable();
        let sent = world.traffic.since(&before);
        let share = FOLLOW.as_secs_f64() / IDLE.as_secs_f64();
        let most = (world.nodes.len() * 99).div_ceil(100);
        let after = |at: Option<&Duration>| at.map_or(FOLLOW, |at| *at - start);
        spreads.push(Spread {
            to_most: after(seen.get(most - 1)),
            to_all: after(seen.get(world.nodes.len() - 1)),
            datagrams: sent.datagrams as f64 - calm.datagrams as f64 * share,
            frames: sent.frames as f64 - calm.frames as f64 * share,
            is_complete: seen.len() == world.nodes.len(),
        });
    }
    summary(&mut spreads)
}

fn summary(spreads: &mut [Spread]) -> Spread {
    let count = spreads.len().max(1);
    let mean = |value: fn(&Spread) -> f64| spreads.iter().map(value).sum::<f64>() / count as f64;
    let (datagrams, frames) = (mean(|spread| spread.datagrams), mean(|spread| spread.frames));
    let to_all = spreads.iter().map(|spread| spread.to_all).max().unwrap_or_default();
    let is_complete = spreads.iter().all(|spread| spread.is_complete);
    spreads.sort_by_key(|spread| spread.to_most);
    let to_most = spreads.get(count / 2).map(|spread| spread.to_most).unwrap_or_default();
    Spread { to_most, to_all, datagrams, frames, is_complete }
}
