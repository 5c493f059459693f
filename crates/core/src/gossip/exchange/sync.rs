//! Anti-entropy: finding missing rows by digests, and requesting them from peers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::super::{Frame, HeadEntry, Want};
use super::link::MAX_WANTED;
use super::{Exchange, ExchangeOutput, MAX_ORIGINS, MAX_VERSION};
use crate::model::NodeId;
use crate::replica::{BUCKETS, Delta, Extent, MergeError, Replica, Version};

/// How long a peer may send no requested rows before another peer is asked.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a peer may send the rows of other nodes before another peer is asked for a node's rows.
const MAX_ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// The limit of nodes whose rows one peer is asked for at a time, so that several peers supply a new member.
const MAX_ASKED: usize = 256;
/// The limit of peers that are remembered as sources of a node's missing rows.
const MAX_SOURCES: usize = 4;
/// How long the own rows have to be unchanged before a different digest is followed up.
const QUIET: Duration = Duration::from_millis(300);
/// If the last comparison on a link was this long ago, a different digest is followed up in any case.
const LONG_AGO: Duration = Duration::from_secs(5);
/// A link is young for this time: commits that its peer has and this agent lacks are older than the link, so they are
/// not being pushed.
const YOUNG: Duration = Duration::from_secs(2);
/// If a peer's head is ahead by more than this many versions, the missing commits are not being pushed.
const FAR_BEHIND: u64 = 256;
/// If rows of more nodes than this are missing at once, this agent is a new member, and its peers have the rows already.
const MAX_NEWS: usize = 16;
/// How long equal heads with different rows have to persist before they count as a divergence.
const DIVERGENCE_TIMEOUT: Duration = Duration::from_secs(1);
/// The limit of suspected divergences that are remembered.
const MAX_SUSPICIONS: usize = 1024;
/// The shortest interval between two comparisons at one peer's request.
const MIN_COMPARE_INTERVAL: Duration = Duration::from_millis(50);
/// How long the digest of a member without a link has to differ before a link to it is sought.
const LASTING: Duration = Duration::from_secs(4);
/// The shortest interval between two links that are sought because of a lasting difference.
const MIN_SEEK_INTERVAL: Duration = Duration::from_secs(10);
/// The limit of members without a link that are watched for differences.
const MAX_UNLINKED: usize = 256;
/// The number of own versions that this agent can have lost. A peer that claims to know more is faulty.
const MAX_LOST: u64 = 1 << 40;
/// The shortest interval between two restatements of the own history for the same reason.
const MIN_RESTATE_INTERVAL: Duration = Duration::from_secs(10);

/// Members without a link whose digest differs from the own one.
#[derive(Debug, Default)]
pub(super) struct UnlinkedMembers {
    /// The digests of both sides, and since when they have these values.
    seen: BTreeMap<NodeId, ((u64, u64), Instant)>,
    sought: Option<Instant>,
}

impl UnlinkedMembers {
    /// Whether a difference has lasted so long that it will not resolve by itself. True for one member at a time.
    fn is_lasting(&mut self, now: Instant, node: NodeId, summaries: (u64, u64)) -> bool {
        if self.seen.len() >= MAX_UNLINKED && !self.seen.contains_key(&node) {
            self.seen.pop_first();
        }
        let (known, since) = self.seen.entry(node).or_insert((summaries, now));
        if *known != summaries {
            (*known, *since) = (summaries, now);
        }
        let is_old = now.saturating_duration_since(*since) >= LASTING;
        let is_free =
            self.sought.is_none_or(|at| now.saturating_duration_since(at) >= MIN_SEEK_INTERVAL);
        if is_old && is_free {
            self.sought = Some(now);
        }
        is_old && is_free
    }
}

/// The rows that are known to be missing, by the node whose rows they are.
#[derive(Debug, Default)]
pub(super) struct Lacking {
    origins: BTreeMap<NodeId, Lack>,
    due: BTreeSet<(Instant, NodeId)>,
    /// Nodes that wait until a peer has answered for others.
    waiting: BTreeSet<NodeId>,
    asked: BTreeMap<NodeId, usize>,
    /// When each peer last sent requested rows.
    heard: BTreeMap<NodeId, Instant>,
    suspicions: BTreeMap<NodeId, Suspicion>,
}

