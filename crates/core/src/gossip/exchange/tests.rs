//! Exchanges that send each other frames through a network of vectors, on a clock that tests move.
#![allow(
    clippy::disallowed_methods,
    reason = "tests take one instant to start from; all others follow by addition"
)]

use std::collections::BTreeSet;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use super::*;
use crate::gossip::{HeadEntry, Packet, Want};
use crate::model::{
    Instance, InstanceFields, InstanceId, NodePhase, NodeRow, ProviderId, ServiceName,
};
use crate::replica::{Change, Delta, DeltaRequest, Departure, NewerRow, RowState};

fn id(n: u8) -> NodeId {
    NodeId::from_bytes([n; 16])
}

fn peer(n: u8) -> Peer {
    let address: SocketAddr = ([127, 0, 0, n], 5370).into();
    Peer { id: id(n), generation: 1, address }
}

fn zone() -> ZoneName {
    ZoneName::parse("z1").unwrap()
}

fn instance(name: &str, weight: u16) -> Change {
    let fields = InstanceFields {
        id: InstanceId::parse(name).unwrap(),
        service: ServiceName::parse("web").unwrap(),
        address: [127, 0, 0, 1].into(),
        port: 80,
        weight: weight.into(),
        tags: vec![],
        meta: BTreeMap::new(),
        provider: ProviderId::api(),
    };
    let row = Row::Instance(Arc::new(Instance::new(fields).unwrap()));
    let key = RowKey::Instance(InstanceId::parse(name).unwrap());
    Change { key, state: RowState::Present(row) }
}

fn gone(name: &str) -> Change {
    let key = RowKey::Instance(InstanceId::parse(name).unwrap());
    Change { key, state: RowState::Gone(Departure::Deregistered) }
}

/// The row of node 1 when it leaves.
fn leaving() -> Change {
    let row = NodeRow {
        name: NodeName::parse("n1").unwrap(),
        zone: zone(),
        address: [127, 0, 0, 1].into(),
        serves_dns: true,
        meta: BTreeMap::new(),
        phase: NodePhase::Left,
    };
    Change { key: RowKey::Node, state: RowState::Present(Row::Node(Arc::new(row))) }
}

struct Agent {
    replica: Replica,
    exchange: Exchange,
    restate: Option<Version>,
    problems: Vec<String>,
}

/// Agents 1 to n.
struct Net {
    now: Instant,
    agents: BTreeMap<u8, Agent>,
    in_flight: VecDeque<(u8, u8, Vec<u8>)>,
    /// Links on which frames are lost.
    broken: Vec<(u8, u8)>,
    has_packets: bool,
    /// Pairs of a sender and a receiver between which packets are lost.
    lost: Vec<(u8, u8)>,
    pushes: usize,
}

impl Net {
    fn new(agents: u8) -> Self {
        let now = Instant::now();
        let mut net = Self {
            now,
            agents: BTreeMap::new(),
            in_flight: VecDeque::new(),
            broken: Vec::new(),
            has_packets: false,
            lost: Vec::new(),
            pushes: 0,
        };
        for n in 1..=agents {
            net.add(n);
        }
        net
    }

    /// A network in which all agents are linked with each other, and know each other as members.
    fn of_members(agents: u8) -> Self {
        let mut net = Self::new(agents);
        net.mesh();
        net.introduce_all();
        net
    }

    fn add(&mut self, n: u8) {
        let replica = Replica::new(id(n));
        let settings = ExchangeSettings::default();
        let exchange = Exchange::new(self.now, &replica, zone(), settings, u64::from(n));
        let agent = Agent { replica, exchange, restate: None, problems: Vec::new() };
        self.agents.insert(n, agent);
    }

    fn agent(&mut self, n: u8) -> &mut Agent {
        self.agents.get_mut(&n).unwrap()
    }

    fn link(&mut self, a: u8, b: u8) {
        let hello = |net: &mut Self, from: u8, to: u8| {
            let agent = net.agent(from);
            let name = NodeName::parse(&format!("n{from}")).unwrap();
            agent.exchange.hello(&agent.replica, peer(from), name, Some(id(to)), 0)
        };
        let (from_a, from_b) = (hello(self, a, b), hello(self, b, a));
        let now = self.now;
        let agent = self.agent(a);
        agent.exchange.handle_link(now, &from_b, true, &agent.replica);
        let agent = self.agent(b);
        agent.exchange.handle_link(now, &from_a, false, &agent.replica);
        self.settle();
    }

