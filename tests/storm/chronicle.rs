//! The faults so far, and the times without faults between each two agents.

use std::time::{Duration, Instant};

/// Agents in a storm.
pub(super) const NODES: usize = 3;
/// The time from the end of a fault until its effects are over: an agent that was cut off looks for the others at growing
/// intervals, and the others consider it down until they have heard it.
pub(super) const RECOVERY: Duration = Duration::from_secs(20);
/// The time from an acknowledgement until others show the change, even if a third agent dies in between: news that is lost
/// with a link is found by comparing digests, every few seconds with one of two peers.
pub(super) const SPREAD: Duration = Duration::from_secs(10);
/// The time until a node that fell silent is in no answer of the others. It is made of probes of half a second, which take
/// longer where processors are scarce, of a suspicion, and of the guard's probes.
pub(super) const DOWN: Duration = Duration::from_secs(20);

/// When an agent was asked, and when it had answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) agent: usize,
    pub(super) at: Instant,
    pub(super) heard: Instant,
}

/// A fault of agents, which are given by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Killed, and started again after a while.
    Kill(usize),
    /// Stopped gracefully, and started again at once.
    Restart(usize),
    /// Stopped by a signal, and continued after a while.
    Stop(usize),
    /// Cut off from all others, in both directions.
    Isolate(usize),
    /// Two do not hear each other.
    Cut(usize, usize),
    /// The first does not hear the second, which hears the first.
    Deafen(usize, usize),
}

impl Fault {
    pub(super) const NAMES: [&str; 6] =
        ["kill -9", "restart", "SIGSTOP", "isolation", "cut link", "one-way cut"];

    /// Its place in [`Fault::NAMES`].
    pub(super) fn number(self) -> usize {
        match self {
            Self::Kill(_) => 0,
            Self::Restart(_) => 1,
            Self::Stop(_) => 2,
            Self::Isolate(_) => 3,
            Self::Cut(..) => 4,
            Self::Deafen(..) => 5,
        }
    }

    /// The agent whose process does not answer meanwhile.
    pub(super) fn silences(self) -> Option<usize> {
        match self {
            Self::Kill(node) | Self::Restart(node) | Self::Stop(node) => Some(node),
            Self::Isolate(_) | Self::Cut(..) | Self::Deafen(..) => None,
        }
    }

    /// The agent that the others must find down if it lasts.
    fn takes_down(self) -> Option<usize> {
        match self {
            Self::Kill(node) | Self::Stop(node) | Self::Isolate(node) => Some(node),
            // A restarted agent comes back at once.
            Self::Restart(_) | Self::Cut(..) | Self::Deafen(..) => None,
        }
    }

    /// Whether the fault affects what one agent knows about another's rows, or about its own.
    fn concerns(self, agent: usize, other: usize) -> bool {
        match self {
            Self::Kill(node) | Self::Restart(node) | Self::Stop(node) => {
                agent == node || other == node
            }
            Self::Isolate(node) => agent != other && (agent == node || other == node),
            Self::Cut(a, b) | Self::Deafen(a, b) => {
                (agent, other) == (a, b) || (agent, other) == (b, a)
            }
        }
    }
}

/// A time without faults; it may not have ended.
#[derive(Debug, Clone, Copy)]
struct Calm {
    from: Instant,
    until: Option<Instant>,
}

/// All faults so far. There is one at a time.
pub(super) struct Chronicle {
    /// By agent, and by the node that it has rows of.
    calm: [[Vec<Calm>; NODES]; NODES],
    /// The fault under way, since when, and whether it is being undone.
    present: Option<(Fault, Instant, bool)>,
}

impl Chronicle {
    /// A chronicle that begins after a long time without faults.
    pub(super) fn new() -> Self {
        let from = Instant::now().checked_sub(RECOVERY).unwrap_or_else(Instant::now);
        let always = || vec![Calm { from, until: None }];
        let row = || std::array::from_fn(|_| always());
        Self { calm: std::array::from_fn(|_| row()), present: None }
    }

    /// Called before a fault happens.
    pub(super) fn begin(&mut self, fault: &Fault) {
        let now = Instant::now();
        self.present = Some((*fault, now, false));
        self.each(*fault, |calm| {
            if let Some(calm) = calm.last_mut() {
                calm.until = Some(now);
            }
        });
    }