#[derive(Debug)]
struct Lack {
    extent: Extent,
    sources: Vec<Source>,
    due: Instant,
    asked: Option<NodeId>,
    /// When the peer was asked, or when it last answered in part.
    asked_at: Instant,
}

/// A peer that can be asked, and the commits that it claims to have; other peers may have more.
#[derive(Debug)]
struct Source {
    peer: NodeId,
    extent: Extent,
}

impl Lack {
    /// Records what a peer has. Beyond the limit, the peers with the newest commits are kept.
    fn note_source(&mut self, peer: NodeId, extent: &Extent) {
        let extent = extent.clone();
        if let Some(source) = self.sources.iter_mut().find(|source| source.peer == peer) {
            source.extent = extent;
        } else if self.sources.len() < MAX_SOURCES {
            self.sources.push(Source { peer, extent });
        } else if let Some(oldest) = self.sources.iter_mut().min_by_key(|s| s.extent.newest())
            && oldest.extent.newest() < extent.newest()
        {
            *oldest = Source { peer, extent };
        }
    }

    fn forget_source(&mut self, peer: NodeId) {
        self.sources.retain(|source| source.peer != peer);
    }
}

/// A possible divergence: the heads of a node were equal and its rows were not.
#[derive(Debug)]
struct Suspicion {
    extent: Extent,
    mine: u64,
    since: Instant,
}

impl Lacking {
    pub(super) fn len(&self) -> usize {
        self.origins.len()
    }

    pub(super) fn newest_head(&self, origin: NodeId) -> Version {
        self.origins.get(&origin).map_or(Version::ZERO, |lack| lack.extent.newest())
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Records that a peer has these commits of a node's history, which are to be requested at `due`.
    pub(super) fn add(&mut self, origin: NodeId, extent: &Extent, source: NodeId, due: Instant) {
        let lack = self.origins.entry(origin).or_insert_with(|| {
            self.due.insert((due, origin));
            Lack { extent: Extent::default(), sources: Vec::new(), due, asked: None, asked_at: due }
        });
        lack.extent.join(extent);
        if !lack.extent.is_sound() {
            lack.extent.clone_from(extent);
        }
        lack.note_source(source, extent);
        if due < lack.due && lack.asked.is_none() {
            self.due.remove(&(lack.due, origin));
            lack.due = due;
            self.due.insert((due, origin));
        }
    }

    fn remove(&mut self, origin: NodeId) {
        if let Some(lack) = self.origins.remove(&origin) {
            self.due.remove(&(lack.due, origin));
            self.waiting.remove(&origin);
            self.release(lack.asked);
        }
    }

    fn release(&mut self, asked: Option<NodeId>) {
        if let Some(count) = asked.and_then(|peer| self.asked.get_mut(&peer)) {
            *count = count.saturating_sub(1);
        }
    }

    /// Makes an origin due at once, and no longer waits for the peer that was asked.
    fn ask_again(&mut self, now: Instant, origin: NodeId) {
        let asked = self.origins.get_mut(&origin).and_then(|lack| lack.asked.take());
        self.release(asked);
        self.put_off(origin, now);
    }

    fn put_off(&mut self, origin: NodeId, due: Instant) {
        if let Some(lack) = self.origins.get_mut(&origin) {
            self.due.remove(&(lack.due, origin));
            lack.due = due;
            self.due.insert((due, origin));
        }
    }

    /// Removes a peer that is gone; the nodes that it was asked for are due again.
    pub(super) fn handle_peer_gone(&mut self, now: Instant, peer: NodeId) {
        self.asked.remove(&peer);
        self.heard.remove(&peer);
        let concerned: Vec<NodeId> = self
            .origins
            .iter_mut()
            .filter_map(|(origin, lack)| {
                lack.forget_source(peer);
                (lack.asked == Some(peer)).then(|| {
                    lack.asked = None;
                    *origin
                })
            })
            .collect();
        for origin in concerned {
            self.put_off(origin, now);
        }
    }

    /// Takes the nodes that are to be requested now: those that are due, and those that waited for a free peer.
    fn take_due(&mut self, now: Instant) -> Vec<NodeId> {
        let mut due = Vec::new();
        while due.len() < MAX_ASKED
            && let Some(origin) = self.waiting.pop_first()
        {
            due.push(origin);
        }
        while let Some((at, origin)) = self.due.first().copied()
            && at <= now
        {
            self.due.pop_first();
            due.push(origin);
        }
        due
    }
}

/// The digest of each group of nodes.
pub(super) fn buckets_of(replica: &Replica) -> Vec<u64> {
    (0..BUCKETS).map(|bucket| replica.bucket_summary(bucket)).collect()
}

fn entries(replica: &Replica, mask: u64) -> impl Iterator<Item = HeadEntry> {
    let told = replica.told_in(mask);
    told.map(|(origin, extent, digest)| HeadEntry { origin, extent: extent.clone(), digest })
}

impl Exchange {
    /// Takes the digest of a member's rows, from a link or a packet.
    pub fn handle_summary(&mut self, now: Instant, from: NodeId, summary: u64, replica: &Replica) {
        if summary == replica.summary() {
            self.unlinked.seen.remove(&from);
            return;
        }
        let since_change = now.saturating_duration_since(self.changed);
        match self.links.get_mut(&from) {
            Some(link) => {
                let is_long_ago =
                    link.compared.is_none_or(|at| now.saturating_duration_since(at) >= LONG_AGO);
                let is_recent =
                    link.compared.is_some_and(|at| now.saturating_duration_since(at) < QUIET);
                if is_long_ago || (since_change >= QUIET && !is_recent) {
                    link.compared = Some(now);
                    self.send(from, Frame::Buckets(buckets_of(replica)));
                }
            }
            None => {
                // A lasting difference means that no path of links leads to that member.
                if self.unlinked.is_lasting(now, from, (summary, replica.summary())) {
                    self.view.seek(now, from);
                }
            }
        }
    }

