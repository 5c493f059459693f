//! The laws of merging, over random histories, peers and deliveries.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::model::{CheckId, CheckRow, CheckStatus, InstanceId, Timestamp};

const ORIGIN: NodeId = NodeId::from_bytes([1; 16]);

fn peer(n: u8) -> NodeId {
    NodeId::from_bytes([100 + n; 16])
}

fn key(n: u8) -> RowKey {
    let id = |text: String| InstanceId::parse(&text).unwrap();
    RowKey::Check(id(format!("i{}", n / 2)), CheckId::parse(&format!("c{n}")).unwrap())
}

fn write(n: u8, value: u64) -> Change {
    let row = CheckRow {
        status: CheckStatus::Passing,
        output: value.to_string().into(),
        since: Timestamp::default(),
        has_worked: true,
    };
    Change { key: key(n), state: RowState::Present(Row::Check(row.into())) }
}

fn delete(n: u8) -> Change {
    Change { key: key(n), state: RowState::Gone(Departure::Dropped) }
}

/// What a replica shows of the origin: present rows and the commits that wrote them.
fn shown(replica: &Replica) -> BTreeMap<RowKey, Version> {
    let present = |e: &Entry| matches!(e.state, RowState::Present(_));
    replica.rows(ORIGIN).filter(|(_, e)| present(e)).map(|(k, e)| (k.clone(), e.version)).collect()
}

#[derive(Debug, Clone)]
enum Step {
    /// The origin writes these keys (value 0 deletes), as one commit.
    Commit(Vec<(u8, u64)>),
    /// The origin purges its tombstones up to this share of its head.
    Purge(u8),
    /// A peer is sent one of the commits as it was broadcast.
    Broadcast { to: u8, pick: prop::sample::Index },
    /// A peer asks another, or the origin, for what it lacks, in chunks of a few rows.
    Sync { to: u8, from: Option<u8>, max_bytes: usize },
    /// A peer is sent again something that was sent before.
    Replay { to: u8, pick: prop::sample::Index },
}

const PEERS: u8 = 3;

fn step() -> impl Strategy<Value = Step> {
    let write = (0..6u8, 0..5u64);
    prop_oneof![
        4 => prop::collection::vec(write, 1..5).prop_map(Step::Commit),
        1 => any::<u8>().prop_map(Step::Purge),
        3 => (0..PEERS, any::<prop::sample::Index>()).prop_map(|(to, pick)| Step::Broadcast { to, pick }),
        4 => (0..PEERS, prop::option::of(0..PEERS), 1..200usize)
            .prop_map(|(to, from, max_bytes)| Step::Sync { to, from, max_bytes }),
        2 => (0..PEERS, any::<prop::sample::Index>()).prop_map(|(to, pick)| Step::Replay { to, pick }),
    ]
}

/// A small cluster: one writer, three peers, and everything that was ever committed or sent.
struct Cluster {
    origin: Replica,
    peers: Vec<Replica>,
    commits: Vec<Delta>,
    sent: Vec<Delta>,
    /// Commits that each peer was given by themselves.
    given: Vec<BTreeSet<Version>>,
}

impl Cluster {
    fn new() -> Self {
        Self {
            origin: Replica::new(ORIGIN),
            peers: (0..PEERS).map(|n| Replica::new(peer(n))).collect(),
            commits: Vec::new(),
            sent: Vec::new(),
            given: vec![BTreeSet::new(); PEERS.into()],
        }
    }

