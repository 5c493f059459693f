//! A guard of plain numbers, without a catalog.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::*;

#[allow(
    clippy::disallowed_methods,
    reason = "a start for the virtual clock; only differences count"
)]
fn start() -> Instant {
    Instant::now()
}

fn address(key: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, key).into()
}

/// Numbers of which some are healthy and others fail, and their guard.
struct Group {
    guard: Guard<u16>,
    rules: GuardRules,
    now: Instant,
    healthy: BTreeSet<u16>,
    failing: BTreeSet<u16>,
    probes: Vec<u16>,
    told: Vec<GuardOutput<u16>>,
}

impl Group {
    fn new(count: u16) -> Self {
        Self {
            guard: Guard::default(),
            rules: GuardRules::default(),
            now: start(),
            healthy: (0..count).collect(),
            failing: BTreeSet::new(),
            probes: Vec::new(),
            told: Vec::new(),
        }
    }

    fn observe(&mut self, changes: Vec<KeyChange<u16, SocketAddr>>) {
        let others = self.failing.iter().map(|key| (*key, address(*key)));
        let (healthy, present) = (self.healthy.len(), self.healthy.len() + self.failing.len());
        let observation = Observation { changes, others, present, healthy };
        self.guard.handle_change(self.now, &self.rules, observation);
        self.drain();
    }

    fn fail(&mut self, keys: impl IntoIterator<Item = u16>) {
        let mut changes = Vec::new();
        for key in keys {
            let was_healthy = self.healthy.remove(&key);
            self.failing.insert(key);
            let fate = if was_healthy { Fate::Vanished(address(key)) } else { Fate::Open };
            changes.push(KeyChange { key, fate, failing_at: Some(address(key)) });
        }
        self.observe(changes);
    }

    fn recover(&mut self, keys: impl IntoIterator<Item = u16>) {
        let mut changes = Vec::new();
        for key in keys {
            self.failing.remove(&key);
            self.healthy.insert(key);
            changes.push(KeyChange { key, fate: Fate::Settled, failing_at: None });
        }
        self.observe(changes);
    }

    fn answer_all(&mut self, answered: bool) {
        for key in std::mem::take(&mut self.probes) {
            self.guard.handle_probe(self.now, &key, answered);
        }
        self.drain();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.guard.handle_deadline(self.now);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.guard.poll_output() {
            match output {
                GuardOutput::Probe { key, address: at } => {
                    assert_eq!(at, address(key));
                    self.probes.push(key);
                }
                told @ (GuardOutput::Reconsider { .. }
                | GuardOutput::Began { .. }
                | GuardOutput::Ended { .. }) => self.told.push(told),
            }
        }
    }

    fn held(&self) -> Vec<u16> {
        (0..100).filter(|key| self.guard.held(key).is_some()).collect()
    }

    fn reconsidered(&mut self) -> BTreeSet<u16> {
        let told = std::mem::take(&mut self.told).into_iter();
        told.filter_map(|told| match told {
            GuardOutput::Reconsider { key } => Some(key),
            GuardOutput::Probe { .. } | GuardOutput::Began { .. } | GuardOutput::Ended { .. } => {
                None
            }
        })
        .collect()
    }
}

#[test]
fn numbers_that_vanish_together_are_held_until_they_fail_a_probe_or_return() {
    let mut group = Group::new(5);
    group.fail([0, 1]);
    assert!(group.probes.is_empty() && group.held().is_empty(), "two are too few");
    group.fail([2]);
    assert_eq!(group.held(), [0, 1, 2]);
    assert_eq!(group.probes, [0, 1, 2]);
    assert!(group.told.contains(&GuardOutput::Began { held: 3 }));
    assert_eq!(group.reconsidered(), BTreeSet::from([0, 1, 2]));
    group.guard.handle_probe(group.now, &0, false);
    group.probes.retain(|key| *key != 0);
    group.answer_all(true);
    assert_eq!(group.held(), [1, 2]);
    assert_eq!(group.reconsidered(), BTreeSet::from([0]));
    group.recover([1]);
    assert_eq!(group.held(), [2]);
    group.recover([2]);
    assert!(group.told.contains(&GuardOutput::Ended { reason: "all returned" }));
    assert!(group.guard.is_idle());
    assert_eq!(group.guard.next_deadline(), None);
}

#[test]
fn a_hold_ends_by_its_time_and_by_a_word() {
    for is_released in [false, true] {
        let mut group = Group::new(5);
        group.fail([0, 1, 2]);
        group.answer_all(true);
        let reason = if is_released {
            assert!(group.guard.release("somebody said so"));
            group.drain();
            "somebody said so"
        } else {
            group.pass(group.rules.hold);
            "its time was over"
        };
        assert!(group.held().is_empty());
        assert_eq!(group.told.last(), Some(&GuardOutput::Ended { reason }));
        assert!(!group.guard.release("once more"));
    }
}

#[test]
fn a_number_that_answered_is_probed_again_but_not_before_the_last_probe_has_ended() {
    let mut group = Group::new(5);
    group.fail([0, 1, 2]);
    group.answer_all(true);
    assert_eq!(group.guard.next_deadline(), Some(group.now + PROBE_INTERVAL));
    group.pass(PROBE_INTERVAL);
    assert_eq!(group.probes, [0, 1, 2]);
    group.pass(PROBE_INTERVAL);
    assert_eq!(group.probes, [0, 1, 2]);
}

#[test]
fn the_last_numbers_answer_in_panic_while_they_accept_connections() {
    let mut group = Group::new(2);
    group.fail([0]);
    assert!(group.probes.is_empty(), "one is healthy");
    group.fail([1]);
    group.probes.sort_unstable();
    assert_eq!(group.probes, [0, 1], "those that failed before are asked as well");
    assert!(!group.guard.answers_in_panic(&0));
    group.answer_all(true);
    assert!(group.guard.answers_in_panic(&0) && group.guard.answers_in_panic(&1));
    group.pass(PROBE_INTERVAL);
    group.answer_all(false);
    assert!(!group.guard.answers_in_panic(&0) && !group.guard.answers_in_panic(&1));
    group.recover([0]);
    assert!(!group.guard.answers_in_panic(&1));
    group.pass(group.rules.window);
    assert!(group.guard.is_idle(), "what vanished is forgotten after the window");
}

#[test]
fn a_guard_with_nothing_left_to_do_keeps_no_room() {
    let mut group = Group::new(5);
    group.fail([0, 1, 2]);
    group.recover([0, 1, 2]);
    assert!(group.guard.is_idle());
    assert_eq!(group.guard.outputs.capacity(), 0);
}