    fn mesh(&mut self) {
        let all: Vec<u8> = self.agents.keys().copied().collect();
        for (at, a) in all.iter().enumerate() {
            for b in &all[at + 1..] {
                self.link(*a, *b);
            }
        }
    }

    /// Makes all agents known to each other as members.
    fn introduce_all(&mut self) {
        let numbers: Vec<u8> = self.agents.keys().copied().collect();
        for (n, agent) in &mut self.agents {
            for other in numbers.iter().filter(|other| *other != n) {
                agent.exchange.handle_member(self.now, peer(*other), true, &agent.replica);
            }
        }
    }

    fn unlink(&mut self, a: u8, b: u8) {
        let now = self.now;
        self.agent(a).exchange.handle_link_closed(now, id(b));
        self.agent(b).exchange.handle_link_closed(now, id(a));
        self.settle();
    }

    fn commit(&mut self, n: u8, changes: Vec<Change>) {
        self.commit_quietly(n, changes);
        self.settle();
    }

    fn commit_quietly(&mut self, n: u8, changes: Vec<Change>) {
        let now = self.now;
        let agent = self.agent(n);
        let delta = agent.replica.prepare(changes).expect("a change");
        agent.replica.commit(&delta);
        agent.exchange.handle_commit(now, &Arc::new(delta));
    }

    /// Performs all outputs until there are none, without time passing.
    fn settle(&mut self) {
        loop {
            self.perform();
            let Some((from, to, octets)) = self.in_flight.pop_front() else { return };
            if self.broken.contains(&(from, to)) {
                continue;
            }
            let now = self.now;
            let agent = self.agent(to);
            let frame = Frame::decode(&octets).expect("what an exchange makes can be read");
            let is_push = matches!(frame, Frame::Push(_));
            agent.exchange.handle_frame(now, id(from), frame, &mut agent.replica);
            self.pushes += usize::from(is_push);
        }
    }

    fn perform(&mut self) {
        let now = self.now;
        let numbers: Vec<u8> = self.agents.keys().copied().collect();
        let mut packets = Vec::new();
        for n in numbers {
            let mut ready = BTreeSet::new();
            let agent = self.agents.get_mut(&n).unwrap();
            while let Some(output) = agent.exchange.poll_output() {
                match output {
                    ExchangeOutput::Ready(node) => _ = ready.insert(node),
                    ExchangeOutput::Urgent { to, packet } => {
                        packets.extend(to.into_iter().map(|to| (n, to, Arc::clone(&packet))));
                    }
                    ExchangeOutput::Restate { above } => agent.restate = Some(above),
                    ExchangeOutput::Misbehaved { problem, .. } => agent.problems.push(problem),
                    ExchangeOutput::Dial(_)
                    | ExchangeOutput::Close { .. }
                    | ExchangeOutput::Visible { .. } => {}
                }
            }
            for node in ready {
                while let Some(frame) = agent.exchange.next_frame(node, &agent.replica) {
                    self.in_flight.push_back((n, node.as_bytes()[0], frame.octets));
                }
            }
        }
        let has_packets = self.has_packets;
        for (from, to, packet) in packets.into_iter().filter(|_| has_packets) {
            let Ok(Packet::Urgent(delta)) = Packet::decode(&packet) else { panic!("not urgent") };
            let number = to.id.as_bytes()[0];
            if self.lost.contains(&(from, number)) {
                continue;
            }
            let agent = self.agent(number);
            agent.exchange.handle_urgent(now, id(from), delta, &mut agent.replica);
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(50);
            let now = self.now;
            for agent in self.agents.values_mut() {
                agent.exchange.handle_deadline(now, &mut agent.replica);
            }
            self.settle();
        }
    }

    fn is_equal(&self) -> bool {
        let mut summaries = self.agents.values().map(|agent| agent.replica.summary());
        let first = summaries.next();
        summaries.all(|summary| Some(summary) == first)
    }
}

#[test]
fn a_commit_reaches_everyone_at_once_and_soon_only_once() {
    let mut net = Net::new(5);
    net.mesh();
    net.commit(1, vec![instance("a", 1)]);
    assert!(net.is_equal());
    // The first commits cut the mesh down to a tree.
    net.commit(1, vec![instance("a", 2)]);
    net.pushes = 0;
    net.commit(1, vec![instance("a", 3)]);
    assert!(net.is_equal());
    assert_eq!(net.pushes, 4);
}