    /// Whether a peer may have its heads compared again.
    pub(super) fn may_compare(&mut self, now: Instant, from: NodeId) -> bool {
        let Some(link) = self.links.get_mut(&from) else { return false };
        let is_soon = link
            .answered
            .is_some_and(|at| now.saturating_duration_since(at) < MIN_COMPARE_INTERVAL);
        if !is_soon {
            link.answered = Some(now);
        }
        !is_soon
    }

    pub(super) fn compare_with_someone(&mut self, replica: &Replica) {
        let links: Vec<NodeId> = self.links.keys().copied().collect();
        if let Some(node) = self.random.choose(links, 1).first() {
            self.send(*node, Frame::Summary(replica.summary()));
        }
    }

    pub(super) fn handle_buckets(
        &mut self,
        now: Instant,
        from: NodeId,
        theirs: &[u64],
        replica: &Replica,
    ) {
        let differs = |bucket: &usize| theirs[*bucket] != replica.bucket_summary(*bucket);
        let mask = (0..BUCKETS).filter(differs).fold(0, |mask, bucket| mask | 1_u64 << bucket);
        if mask == 0 || !self.may_compare(now, from) {
            return;
        }
        self.stats.differences += 1;
        let heads = entries(replica, mask).collect();
        self.send(from, Frame::Heads { buckets: mask, wants_reply: true, heads });
    }

    /// Answers with the own heads that differ from the peer's.
    pub(super) fn reply_heads(
        &mut self,
        from: NodeId,
        buckets: u64,
        theirs: &[HeadEntry],
        replica: &Replica,
    ) {
        let theirs: BTreeMap<NodeId, &HeadEntry> =
            theirs.iter().map(|entry| (entry.origin, entry)).collect();
        let heads: Vec<HeadEntry> = entries(replica, buckets)
            .filter(|mine| theirs.get(&mine.origin).is_none_or(|other| *other != mine))
            .collect();
        if !heads.is_empty() {
            self.send(from, Frame::Heads { buckets, wants_reply: false, heads });
        }
    }