    /// Called before it is undone.
    pub(super) fn mend(&mut self) {
        if let Some((_, _, is_mended)) = &mut self.present {
            *is_mended = true;
        }
    }

    /// Called when it is undone.
    pub(super) fn end(&mut self) {
        let from = Instant::now();
        if let Some((fault, ..)) = self.present.take() {
            self.each(fault, |calm| calm.push(Calm { from, until: None }));
        }
    }

    fn each(&mut self, fault: Fault, mut act: impl FnMut(&mut Vec<Calm>)) {
        for (agent, row) in self.calm.iter_mut().enumerate() {
            for (other, calm) in row.iter_mut().enumerate() {
                if fault.concerns(agent, other) {
                    act(calm);
                }
            }
        }
    }

    /// Whether there is a time without faults between two agents that `is_it`, by its bounds.
    pub(super) fn any_calm(
        &self,
        agent: usize,
        other: usize,
        is_it: impl Fn(Instant, Option<Instant>) -> bool,
    ) -> bool {
        self.calm[agent][other].iter().rev().any(|calm| is_it(calm.from, calm.until))
    }

    /// Whether there has long been no fault between the agent that was asked and a node.
    pub(super) fn is_calm(&self, asked: Asked, node: usize) -> bool {
        let calm = self.calm[asked.agent][node].last();
        calm.is_some_and(|c| c.until.is_none() && c.from + RECOVERY + SPREAD <= asked.at)
    }

    /// Whether no fault has touched an agent's process since a moment, nor has ended since then.
    pub(super) fn is_untouched(&self, agent: usize, since: Instant) -> bool {
        let calm = self.calm[agent][agent].last();
        calm.is_some_and(|calm| calm.until.is_none() && calm.from <= since)
    }

    /// Whether an agent's process exists and runs.
    pub(super) fn is_up(&self, agent: usize) -> bool {
        self.present.is_none_or(|(fault, ..)| fault.silences() != Some(agent))
    }

    /// Whether a node has been away long enough for the agent that was asked to have noticed.
    pub(super) fn is_long_dead(&self, node: usize, asked: Asked) -> bool {
        self.present.is_some_and(|(fault, since, is_mended)| {
            !is_mended
                && asked.agent != node
                && fault.takes_down() == Some(node)
                && since + DOWN <= asked.at
        })
    }

    /// The present fault, as text for one line.
    pub(super) fn describe(&self) -> String {
        self.present.map_or("no fault".to_owned(), |(fault, since, is_mended)| {
            let state = if is_mended { ", being undone" } else { "" };
            format!("{fault:?} for {:.1} s{state}", since.elapsed().as_secs_f64())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(agent: usize, after: Duration) -> Asked {
        let at = Instant::now() + after;
        Asked { agent, at, heard: at }
    }

    #[test]
    fn a_fault_disturbs_those_that_it_concerns_and_nobody_else() {
        let mut chronicle = Chronicle::new();
        chronicle.begin(&Fault::Isolate(0));
        let late = RECOVERY + SPREAD + Duration::from_secs(1);
        let is_calm = |chronicle: &Chronicle| {
            let pairs = [(0, 0), (0, 1), (1, 0), (1, 2), (2, 1)];
            pairs.map(|(agent, node)| chronicle.is_calm(asked(agent, late), node))
        };
        assert_eq!(is_calm(&chronicle), [true, false, false, true, true]);
        chronicle.end();
        assert_eq!(is_calm(&chronicle), [true; 5]);
        assert!(!chronicle.is_calm(asked(1, Duration::ZERO), 0));
    }

    #[test]
    fn others_must_notice_who_is_long_gone_until_it_comes_back() {
        let mut chronicle = Chronicle::new();
        chronicle.begin(&Fault::Kill(1));
        let (soon, late) = (Duration::ZERO, DOWN + Duration::from_secs(1));
        assert!(!chronicle.is_up(1) && chronicle.is_up(0));
        assert!(!chronicle.is_long_dead(1, asked(0, soon)));
        assert!(chronicle.is_long_dead(1, asked(0, late)));
        assert!(!chronicle.is_long_dead(2, asked(0, late)));
        chronicle.mend();
        assert!(!chronicle.is_long_dead(1, asked(0, late)));
        let since = Instant::now();
        chronicle.end();
        assert!(chronicle.is_up(1) && !chronicle.is_untouched(1, since));
        assert!(chronicle.is_untouched(0, since));
    }
}
