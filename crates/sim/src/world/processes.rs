//! Processes and disks: what starts, stops, is paused, and what is on the disk then.

use std::time::Duration;

use super::{Event, World};
use crate::disk::{Content, Write};
use crate::invariants::Violation;
use crate::node::{Action, Condition, Op};
use crate::stream::StreamId;

impl World {
    /// Starts a process, which states what is to be true on its node.
    pub(crate) fn start(&mut self, node: usize) -> Result<(), Violation> {
        self.reset_streams(node);
        let seed = self.random.next();
        self.nodes[node].start(self.now, seed);
        self.trace(node, || "starts".to_owned());
        if self.is_checked {
            let own = self.own_stamps(node);
            self.oracle.started(self.now, node, &own)?;
            self.invariants.started(self.now, &self.nodes[node])?;
        }
        let changes = self.client.statement(&self.nodes[node], &mut self.stamps);
        self.submit(node, changes)
    }

    /// Hands a request to a running process.
    pub(crate) fn submit(
        &mut self,
        node: usize,
        changes: Vec<dunlin_core::replica::Change>,
    ) -> Result<(), Violation> {
        let now = self.nodes[node].clock.local(self.now);
        if self.nodes[node].running().is_none() {
            return Ok(());
        }
        let id = self.oracle.submit(node, &changes);
        let Some(agent) = self.nodes[node].running() else { return Ok(()) };
        let mut actions = std::mem::take(&mut self.actions);
        agent.submit(now, Op { id, changes }, &mut actions);
        self.actions = actions;
        self.settle(node)
    }

    /// Ends a process. Without a kernel nobody is told.
    pub(crate) fn stop(&mut self, node: usize, condition: Condition) {
        self.trace(node, || format!("stops: {condition:?}"));
        if let Some(writes) = self.writing.remove(&node)
            && self.random.below(2) == 0
        {
            // It got to the disk, and nobody heard.
            self.nodes[node].disk.write(writes);
        }
        self.oracle.stopped(node);
        self.inboxes.remove(&node);
        self.nodes[node].stop(condition);
        for (id, end) in self.streams_of(node) {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            stream.ends[end].close();
            if condition == Condition::Dark {
                stream.ends[1 - end].silent_since = Some(self.now);
                let after = Duration::from_millis(8_000 + self.random.below(6_000) as u64);
                let silence = Event::Silence { stream: id, end: 1 - end, since: self.now };
                self.schedule(self.now + after, silence);
            } else {
                self.finish(id, end);
            }
        }
    }

    /// A kernel that is there again, or a new process, does not know the streams of before.
    fn reset_streams(&mut self, node: usize) {
        for (id, end) in self.streams_of(node) {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.ends[end].close();
            }
            self.finish(id, end);
        }
    }

    fn streams_of(&self, node: usize) -> Vec<(StreamId, usize)> {
        let of = self.streams.iter().filter(|(_, stream)| stream.nodes.contains(&node));
        of.map(|(id, stream)| (*id, usize::from(stream.nodes[0] != node))).collect()
    }

    pub(crate) fn pause(&mut self, node: usize) {
        self.trace(node, || "is paused".to_owned());
        self.nodes[node].condition = Condition::Paused;
    }

    /// Lets a paused process go on: late timers and what has come meanwhile meet it in either order.
    pub(crate) fn resume(&mut self, node: usize) -> Result<(), Violation> {
        self.trace(node, || "goes on".to_owned());
        self.nodes[node].condition = Condition::Running;
        self.nodes[node].wake = None;
        let timers_first = self.random.below(2) == 0;
        let wake = Event::Wake { node };
        let inbox = self.inboxes.remove(&node).unwrap_or_default();
        if timers_first {
            self.schedule(self.now, wake);
        }
        for event in inbox {
            self.schedule(self.now, event);
        }
        for (stream, end) in self.streams_of(node) {
            self.schedule(self.now, Event::Sent { stream, end });
        }
        self.settle(node)
    }

    pub(super) fn begin_write(&mut self, node: usize, writes: Vec<Write>) {
        let latency = self.nodes[node].disk.latency(&mut self.random);
        let life = self.nodes[node].life;
        if let Some(agent) = self.nodes[node].agent.as_ref().filter(|_| self.is_checked) {
            let members = agent.membership.members();
            let is_live = |liveness| liveness != dunlin_core::gossip::Liveness::Down;
            let members = members.map(|(peer, liveness)| (peer, is_live(liveness))).collect();
            let generation = agent.membership.own().generation;
            let content = &mut self.nodes[node].disk.content;
            (content.members, content.generation) = (members, generation);
        }
        self.writing.insert(node, writes);
        self.schedule(self.now + latency, Event::Written { node, life });
    }

    pub(super) fn finish_write(&mut self, node: usize, life: u32) {
        if self.nodes[node].life != life {
            return;
        }
        let Some(writes) = self.writing.remove(&node) else { return };
        let now = self.nodes[node].clock.local(self.now);
        let is_stored = !self.is_checked || self.nodes[node].disk.write(writes);
        if let Some(agent) = self.nodes[node].running() {
            agent.handle_written(now, is_stored, &mut self.actions);
        }
    }

    /// Throws away what a stopped node's disk has, or puts an older copy back.
    pub(crate) fn replace_disk(&mut self, node: usize, copy: Option<Content>) {
        self.trace(node, || format!("disk replaced, by a copy: {}", copy.is_some()));
        self.nodes[node].disk.content = copy.unwrap_or_default();
        self.oracle.forget(node);
        let id = self.nodes[node].identity.id;
        self.invariants.truth_replaced(id);
    }

    fn own_stamps(&self, node: usize) -> crate::oracle::Stamped {
        let id = self.nodes[node].identity.id;
        crate::oracle::stamped(self.nodes[node].shown.get(&id))
    }

    /// Tells members that a node stops in good order.
    pub(crate) fn leave(&mut self, node: usize) -> Result<(), Violation> {
        let now = self.nodes[node].clock.local(self.now);
        let mut actions: Vec<Action> = std::mem::take(&mut self.actions);
        if let Some(agent) = self.nodes[node].running() {
            agent.leave(now, &mut actions);
        }
        self.actions = actions;
        self.settle(node)
    }
}