    fn deliver(&mut self, to: u8, delta: &Delta) {
        let replica = &mut self.peers[usize::from(to)];
        let (head, before) = (replica.head(ORIGIN), shown(replica));
        match replica.merge(delta) {
            Ok(_) if delta.is_one_whole_commit() => {
                self.given[usize::from(to)].insert(delta.to);
            }
            Ok(_) => {}
            Err(_) => assert_eq!(shown(replica), before, "a refused delta changes nothing"),
        }
        assert!(replica.head(ORIGIN) >= head, "a head never goes back");
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Commit(writes) => {
                let change = |(n, value)| {
                    if value == 0 { delete(n) } else { write(n, value) }
                };
                if let Some(delta) = self.origin.prepare(writes.into_iter().map(change)) {
                    self.origin.commit(&delta);
                    self.sent.push(delta.clone());
                    self.commits.push(delta);
                }
            }
            Step::Purge(share) => {
                let up_to = self.origin.head(ORIGIN).as_u64() * u64::from(share) / 255;
                self.origin.purge_tombstones(ORIGIN, Version::new(up_to));
            }
            Step::Broadcast { to, pick } if !self.commits.is_empty() => {
                let delta = pick.get(&self.commits).clone();
                self.deliver(to, &delta);
            }
            Step::Replay { to, pick } if !self.sent.is_empty() => {
                let delta = pick.get(&self.sent).clone();
                self.deliver(to, &delta);
            }
            Step::Sync { to, from, max_bytes } => {
                let request = self.peers[usize::from(to)].request(ORIGIN);
                let source = from.map_or(&self.origin, |n| &self.peers[usize::from(n)]);
                if let Some(delta) = source.delta(ORIGIN, request, max_bytes) {
                    self.sent.push(delta.clone());
                    self.deliver(to, &delta);
                }
            }
            Step::Broadcast { .. } | Step::Replay { .. } => {}
        }
    }

    /// The rows after applying these commits and no others.
    fn fold(&self, included: impl Fn(Version) -> bool) -> BTreeMap<RowKey, Version> {
        let mut rows = BTreeMap::new();
        for row in self.commits.iter().filter(|c| included(c.to)).flat_map(|c| &c.rows) {
            match row.state {
                RowState::Present(_) => rows.insert(row.key.clone(), row.version),
                RowState::Gone(_) => rows.remove(&row.key),
            };
        }
        rows
    }

    /// What a peer shows is the origin's state at its head, plus whole commits that came early.
    fn assert_no_half_commit(&self) {
        for (replica, given) in self.peers.iter().zip(&self.given) {
            let head = replica.head(ORIGIN);
            let expected = self.fold(|v| v <= head || given.contains(&v));
            assert_eq!(shown(replica), expected, "at head {head:?}, given {given:?}");
        }
    }

    fn heal(&mut self) {
        for to in 0..PEERS {
            for _ in 0..10_000 {
                let request = self.peers[usize::from(to)].request(ORIGIN);
                let Some(delta) = self.origin.delta(ORIGIN, request, 64) else {
                    break;
                };
                self.deliver(to, &delta);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_delivery_converges_and_shows_no_half_commit(
        steps in prop::collection::vec(step(), 1..80)
    ) {
        let mut cluster = Cluster::new();
        for step in steps {
            cluster.take(step);
            cluster.assert_no_half_commit();
        }
        cluster.heal();
        for replica in &cluster.peers {
            prop_assert_eq!(replica.head(ORIGIN), cluster.origin.head(ORIGIN));
            prop_assert_eq!(shown(replica), shown(&cluster.origin));
        }
    }

    #[test]
    fn broadcast_commits_merge_the_same_in_any_order_and_number(
        commits in prop::collection::vec(prop::collection::vec((0..6u8, 0..5u64), 1..4), 1..12),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
    ) {
        let mut cluster = Cluster::new();
        for writes in commits {
            cluster.take(Step::Commit(writes));
        }
        let mut replica = Replica::new(peer(0));
        let commits = cluster.commits.clone();
        if commits.is_empty() {
            return Ok(());
        }
        for pick in order {
            replica.merge(pick.get(&commits)).unwrap();
        }
        for delta in commits.iter().rev() {
            replica.merge(delta).unwrap();
        }
        prop_assert_eq!(shown(&replica), shown(&cluster.origin));
        prop_assert_eq!(replica.head(ORIGIN), cluster.origin.head(ORIGIN));
    }
}

fn commit(replica: &mut Replica, changes: Vec<Change>) -> Delta {
    let delta = replica.prepare(changes).expect("it changes something");
    replica.commit(&delta);
    delta
}

#[test]
fn restating_what_is_so_makes_no_commit() {
    let mut origin = Replica::new(ORIGIN);
    commit(&mut origin, vec![write(0, 7)]);
    assert_eq!(origin.prepare([write(0, 7), delete(1)]), None);
}

#[test]
fn a_node_takes_its_own_history_from_nobody() {
    let mut origin = Replica::new(ORIGIN);
    let delta = commit(&mut origin, vec![write(0, 7)]);
    assert_eq!(origin.merge(&delta), Err(MergeError::OwnHistory));
}

#[test]
fn a_chunk_that_splits_overwritten_commits_is_held_back() {
    let mut origin = Replica::new(ORIGIN);
    commit(&mut origin, vec![write(0, 1), write(1, 1)]);
    commit(&mut origin, vec![write(0, 2)]);
    let mut peer = Replica::new(peer(0));
    // The first chunk holds key 1 of commit 1, but no longer key 0 of it.
    let first = origin.delta(ORIGIN, peer.request(ORIGIN), 1).unwrap();
    assert_eq!((first.to, first.rows.len()), (Version::new(1), 1));
    assert_eq!(peer.merge(&first), Ok(vec![]));
    assert!(shown(&peer).is_empty());
    let second = origin.delta(ORIGIN, peer.request(ORIGIN), 1).unwrap();
    assert_eq!(peer.merge(&second).unwrap().len(), 2);
    assert_eq!(shown(&peer), shown(&origin));
}

#[test]
fn who_missed_a_purged_tombstone_is_told_the_whole_history() {
    let mut origin = Replica::new(ORIGIN);
    let mut peer = Replica::new(peer(0));
    peer.merge(&commit(&mut origin, vec![write(0, 1), write(1, 1)])).unwrap();
    commit(&mut origin, vec![delete(0)]);
    commit(&mut origin, vec![write(2, 1)]);
    assert_eq!(origin.purge_tombstones(ORIGIN, Version::new(3)), [key(0)]);
    let delta = origin.delta(ORIGIN, peer.request(ORIGIN), usize::MAX).unwrap();
    assert_eq!(delta.from, Version::ZERO);
    peer.merge(&delta).unwrap();
    assert_eq!(shown(&peer), shown(&origin));
    assert_eq!(peer.floor(ORIGIN), origin.floor(ORIGIN));
}

#[test]
fn malformed_deltas_are_refused() {
    let mut origin = Replica::new(ORIGIN);
    let good = commit(&mut origin, vec![write(0, 1), write(1, 1)]);
    let mut peer = Replica::new(peer(0));
    let bad = [
        Delta { from: Version::new(1), ..good.clone() },
        Delta { settled_at: Version::ZERO, ..good.clone() },
        Delta { head: Version::ZERO, ..good.clone() },
        Delta { rows: good.rows.iter().rev().cloned().collect(), ..good.clone() },
        Delta { rows: vec![good.rows[0].clone(), good.rows[0].clone()], ..good.clone() },
        Delta {
            rows: vec![DeltaRow { key: RowKey::Node, ..good.rows[0].clone() }],
            ..good.clone()
        },
    ];
    for delta in bad {
        assert!(matches!(peer.merge(&delta), Err(MergeError::Delta(_))), "{delta:?}");
    }
    assert!(peer.merge(&good).is_ok());
}
