//! How datagrams and frames get from one node to another.

use std::sync::Arc;
use std::time::Duration;

use dunlin_core::gossip::{Lane, Peer};

use super::{DATAGRAM_OVERHEAD, Event, SEGMENT_OCTETS, SEGMENT_OVERHEAD, World};
use crate::invariants::Violation;
use crate::node::{Condition, address_of};
use crate::stream::{ACCEPTOR, DIALER, Stream, StreamId};

/// How long an unanswered connection request is repeated.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// How long an end that hears nothing waits before it takes the link for broken: at least, and at most so much longer.
const SILENCE: (Duration, Duration) = (Duration::from_secs(8), Duration::from_secs(6));
/// Events that a paused process' kernel keeps; datagrams beyond are dropped.
const INBOX: usize = 256;

impl World {
    pub(super) fn send_datagram(&mut self, from: usize, to: usize, octets: Arc<[u8]>) {
        self.traffic.datagrams += 1;
        self.traffic.datagram_octets += octets.len() as u64 + DATAGRAM_OVERHEAD;
        if to >= self.nodes.len() {
            return;
        }
        for latency in self.network.packet_arrivals(from, to).into_iter().flatten() {
            let octets = Arc::clone(&octets);
            self.schedule(self.now + latency, Event::Datagram { from, to, octets });
        }
    }

    /// Hands an event to the node that it concerns; returns it if it took it.
    pub(super) fn deliver(&mut self, event: Event) -> Option<usize> {
        let node = self.concerned(&event)?;
        match self.nodes[node].condition {
            Condition::Running => {}
            Condition::Paused => {
                let inbox = self.inboxes.entry(node).or_default();
                let is_datagram = matches!(event, Event::Datagram { .. });
                let is_lost = is_datagram && inbox.len() >= INBOX;
                if !(is_lost || matches!(event, Event::Wake { .. })) {
                    inbox.push_back(event);
                }
                return None;
            }
            Condition::Stopped | Condition::Dark => {
                self.meet_nobody(node, event);
                return None;
            }
        }
        let moment = self.nodes[node].moment(self.now);
        match event {
            Event::Wake { .. } => {
                if self.nodes[node].wake.is_some_and(|wake| wake > self.now) {
                    return None;
                }
                self.nodes[node].wake = None;
                self.nodes[node].running()?.handle_deadline(moment, &mut self.actions);
            }
            Event::Datagram { from, octets, .. } => {
                let peer = self.peer(from);
                let process = self.nodes[node].running()?;
                process.handle_datagram(moment, peer, &octets, &mut self.actions);
            }
            Event::Connect { stream } => self.accept(node, stream),
            Event::Connected { stream } => {
                self.streams.get_mut(&stream)?.ends[DIALER].is_open = true;
                self.nodes[node].running()?.handle_connected(moment, stream, &mut self.actions);
            }
            Event::Refused { stream, is_certain } => {
                self.streams.remove(&stream);
                let process = self.nodes[node].running()?;
                process.handle_dial_failed(moment, stream, is_certain, &mut self.actions);
            }
            Event::Frame { stream, end, octets } => self.arrive(node, stream, end, octets),
            Event::Written { life, .. } => self.finish_write(node, life),
            Event::Checked { life, key, run, .. } => self.finish_check(node, life, &key, run),
            Event::Probed { life, service, key, .. } => {
                self.finish_probe(node, life, &service, &key);
            }
            Event::Silence { stream, end, since } => self.handle_silence(stream, end, since),
            Event::Sent { .. } | Event::Step(_) | Event::Load | Event::Look => return None,
        }
        Some(node)
    }

    /// Which node an event happens to. What concerns only the wire is dealt with here.
    fn concerned(&mut self, event: &Event) -> Option<usize> {
        match *event {
            Event::Wake { node }
            | Event::Written { node, .. }
            | Event::Checked { node, .. }
            | Event::Probed { node, .. } => Some(node),
            Event::Datagram { to, .. } => Some(to),
            Event::Connect { stream } => Some(self.streams.get(&stream)?.nodes[ACCEPTOR]),
            Event::Connected { stream } | Event::Refused { stream, .. } => {
                Some(self.streams.get(&stream)?.nodes[DIALER])
            }
            Event::Frame { stream, end, .. } => Some(self.streams.get(&stream)?.nodes[1 - end]),
            Event::Silence { stream, end, .. } => Some(self.streams.get(&stream)?.nodes[end]),
            Event::Sent { .. } | Event::Step(_) | Event::Load | Event::Look => None,
        }
    }

    fn peer(&self, node: usize) -> Peer {
        let process = self.nodes[node].process.as_ref();
        let known = process.map(|process| process.members.membership().own());
        let id = self.nodes[node].identity.id;
        known.unwrap_or(Peer { id, generation: 0, address: address_of(node) })
    }

