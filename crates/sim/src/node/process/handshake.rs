//! What transports do: dialling, and hellos in both directions until a link is open.

use std::time::{Duration, Instant};

use dunlin_core::gossip::{Frame, Hello, Lane, Peer};
use dunlin_core::host::{LinkId, Moment, PeerEvent};
use dunlin_core::model::NodeId;

use super::{Action, Process, index_of};
use crate::stream::StreamId;

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// A stream on which the other side has yet to say hello.
#[derive(Debug)]
pub(crate) struct Opening {
    /// The member that this node wants to reach; `None` if it was dialled, or dials a seed.
    to: Option<NodeId>,
    is_dialed: bool,
    since: Instant,
}

impl Process {
    /// Dials a member, unless that is under way.
    pub(super) fn dial_member(&mut self, now: Instant, peer: Peer, out: &mut Vec<Action>) {
        let is_dialling = self.opening.values().any(|opening| opening.to == Some(peer.id));
        if !is_dialling {
            self.dial(now, index_of(peer.address), Some(peer.id), out);
        }
    }

    pub(super) fn dial(
        &mut self,
        now: Instant,
        to: usize,
        member: Option<NodeId>,
        out: &mut Vec<Action>,
    ) {
        self.dials += 1;
        let number = u64::from(self.life) << 24 | u64::from(self.dials);
        let stream = (self.identity.index as u64) << 40 | number;
        self.opening.insert(stream, Opening { to: member, is_dialed: true, since: now });
        self.note(out, || Some(format!("dials n{to}")));
        out.push(Action::Dial { to, stream });
    }

    /// The other side took the connection: this side says hello first.
    pub(crate) fn handle_connected(
        &mut self,
        moment: Moment,
        stream: StreamId,
        out: &mut Vec<Action>,
    ) {
        let Some(opening) = self.opening.get(&stream) else {
            return out.push(Action::Close(stream));
        };
        match self.host.hello(self.own, opening.to) {
            Some(hello) => out.push(say(stream, Frame::Hello(hello))),
            None => {
                out.push(Action::Close(stream));
                self.handle_dial_failed(moment, stream, false, out);
            }
        }
    }

    /// Takes a connection, on which the other side will say hello first.
    pub(crate) fn handle_accepted(&mut self, now: Instant, stream: StreamId) {
        self.opening.insert(stream, Opening { to: None, is_dialed: false, since: now });
    }

    /// The other side refused the connection, or nothing was heard of it.
    pub(crate) fn handle_dial_failed(
        &mut self,
        moment: Moment,
        stream: StreamId,
        is_refused: bool,
        out: &mut Vec<Action>,
    ) {
        if let Some(node) = self.opening.remove(&stream).and_then(|opening| opening.to) {
            if is_refused {
                self.members.handle_refused(moment.now, node);
            }
            self.tell(moment, PeerEvent::DialFailed(node));
        }
        self.drain(moment, out);
    }

    /// A stream has ended.
    pub(crate) fn handle_closed(
        &mut self,
        moment: Moment,
        stream: StreamId,
        out: &mut Vec<Action>,
    ) {
        match self.node_of(stream) {
            Some(node) => self.handle_link_closed(moment, node, stream),
            None => return self.handle_dial_failed(moment, stream, false, out),
        }
        self.drain(moment, out);
    }

    /// Takes a frame.
    pub(crate) fn handle_frame(
        &mut self,
        moment: Moment,
        stream: StreamId,
        octets: &[u8],
        out: &mut Vec<Action>,
    ) {
        let node = self.node_of(stream);
        self.note(out, || Some(format!("frame from {node:?}: {}", outline(octets))));
        match (node, Frame::decode(octets)) {
            (Some(node), Ok(frame)) => self.take_frame(moment, node, stream, frame),
            (None, Ok(Frame::Hello(hello))) => self.handle_hello(moment, stream, hello, out),
            // The other side has enough links, and tells of others.
            (None, Ok(Frame::Members(members))) => {
                self.members.handle_introduced(moment.now, members);
                out.push(Action::Close(stream));
                self.handle_dial_failed(moment, stream, false, out);
            }
            // A frame on a stream that was closed here while it was on its way.
            (None, Ok(_)) => {}
            (node, Err(error)) => {
                let peer = node.unwrap_or(self.identity.id);
                out.push(Action::Misbehaved { peer, problem: error.to_string() });
            }
        }
        self.drain(moment, out);
    }

