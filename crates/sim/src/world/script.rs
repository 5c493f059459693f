//! A script of faults, performed step by step.

use std::time::Duration;

use super::{Event, World};
use crate::disk::Content;
use crate::faults::{Fault, Step};
use crate::invariants::Violation;

impl World {
    /// Takes a script and the load with it.
    pub(crate) fn follow(&mut self, script: Vec<Step>) {
        for (number, step) in script.iter().enumerate() {
            self.schedule(step.at, Event::Step(number));
        }
        self.script = script;
    }

    pub(super) fn perform_step(&mut self, step: usize) -> Result<(), Violation> {
        let fault = self.script[step].fault.clone();
        match fault {
            Fault::Cut(pairs) => self.cut(&pairs),
            Fault::Mend(pairs) => self.mend(&pairs),
            Fault::Disturb { loss, duplication, reordering } => {
                self.network.loss = loss;
                self.network.duplication = duplication;
                self.network.reordering = reordering;
            }
            Fault::Slow { from, to, bandwidth: Some(bandwidth) } => {
                self.network.slow.insert((from, to), bandwidth);
            }
            Fault::Slow { from, to, bandwidth: None } => {
                self.network.slow.remove(&(from, to));
            }
            Fault::Stop(node, condition) => self.stop(node, condition),
            Fault::Start(node) => return self.start(node),
            Fault::Pause(node) => self.pause(node),
            Fault::Resume(node) => return self.resume(node),
            Fault::Copy(node) => {
                self.nodes[node].disk.copy = Some(self.nodes[node].disk.content.clone());
            }
            Fault::LoseDisk(node) => self.replace_disk(node, None),
            Fault::RollBackDisk(node) => {
                let copy: Option<Content> = self.nodes[node].disk.copy.take();
                self.replace_disk(node, copy);
            }
            Fault::SetClock { node, by_millis } => {
                self.nodes[node].clock.wall_offset_millis += by_millis;
            }
            Fault::SlowDisk { node, by } => self.nodes[node].disk.slowness = by,
            Fault::RefuseWrites { node, refuses } => self.nodes[node].disk.refuses = refuses,
            Fault::StopInOrder(node) => return self.stop_in_order(node),
            Fault::Heal => self.heal(),
        }
        Ok(())
    }

    fn heal(&mut self) {
        self.trace(0, || "all is healed".to_owned());
        self.client.period = None;
        self.network.loss = 0.01;
        self.network.duplication = 0.0;
        self.network.reordering = 0.0;
        self.network.slow.clear();
        for node in &mut self.nodes {
            node.disk.slowness = Duration::ZERO;
            node.disk.refuses = false;
        }
        self.invariants.healed(self.now);
    }
}