    pub(super) fn handle_heads(
        &mut self,
        now: Instant,
        from: NodeId,
        heads: &[HeadEntry],
        replica: &mut Replica,
    ) {
        let is_young = self
            .links
            .get(&from)
            .is_some_and(|link| now.saturating_duration_since(link.since) < YOUNG);
        if !heads.is_sorted_by(|a, b| a.origin < b.origin) {
            return self.misbehaved(from, "sent heads that are not in order".to_owned());
        }
        for entry in heads {
            let HeadEntry { origin, ref extent, digest } = *entry;
            if extent.newest() > MAX_VERSION || !extent.is_sound() {
                return self.misbehaved(from, format!("commits {extent:?} cannot be"));
            }
            let told = replica.told(origin);
            if origin == self.own {
                // If the peer has commits above a gap, its digest cannot be compared.
                let digest = if extent.early().is_empty() { digest } else { 0 };
                self.compare_own(now, from, extent.newest(), digest, replica);
            } else if replica.lacks(origin, extent) {
                let known = replica.known() + self.lacking.len();
                if !replica.knows(origin) && known >= MAX_ORIGINS {
                    return self.misbehaved(from, format!("more than {MAX_ORIGINS} nodes"));
                }
                let head = extent.head().as_u64();
                let gap = head - replica.head(origin).as_u64().min(head);
                let is_old = is_young || gap > FAR_BEHIND;
                let due = if is_old { now } else { now + self.settings.grace };
                self.lacking.add(origin, extent, from, due);
            } else if told.is_some_and(|(mine, other)| mine == extent && other != digest) {
                self.suspect(now, from, entry, replica);
            } else {
                self.lacking.suspicions.remove(&origin);
            }
        }
        self.ask_for_lacking(now, replica);
    }

    /// Handles equal commits with different rows. If the difference persists, one of the two sides is wrong: the rows
    /// with the higher digest win, unless the node itself finds them wrong and restates its history.
    fn suspect(&mut self, now: Instant, from: NodeId, entry: &HeadEntry, replica: &mut Replica) {
        let mine = replica.digest(entry.origin);
        match self.lacking.suspicions.get(&entry.origin) {
            Some(seen) if seen.extent == entry.extent && seen.mine == mine => {
                if now.saturating_duration_since(seen.since) < DIVERGENCE_TIMEOUT {
                    return;
                }
                self.lacking.suspicions.remove(&entry.origin);
                self.stats.divergences += 1;
                if mine < entry.digest {
                    replica.distrust(entry.origin);
                    self.lacking.add(entry.origin, &entry.extent, from, now);
                }
            }
            Some(_) | None => {
                if self.lacking.suspicions.len() < MAX_SUSPICIONS {
                    let suspicion = Suspicion { extent: entry.extent.clone(), mine, since: now };
                    self.lacking.suspicions.insert(entry.origin, suspicion);
                }
            }
        }
    }

    /// Compares a peer's knowledge of the own history with the own history.
    pub(super) fn compare_own(
        &mut self,
        now: Instant,
        from: NodeId,
        head: Version,
        digest: u64,
        replica: &Replica,
    ) {
        let own_head = replica.head(self.own);
        if head > MAX_VERSION {
            return self.misbehaved(from, format!("version {head} cannot be"));
        }
        if head.as_u64() > own_head.as_u64().saturating_add(MAX_LOST) {
            return self.misbehaved(from, format!("version {head} of this node cannot be"));
        }
        let is_known = head == own_head && head > Version::ZERO && digest != 0;
        let is_other = is_known && digest != replica.digest(self.own);
        if head > own_head || is_other {
            self.restate(now, head);
        }
    }

    pub(super) fn restate(&mut self, now: Instant, above: Version) {
        let is_done = self.restated.is_some_and(|(at, was_above)| {
            was_above >= above && now.saturating_duration_since(at) < MIN_RESTATE_INTERVAL
        });
        if !is_done {
            self.restated = Some((now, above));
            self.outputs.push_back(ExchangeOutput::Restate { above });
        }
    }

