//! What clients know: what was acknowledged to them, and what may or may not have happened.

use std::collections::{BTreeMap, VecDeque};

use dunlin_core::host::{Registry, Request, Ticket};
use dunlin_core::model::{CheckId, InstanceId, ProviderId, Registration};
use dunlin_core::replica::{RowKey, RowState};

use crate::client::LEASED;

/// Rows by the stamp that each statement bears.
pub(crate) type Stamped = BTreeMap<RowKey, u64>;

/// What requests without an answer may have made of rows.
pub(crate) type Doubts = BTreeMap<RowKey, Vec<Option<u64>>>;

/// What a request does to the rows of its node.
#[derive(Debug, Clone)]
enum Effect {
    Put(RowKey, u64),
    /// The instance goes, and its checks with it.
    Remove(InstanceId),
    /// The provider's set is this and nothing else.
    Replace(ProviderId, Vec<(InstanceId, u64)>),
}

#[derive(Debug, Default)]
struct Truth {
    acknowledged: Stamped,
    /// The instances that each provider states, as far as that was acknowledged or may be so.
    sets: BTreeMap<ProviderId, Vec<InstanceId>>,
    /// In the order in which they were sent, which is that in which they take effect.
    pending: VecDeque<(Ticket, Vec<Effect>)>,
    /// What requests without an answer may have done before the node crashed.
    doubts: Doubts,
    /// The disk was replaced: whatever the node says next is its truth.
    is_forgotten: bool,
}

#[derive(Debug)]
pub(crate) struct Oracle {
    truths: Vec<Truth>,
    owners: BTreeMap<Ticket, usize>,
    submitted: u64,
    pub(crate) answered: u64,
}

impl Truth {
    /// The rows that an effect changes; `None` for one that goes.
    fn changes(&self, effect: &Effect) -> Vec<(RowKey, Option<u64>)> {
        match effect {
            Effect::Put(key, stamp) => vec![(key.clone(), Some(*stamp))],
            Effect::Remove(id) => self.removals(id),
            Effect::Replace(provider, set) => {
                let before = self.sets.get(provider).into_iter().flatten();
                let gone = before.filter(|id| !set.iter().any(|(other, _)| other == *id));
                let put =
                    |(id, stamp): &(InstanceId, u64)| (RowKey::Instance(id.clone()), Some(*stamp));
                gone.flat_map(|id| self.removals(id)).chain(set.iter().map(put)).collect()
            }
        }
    }

    fn removals(&self, id: &InstanceId) -> Vec<(RowKey, Option<u64>)> {
        let check = CheckId::parse("ttl").expect("short plain text is an id");
        vec![(RowKey::Instance(id.clone()), None), (RowKey::Check(id.clone(), check), None)]
    }

    fn note_set(&mut self, effect: &Effect) {
        if let Effect::Replace(provider, set) = effect {
            let ids = set.iter().map(|(id, _)| id.clone()).collect();
            self.sets.insert(provider.clone(), ids);
        }
    }
}

impl Oracle {
    pub(crate) fn new(nodes: usize) -> Self {
        let truths = (0..nodes).map(|_| Truth::default()).collect();
        Self { truths, owners: BTreeMap::new(), submitted: 0, answered: 0 }
    }

    pub(crate) fn submit(&mut self, node: usize, request: &Request) -> Ticket {
        self.submitted += 1;
        let ticket = Ticket(self.submitted);
        self.truths[node].pending.push_back((ticket, effects(request)));
        self.owners.insert(ticket, node);
        ticket
    }

    fn take(&mut self, ticket: Ticket) -> Option<(usize, Vec<Effect>)> {
        let node = self.owners.remove(&ticket)?;
        let pending = &mut self.truths[node].pending;
        let at = pending.iter().position(|(id, _)| *id == ticket)?;
        self.answered += 1;
        pending.remove(at).map(|(_, effects)| (node, effects))
    }

    pub(crate) fn acknowledge(&mut self, ticket: Ticket) {
        let Some((node, effects)) = self.take(ticket) else { return };
        let truth = &mut self.truths[node];
        for effect in effects {
            for (key, stamp) in truth.changes(&effect) {
                match stamp {
                    Some(stamp) => truth.acknowledged.insert(key, stamp),
                    None => truth.acknowledged.remove(&key),
                };
            }
            truth.note_set(&effect);
        }
    }

    /// A refused request has no effect.
    pub(crate) fn refuse(&mut self, ticket: Ticket) {
        self.take(ticket);
    }

    /// A request that the disk has refused has no effect either, except for what was pushed to a check: it is shown
    /// all the same, and stored later unless the process crashes before.
    pub(crate) fn refuse_by_disk(&mut self, ticket: Ticket) {
        let Some((node, effects)) = self.take(ticket) else { return };
        let truth = &mut self.truths[node];
        for effect in effects {
            if let Effect::Put(key @ RowKey::Check(..), status) = effect {
                let before = truth.acknowledged.insert(key.clone(), status);
                truth.doubts.entry(key).or_default().extend([before, Some(status)]);
            }
        }
    }

