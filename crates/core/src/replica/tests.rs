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
    replica.rows(ORIGIN).filter(|(_, e)| present(e)).map(|(k, e)| (k, e.version)).collect()
}

#[derive(Debug, Clone)]
enum Step {
    /// The origin writes these keys (value 0 deletes), as one commit.
    Commit(Vec<(u8, u64)>),
    /// The origin purges its tombstones up to this share of its head.
    Purge(u8),
    /// A peer is sent one of the commits in the form in which it was broadcast.
    Broadcast { to: u8, pick: prop::sample::Index },
    /// A peer requests from another, or from the origin, what it lacks, in chunks of a few rows.
    Sync { to: u8, from: Option<u8>, max_bytes: usize },
    /// A peer is sent a delta that was sent before.
    Replay { to: u8, pick: prop::sample::Index },
    /// The origin goes back to an old copy, or to nothing, and restates its history with these writes,
    /// above what its peers know. Deltas in flight beyond that are lost, or else they count as known.
    RollBack { copy: Option<prop::sample::Index>, writes: Vec<(u8, u64)>, is_underway_lost: bool },
    /// A peer no longer trusts the rows that it has.
    Distrust { peer: u8 },
    /// A peer forgets the origin for good, until the origin returns with a history above.
    Forget { peer: u8 },
}

const PEERS: u8 = 3;

