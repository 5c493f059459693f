//! Processes and disks: what starts, stops, is paused, and what is on the disk then.

use std::time::Duration;

use dunlin_core::catalog::EndpointKey;
use dunlin_core::health::{CheckKey, RunId};
use dunlin_core::host::{Batch, Request};
use dunlin_core::model::ServiceName;

use super::{Event, World};
use crate::disk::Content;
use crate::invariants::{Violation, acknowledged};
use crate::node::{Action, Condition};
use crate::stream::StreamId;

/// How long a connection to a server on the own host takes.
const CONNECT_TIME: Duration = Duration::from_millis(2);
/// How long a probe waits for an answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

impl World {
    /// Starts a process, which reads what its disk and its services folder say.
    pub(crate) fn start(&mut self, node: usize) -> Result<(), Violation> {
        self.reset_streams(node);
        let (seed, stamp) = (self.random.next(), self.stamps.next());
        let mut actions = std::mem::take(&mut self.actions);
        self.nodes[node].start(self.now, seed, stamp, &mut actions);
        self.trace(node, || "starts".to_owned());
        if let (true, Some(host)) = (self.is_checked, self.nodes[node].host()) {
            let own = self.own_stamps(node);
            if let Some(known) = self.oracle.started(node, &own, host.registry()) {
                acknowledged::check_restart(self.now, node, &known, &own)?;
            }
            self.invariants.started(self.now, &self.nodes[node])?;
        }
        self.actions = actions;
        self.settle(node)?;
        match self.client.file_request(&self.nodes[node]) {
            Some(request) => self.submit(node, request),
            None => Ok(()),
        }
    }

    /// Hands a request to a running process.
    pub(crate) fn submit(&mut self, node: usize, request: Request) -> Result<(), Violation> {
        if self.nodes[node].running().is_none() {
            return Ok(());
        }
        let moment = self.nodes[node].moment(self.now);
        let ticket = self.oracle.submit(node, &request);
        self.trace(node, || format!("is asked {ticket:?}: {request:?}"));
        let mut actions = std::mem::take(&mut self.actions);
        let process = self.nodes[node].running();
        let is_taken = process.is_some_and(|p| p.ask(moment, ticket, request, &mut actions));
        self.actions = actions;
        if !is_taken {
            self.oracle.refuse(ticket);
        }
        self.settle(node)
    }

    /// A process runs a check of a server on its own host.
    pub(super) fn begin_check(&mut self, node: usize, key: CheckKey, run: RunId) {
        let life = self.nodes[node].life;
        self.schedule(self.now + CONNECT_TIME, Event::Checked { node, life, key, run });
    }

    pub(super) fn finish_check(&mut self, node: usize, life: u32, key: &CheckKey, run: RunId) {
        if self.nodes[node].life != life {
            return;
        }
        let outcome = self.client.outcome(node, key);
        let moment = self.nodes[node].moment(self.now);
        if let Some(process) = self.nodes[node].running() {
            process.handle_checked(moment, (key, run), outcome, &mut self.actions);
        }
    }

    /// A guard tries to connect to a server, wherever it is.
    pub(super) fn begin_probe(&mut self, node: usize, service: ServiceName, key: EndpointKey) {
        let life = self.nodes[node].life;
        let takes = if self.reaches(node, &key) { CONNECT_TIME } else { PROBE_TIMEOUT };
        self.schedule(self.now + takes, Event::Probed { node, life, service, key });
    }

    pub(super) fn finish_probe(
        &mut self,
        node: usize,
        life: u32,
        service: &ServiceName,
        key: &EndpointKey,
    ) {
        if self.nodes[node].life != life {
            return;
        }
        let answered = self.reaches(node, key);
        let moment = self.nodes[node].moment(self.now);
        if let Some(process) = self.nodes[node].running() {
            process.handle_probed(moment, service, key, answered, &mut self.actions);
        }
    }

    /// Whether a connection from a node to a server comes about. Servers run on while their agent does not.
    fn reaches(&self, node: usize, (on, instance): &EndpointKey) -> bool {
        let Some(target) = self.nodes.iter().position(|node| node.identity.id == *on) else {
            return false;
        };
        let is_cut = self.network.is_cut(node, target) || self.network.is_cut(target, node);
        let has_machine = self.nodes[target].condition != Condition::Dark;
        !is_cut && has_machine && self.client.is_up(target, instance)
    }

    /// Ends a process. Without a kernel nobody is told.
    pub(crate) fn stop(&mut self, node: usize, condition: Condition) {
        self.trace(node, || format!("stops: {condition:?}"));
        if let Some(batch) = self.writing.remove(&node)
            && self.random.below(2) == 0
        {
            // It got to the disk, and the process did not hear of it.
            self.nodes[node].disk.write(*batch);
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

    pub(super) fn begin_write(&mut self, node: usize, batch: Box<Batch>) {
        let latency = self.nodes[node].disk.latency(&mut self.random);
        let life = self.nodes[node].life;
        self.invariants.prepared(self.nodes[node].identity.id, &batch);
        self.writing.insert(node, batch);
        self.schedule(self.now + latency, Event::Written { node, life });
    }

    pub(super) fn finish_write(&mut self, node: usize, life: u32) {
        if self.nodes[node].life != life {
            return;
        }
        let Some(batch) = self.writing.remove(&node) else { return };
        let is_stored = !self.is_checked || self.nodes[node].disk.write(*batch);
        let moment = self.nodes[node].moment(self.now);
        if let Some(process) = self.nodes[node].running() {
            process.handle_stored(moment, is_stored, &mut self.actions);
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

    /// Has a process stop in good order: it stores what is left, and says that its node leaves.
    pub(crate) fn stop_in_order(&mut self, node: usize) -> Result<(), Violation> {
        self.trace(node, || "is told to stop".to_owned());
        let moment = self.nodes[node].moment(self.now);
        let mut actions: Vec<Action> = std::mem::take(&mut self.actions);
        if let Some(process) = self.nodes[node].running() {
            process.stop(moment, &mut actions);
        }
        self.actions = actions;
        self.settle(node)
    }

    /// A process has stored everything: it tells the members that it leaves.
    pub(super) fn has_stopped(&mut self, node: usize) -> Result<(), Violation> {
        let moment = self.nodes[node].moment(self.now);
        let mut actions: Vec<Action> = std::mem::take(&mut self.actions);
        if let Some(process) = self.nodes[node].running() {
            process.leave(moment, &mut actions);
        }
        self.actions = actions;
        Ok(())
    }
}