    /// A process is gone: requests without an answer may have taken effect.
    pub(crate) fn stopped(&mut self, node: usize) {
        let truth = &mut self.truths[node];
        for (ticket, effects) in std::mem::take(&mut truth.pending) {
            self.owners.remove(&ticket);
            for effect in effects {
                for (key, stamp) in truth.changes(&effect) {
                    truth.doubts.entry(key).or_default().push(stamp);
                }
            }
        }
    }

    pub(crate) fn forget(&mut self, node: usize) {
        self.truths[node].is_forgotten = true;
    }

    /// A process starts with these rows of its own. Returns what clients knew of them before, unless the disk was
    /// replaced.
    pub(crate) fn started(
        &mut self,
        node: usize,
        own: &Stamped,
        registry: &Registry,
    ) -> Option<(Stamped, Doubts)> {
        let truth = &mut self.truths[node];
        let acknowledged = std::mem::replace(&mut truth.acknowledged, own.clone());
        let doubts = std::mem::take(&mut truth.doubts);
        let ids = |provider: &ProviderId| {
            registry.stated(provider).map(|stated| stated.instance.id.clone()).collect()
        };
        let sets = registry.providers().map(|(provider, _)| (provider.clone(), ids(provider)));
        truth.sets = sets.collect();
        let was_forgotten = std::mem::take(&mut truth.is_forgotten);
        (!was_forgotten).then_some((acknowledged, doubts))
    }

    /// What clients know of a node's rows.
    pub(crate) fn acknowledged(&self, node: usize) -> &Stamped {
        &self.truths[node].acknowledged
    }

    /// Requests that were neither acknowledged nor refused.
    pub(crate) fn unanswered(&self, node: usize) -> usize {
        self.truths[node].pending.len()
    }
}

/// What a request does, if it is carried out. Leased instances are left out: they go by themselves.
fn effects(request: &Request) -> Vec<Effect> {
    let stamp = |registration: &Registration| stamp_in(registration.instance.profile.meta.iter());
    match request {
        Request::Register(registration) => {
            let key = RowKey::Instance(registration.instance.id.clone());
            stamp(registration).map(|stamp| Effect::Put(key, stamp)).into_iter().collect()
        }
        Request::Deregister(id) => vec![Effect::Remove(id.clone())],
        Request::PushCheck { instance, check, status, .. } => {
            let key = RowKey::Check(instance.clone(), check.clone());
            vec![Effect::Put(key, *status as u64)]
        }
        Request::PutProvider { provider, instances, .. } => {
            let one = |r: &Registration| Some((r.instance.id.clone(), stamp(r)?));
            let set = instances.iter().filter(|r| r.instance.id.as_str() != LEASED);
            vec![Effect::Replace(provider.clone(), set.filter_map(one).collect())]
        }
        Request::RemoveProvider(provider) => vec![Effect::Replace(provider.clone(), Vec::new())],
        Request::SetMode(..)
        | Request::SetNodePhase(_)
        | Request::ProviderFailed { .. }
        | Request::ReleaseGuard(_) => Vec::new(),
    }
}

fn stamp_in<'a, K, V>(meta: impl IntoIterator<Item = (K, V)>) -> Option<u64>
where
    K: AsRef<str> + 'a,
    V: AsRef<str> + 'a,
{
    let mut meta = meta.into_iter();
    meta.find(|(key, _)| key.as_ref() == "stamp").and_then(|(_, stamp)| stamp.as_ref().parse().ok())
}

/// The stamp of a statement; each has another one.
pub(crate) fn stamp_of(state: &RowState) -> Option<u64> {
    let row = state.present()?;
    let of_node = row.node().and_then(|node| stamp_in(&node.meta));
    of_node.or_else(|| stamp_in(row.instance()?.profile.meta.iter()))
}

/// The status that clients pushed to a check, as a number.
fn pushed(key: &RowKey, state: &RowState) -> Option<u64> {
    let row = state.present()?.check().filter(|row| !row.is_unproven())?;
    let is_pushed = matches!(key, RowKey::Check(_, check) if check.as_str() == "ttl");
    is_pushed.then_some(row.status as u64)
}

/// The stamps of rows that are shown and that clients state; the status of a check to which they push.
pub(crate) fn stamped(rows: Option<&BTreeMap<RowKey, RowState>>) -> Stamped {
    let is_stated = |key: &RowKey| match key {
        RowKey::Node | RowKey::Other(_) => false,
        RowKey::Instance(id) | RowKey::Check(id, _) => id.as_str() != LEASED,
    };
    let rows = rows.into_iter().flatten().filter(|(key, _)| is_stated(key));
    let said = |key: &RowKey, state| stamp_of(state).or_else(|| pushed(key, state));
    rows.filter_map(|(key, state)| Some((key.clone(), said(key, state)?))).collect()
}