    /// Requests the rows that are due from peers.
    pub(super) fn ask_for_lacking(&mut self, now: Instant, replica: &mut Replica) {
        let mut wants: BTreeMap<NodeId, Vec<Want>> = BTreeMap::new();
        for origin in self.lacking.take_due(now) {
            let Some(lack) = self.lacking.origins.get_mut(&origin) else { continue };
            // The peer is sending the rows of other nodes first.
            let heard = lack.asked.and_then(|peer| self.lacking.heard.get(&peer));
            if let Some(heard) = heard
                && *heard + ANSWER_TIMEOUT > now
                && lack.asked_at + MAX_ANSWER_TIMEOUT > now
            {
                let due = *heard + ANSWER_TIMEOUT;
                self.lacking.put_off(origin, due);
                continue;
            }
            // A peer that was asked and did not answer is no source any more.
            if let Some(silent) = lack.asked.take() {
                lack.forget_source(silent);
                self.lacking.release(Some(silent));
                replica.unstage(origin);
            }
            let Some(lack) = self.lacking.origins.get_mut(&origin) else { continue };
            // A peer without any missing commit would not answer.
            lack.sources.retain(|source| {
                self.links.contains_key(&source.peer) && replica.lacks(origin, &source.extent)
            });
            if lack.sources.is_empty() || !replica.lacks(origin, &lack.extent) {
                self.lacking.remove(origin);
                continue;
            }
            let load = |peer: &NodeId| self.lacking.asked.get(peer).copied().unwrap_or(0);
            let peers = lack.sources.iter().map(|source| source.peer);
            let Some(peer) = peers.min_by_key(load).filter(|peer| load(peer) < MAX_ASKED) else {
                self.lacking.waiting.insert(origin);
                continue;
            };
            *self.lacking.asked.entry(peer).or_insert(0) += 1;
            (lack.asked, lack.asked_at) = (Some(peer), now);
            self.lacking.put_off(origin, now + ANSWER_TIMEOUT);
            let want = Want { origin, request: replica.request(origin) };
            wants.entry(peer).or_default().push(want);
        }
        for (peer, wants) in wants {
            self.send(peer, Frame::Want(wants));
        }
    }

    pub(super) fn handle_wants(&mut self, from: NodeId, wants: Vec<Want>) {
        let Some(link) = self.links.get_mut(&from) else { return };
        for want in wants {
            if link.wanted.len() < MAX_WANTED {
                link.wanted.insert(want.origin, want.request);
            }
        }
        self.outputs.push_back(ExchangeOutput::Ready(from));
    }

    /// Takes rows that this agent has requested.
    pub(super) fn handle_rows(
        &mut self,
        now: Instant,
        from: NodeId,
        deltas: Vec<Delta>,
        replica: &mut Replica,
    ) {
        self.lacking.heard.insert(from, now);
        // A few gaps are new commits that the tree lost, which the members behind this agent in the tree lack, too.
        let is_news = self.lacking.len() <= MAX_NEWS;
        for delta in deltas {
            if !self.admits(now, from, &delta, replica) {
                continue;
            }
            let origin = delta.origin;
            let head_before = replica.head(origin);
            match replica.merge(&delta) {
                Ok(rows) => {
                    let has_moved = replica.head(origin) != head_before;
                    if has_moved || !rows.is_empty() {
                        self.tell_visible(now, origin, rows);
                    }
                    if is_news && has_moved {
                        self.graft(from);
                        self.pass_on(origin, head_before, Some(from));
                    }
                }
                // The answer begins where it was asked to and still leaves a gap: the staged rows cannot be completed.
                Err(MergeError::Gap { .. }) if delta.from == replica.request(origin).above => {
                    replica.unstage(origin);
                    self.lacking.ask_again(now, origin);
                    continue;
                }
                Err(MergeError::Gap { .. }) => continue,
                Err(error) => {
                    self.lacking.remove(origin);
                    self.misbehaved(from, error.to_string());
                    continue;
                }
            }
            self.follow_lack(now, (origin, from), delta.is_last(), replica);
        }
        self.ask_for_lacking(now, replica);
    }

    /// Updates what is missing of a node after a peer has sent rows of it; `is_all` means that the peer has no more.
    fn follow_lack(
        &mut self,
        now: Instant,
        (origin, from): (NodeId, NodeId),
        is_all: bool,
        replica: &Replica,
    ) {
        let Some(lack) = self.lacking.origins.get_mut(&origin) else { return };
        let source = lack.sources.iter().find(|source| source.peer == from);
        let is_answered = source.is_some_and(|source| !replica.lacks(origin, &source.extent));
        if !replica.lacks(origin, &lack.extent) {
            self.lacking.remove(origin);
        } else if lack.asked == Some(from) && (is_all || is_answered) {
            // Other peers have claimed to have more.
            lack.forget_source(from);
            self.lacking.ask_again(now, origin);
        } else {
            lack.asked_at = now;
            self.lacking.put_off(origin, now + ANSWER_TIMEOUT);
        }
    }
}