#[test]
fn when_a_link_of_the_tree_ends_news_takes_another_way() {
    let mut net = Net::new(4);
    net.mesh();
    for weight in 1..4 {
        net.commit(1, vec![instance("a", weight)]);
    }
    for n in 2..4 {
        net.unlink(1, n);
    }
    net.commit(1, vec![instance("a", 9)]);
    assert!(net.is_equal());
}

#[test]
fn a_newcomer_is_sent_all_that_it_lacks() {
    let mut net = Net::new(3);
    net.mesh();
    for n in 1..=3 {
        let rows = (0..500).map(|at| instance(&format!("i{n}-{at}"), 1)).collect();
        net.commit(n, rows);
    }
    net.add(4);
    net.link(4, 2);
    net.link(4, 3);
    assert!(net.is_equal());
    assert_eq!(net.agent(4).exchange.stats().lacking, 0);
}

#[test]
fn what_a_push_lost_is_found_by_digests_and_the_link_is_grafted() {
    let mut net = Net::new(2);
    net.mesh();
    net.commit(1, vec![instance("a", 1)]);
    net.broken = vec![(1, 2)];
    net.commit(1, vec![instance("a", 2)]);
    net.commit(1, vec![instance("b", 2)]);
    net.broken.clear();
    assert!(!net.is_equal());
    net.pass(Duration::from_secs(4));
    assert!(net.is_equal());
}

#[test]
fn who_has_sent_all_it_has_is_not_waited_for_while_others_have_more() {
    for is_known in [false, true] {
        let mut net = Net::new(3);
        net.mesh();
        // 2 has the first commit alone; 3 has it as well, or nothing.
        net.broken = if is_known { vec![] } else { vec![(1, 3), (2, 3)] };
        net.commit(1, vec![instance("a", 1)]);
        net.broken = vec![(1, 2), (1, 3)];
        net.commit(1, vec![instance("a", 2)]);
        net.broken.clear();
        let heads = [1, 2].map(|n: u8| {
            let (extent, digest) = net.agents[&n].replica.told(id(1)).unwrap();
            HeadEntry { origin: id(1), extent: extent.clone(), digest }
        });
        let [all, some] = heads.map(|head| Frame::Heads {
            buckets: u64::MAX,
            wants_reply: false,
            heads: vec![head],
        });
        if is_known {
            // It hears from both what it lacks, in any state that they may be in.
            let agent = net.agent(3);
            agent.replica.distrust(id(1));
        }
        let now = net.now;
        for (from, frame) in [(2, some), (1, all)] {
            let agent = net.agent(3);
            agent.exchange.handle_frame(now, id(from), frame, &mut agent.replica);
        }
        net.pass(Duration::from_millis(500));
        let head = |n: u8| net.agents[&n].replica.head(id(1));
        assert_eq!(head(3), head(1));
    }
}

#[test]
fn an_urgent_commit_overtakes_what_waits_on_a_link() {
    let mut net = Net::new(2);
    net.mesh();
    net.commit(1, vec![instance("a", 1), instance("b", 1)]);
    for weight in 2..50 {
        net.commit_quietly(1, vec![instance("a", weight)]);
    }
    net.commit_quietly(1, vec![gone("b")]);
    let agent = net.agent(1);
    let first = agent.exchange.next_frame(id(2), &agent.replica).unwrap();
    assert_eq!(first.lane, Lane::Urgent);
    let Ok(Frame::Push(deltas)) = Frame::decode(&first.octets) else { panic!("not a push") };
    assert!(matches!(deltas[0].rows[0].state, RowState::Gone(_)));
    let second = agent.exchange.next_frame(id(2), &agent.replica).unwrap();
    assert_eq!(second.lane, Lane::Normal);
}

#[test]
fn a_slow_link_is_sent_what_is_true_when_it_has_room() {
    let mut net = Net::new(2);
    net.mesh();
    let commits: u16 = 20_000;
    for weight in 1..=commits {
        net.commit_quietly(1, vec![instance("a", weight)]);
    }
    let kept = net.agent(1).exchange.stats().recent_octets;
    assert!(kept <= 8 << 20, "{kept}");
    net.settle();
    assert!(net.is_equal());
}

