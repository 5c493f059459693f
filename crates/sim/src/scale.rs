//! How far news travels in how much time, and what that costs, in large clusters that have long converged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dunlin_core::gossip::{ExchangeSettings, MembershipSettings, Peer};
use dunlin_core::host::Request;
use dunlin_core::model::{InstanceId, Mode, NodeId, NodePhase, NodeRow};
use dunlin_core::replica::{Entry, Extent, Replica, Row, RowKey, RowState, Version};

use crate::client::{instance_id, register};
use crate::node::{Identity, address_of};
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
    /// An instance is drained.
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
        reap_after: Duration::from_secs(72 * 3600),
        is_checked: false,
        is_traced,
    });
    world.network.loss = 0.01;
    start(&mut world);
    run(&mut world, SETTLE);
    let calm = listen(&mut world);
    let per_second = nodes as f64 * IDLE.as_secs_f64();
    let links: usize =
        world.nodes.iter().map(|n| n.host().map_or(0, |host| host.links().count())).sum();
    let changed: Vec<(usize, InstanceId)> = (0..rounds)
        .map(|round| (world.random.below(nodes), instance_id(&format!("measured-{round}"))))
        .collect();
    let normal = follow(&mut world, &changed, &calm, |world, node, id| {
        register(id, node, &mut world.stamps)
    });
    // The same instances are drained: bad news.
    let urgent = follow(&mut world, &changed, &calm, |_, _, id| {
        Request::SetMode(id.clone(), Mode::Draining)
    });
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
    let peers: Vec<Peer> =
        world.nodes.iter().map(|node| peer(node.identity.index, node.identity.id)).collect();
    let members: Vec<(Peer, bool)> = peers.iter().map(|peer| (*peer, true)).collect();
    let mut replica = Replica::new(NodeId::from_bytes([0; 16]));
    for node in &world.nodes {
        let version = Version::new(1);
        let entry = Entry { version, state: RowState::Present(node_row(&node.identity)) };
        let (extent, rows) = (Extent::up_to(version), [(RowKey::Node, entry)]);
        replica.restore(node.identity.id, extent, Version::ZERO, rows);
    }
    for index in 0..peers.len() {
        let (seed, node) = (world.random.next(), &mut world.nodes[index]);
        let copy = replica.copy_for(node.identity.id);
        node.start_bare(Duration::ZERO, seed, copy, (GENERATION, &members));
        let _ = world.settle(index);
    }
}

fn node_row(identity: &Identity) -> Row {
    Row::Node(Arc::new(NodeRow {
        name: identity.name.clone(),
        zone: identity.zone.clone(),
        address: address_of(identity.index).ip(),
        serves_dns: false,
        meta: BTreeMap::new(),
        phase: NodePhase::Active,
    }))
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

/// Makes one change after the other, and follows each through the cluster.
fn follow(
    world: &mut World,
    changed: &[(usize, InstanceId)],
    calm: &Traffic,
    request: impl Fn(&mut World, usize, &InstanceId) -> Request,
) -> Spread {
    let mut spreads: Vec<Spread> = Vec::new();
    for (node, id) in changed {
        let node = *node;
        let request = request(world, node, id);
        let before = world.traffic;
        let start = world.now;
        world.watch(world.nodes[node].identity.id);
        let _ = world.submit(node, request);
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