    fn take_frame(&mut self, moment: Moment, node: NodeId, stream: StreamId, frame: Frame) {
        match frame {
            Frame::Members(members) => self.members.handle_introduced(moment.now, members),
            Frame::Packet(packet) => self.members.handle_packet(moment, node, &packet),
            // Datagrams are not sealed here.
            Frame::Keys(_) => {}
            frame @ (Frame::Hello(_)
            | Frame::Push(_)
            | Frame::Rows(_)
            | Frame::Summary(_)
            | Frame::Buckets(_)
            | Frame::Heads { .. }
            | Frame::Want(_)
            | Frame::Prune
            | Frame::Graft) => {
                self.host.handle_frame(moment, node, LinkId(stream), frame);
                self.host.flush(moment);
            }
        }
    }

    fn handle_hello(
        &mut self,
        moment: Moment,
        stream: StreamId,
        hello: Hello,
        out: &mut Vec<Action>,
    ) {
        let Some(Opening { is_dialed, .. }) = self.opening.get(&stream) else { return };
        let (is_dialed, node) = (*is_dialed, hello.peer.id);
        self.note(out, || Some(format!("greeted by {node}, dialled: {is_dialed}")));
        let answer = if is_dialed { None } else { self.host.hello(self.own, Some(node)) };
        if node == self.identity.id || (!is_dialed && answer.is_none()) {
            if !is_dialed {
                out.push(say(stream, Frame::Members(self.known.clone())));
            }
            out.push(Action::Close(stream));
            return self.handle_dial_failed(moment, stream, false, out);
        }
        self.opening.remove(&stream);
        out.extend(answer.map(|answer| say(stream, Frame::Hello(answer))));
        let (hello, link) = (Box::new(hello), LinkId(stream));
        self.tell(moment, PeerEvent::Linked { hello, is_dialed, link });
        self.drain(moment, out);
        // A newcomer learns of the whole cluster at once.
        out.push(say(stream, Frame::Members(self.known.clone())));
    }

    pub(super) fn opening_deadline(&self) -> Option<Instant> {
        self.opening.values().map(|opening| opening.since + HANDSHAKE_TIMEOUT).min()
    }

    pub(super) fn give_up_openings(&mut self, moment: Moment, out: &mut Vec<Action>) {
        let is_late = |opening: &Opening| opening.since + HANDSHAKE_TIMEOUT <= moment.now;
        let late = self.opening.iter().filter(|(_, opening)| is_late(opening));
        let late: Vec<StreamId> = late.map(|(stream, _)| *stream).collect();
        for stream in late {
            out.push(Action::Close(stream));
            self.handle_dial_failed(moment, stream, false, out);
        }
    }
}

/// A hello comes before everything else, also before urgent news.
fn say(stream: StreamId, frame: Frame) -> Action {
    let lane = if matches!(frame, Frame::Hello(_)) { Lane::Urgent } else { Lane::Normal };
    Action::Push { stream, lane, octets: frame.encode() }
}

/// A frame in few words, for traces.
fn outline(octets: &[u8]) -> String {
    let deltas = |deltas: &[dunlin_core::replica::Delta]| {
        let outline = deltas.iter().map(|d| {
            let origin = &d.origin.to_string()[..4];
            let (from, to, extent) = (d.from, d.to, &d.extent);
            format!("{origin}({from}, {to}] of {extent:?} floor {}", d.floor)
        });
        outline.collect::<Vec<_>>().join(", ")
    };
    match Frame::decode(octets) {
        Ok(Frame::Push(pushed)) => format!("Push {}", deltas(&pushed)),
        Ok(Frame::Rows(rows)) => format!("Rows {}", deltas(&rows)),
        Ok(Frame::Buckets(_)) => "Buckets".to_owned(),
        Ok(Frame::Members(members)) => format!("{} members", members.len()),
        Ok(other) => format!("{other:?}"),
        Err(error) => error.to_string(),
    }
}
