//! The guard: a sharp drop is held back until it is confirmed.
//!
//! A truncated file, a broken health endpoint or a network partition that is seen from the wrong side
//! makes many things vanish at once that are still there. If more keys vanish than the
//! [rules](GuardRules) allow, the guard *holds* them: its owner goes on serving them while the guard
//! asks for a probe of each. A held key is let go when a probe of it fails, when it returns, when the
//! longest time of a hold is over, or when an operator says so. A key that was taken away on purpose is
//! never held.
//!
//! Panic mode is the same idea for the last keys: when no key is healthy, those that worked once and
//! still accept connections may be served rather than none.
//!
//! One [`Guard`] watches one group of keys, for example the endpoints of one service. It does not know
//! what a key stands for, and it opens no connections. Its owner reports changes to it by the `handle_*`
//! functions, performs what [`Guard::poll_output`] returns until that returns `None`, and calls
//! [`Guard::handle_deadline`] at [`Guard::next_deadline`].

mod observation;
mod output;
mod probe;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub use observation::{Fate, KeyChange, Observation, Target};
pub use output::GuardOutput;
use probe::Probe;
pub use rules::{DropSize, GuardRules};

/// Time between the result of a probe that was answered and the next probe of the same key.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// The guard of one group of keys. A step costs as much as has changed, however many keys there are.
///
/// `T` is what the guard keeps of a key that vanished, and returns by [`Guard::held`] while it holds the
/// key. The address alone is enough for the guard itself.
#[derive(Debug)]
pub struct Guard<K, T = SocketAddr> {
    vanished: BTreeMap<K, Vanished<T>>,
    /// [`Vanished::window_ends`] of all keys that are not held.
    windows: BTreeSet<(Instant, K)>,
    /// When the hold ends. Set while all that vanished is held.
    hold_ends: Option<Instant>,
    /// Whether panic mode asks about failing keys.
    is_panicking: bool,
    /// The failing keys that panic mode asks about.
    panic: BTreeMap<K, (SocketAddr, Probe)>,
    /// [`Probe::again`] of all probes.
    agains: BTreeSet<(Instant, K)>,
    outputs: VecDeque<GuardOutput<K>>,
}

/// A key that was healthy and is not any more.
#[derive(Debug)]
struct Vanished<T> {
    /// When it is forgotten unless a hold begins before.
    window_ends: Instant,
    /// As it was.
    target: T,
    /// Set while the key is held. A probe that fails removes the key.
    probe: Option<Probe>,
}

impl<K, T> Default for Guard<K, T> {
    fn default() -> Self {
        Self {
            vanished: BTreeMap::new(),
            windows: BTreeSet::new(),
            hold_ends: None,
            is_panicking: false,
            panic: BTreeMap::new(),
            agains: BTreeSet::new(),
            outputs: VecDeque::new(),
        }
    }
}

impl<K: Ord + Clone, T: Target> Guard<K, T> {
    /// Takes what changed in the group, and decides whether to begin or to end a hold or panic mode.
    pub fn handle_change<O>(
        &mut self,
        now: Instant,
        rules: &GuardRules,
        observation: Observation<K, T, O>,
    ) where
        O: IntoIterator<Item = (K, SocketAddr)>,
    {
        let Observation { changes, others, present, healthy } = observation;
        let (failing, is_returned) = self.take(now + rules.window, changes);
        if self.hold_ends.is_none() {
            self.end_windows(now);
            self.begin_unless_believed(now, rules, healthy);
        }
        if self.hold_ends.is_some() {
            self.hold_new();
            if self.vanished.is_empty() {
                self.release(if is_returned { "all returned" } else { "none answered a probe" });
            }
        }
        if rules.panic && healthy == 0 && present > 0 && self.hold_ends.is_none() {
            self.panic(others, failing);
        } else {
            self.end_panic();
        }
    }