    /// What happens to events where no process is.
    fn meet_nobody(&mut self, node: usize, event: Event) {
        let has_kernel = self.nodes[node].condition == Condition::Stopped;
        if let Event::Connect { stream } = event {
            self.refuse(stream, has_kernel);
        } else if let Event::Frame { stream, end, octets: Some(_) } = event
            && has_kernel
        {
            // A frame for a process that is gone is answered with a reset.
            self.finish(stream, 1 - end);
        }
    }

    pub(super) fn dial(&mut self, node: usize, to: usize, id: StreamId) {
        self.streams.insert(id, Stream::new(node, to));
        if to >= self.nodes.len() || self.network.is_cut(node, to) || self.network.is_cut(to, node)
        {
            let refused = Event::Refused { stream: id, is_certain: false };
            return self.schedule(self.now + CONNECT_TIME, refused);
        }
        let latency = self.network.latency(node, to);
        self.schedule(self.now + latency, Event::Connect { stream: id });
    }

    fn refuse(&mut self, stream: StreamId, is_certain: bool) {
        let Some([dialer, acceptor]) = self.streams.get(&stream).map(|stream| stream.nodes) else {
            return;
        };
        let is_certain = is_certain && !self.network.is_cut(acceptor, dialer);
        let after = if is_certain { self.network.latency(acceptor, dialer) } else { CONNECT_TIME };
        self.schedule(self.now + after, Event::Refused { stream, is_certain });
    }

    fn accept(&mut self, node: usize, id: StreamId) {
        let now = self.nodes[node].clock.local(self.now);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let dialer = stream.nodes[DIALER];
        stream.ends[ACCEPTOR].is_open = true;
        if let Some(process) = self.nodes[node].running() {
            process.handle_accepted(now, id);
        }
        // Back, and once there and back for the handshake of TLS.
        let trip = self.network.latency(node, dialer);
        self.schedule(self.now + 3 * trip, Event::Connected { stream: id });
    }

    pub(super) fn end_of(&self, node: usize, stream: StreamId) -> usize {
        let dialer = self.streams.get(&stream).map(|stream| stream.nodes[DIALER]);
        if dialer == Some(node) { DIALER } else { ACCEPTOR }
    }

    /// Fills a stream's buffer with what the node has for it.
    pub(super) fn pull(&mut self, node: usize, id: StreamId) -> Result<(), Violation> {
        let end = self.end_of(node, id);
        loop {
            self.transmit(id, end)?;
            let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
            if !stream.ends[end].is_open {
                return Ok(());
            }
            let Some(process) = self.nodes[node].running() else { return Ok(()) };
            let outgoing = if stream.ends[end].has_room() {
                process.next_frame(id)
            } else if stream.ends[end].has_room_for_urgent() {
                process.next_urgent_frame(id)
            } else {
                None
            };
            let Some(outgoing) = outgoing else { break };
            stream.ends[end].push(outgoing.lane, outgoing.octets);
        }
        let queued = self.streams.get(&id).map_or(0, |stream| stream.ends[end].queued());
        self.invariants.queued(self.now, node, queued)
    }