fn step() -> impl Strategy<Value = Step> {
    let writes = || prop::collection::vec((0..6u8, 0..5u64), 0..5);
    let copy = prop::option::weighted(0.7, any::<prop::sample::Index>());
    prop_oneof![
        4 => writes().prop_map(Step::Commit),
        1 => (copy, writes(), any::<bool>()).prop_map(|(copy, writes, is_underway_lost)| {
            Step::RollBack { copy, writes, is_underway_lost }
        }),
        1 => (0..PEERS).prop_map(|peer| Step::Distrust { peer }),
        1 => (0..PEERS).prop_map(|peer| Step::Forget { peer }),
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
    /// The commits that count: those that were lost with the origin's disk before any peer received them do not.
    commits: Vec<Delta>,
    sent: Vec<Delta>,
    /// The origin after each commit.
    copies: Vec<Replica>,
    /// Commits that each peer was given by themselves since it last distrusted or forgot what it has.
    given: Vec<BTreeSet<Version>>,
}

/// The changes that make these writes; value 0 deletes.
fn changes(writes: Vec<(u8, u64)>) -> impl Iterator<Item = Change> {
    let change = |(n, value)| if value == 0 { delete(n) } else { write(n, value) };
    writes.into_iter().map(change)
}

impl Cluster {
    fn new() -> Self {
        Self {
            origin: Replica::new(ORIGIN),
            peers: (0..PEERS).map(|n| Replica::new(peer(n))).collect(),
            commits: Vec::new(),
            sent: Vec::new(),
            copies: Vec::new(),
            given: vec![BTreeSet::new(); PEERS.into()],
        }
    }

    fn deliver(&mut self, to: u8, delta: &Delta) {
        let replica = &mut self.peers[usize::from(to)];
        let (head, before) = (replica.head(ORIGIN), shown(replica));
        let is_forgotten = delta.extent.newest() <= replica.forgotten_up_to(ORIGIN);
        let is_believed = replica.told(ORIGIN).is_some() || replica.rows(ORIGIN).next().is_none();
        match replica.merge(delta) {
            Ok(changes) if is_forgotten => assert_eq!(changes, []),
            // Rows that are not trusted may be newer: then the commit waits for all of them.
            Ok(_) if delta.is_one_whole_commit() && is_believed => {
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
                if let Some(delta) = self.origin.prepare(changes(writes)) {
                    self.commit(delta);
                }
            }
            Step::RollBack { copy, writes, is_underway_lost } => {
                let copies = if self.copies.is_empty() { None } else { copy };
                let copy = copies.map(|pick| pick.get(&self.copies).clone());
                self.origin = copy.unwrap_or_else(|| Replica::new(ORIGIN));
                self.restate(writes, is_underway_lost);
            }
            Step::Distrust { peer } => {
                self.peers[usize::from(peer)].distrust(ORIGIN);
                self.given[usize::from(peer)].clear();
            }
            Step::Forget { peer } => {
                self.peers[usize::from(peer)].forget(ORIGIN);
                self.given[usize::from(peer)].clear();
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

    fn commit(&mut self, delta: Delta) {
        self.origin.commit(&delta);
        self.copies.push(self.origin.clone());
        self.sent.push(delta.clone());
        self.commits.push(delta);
        assert_eq!(shown(&self.origin), self.fold(|_| true), "the origin shows all that counts");
    }

    fn restate(&mut self, writes: Vec<(u8, u64)>, is_underway_lost: bool) {
        let mut above = self.peers.iter().map(|peer| peer.newest(ORIGIN)).max().unwrap_or_default();
        if !is_underway_lost {
            let underway = self.sent.iter().chain(&self.commits).map(|delta| delta.extent.newest());
            above = above.max(underway.max().unwrap_or_default());
        }
        let delta = self.origin.prepare_restatement(above, changes(writes));
        self.commits.retain(|lost| lost.to < delta.floor);
        self.sent.retain(|lost| lost.extent.newest() < delta.floor);
        self.commit(delta);
    }

    /// The rows after applying these commits and no others.
    fn fold(&self, included: impl Fn(Version) -> bool) -> BTreeMap<RowKey, Version> {
        let mut rows = BTreeMap::new();
        for commit in self.commits.iter().filter(|c| included(c.to)) {
            // A restatement deletes what it does not mention.
            if commit.from == Version::ZERO && commit.floor.next() == commit.to {
                rows.clear();
            }
            for row in &commit.rows {
                match row.state {
                    RowState::Present(_) => rows.insert(row.key.clone(), row.version),
                    RowState::Gone(_) => rows.remove(&row.key),
                };
            }
        }
        rows
    }

    /// Each peer shows the origin's state after the commits that the peer says are visible.
    fn assert_no_half_commit(&self) {
        let believed = |replica: &&Replica| replica.told(ORIGIN).is_some();
        for replica in self.peers.iter().filter(believed) {
            let (extent, _) = replica.told(ORIGIN).unwrap();
            assert_eq!(shown(replica), self.fold(|v| extent.contains(v)), "at {extent:?}");
        }
    }

    /// Replicas that tell the same commits tell the same digest.
    fn assert_digests_agree(&self) {
        let all =
            self.peers.iter().chain([&self.origin]).filter_map(|replica| replica.told(ORIGIN));
        let mut digests = BTreeMap::new();
        for (extent, digest) in all {
            assert_eq!(*digests.entry(extent).or_insert(digest), digest, "at {extent:?}");
        }
    }

    /// A commit that was merged by itself is visible, or what it wrote has been overwritten since.
    fn assert_given_is_visible(&self, to: u8) {
        let replica = &self.peers[usize::from(to)];
        let Some((extent, _)) = replica.told(ORIGIN) else { return };
        for version in &self.given[usize::from(to)] {
            assert!(extent.contains(*version), "{version} is not in {extent:?}");
        }
    }

    fn heal(&mut self) {
        let is_forgotten = |peer: &Replica| peer.forgotten().next().is_some();
        if self.peers.iter().any(is_forgotten) {
            self.restate(vec![], false);
        }
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
            cluster.assert_digests_agree();
            (0..PEERS).for_each(|to| cluster.assert_given_is_visible(to));
        }
        cluster.heal();
        for replica in &cluster.peers {
            prop_assert_eq!(replica.summary(), cluster.origin.summary());
            prop_assert_eq!(replica.told(ORIGIN), cluster.origin.told(ORIGIN));
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
        Delta { extent: Extent::default(), ..good.clone() },
        Delta { from: good.to, ..good.clone() },
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

/// A peer that was told everything of the origin.
fn informed(origin: &Replica) -> Replica {
    let mut peer = Replica::new(peer(0));
    sync(&mut peer, origin);
    peer
}

fn sync(to: &mut Replica, from: &Replica) {
    while let Some(delta) = from.delta(ORIGIN, to.request(ORIGIN), usize::MAX) {
        to.merge(&delta).unwrap();
    }
}

fn assert_same(a: &Replica, b: &Replica) {
    assert_eq!(shown(a), shown(b));
    assert_eq!(a.summary(), b.summary());
    assert_eq!(a.digest(ORIGIN), b.digest(ORIGIN));
    assert_eq!(a.told_in(u64::MAX).collect::<Vec<_>>(), b.told_in(u64::MAX).collect::<Vec<_>>());
}

#[test]
fn equal_contents_have_equal_digests_and_nothing_has_none() {
    let mut origin = Replica::new(ORIGIN);
    assert_eq!((origin.summary(), origin.digest(ORIGIN)), (0, 0));
    commit(&mut origin, vec![write(0, 1), write(1, 1)]);
    let before = origin.summary();
    commit(&mut origin, vec![write(2, 1), delete(0)]);
    let peer = informed(&origin);
    assert_same(&peer, &origin);
    assert_ne!(origin.summary(), before);
    assert_eq!(origin.bucket_summary(bucket_of(ORIGIN)), origin.summary());
    assert_eq!(origin.bucket_summary(bucket_of(ORIGIN) + 1), 0);
    let digest = origin.digest(ORIGIN);
    origin.purge_tombstones(ORIGIN, Version::new(2));
    assert_eq!(origin.digest(ORIGIN), digest, "tombstones do not count");
}

#[test]
fn a_commit_that_came_early_reaches_others_although_those_before_it_are_lost() {
    let mut origin = Replica::new(ORIGIN);
    commit(&mut origin, vec![write(0, 1), write(2, 1)]);
    let mut first = informed(&origin);
    commit(&mut origin, vec![write(1, 1)]);
    first.merge(&commit(&mut origin, vec![write(0, 2)])).unwrap();
    assert_eq!(shown(&first)[&key(0)], Version::new(3));
    // The origin is gone for good; `first` serves a replica that has nothing, and one that has everything before the gap.
    let mut empty = Replica::new(peer(1));
    let mut half = Replica::new(peer(2));
    half.merge(&first_commit(&origin)).unwrap();
    for second in [&mut empty, &mut half] {
        let (extent, _) = first.told(ORIGIN).unwrap();
        assert!(second.lacks(ORIGIN, extent));
        let delta = first.delta(ORIGIN, second.request(ORIGIN), 1).unwrap();
        second.merge(&delta).unwrap();
        assert_same(second, &first);
    }
    sync(&mut half, &origin);
    assert_same(&half, &origin);
}

/// The first commit of the test above, as the origin sent it.
fn first_commit(origin: &Replica) -> Delta {
    let mut again = Replica::new(ORIGIN);
    assert!(origin.head(ORIGIN) > Version::ZERO);
    commit(&mut again, vec![write(0, 1), write(2, 1)])
}

#[test]
fn what_a_sender_began_and_another_cannot_complete_is_begun_anew() {
    let mut origin = Replica::new(ORIGIN);
    commit(&mut origin, vec![write(0, 1), write(1, 1)]);
    commit(&mut origin, vec![write(2, 1)]);
    commit(&mut origin, vec![write(3, 1)]);
    let plain = informed(&origin);
    let mut early = plain.clone();
    commit(&mut origin, vec![write(4, 1)]);
    early.merge(&commit(&mut origin, vec![write(0, 2)])).unwrap();
    let mut peer = Replica::new(peer(1));
    let begun = early.delta(ORIGIN, peer.request(ORIGIN), 1).unwrap();
    assert!(begun.to < begun.extent.head());
    assert_eq!(peer.merge(&begun), Ok(vec![]), "half a commit is held back");
    // `early` is gone for good.
    let more = plain.delta(ORIGIN, peer.request(ORIGIN), usize::MAX).unwrap();
    assert!(matches!(peer.merge(&more), Err(MergeError::Gap { .. })));
    peer.unstage(ORIGIN);
    sync(&mut peer, &plain);
    assert_same(&peer, &plain);
}

#[test]
fn tombstones_that_their_node_purged_are_purged_by_others_too() {
    let mut origin = Replica::new(ORIGIN);
    let mut peer = Replica::new(peer(0));
    peer.merge(&commit(&mut origin, vec![write(0, 1), write(1, 1)])).unwrap();
    peer.merge(&commit(&mut origin, vec![delete(0)])).unwrap();
    peer.merge(&commit(&mut origin, vec![write(2, 1)])).unwrap();
    assert!(peer.purge_as_others_did().is_empty());
    origin.purge_tombstones(ORIGIN, Version::new(2));
    peer.merge(&commit(&mut origin, vec![write(3, 1)])).unwrap();
    assert_eq!(peer.purge_as_others_did(), [(ORIGIN, vec![key(0)])]);
    assert_eq!(peer.floor(ORIGIN), origin.floor(ORIGIN));
    assert_same(&peer, &origin);
}

#[test]
fn pieces_that_were_stored_without_the_rest_are_not_told_to_others() {
    let mut origin = Replica::new(ORIGIN);
    commit(&mut origin, vec![write(0, 1), write(1, 1)]);
    let piece: Vec<_> = origin.rows(ORIGIN).take(1).collect();
    let mut peer = Replica::new(peer(0));
    peer.restore(ORIGIN, Extent::default(), Version::ZERO, piece);
    assert_eq!((shown(&peer).len(), peer.told(ORIGIN), peer.summary()), (1, None, 0));
    sync(&mut peer, &origin);
    assert_same(&peer, &origin);
}

#[test]
fn rows_that_commits_by_themselves_overwrote_are_not_shown_when_the_rest_has_come() {
    let mut origin = Replica::new(ORIGIN);
    let commits: Vec<Delta> = (1..=6)
        .map(|n| commit(&mut origin, vec![if n == 4 { delete(1) } else { write(n % 3, n.into()) }]))
        .collect();
    let mut peer = Replica::new(peer(0));
    peer.merge(&commits[0]).unwrap();
    let chunk = origin.delta(ORIGIN, peer.request(ORIGIN), 1).unwrap();
    peer.merge(&Delta { rows: commits[1].rows.clone(), from: commits[1].from, ..chunk }).unwrap();
    for delta in &commits[1..] {
        peer.merge(delta).unwrap();
        peer.purge_tombstones(ORIGIN, Version::new(6));
    }
    assert_eq!(shown(&peer), shown(&origin));
}

#[test]
fn what_is_held_back_can_be_given_up() {
    let mut origin = Replica::new(ORIGIN);
    commit(&mut origin, vec![write(0, 1), write(1, 1)]);
    let old = informed(&origin);
    commit(&mut origin, vec![write(0, 2)]);
    let mut peer = Replica::new(peer(1));
    peer.merge(&origin.delta(ORIGIN, peer.request(ORIGIN), 1).unwrap()).unwrap();
    assert_eq!(old.delta(ORIGIN, peer.request(ORIGIN), 1), None, "it has no more than was sent");
    peer.unstage(ORIGIN);
    sync(&mut peer, &old);
    assert_same(&peer, &old);
}

#[test]
fn a_node_that_lost_its_disk_states_its_history_anew() {
    let mut origin = Replica::new(ORIGIN);
    commit(&mut origin, vec![write(0, 1), write(1, 1)]);
    commit(&mut origin, vec![write(2, 1)]);
    let mut peer = informed(&origin);
    let mut reborn = Replica::new(ORIGIN);
    let delta = reborn.prepare_restatement(peer.newest(ORIGIN), [write(1, 1), write(3, 1)]);
    assert_eq!((delta.to, delta.floor), (Version::new(4), Version::new(3)));
    reborn.commit(&delta);
    let changes = peer.merge(&delta).unwrap();
    let keys: Vec<_> = changes.iter().map(|c| c.key.clone()).collect();
    assert_eq!(keys, [key(0), key(2), key(1), key(3)], "each row has another version to store");
    assert_same(&peer, &reborn);
    commit(&mut reborn, vec![write(0, 5)]);
    sync(&mut peer, &reborn);
    assert_same(&peer, &reborn);
    assert!(informed(&peer).lacks(ORIGIN, &Extent::up_to(Version::new(6))));
}

#[test]
fn a_distrusted_history_is_shown_until_a_full_answer_replaces_it() {
    let mut origin = Replica::new(ORIGIN);
    let mut wrong = Replica::new(ORIGIN);
    commit(&mut origin, vec![write(0, 1), write(1, 1)]);
    commit(&mut origin, vec![write(2, 1)]);
    commit(&mut wrong, vec![write(0, 9), write(5, 1)]);
    let first = commit(&mut wrong, vec![write(2, 1)]);
    let mut peer = informed(&wrong);
    assert_eq!(peer.head(ORIGIN), origin.head(ORIGIN));
    assert_ne!(peer.digest(ORIGIN), origin.digest(ORIGIN));
    peer.distrust(ORIGIN);
    assert_eq!(shown(&peer), shown(&wrong));
    assert_eq!((peer.head(ORIGIN), peer.summary()), (Version::ZERO, 0));
    assert!(peer.lacks(ORIGIN, &Extent::up_to(origin.head(ORIGIN))));
    assert_eq!(peer.merge(&first), Ok(vec![]), "one commit is no answer");
    assert_eq!(peer.newest(ORIGIN), Version::new(2));
    sync(&mut peer, &origin);
    assert_same(&peer, &origin);
    assert_eq!(peer.row(ORIGIN, &key(0)), origin.row(ORIGIN, &key(0)));
    assert!(!peer.lacks(ORIGIN, &Extent::up_to(origin.head(ORIGIN))));
}

#[test]
fn what_a_forgotten_node_said_never_returns() {
    let mut origin = Replica::new(ORIGIN);
    let stale = commit(&mut origin, vec![write(0, 1), write(1, 1)]);
    let mut peer = informed(&origin);
    assert_eq!(peer.forget(ORIGIN).len(), 2);
    assert_eq!(peer.summary(), 0);
    assert_eq!(peer.forgotten().collect::<Vec<_>>(), [(ORIGIN, Version::new(1))]);
    assert!(!peer.lacks(ORIGIN, &Extent::up_to(Version::new(1))));
    assert_eq!(peer.merge(&stale), Ok(vec![]));
    assert!(shown(&peer).is_empty());
    let back = origin.prepare_restatement(peer.newest(ORIGIN), [delete(0)]);
    origin.commit(&back);
    assert!(peer.lacks(ORIGIN, &back.extent));
    peer.merge(&back).unwrap();
    assert_same(&peer, &origin);
    assert_eq!(shown(&peer).len(), 1);
}