    /// Takes the result of a [`GuardOutput::Probe`].
    pub fn handle_probe(&mut self, now: Instant, key: &K, answered: bool) {
        let is_held = self.hold_ends.is_some() && self.vanished.contains_key(key);
        if is_held && !answered {
            self.forget(key);
            return;
        }
        let again = now + PROBE_INTERVAL;
        let result = Probe::Done { answered, again: Some(again) };
        let held = self.vanished.get_mut(key).filter(|_| is_held);
        let before = if let Some(vanished) = held {
            vanished.probe.replace(result)
        } else if let Some((_, probe)) = self.panic.get_mut(key) {
            if probe.is_answered() != answered {
                self.outputs.push_back(GuardOutput::Reconsider { key: key.clone() });
            }
            Some(std::mem::replace(probe, result))
        } else {
            return;
        };
        if let Some(before) = before.and_then(Probe::again) {
            self.agains.remove(&(before, key.clone()));
        }
        self.agains.insert((again, key.clone()));
    }

    /// Ends the hold if its time is over, and asks again about keys that answered a while ago.
    pub fn handle_deadline(&mut self, now: Instant) {
        if self.hold_ends.is_some_and(|ends| ends <= now) {
            self.release("its time was over");
        }
        self.end_windows(now);
        while let Some((_, key)) = self.agains.first().filter(|(at, _)| *at <= now).cloned() {
            self.agains.pop_first();
            self.probe_again(key);
        }
    }