    /// Puts frames on the wire while it is free.
    pub(super) fn transmit(&mut self, id: StreamId, end: usize) -> Result<(), Violation> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        let (from, to) = (stream.nodes[end], stream.nodes[1 - end]);
        while let Some((lane, octets)) = stream.ends[end].next_for_wire(self.now) {
            if lane == Lane::Normal {
                self.invariants.on_wire(self.now, &self.nodes[from], id)?;
            }
            let size = octets.len() as u64;
            self.traffic.frames += 1;
            self.traffic.frame_octets += size + size.div_ceil(SEGMENT_OCTETS) * SEGMENT_OVERHEAD;
            let sender = &mut stream.ends[end];
            sender.busy_until = self.now + self.network.transmission(from, to, octets.len());
            let latency = self.network.frame_latency(from, to, octets.len());
            sender.last_arrival = sender.last_arrival.max(sender.busy_until + latency);
            let frame = Event::Frame { stream: id, end, octets: Some(octets) };
            self.scheduled += 1;
            let (at, number) = (sender.last_arrival, self.scheduled);
            self.queue.push(std::cmp::Reverse(super::Scheduled { at, number, event: frame }));
        }
        if stream.ends[end].is_waiting()
            && stream.ends[end].busy_until > self.now
            && !stream.ends[end].is_sending
        {
            stream.ends[end].is_sending = true;
            let at = stream.ends[end].busy_until;
            self.schedule(at, Event::Sent { stream: id, end });
        }
        Ok(())
    }

    /// The wire is free again.
    pub(super) fn handle_sent(&mut self, id: StreamId, end: usize) -> Result<(), Violation> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        stream.ends[end].is_sending = false;
        let node = stream.nodes[end];
        self.pull(node, id)
    }

    /// A frame, or the end of a stream, arrives at the other end.
    fn arrive(&mut self, node: usize, id: StreamId, end: usize, octets: Option<Vec<u8>>) {
        let moment = self.nodes[node].moment(self.now);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let from = stream.nodes[end];
        if self.network.is_cut(from, node) {
            stream.ends[end].held.push_back(octets);
            return;
        }
        let size = octets.as_ref().map_or(0, Vec::len);
        stream.ends[end].in_flight = stream.ends[end].in_flight.saturating_sub(size);
        if !stream.ends[1 - end].is_open {
            if octets.is_some() {
                self.finish(id, 1 - end);
            }
            return;
        }
        let has_waiting = stream.ends[end].is_waiting() && !stream.ends[end].is_sending;
        if has_waiting {
            stream.ends[end].is_sending = true;
        }
        if octets.is_none() {
            stream.ends[1 - end].close();
            if !stream.ends[end].is_open {
                self.streams.remove(&id);
            }
        }
        if has_waiting {
            self.schedule(self.now, Event::Sent { stream: id, end });
        }
        let Some(process) = self.nodes[node].running() else { return };
        match octets {
            Some(octets) => process.handle_frame(moment, id, &octets, &mut self.actions),
            None => process.handle_closed(moment, id, &mut self.actions),
        }
    }

    /// A process closes its end.
    pub(super) fn close(&mut self, node: usize, id: StreamId) {
        let end = self.end_of(node, id);
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.ends[end].close();
            self.finish(id, end);
        }
    }

    /// The other end learns that this one is closed, behind everything that is on the wire.
    pub(super) fn finish(&mut self, id: StreamId, end: usize) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let (from, to) = (stream.nodes[end], stream.nodes[1 - end]);
        let at = stream.ends[end].last_arrival.max(self.now + self.network.latency(from, to));
        stream.ends[end].last_arrival = at;
        self.schedule(at, Event::Frame { stream: id, end, octets: None });
        let is_over = |stream: &Stream| stream.ends.iter().all(|end| !end.is_open);
        if self.streams.get(&id).is_some_and(is_over) {
            self.streams.remove(&id);
        }
    }

    /// Cuts all these directions.
    pub(crate) fn cut(&mut self, pairs: &[(usize, usize)]) {
        self.trace(0, || format!("{} directions are cut: {pairs:?}", pairs.len()));
        self.network.cut(pairs);
        self.note_cut(pairs);
    }

    /// Takes one cut back.
    pub(crate) fn mend(&mut self, pairs: &[(usize, usize)]) {
        self.trace(0, || format!("{} directions are mended", pairs.len()));
        self.network.mend(pairs);
        self.note_mended();
    }

    /// Some directions were cut: ends that hear nothing will notice after a while.
    fn note_cut(&mut self, pairs: &[(usize, usize)]) {
        let mut silences = Vec::new();
        for (id, stream) in &mut self.streams {
            let [dialer, acceptor] = stream.nodes;
            if !pairs.contains(&(dialer, acceptor)) && !pairs.contains(&(acceptor, dialer)) {
                continue;
            }
            for end in [DIALER, ACCEPTOR] {
                stream.ends[end].silent_since = Some(self.now);
                silences.push((*id, end));
            }
        }
        for (stream, end) in silences {
            let after = SILENCE.0 + SILENCE.1.mul_f64(self.random.fraction());
            self.schedule(self.now + after, Event::Silence { stream, end, since: self.now });
        }
    }

    /// Some directions are open again: what TCP kept is sent again after a while.
    fn note_mended(&mut self) {
        let mut released = Vec::new();
        for (id, stream) in &mut self.streams {
            let [dialer, acceptor] = stream.nodes;
            if self.network.is_cut(dialer, acceptor) || self.network.is_cut(acceptor, dialer) {
                continue;
            }
            let is_dark = |node: usize| self.nodes[node].condition == Condition::Dark;
            for end in [DIALER, ACCEPTOR] {
                if !is_dark(stream.nodes[1 - end]) {
                    stream.ends[end].silent_since = None;
                }
                let held = std::mem::take(&mut stream.ends[end].held);
                let pause = Duration::from_millis(self.random.below(800) as u64);
                let at = (self.now + pause).max(stream.ends[end].last_arrival);
                stream.ends[end].last_arrival = at;
                released.extend(held.into_iter().map(|octets| (at, *id, end, octets)));
            }
        }
        for (at, stream, end, octets) in released {
            self.schedule(at, Event::Frame { stream, end, octets });
        }
    }

    pub(super) fn handle_silence(&mut self, id: StreamId, end: usize, since: Duration) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.ends[end].silent_since != Some(since) || !stream.ends[end].is_open {
            return;
        }
        let node = stream.nodes[end];
        stream.ends[end].close();
        self.finish(id, end);
        let moment = self.nodes[node].moment(self.now);
        if let Some(process) = self.nodes[node].running() {
            process.handle_closed(moment, id, &mut self.actions);
        }
    }
}