#[test]
fn bad_news_travels_without_links() {
    let mut net = Net::of_members(6);
    net.commit(1, vec![instance("a", 1)]);
    assert!(net.is_equal());
    for a in 1..=6 {
        for b in 1..=6 {
            net.broken.push((a, b));
        }
    }
    net.has_packets = true;
    net.commit(1, vec![gone("a")]);
    assert!(net.is_equal());
}

#[test]
fn in_a_large_cluster_bad_news_travels_from_member_to_member() {
    let mut net = Net::new(40);
    net.introduce_all();
    net.has_packets = true;
    net.commit(1, vec![leaving()]);
    net.pass(Duration::from_millis(300));
    let told = net.agents.values().filter(|a| a.replica.knows(id(1))).count();
    assert!(told >= 38, "{told} of 40 know");
}

#[test]
fn who_lost_a_packet_is_told_by_others_when_its_makers_streams_stand_still() {
    let mut net = Net::of_members(8);
    net.commit(1, vec![instance("a", 1)]);
    for other in 2..=8 {
        net.broken.extend([(1, other), (other, 1)]);
    }
    net.has_packets = true;
    net.lost = (1..=8).flat_map(|from| [(from, 3), (from, 5)]).collect();
    net.commit(1, vec![gone("a")]);
    let key = gone("a").key;
    let knows = |net: &Net, n: u8| net.agents[&n].replica.row(id(1), &key).is_none();
    assert!(knows(&net, 2) && !knows(&net, 3) && !knows(&net, 5));
    net.pass(ExchangeSettings::default().grace + Duration::from_millis(50));
    assert!((2..=8).all(|n| knows(&net, n)));
}

#[test]
fn who_lost_the_packet_of_the_maker_gets_the_one_of_the_member_before_it() {
    let mut net = Net::of_members(8);
    net.commit(1, vec![instance("a", 1)]);
    net.broken = (1..=8).flat_map(|from| (1..=8).map(move |to| (from, to))).collect();
    net.has_packets = true;
    net.lost = vec![(1, 2), (1, 5), (1, 8)];
    net.commit(1, vec![gone("a")]);
    assert!(net.is_equal());
}

#[test]
fn bad_news_that_packets_bring_goes_along_each_link_of_the_tree_once() {
    let mut net = Net::of_members(8);
    net.commit(1, vec![instance("a", 1)]);
    net.commit(1, vec![instance("a", 2)]);
    net.has_packets = true;
    net.pushes = 0;
    net.commit(1, vec![gone("a")]);
    assert!(net.is_equal());
    assert_eq!(net.pushes, 7);
    net.pass(Duration::from_millis(300));
    assert_eq!(net.pushes, 7, "nobody has to pass on later what came along the tree");
}

#[test]
fn who_knows_the_own_history_further_makes_it_be_stated_anew() {
    let mut net = Net::new(2);
    net.mesh();
    for weight in 1..6 {
        net.commit(1, vec![instance("a", weight)]);
    }
    // The disk was lost.
    net.unlink(1, 2);
    net.add(1);
    net.link(2, 1);
    assert_eq!(net.agent(1).restate, Some(Version::new(5)));
}

#[test]
fn equal_heads_with_other_rows_make_the_own_history_be_stated_anew() {
    let mut net = Net::new(2);
    net.mesh();
    net.commit(1, vec![instance("a", 1)]);
    net.unlink(1, 2);
    net.add(1);
    net.commit(1, vec![instance("b", 1)]);
    net.link(1, 2);
    assert_eq!(net.agent(1).restate, Some(Version::new(1)));
}

#[test]
fn who_has_the_newest_commit_and_not_those_before_is_of_no_other_mind() {
    let mut net = Net::new(2);
    net.mesh();
    for port in 1..=2 {
        net.commit(1, vec![instance("a", port)]);
    }
    let now = net.now;
    let mut told = |extent| {
        let heads = vec![HeadEntry { origin: id(1), extent, digest: 7 }];
        let frame = Frame::Heads { buckets: u64::MAX, wants_reply: false, heads };
        let agent = net.agent(1);
        agent.exchange.handle_frame(now, id(2), frame, &mut agent.replica);
        net.settle();
        net.agent(1).restate
    };
    let v = Version::new;
    assert_eq!(told(Extent::of_parts(v(0), vec![(v(1), v(2))]).unwrap()), None);
    assert_eq!(told(Extent::up_to(v(2))), Some(v(2)), "the same commits, other rows");
}

