//! How long nodes stay known that are gone.
//!
//! A node that was gone for longer than it is kept is forgotten: its rows vanish, and a marker keeps stale peers from
//! bringing them back. So is a node whose name another one has taken. A node that comes back after it was forgotten
//! states its history again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::output::Moment;
use super::participant::{Draft, Participant, Refusal, Settling};
use crate::model::{NodeId, NodeName, Timestamp};
use crate::replica::{Replica, RowKey, Version};

/// Time between two looks for nodes that are gone for good.
const TIDY_INTERVAL: Duration = Duration::from_secs(5);
/// A node is forgotten after it was not seen for this long since the start, however long it was gone before.
const MIN_SEEN_GONE: Duration = Duration::from_secs(600);
/// For how long after a start the rows of a node that no member knows are believed.
const BELIEVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The participant that stores since when nodes are gone, and which are forgotten.
#[derive(Debug)]
pub(super) struct Lifetimes {
    reap_after: Duration,
    started: Instant,
    next_tidy: Instant,
    /// Nodes with rows that are not among the live members.
    gone: BTreeMap<NodeId, Gone>,
    /// When `gone` changed without being stored.
    changed: Option<Instant>,
    /// Nodes to be forgotten on disk, each with its last version.
    forgotten: Vec<(NodeId, Version)>,
    in_flight: Option<InFlight>,
}

/// What a batch on its way stores.
#[derive(Debug)]
struct InFlight {
    changed: Option<Instant>,
    forgotten: Vec<(NodeId, Version)>,
}

/// Since when a node is gone.
#[derive(Debug, Clone, Copy)]
struct Gone {
    /// For how long it was gone when this host started.
    before: Duration,
    /// Since when this host has seen it gone since its start.
    seen: Instant,
}

impl Gone {
    fn seen_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.seen)
    }

    fn since(&self, moment: Moment) -> Timestamp {
        moment.wall.before(self.before + self.seen_for(moment.now))
    }
}

/// What a look found of the nodes that are no live members.
#[derive(Debug, Default)]
pub(super) struct Tidied {
    /// They may come back, and are down until then.
    pub(super) down: Vec<NodeId>,
    /// They are gone for good.
    pub(super) over: Vec<NodeId>,
}

impl Lifetimes {
    /// Goes on with what was stored.
    pub(super) fn new(moment: Moment, reap_after: Duration, gone: &[(NodeId, Timestamp)]) -> Self {
        let Moment { now, wall } = moment;
        let gone_before = |since: Timestamp| Gone { before: wall.since(since), seen: now };
        Self {
            reap_after,
            started: now,
            next_tidy: now + TIDY_INTERVAL,
            gone: gone.iter().map(|(node, since)| (*node, gone_before(*since))).collect(),
            changed: None,
            forgotten: Vec::new(),
            in_flight: None,
        }
    }

    /// When [`Lifetimes::tidy`] is due.
    pub(super) fn next_tidy(&self) -> Instant {
        self.next_tidy
    }

    fn note_change(&mut self, now: Instant) {
        self.changed = self.changed.or(Some(now));
    }

    /// A node is among the live members.
    pub(super) fn handle_live(&mut self, now: Instant, node: NodeId) {
        if self.gone.remove(&node).is_some() {
            self.note_change(now);
        }
    }

    /// Rows of a node that is gone have come: it was there while no member here looked.
    pub(super) fn handle_news(&mut self, now: Instant, origin: NodeId) {
        // Not with each of many batches: all of it is stored each time.
        if let Some(gone) = self.gone.get_mut(&origin)
            && gone.before + gone.seen_for(now) >= TIDY_INTERVAL
        {
            *gone = Gone { before: Duration::ZERO, seen: now };
            self.note_change(now);
        }
    }

    /// A node is forgotten: its rows are removed from the disk with the next batch.
    pub(super) fn forget(&mut self, now: Instant, origin: NodeId, up_to: Version) {
        self.forgotten.push((origin, up_to));
        self.gone.remove(&origin);
        self.note_change(now);
    }

    /// Looks for nodes that are gone for good, and for those that no live member is. `None` while this host is alone
    /// or has just started: nobody can say then which nodes are gone, and the last known good holds.
    pub(super) fn tidy(
        &mut self,
        now: Instant,
        own: &NodeName,
        live: &BTreeSet<NodeId>,
        replica: &Replica,
    ) -> Option<Tidied> {
        self.next_tidy = now + TIDY_INTERVAL;
        let is_settled = now.saturating_duration_since(self.started) >= BELIEVE_TIMEOUT;
        if live.is_empty() || !is_settled {
            return None;
        }
        let name_of = |origin: NodeId| {
            let row = replica.row(origin, &RowKey::Node)?;
            row.node().map(|node| node.name.clone())
        };
        let others = replica.heads().map(|(origin, _)| origin).filter(|id| *id != replica.own());
        let (present, gone): (Vec<_>, Vec<_>) = others.partition(|origin| live.contains(origin));
        let mut taken: BTreeSet<NodeName> = present.into_iter().filter_map(name_of).collect();
        taken.insert(own.clone());
        for origin in &gone {
            if !self.gone.contains_key(origin) {
                self.gone.insert(*origin, Gone { before: Duration::ZERO, seen: now });
                self.note_change(now);
            }
        }
        let is_replaced = |origin| name_of(origin).is_some_and(|name| taken.contains(&name));
        let (over, down) =
            gone.into_iter().partition(|id| self.is_over(now, *id) || is_replaced(*id));
        Some(Tidied { down, over })
    }

    fn is_over(&self, now: Instant, origin: NodeId) -> bool {
        self.gone.get(&origin).is_some_and(|gone| {
            let seen = gone.seen_for(now);
            let is_seen = seen >= MIN_SEEN_GONE.min(self.reap_after);
            is_seen && gone.before.saturating_add(seen) >= self.reap_after
        })
    }
}

impl Participant for Lifetimes {
    fn due(&self) -> Option<Instant> {
        self.changed
    }

    fn draft(&mut self, moment: Moment, draft: &mut Draft<'_>) {
        let (changed, forgotten) = (self.changed.take(), std::mem::take(&mut self.forgotten));
        let since = || self.gone.iter().map(|(node, gone)| (*node, gone.since(moment))).collect();
        draft.batch.gone = changed.map(|_| since());
        draft.batch.forget.clone_from(&forgotten);
        self.in_flight = Some(InFlight { changed, forgotten });
    }

    fn settle(&mut self, _: Moment, _: &mut Settling<'_>) {
        self.in_flight = None;
    }

    fn put_back(&mut self, _: Moment, _: &mut Refusal<'_>) {
        let Some(InFlight { changed, forgotten }) = self.in_flight.take() else { return };
        self.changed = changed.or(self.changed);
        self.forgotten.extend(forgotten);
    }
}
