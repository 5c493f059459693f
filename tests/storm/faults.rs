//! Faults, one after the other, in an order that follows from a seed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dunlin_bench::rig::fleet::Fleet;
use dunlin_bench::rig::random::Random;
use rustix::process::Signal;

use super::chronicle::{DOWN, Fault, NODES, RECOVERY, SPREAD};
use super::flood::Flood;
use super::interrupt;
use super::network::Network;
use super::progress::Progress;
use super::stage::{Stage, add, pause};

/// The agent that is stopped and cut off, but never killed: what leaks, it still holds at the end.
pub(super) const WITNESS: usize = NODES - 1;
/// The duration of a long fault: the others find the agent down, and are asked for some seconds after that.
const LONG_FAULT: Duration = DOWN.saturating_add(Duration::from_secs(6));
/// The time until the oracle expects every agent to know everything again.
const REST: Duration = RECOVERY.saturating_add(SPREAD).saturating_add(Duration::from_secs(5));
/// The time between two rounds of what has to be done during a wait.
const TEND_INTERVAL: Duration = Duration::from_millis(100);

/// The agents, and what is needed to make faults and to undo them.
pub(super) struct Faults<'a> {
    pub(super) stage: &'a Stage,
    pub(super) network: &'a Network,
    pub(super) fleet: &'a mut Fleet,
    pub(super) flood: &'a mut Flood,
    pub(super) progress: &'a mut Progress,
    pub(super) random: Random,
    /// Whether there is no time for long faults and long rests.
    pub(super) is_short: bool,
}

impl Faults<'_> {
    /// Makes one fault after another until `end`, when all are undone.
    pub(super) fn run(&mut self, end: Instant) -> Result<()> {
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let gap = self.gap().min(left);
            self.wait(gap)?;
            let left = end.saturating_duration_since(Instant::now());
            if left < Duration::from_secs(5) {
                return self.wait(left);
            }
            let fault = self.draw();
            let time = self.duration(fault).min(left - Duration::from_secs(3));
            add(&self.stage.tally.faults[fault.number()], 1);
            self.stage.chronicle_mut().begin(&fault);
            let done = self.strike(fault).and_then(|()| self.wait(time));
            self.stage.chronicle_mut().mend();
            done.and_then(|()| self.undo(fault)).with_context(|| format!("{fault:?}"))?;
            self.stage.chronicle_mut().end();
        }
    }

    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.random.below(most - least))
    }

    fn gap(&mut self) -> Duration {
        if self.is_short {
            return self.millis(500, 3_000);
        }
        if self.random.below(5) == 0 { REST } else { self.millis(1_000, 8_000) }
    }

    fn draw(&mut self) -> Fault {
        let mortal = self.random.below(WITNESS as u64) as usize;
        let any = self.random.below(NODES as u64) as usize;
        let other = (any + 1 + self.random.below(NODES as u64 - 1) as usize) % NODES;
        match self.random.below(20) {
            0..6 => Fault::Kill(mortal),
            6..9 => Fault::Restart(mortal),
            9..13 => Fault::Stop(any),
            13..16 => Fault::Isolate(any),
            16..18 => Fault::Cut(any, other),
            _ => Fault::Deafen(any, other),
        }
    }

    fn duration(&mut self, fault: Fault) -> Duration {
        let is_long = self.random.below(4) == 0 && !self.is_short;
        let is_over_at_once = matches!(fault, Fault::Restart(_));
        if self.is_short && !is_over_at_once {
            return self.millis(200, 5_000);
        }
        match fault {
            Fault::Restart(_) => Duration::ZERO,
            Fault::Kill(_) | Fault::Isolate(_) if is_long => LONG_FAULT,
            Fault::Kill(_) => self.millis(200, 8_000),
            // Clients wait for an answer of a stopped agent as long as for any other.
            Fault::Stop(_) => self.millis(2_000, 12_000),
            Fault::Isolate(_) | Fault::Cut(..) | Fault::Deafen(..) => self.millis(3_000, 12_000),
        }
    }

    fn strike(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Kill(node) => self.fleet.agents[node].kill(),
            Fault::Restart(node) => {
                let status = self.fleet.agents[node].stop()?;
                if !status.success() {
                    let name = &self.stage.posts[node].name;
                    self.stage
                        .violation(format!("{name} was asked to stop and ended with {status}"));
                }
                Ok(())
            }
            Fault::Stop(node) => self.fleet.agents[node].signal(Signal::STOP),
            Fault::Isolate(node) => {
                let others: Vec<usize> = (0..NODES).filter(|other| *other != node).collect();
                others.iter().try_for_each(|other| self.deafen(*other, &[node]))?;
                self.deafen(node, &others)
            }
            Fault::Cut(a, b) => {
                self.deafen(a, &[b])?;
                self.deafen(b, &[a])
            }
            Fault::Deafen(a, b) => self.deafen(a, &[b]),
        }
    }

    /// Hosts of the network are counted from 1.
    fn deafen(&self, node: usize, others: &[usize]) -> Result<()> {
        let others: Vec<usize> = others.iter().map(|other| other + 1).collect();
        self.network.deafen(node + 1, &others)
    }

    fn undo(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Kill(node) | Fault::Restart(node) => self.fleet.agents[node].start(),
            Fault::Stop(node) => self.fleet.agents[node].signal(Signal::CONT),
            Fault::Isolate(_) | Fault::Cut(..) | Fault::Deafen(..) => self.network.heal(),
        }
    }

    /// Waits. Meanwhile restarts dnsperf if it has ended, fails if an agent has ended, and prints the progress.
    fn wait(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        loop {
            pause(TEND_INTERVAL.min(end.saturating_duration_since(Instant::now())))?;
            self.flood.tend()?;
            for agent in &mut self.fleet.agents {
                if let Some(status) = agent.ended()? {
                    anyhow::bail!(
                        "{} ended by itself: {status}\n{}",
                        agent.name,
                        agent.last_words()
                    );
                }
            }
            self.progress.tell(self.stage, &self.fleet.agents);
            if Instant::now() >= end || interrupt::is_wanted() {
                return Ok(());
            }
        }
    }
}