/// Some versions of the history of node 1, which peers have.
fn history(commits: u16) -> Vec<Replica> {
    let mut source = Replica::new(id(1));
    let commit = |weight| {
        let delta = source.prepare([instance("a", weight)]).expect("a change");
        source.commit(&delta);
        source.copy_for(id(1))
    };
    (1..=commits).map(commit).collect()
}

#[test]
fn a_peer_that_has_told_all_it_has_is_not_waited_for() {
    let mut net = Net::new(4);
    net.link(2, 3);
    net.link(2, 4);
    let replicas = history(2);
    for (peer, replica) in [3, 4].into_iter().zip(&replicas) {
        let extent = replica.extent(id(1));
        let heads = vec![HeadEntry { origin: id(1), extent, digest: replica.digest(id(1)) }];
        let frame = Frame::Heads { buckets: u64::MAX, wants_reply: false, heads };
        let (now, agent) = (net.now, net.agent(2));
        agent.exchange.handle_frame(now, id(peer), frame, &mut agent.replica);
    }
    let nothing = DeltaRequest { above: Version::ZERO, floor: Version::ZERO };
    let mut asked = Vec::new();
    // Within a second; any peer that is asked answers with all its rows.
    for _ in 0..4 {
        net.now += Duration::from_millis(200);
        let (now, agent) = (net.now, net.agent(2));
        agent.exchange.handle_deadline(now, &mut agent.replica);
        for (peer, replica) in [3, 4].into_iter().zip(&replicas) {
            while let Some(frame) = agent.exchange.next_frame(id(peer), &agent.replica) {
                if let Ok(Frame::Want(_)) = Frame::decode(&frame.octets) {
                    asked.push(peer);
                    let delta = replica.delta(id(1), nothing, usize::MAX).expect("a row");
                    let frame = Frame::Rows(vec![delta]);
                    agent.exchange.handle_frame(now, id(peer), frame, &mut agent.replica);
                }
            }
        }
    }
    assert_eq!(asked, [3, 4], "the one that has the first commit alone, then the other at once");
    assert_eq!(net.agent(2).replica.head(id(1)), Version::new(2));
}

#[test]
fn impossible_versions_and_strangers_rows_change_nothing() {
    let mut net = Net::new(2);
    net.mesh();
    net.commit(1, vec![instance("a", 1)]);
    let before = net.agent(2).replica.summary();
    let far = Version::new(u64::MAX);
    let row = instance("a", 7);
    let forged = |origin, from, to| Delta {
        origin,
        from,
        to,
        extent: Extent::up_to(to),
        floor: Version::ZERO,
        rows: vec![crate::replica::DeltaRow {
            version: to,
            key: row.key.clone(),
            state: row.state.clone(),
        }],
    };
    let own = forged(id(2), Version::ZERO, Version::new(1));
    let future = forged(id(1), Version::new(u64::MAX - 1), far);
    let heads = vec![HeadEntry { origin: id(9), extent: Extent::up_to(far), digest: 0 }];
    let frames = [
        Frame::Push(vec![future.clone()]),
        Frame::Rows(vec![future]),
        Frame::Push(vec![own]),
        Frame::Heads { buckets: u64::MAX, wants_reply: true, heads },
    ];
    for frame in frames {
        let now = net.now;
        let agent = net.agent(2);
        agent.exchange.handle_frame(now, id(1), frame, &mut agent.replica);
        net.settle();
    }
    let agent = net.agent(2);
    assert_eq!(agent.replica.summary(), before);
    assert!(agent.problems.len() >= 3, "{:?}", agent.problems);
    assert_eq!(agent.restate, Some(Version::new(1)), "someone made rows in this node's name");
}