    /// When [`Guard::handle_deadline`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let again = self.agains.first().map(|(at, _)| *at);
        let window = self.windows.first().map(|(at, _)| *at);
        [again, window, self.hold_ends].into_iter().flatten().min()
    }

    /// Lets go of every held key, for this reason. False if none was held.
    pub fn release(&mut self, reason: &'static str) -> bool {
        if self.hold_ends.take().is_none() {
            return false;
        }
        for key in self.vanished.keys().cloned().collect::<Vec<_>>() {
            self.forget(&key);
        }
        self.outputs.push_back(GuardOutput::Ended { reason });
        true
    }

    /// The next thing to do. When nothing is left to do, collections that are empty give back their
    /// memory: a map keeps a node of some hundred octets, and when half a cluster is gone, many groups
    /// have a guard with nothing left to hold.
    pub fn poll_output(&mut self) -> Option<GuardOutput<K>> {
        let output = self.outputs.pop_front();
        if output.is_none() {
            let Self { vanished, windows, panic, agains, outputs, .. } = self;
            give_back(vanished, BTreeMap::is_empty);
            give_back(windows, BTreeSet::is_empty);
            give_back(panic, BTreeMap::is_empty);
            give_back(agains, BTreeSet::is_empty);
            give_back(outputs, VecDeque::is_empty);
        }
        output
    }

    /// Whether the guard has nothing to remember: a new one would do the same.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.vanished.is_empty() && self.hold_ends.is_none() && !self.is_panicking
    }

    /// The key as it was before it vanished, if it is held.
    #[must_use]
    pub fn held(&self, key: &K) -> Option<&T> {
        self.hold_ends?;
        self.vanished.get(key).map(|vanished| &vanished.target)
    }

    /// Whether panic mode found that a failing key still accepts connections.
    #[must_use]
    pub fn answers_in_panic(&self, key: &K) -> bool {
        self.panic.get(key).is_some_and(|(_, probe)| probe.is_answered())
    }

    /// Takes changes. Returns where the changed keys fail, if they do and have worked before, and whether
    /// one of those that had vanished is settled.
    fn take(
        &mut self,
        window_ends: Instant,
        changes: Vec<KeyChange<K, T>>,
    ) -> (Vec<(K, Option<SocketAddr>)>, bool) {
        let mut is_returned = false;
        let mut failing = Vec::with_capacity(changes.len());
        for KeyChange { key, fate, failing_at } in changes {
            match fate {
                Fate::Settled => is_returned |= self.forget(&key),
                Fate::Vanished(target) => {
                    self.forget(&key);
                    self.windows.insert((window_ends, key.clone()));
                    let vanished = Vanished { window_ends, target, probe: None };
                    self.vanished.insert(key.clone(), vanished);
                }
                Fate::Open => {}
            }
            failing.push((key, failing_at));
        }
        (failing, is_returned)
    }

    fn begin_unless_believed(&mut self, now: Instant, rules: &GuardRules, healthy: usize) {
        let held = self.vanished.len();
        if !rules.believe(DropSize { vanished: held, healthy }) {
            self.hold_ends = Some(now + rules.hold);
            self.outputs.push_back(GuardOutput::Began { held });
        }
    }

    /// Holds every key that vanished and is not held yet, and asks for a probe of it.
    fn hold_new(&mut self) {
        for (_, key) in std::mem::take(&mut self.windows) {
            if let Some(vanished) = self.vanished.get_mut(&key) {
                vanished.probe = Some(Probe::Pending);
                let address = vanished.target.address();
                self.outputs.push_back(GuardOutput::Probe { key: key.clone(), address });
                self.outputs.push_back(GuardOutput::Reconsider { key });
            }
        }
    }

    /// Forgets that a key vanished. False if it did not.
    fn forget(&mut self, key: &K) -> bool {
        let Some(vanished) = self.vanished.remove(key) else { return false };
        self.windows.remove(&(vanished.window_ends, key.clone()));
        if let Some(again) = vanished.probe.and_then(Probe::again) {
            self.agains.remove(&(again, key.clone()));
        }
        self.outputs.push_back(GuardOutput::Reconsider { key: key.clone() });
        true
    }

    /// Forgets the keys that vanished too long ago to count.
    fn end_windows(&mut self, now: Instant) {
        while let Some((_, key)) = self.windows.first().filter(|(at, _)| *at <= now).cloned() {
            self.forget(&key);
        }
    }

    /// With no healthy key left, asks which of the failing ones still accept connections.
    fn panic(
        &mut self,
        others: impl IntoIterator<Item = (K, SocketAddr)>,
        failing: Vec<(K, Option<SocketAddr>)>,
    ) {
        if !std::mem::replace(&mut self.is_panicking, true) {
            for (key, address) in others {
                self.consider(key, Some(address));
            }
        }
        for (key, address) in failing {
            self.consider(key, address);
        }
    }

    fn consider(&mut self, key: K, address: Option<SocketAddr>) {
        if self.panic.get(&key).map(|(known, _)| *known) == address {
            return;
        }
        self.calm(&key);
        if let Some(address) = address {
            self.outputs.push_back(GuardOutput::Probe { key: key.clone(), address });
            self.panic.insert(key, (address, Probe::Pending));
        }
    }

    fn calm(&mut self, key: &K) {
        let Some((_, probe)) = self.panic.remove(key) else { return };
        if let Some(again) = probe.again() {
            self.agains.remove(&(again, key.clone()));
        }
        self.outputs.push_back(GuardOutput::Reconsider { key: key.clone() });
    }

    fn end_panic(&mut self) {
        self.is_panicking = false;
        while let Some((key, _)) = self.panic.first_key_value() {
            self.calm(&key.clone());
        }
    }

    /// Asks for another probe. What the last one said holds until this one has a result, and until then
    /// no further probe is asked for: a probe may take longer than the time between two of them.
    fn probe_again(&mut self, key: K) {
        let held = self.vanished.get_mut(&key).map(|v| (v.target.address(), &mut v.probe));
        let panic = self.panic.get_mut(&key);
        let (address, probe) = match (held, panic) {
            (Some((address, Some(probe))), _) => (address, probe),
            (_, Some((address, probe))) => (*address, probe),
            (_, None) => return,
        };
        if let Probe::Done { again, .. } = probe {
            *again = None;
        }
        self.outputs.push_back(GuardOutput::Probe { key, address });
    }
}

/// Replaces a collection that is empty by one that has never had anything.
fn give_back<C: Default>(collection: &mut C, is_empty: impl Fn(&C) -> bool) {
    if is_empty(collection) {
        *collection = C::default();
    }
}
