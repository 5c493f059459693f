//! Anti-entropy: from digests to what is missing, and who is asked for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::super::{Frame, HeadEntry, Want};
use super::link::MOST_WANTED;
use super::{Exchange, ExchangeOutput, LAST_VERSION, MOST_ORIGINS};
use crate::model::NodeId;
use crate::replica::{BUCKETS, Delta, Extent, MergeError, Replica, Version};

/// How long a peer may take to send what it was asked for before another is asked.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// Who sends others first is given this long.
const LONGEST_ANSWER_TIME: Duration = Duration::from_secs(60);
/// Nodes whose rows one peer is asked for at a time, so that several can feed a newcomer.
const MOST_ASKED: usize = 256;
/// Peers that are remembered to have what is lacking.
const MOST_SOURCES: usize = 4;
/// Differences are looked into when nothing has changed for so long, or when the last look was long ago.
const QUIET: Duration = Duration::from_millis(300);
const LONG_AGO: Duration = Duration::from_secs(5);
/// A link is young for so long: what its peer has beyond us is not on its way, it is from before.
const YOUNG: Duration = Duration::from_secs(2);
/// A head that is further away than this is not on its way.
const FAR_BEHIND: u64 = 256;
/// Rows of so many nodes missing at once are a newcomer's, which others have already.
const FEW: usize = 16;
/// Equal heads with different rows are believed when they stay so for this long.
const SUSPICION: Duration = Duration::from_secs(1);
/// Suspicions that are remembered.
const MOST_SUSPICIONS: usize = 1024;
/// Time between two comparisons at one peer's wish.
const COMPARE_PAUSE: Duration = Duration::from_millis(50);
/// How long a difference from a member without a link lasts before a link is sought, and the time between two such.
const LASTING: Duration = Duration::from_secs(4);
const SEEK_PAUSE: Duration = Duration::from_secs(10);
/// Members without a link that are watched for differences.
const MOST_STRANGERS: usize = 256;
/// No own history is honestly known this much further elsewhere.
const MOST_LOST: u64 = 1 << 40;
/// Time between two restatements of the own history for the same reason.
const RESTATE_PAUSE: Duration = Duration::from_secs(10);

/// Members without a link whose catalogs came to something else than the own one.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    /// Both summaries, and since when they are so.
    seen: BTreeMap<NodeId, ((u64, u64), Instant)>,
    sought: Option<Instant>,
}

impl Strangers {
    /// Whether a difference has lasted for so long that it will not pass by itself. True for one member at a time.
    fn is_lasting(&mut self, now: Instant, node: NodeId, summaries: (u64, u64)) -> bool {
        if self.seen.len() >= MOST_STRANGERS && !self.seen.contains_key(&node) {
            self.seen.pop_first();
        }
        let (known, since) = self.seen.entry(node).or_insert((summaries, now));
        if *known != summaries {
            (*known, *since) = (summaries, now);
        }
        let is_old = now.saturating_duration_since(*since) >= LASTING;
        let is_free = self.sought.is_none_or(|at| now.saturating_duration_since(at) >= SEEK_PAUSE);
        if is_old && is_free {
            self.sought = Some(now);
        }
        is_old && is_free
    }
}

/// What is known to be missing.
#[derive(Debug, Default)]
pub(super) struct Lacking {
    origins: BTreeMap<NodeId, Lack>,
    due: BTreeSet<(Instant, NodeId)>,
    /// Those that wait until a peer has answered for others.
    waiting: BTreeSet<NodeId>,
    asked: BTreeMap<NodeId, usize>,
    /// When a peer last sent rows that were asked for.
    heard: BTreeMap<NodeId, Instant>,
    suspicions: BTreeMap<NodeId, Suspicion>,
}

#[derive(Debug)]
struct Lack {
    extent: Extent,
    sources: Vec<Source>,
    due: Instant,
    asked: Option<NodeId>,
    /// When, or when it last answered in part.
    asked_at: Instant,
}

/// Who can be asked, and what it said to have: others may have said more.
#[derive(Debug)]
struct Source {
    peer: NodeId,
    extent: Extent,
}

