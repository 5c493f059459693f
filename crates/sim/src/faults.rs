//! What is done to a cluster: a script that follows from the seed, and its steps.

use std::time::Duration;

use dunlin_core::random::Random;

use crate::node::Condition;

/// Disks that come back empty or as an older copy need a history that is stated again.
pub(crate) const RESTATES: bool = true;

/// One thing that is done at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) at: Duration,
    pub(crate) fault: Fault,
}

#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Nothing comes through in these directions.
    Cut(Vec<(usize, usize)>),
    Mend(Vec<(usize, usize)>),
    /// Shares of packets that are lost, duplicated and late.
    Disturb {
        loss: f64,
        duplication: f64,
        reordering: f64,
    },
    /// Octets a second from one node to another; none ends it.
    Slow {
        from: usize,
        to: usize,
        bandwidth: Option<u64>,
    },
    Stop(usize, Condition),
    Start(usize),
    Pause(usize),
    Resume(usize),
    /// An operator keeps a copy of the disk.
    Copy(usize),
    /// A stopped node's disk is replaced by an empty one, or by the copy.
    LoseDisk(usize),
    RollBackDisk(usize),
    SetClock {
        node: usize,
        by_millis: i64,
    },
    SlowDisk {
        node: usize,
        by: Duration,
    },
    RefuseWrites {
        node: usize,
        refuses: bool,
    },
    /// The process stops in good order: it stores what is left and says that its node leaves.
    StopInOrder(usize),
    /// The end of all faults and of the load.
    Heal,
}

/// Makes a script for one run.
pub(crate) struct Writer<'a> {
    random: &'a mut Random,
    nodes: usize,
    zones: &'a [usize],
    heal: Duration,
    /// Until when something is done to each node's process or disk.
    busy: Vec<Duration>,
    steps: Vec<Step>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(random: &'a mut Random, zones: &'a [usize], heal: Duration) -> Self {
        let nodes = zones.len();
        let busy = vec![Duration::ZERO; nodes];
        Self { random, nodes, zones, heal, busy, steps: Vec::new() }
    }

    /// Starts all nodes, some later than others, then does things to them until all is healed.
    pub(crate) fn write(mut self, faults: usize, from: Duration) -> Vec<Step> {
        for node in 0..self.nodes {
            let is_late = node > 2 && self.random.below(6) == 0;
            let within = if is_late { self.heal.mul_f64(0.6) } else { Duration::from_secs(1) };
            let at = within.mul_f64(self.random.fraction());
            self.busy[node] = at + Duration::from_millis(500);
            self.push(at, Fault::Start(node));
        }
        for _ in 0..faults {
            let span = self.heal.saturating_sub(from);
            let start = from + span.mul_f64(self.random.fraction());
            let length = Duration::from_secs(20).mul_f64(self.random.fraction().powi(2));
            let end = (start + length + Duration::from_millis(100)).min(self.heal);
            self.fault(start, end);
        }
        self.push(self.heal, Fault::Heal);
        self.steps.sort_by_key(|step| step.at);
        self.steps
    }

    fn push(&mut self, at: Duration, fault: Fault) {
        self.steps.push(Step { at, fault });
    }

    fn fault(&mut self, start: Duration, end: Duration) {
        match self.random.below(12) {
            0..3 => self.partition(start, end),
            3 => {
                let [a, b, c] = [0.2, 0.1, 0.3].map(|most| most * self.random.fraction());
                self.push(start, Fault::Disturb { loss: a, duplication: b, reordering: c });
                self.push(end, Fault::Disturb { loss: 0.0, duplication: 0.0, reordering: 0.0 });
            }
            4 => {
                let (from, to) = (self.random.below(self.nodes), self.random.below(self.nodes));
                let bandwidth = Some(4_000 + self.random.below(60_000) as u64);
                self.push(start, Fault::Slow { from, to, bandwidth });
                self.push(end, Fault::Slow { from, to, bandwidth: None });
            }
            _ => self.process_fault(start, end),
        }
    }

    /// Two sides that do not hear each other, or of which only one does not hear the other.
    fn partition(&mut self, start: Duration, end: Duration) {
        let by_zone = self.random.below(2) == 0;
        let side: Vec<bool> = if by_zone {
            let zone = self.zones[self.random.below(self.nodes)];
            self.zones.iter().map(|other| *other == zone).collect()
        } else {
            let share = self.random.fraction();
            (0..self.nodes).map(|_| self.random.fraction() < share).collect()
        };
        let is_one_way = self.random.below(3) == 0;
        let mut pairs = Vec::new();
        for (a, b) in (0..self.nodes).flat_map(|a| (0..self.nodes).map(move |b| (a, b))) {
            if side[a] && !side[b] {
                pairs.push((a, b));
                if !is_one_way {
                    pairs.push((b, a));
                }
            }
        }
        self.push(start, Fault::Cut(pairs.clone()));
        self.push(end, Fault::Mend(pairs));
    }

    fn process_fault(&mut self, start: Duration, end: Duration) {
        let node = self.random.below(self.nodes);
        if self.busy[node] > start {
            return;
        }
        self.busy[node] = end + Duration::from_millis(200);
        let kinds = if RESTATES { 10 } else { 8 };
        match self.random.below(kinds) {
            0..2 => self.crash(node, start, end),
            2 => {
                self.push(start, Fault::Pause(node));
                self.push(end, Fault::Resume(node));
            }
            3 => {
                let by_millis = self.random.below(7_200_000) as i64 - 3_600_000;
                self.push(start, Fault::SetClock { node, by_millis });
            }
            4 => {
                let by = Duration::from_millis(1_500).mul_f64(self.random.fraction());
                self.push(start, Fault::SlowDisk { node, by });
                self.push(end, Fault::SlowDisk { node, by: Duration::ZERO });
            }
            5 => {
                self.push(start, Fault::RefuseWrites { node, refuses: true });
                self.push(end, Fault::RefuseWrites { node, refuses: false });
            }
            6 => self.leave(node, start, end),
            7 => {
                self.crash(node, start, start + Duration::from_millis(30));
            }
            _ => self.replace_disk(node, start, end),
        }
    }

    fn crash(&mut self, node: usize, start: Duration, end: Duration) {
        let condition =
            if self.random.below(3) == 0 { Condition::Dark } else { Condition::Stopped };
        self.push(start, Fault::Stop(node, condition));
        let is_for_good = self.random.below(8) == 0;
        if is_for_good {
            self.busy[node] = Duration::MAX;
        } else {
            self.push(end, Fault::Start(node));
        }
    }

    fn leave(&mut self, node: usize, start: Duration, end: Duration) {
        self.push(start, Fault::StopInOrder(node));
        let stop = start + Duration::from_millis(2_500);
        self.push(stop, Fault::Stop(node, Condition::Stopped));
        self.busy[node] = end.max(stop) + Duration::from_secs(1);
        if self.random.below(2) == 0 && self.busy[node] < self.heal {
            self.push(self.busy[node], Fault::Start(node));
        } else {
            self.busy[node] = Duration::MAX;
        }
    }

    fn replace_disk(&mut self, node: usize, start: Duration, end: Duration) {
        let copied = start.mul_f64(0.5 + self.random.fraction() / 2.0);
        self.push(copied, Fault::Copy(node));
        self.push(start, Fault::Stop(node, Condition::Stopped));
        let replace = if self.random.below(2) == 0 {
            Fault::LoseDisk(node)
        } else {
            Fault::RollBackDisk(node)
        };
        self.push(start, replace);
        self.push(end, Fault::Start(node));
    }
}