#[test]
fn a_peer_that_asks_for_ever_fills_no_queue() {
    let mut net = Net::new(2);
    net.mesh();
    let now = net.now;
    let agent = net.agent(1);
    for round in 0..80_u32 {
        let wants = (0..1000_u32).map(|n| {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&(round * 1000 + n).to_be_bytes());
            let request = DeltaRequest { above: Version::ZERO, floor: Version::ZERO };
            Want { origin: NodeId::from_bytes(octets), request }
        });
        let frame = Frame::Want(wants.collect());
        agent.exchange.handle_frame(now, id(2), frame, &mut agent.replica);
        agent.exchange.handle_frame(now, id(2), Frame::Summary(1), &mut agent.replica);
        let heads = Frame::Heads { buckets: u64::MAX, wants_reply: true, heads: vec![] };
        agent.exchange.handle_frame(now, id(2), heads, &mut agent.replica);
    }
    let link = &agent.exchange.links[&id(2)];
    assert!(link.wanted.len() <= link::MAX_WANTED);
    assert!(link.control.len() <= 256);
}

#[test]
fn more_nodes_than_allowed_are_refused() {
    let mut net = Net::new(2);
    net.mesh();
    let now = net.now;
    let agent = net.agent(1);
    for n in 0..70_u32 {
        let heads = (0..1000_u32).map(|m| {
            let mut octets = [1; 16];
            octets[..4].copy_from_slice(&(n * 1000 + m).to_be_bytes());
            let origin = NodeId::from_bytes(octets);
            HeadEntry { origin, extent: Extent::up_to(Version::new(1)), digest: 1 }
        });
        let heads = Frame::Heads { buckets: 0, wants_reply: false, heads: heads.collect() };
        agent.exchange.handle_frame(now, id(2), heads, &mut agent.replica);
    }
    assert!(agent.exchange.stats().lacking <= MAX_ORIGINS);
}

#[test]
fn a_node_that_leaves_is_bad_news() {
    assert!(leaving().state.is_bad_news(&leaving().key));
    assert!(gone("a").state.is_bad_news(&gone("a").key));
    assert!(!instance("a", 1).state.is_bad_news(&instance("a", 1).key));
}

/// Rows of kinds that only newer versions know pass unchanged through agents that do not know them.
#[test]
fn rows_of_a_newer_version_pass_through_an_older_one() {
    let mut net = Net::new(3);
    net.link(1, 2);
    net.link(2, 3);
    let newer = Change {
        key: RowKey::Other(Arc::from(&[200_u8, 1, 2][..])),
        state: RowState::Present(Row::Other(Arc::new(Box::from(&[9_u8, 9, 9][..])))),
    };
    net.commit(1, vec![instance("a", 1), newer.clone()]);
    assert!(net.is_equal());
    let entry = net.agent(3).replica.entry(id(1), &newer.key).expect("it came through");
    assert_eq!(entry.state, newer.state);
    // And by anti-entropy as well as by a push.
    net.add(4);
    net.link(4, 3);
    assert!(net.is_equal());
}

#[test]
fn a_node_of_a_newer_version_is_known_to_be_in_its_zone() {
    let mut net = Net::new(3);
    net.link(1, 2);
    net.link(2, 3);
    let now = net.now;
    let agent = net.agent(3);
    agent.exchange.handle_member(now, peer(1), true, &agent.replica);
    let RowState::Present(known) = leaving().state else { unreachable!("it is there") };
    let newer = Row::Newer(Arc::new(NewerRow { known, rest: Box::from(*b"\0\0\0\0appended") }));
    let is_near = |net: &mut Net| net.agent(3).exchange.view.roster().sides().0.contains(&peer(1));
    assert!(!is_near(&mut net));
    net.commit(1, vec![Change { key: RowKey::Node, state: RowState::Present(newer) }]);
    assert!(is_near(&mut net));
}

/// Otherwise two agents that dial each other at once would open links without end.
#[test]
fn a_link_that_takes_another_ones_place_makes_nobody_dial() {
    let mut net = Net::new(2);
    let now = net.now;
    for (own, other) in [(1, 2), (2, 1)] {
        let agent = net.agent(own);
        agent.exchange.handle_member(now, peer(other), true, &agent.replica);
        while agent.exchange.poll_output().is_some() {}
    }
    let name = NodeName::parse("n2").unwrap();
    for _ in 0..3 {
        let agent = net.agents.get(&2).unwrap();
        let hello = agent.exchange.hello(&agent.replica, peer(2), name.clone(), Some(id(1)), 0);
        let agent = net.agent(1);
        agent.exchange.handle_link(now, &hello, true, &agent.replica);
        while let Some(output) = agent.exchange.poll_output() {
            assert!(!matches!(output, ExchangeOutput::Dial(_)), "{output:?}");
        }
    }
}