impl Lack {
    /// Notes what a peer has; of too many peers, those with the newest are kept.
    fn note_source(&mut self, peer: NodeId, extent: &Extent) {
        let extent = extent.clone();
        if let Some(source) = self.sources.iter_mut().find(|source| source.peer == peer) {
            source.extent = extent;
        } else if self.sources.len() < MOST_SOURCES {
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

/// Heads were equal and rows were not.
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

    /// Notes that a peer has these commits of a node's history.
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

    /// Makes an origin due, whoever was asked for it.
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

    /// A peer is gone: what it was asked for is due again.
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

    /// Those to be asked for now: what is due, and what waited for room.
    fn take_due(&mut self, now: Instant) -> Vec<NodeId> {
        let mut due = Vec::new();
        while due.len() < MOST_ASKED
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

/// What each group of nodes comes to.
pub(super) fn buckets_of(replica: &Replica) -> Vec<u64> {
    (0..BUCKETS).map(|bucket| replica.bucket_summary(bucket)).collect()
}

fn entries(replica: &Replica, mask: u64) -> impl Iterator<Item = HeadEntry> {
    let told = replica.told_in(mask);
    told.map(|(origin, extent, digest)| HeadEntry { origin, extent: extent.clone(), digest })
}

impl Exchange {
    /// Takes what a member's catalog comes to, from a link or a packet.
    pub fn handle_summary(&mut self, now: Instant, from: NodeId, summary: u64, replica: &Replica) {
        if summary == replica.summary() {
            self.strangers.seen.remove(&from);
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
                // If it stays so, it is on the other side of a torn active view.
                if self.strangers.is_lasting(now, from, (summary, replica.summary())) {
                    self.view.seek(now, from);
                }
            }
        }
    }

    /// Whether a peer may have its heads compared again.
    pub(super) fn may_compare(&mut self, now: Instant, from: NodeId) -> bool {
        let Some(link) = self.links.get_mut(&from) else { return false };
        let is_soon =
            link.answered.is_some_and(|at| now.saturating_duration_since(at) < COMPARE_PAUSE);
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

    /// Answers with what differs from the peer's heads.
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
            if extent.newest() > LAST_VERSION || !extent.is_sound() {
                return self.misbehaved(from, format!("commits {extent:?} cannot be"));
            }
            let told = replica.told(origin);
            if origin == self.own {
                // With something above a gap, another digest at the newest version says nothing.
                let digest = if extent.early().is_empty() { digest } else { 0 };
                self.compare_own(now, from, extent.newest(), digest, replica);
            } else if replica.lacks(origin, extent) {
                let known = replica.known() + self.lacking.len();
                if !replica.knows(origin) && known >= MOST_ORIGINS {
                    return self.misbehaved(from, format!("more than {MOST_ORIGINS} nodes"));
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

    /// Commits are equal and rows are not. If that stays so, one of both is wrong: the higher digest wins, unless
    /// the node itself sees that it is wrong and states its history anew.
    fn suspect(&mut self, now: Instant, from: NodeId, entry: &HeadEntry, replica: &mut Replica) {
        let mine = replica.digest(entry.origin);
        match self.lacking.suspicions.get(&entry.origin) {
            Some(seen) if seen.extent == entry.extent && seen.mine == mine => {
                if now.saturating_duration_since(seen.since) < SUSPICION {
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
                if self.lacking.suspicions.len() < MOST_SUSPICIONS {
                    let suspicion = Suspicion { extent: entry.extent.clone(), mine, since: now };
                    self.lacking.suspicions.insert(entry.origin, suspicion);
                }
            }
        }
    }

    /// Compares what a peer knows of the own history with the truth.
    pub(super) fn compare_own(
        &mut self,
        now: Instant,
        from: NodeId,
        head: Version,
        digest: u64,
        replica: &Replica,
    ) {
        let own_head = replica.head(self.own);
        if head > LAST_VERSION {
            return self.misbehaved(from, format!("version {head} cannot be"));
        }
        if head.as_u64() > own_head.as_u64().saturating_add(MOST_LOST) {
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
            was_above >= above && now.saturating_duration_since(at) < RESTATE_PAUSE
        });
        if !is_done {
            self.restated = Some((now, above));
            self.outputs.push_back(ExchangeOutput::Restate { above });
        }
    }

    /// Asks peers for what is due.
    pub(super) fn ask_for_lacking(&mut self, now: Instant, replica: &mut Replica) {
        let mut wants: BTreeMap<NodeId, Vec<Want>> = BTreeMap::new();
        for origin in self.lacking.take_due(now) {
            let Some(lack) = self.lacking.origins.get_mut(&origin) else { continue };
            // It has others to send first.
            let heard = lack.asked.and_then(|peer| self.lacking.heard.get(&peer));
            if let Some(heard) = heard
                && *heard + ANSWER_TIME > now
                && lack.asked_at + LONGEST_ANSWER_TIME > now
            {
                let due = *heard + ANSWER_TIME;
                self.lacking.put_off(origin, due);
                continue;
            }
            // Who was asked and did not answer comes last.
            if let Some(silent) = lack.asked.take() {
                lack.forget_source(silent);
                self.lacking.release(Some(silent));
                replica.unstage(origin);
            }
            let Some(lack) = self.lacking.origins.get_mut(&origin) else { continue };
            // Who has nothing that is lacking would not answer.
            lack.sources.retain(|source| {
                self.links.contains_key(&source.peer) && replica.lacks(origin, &source.extent)
            });
            if lack.sources.is_empty() || !replica.lacks(origin, &lack.extent) {
                self.lacking.remove(origin);
                continue;
            }
            let load = |peer: &NodeId| self.lacking.asked.get(peer).copied().unwrap_or(0);
            let peers = lack.sources.iter().map(|source| source.peer);
            let Some(peer) = peers.min_by_key(load).filter(|peer| load(peer) < MOST_ASKED) else {
                self.lacking.waiting.insert(origin);
                continue;
            };
            *self.lacking.asked.entry(peer).or_insert(0) += 1;
            (lack.asked, lack.asked_at) = (Some(peer), now);
            self.lacking.put_off(origin, now + ANSWER_TIME);
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
            if link.wanted.len() < MOST_WANTED {
                link.wanted.insert(want.origin, want.request);
            }
        }
        self.outputs.push_back(ExchangeOutput::Ready(from));
    }

    /// Takes rows that were asked for.
    pub(super) fn handle_rows(
        &mut self,
        now: Instant,
        from: NodeId,
        deltas: Vec<Delta>,
        replica: &mut Replica,
    ) {
        self.lacking.heard.insert(from, now);
        // Few gaps are news that the tree lost: whoever hangs behind this agent lacks it too.
        let is_news = self.lacking.len() <= FEW;
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
                // It answers what was asked and yet is of no use: what is held back cannot be completed so.
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

    /// What was lacking has come from a peer, or some of it; `is_all` when that peer has no more.
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
            // Others said that there is more.
            lack.forget_source(from);
            self.lacking.ask_again(now, origin);
        } else {
            lack.asked_at = now;
            self.lacking.put_off(origin, now + ANSWER_TIME);
        }
    }
}
