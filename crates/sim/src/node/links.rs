//! Links of an agent: dialling, the handshake, and which of two is kept.

use std::time::{Duration, Instant};

use dunlin_core::gossip::{Frame, Hello, Outgoing, Peer};
use dunlin_core::model::NodeId;

use super::{Action, Agent, index_of};
use crate::stream::StreamId;

/// How long a handshake may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// A stream on which both sides have said hello.
#[derive(Debug)]
pub(crate) struct Link {
    pub(super) stream: StreamId,
    pub(super) peer: Peer,
    is_dialed: bool,
}

/// A stream on which the other side has yet to say hello.
#[derive(Debug)]
pub(crate) struct Opening {
    /// Whom this agent wants to reach; none if it was dialled, or dials an address.
    to: Option<NodeId>,
    is_dialed: bool,
    since: Instant,
}

impl Agent {
    /// Dials a member, unless there is a link to it or about to be.
    pub(super) fn dial_member(&mut self, now: Instant, peer: Peer, out: &mut Vec<Action>) {
        let is_dialling = self.opening.values().any(|opening| opening.to == Some(peer.id));
        if !is_dialling && !self.links.contains_key(&peer.id) {
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
        if self.identity.is_traced {
            out.push(Action::Note(format!("dials n{to}")));
        }
        out.push(Action::Dial { to, stream });
    }

    /// The other side took the connection: says hello first.
    pub(crate) fn handle_connected(&mut self, stream: StreamId, out: &mut Vec<Action>) {
        let Some(opening) = self.opening.get(&stream) else {
            return out.push(Action::Close(stream));
        };
        let hello = self.hello(opening.to);
        out.push(Action::Hello { stream, octets: Frame::Hello(hello).encode() });
    }

    /// Takes a connection, on which the other side will say hello first.
    pub(crate) fn handle_accepted(&mut self, now: Instant, stream: StreamId) {
        self.opening.insert(stream, Opening { to: None, is_dialed: false, since: now });
    }

    /// The other side refused the connection, or nothing was heard of it.
    pub(crate) fn handle_dial_failed(
        &mut self,
        now: Instant,
        stream: StreamId,
        is_refused: bool,
        out: &mut Vec<Action>,
    ) {
        if let Some(node) = self.opening.remove(&stream).and_then(|opening| opening.to) {
            self.exchange.handle_dial_failed(now, node);
            if is_refused {
                self.membership.doubt(now, node);
            }
        }
        self.drain(now, out);
    }

    /// A stream has ended.
    pub(crate) fn handle_closed(&mut self, now: Instant, stream: StreamId, out: &mut Vec<Action>) {
        let node = self.links.iter().find(|(_, link)| link.stream == stream).map(|(node, _)| *node);
        if let Some(node) = node {
            self.links.remove(&node);
            self.exchange.handle_link_closed(now, node);
        } else if let Some(opening) = self.opening.remove(&stream)
            && let Some(node) = opening.to
            && !self.links.contains_key(&node)
        {
            self.exchange.handle_dial_failed(now, node);
        }
        self.drain(now, out);
    }

    /// Takes a frame.
    pub(crate) fn handle_frame(
        &mut self,
        now: Instant,
        stream: StreamId,
        octets: &[u8],
        out: &mut Vec<Action>,
    ) {
        let node = self.node_of(stream);
        if self.identity.is_traced {
            out.push(Action::Note(format!("frame from {node:?}: {}", outline(octets))));
        }
        match (node, Frame::decode(octets)) {
            (Some(node), Ok(frame)) => {
                self.exchange.handle_frame(now, node, frame, &mut self.replica);
            }
            (None, Ok(Frame::Hello(hello))) => self.handle_hello(now, stream, &hello, out),
            // A frame on a stream that was closed here while it was on its way.
            (None, Ok(_)) => {}
            (node, Err(error)) => {
                let peer = node.unwrap_or(self.identity.id);
                out.push(Action::Misbehaved { peer, problem: error.to_string() });
            }
        }
        self.drain(now, out);
    }

    fn handle_hello(
        &mut self,
        now: Instant,
        stream: StreamId,
        hello: &Hello,
        out: &mut Vec<Action>,
    ) {
        let Some(opening) = self.opening.remove(&stream) else { return };
        let node = hello.peer.id;
        let is_dialed = opening.is_dialed;
        if self.identity.is_traced {
            out.push(Action::Note(format!("greeted by {node}, dialled: {is_dialed}")));
        }
        let is_welcome = node != self.identity.id
            && self.is_preferred(node, is_dialed)
            && (is_dialed || self.exchange.has_room() || self.links.contains_key(&node));
        if !is_welcome {
            out.push(Action::Close(stream));
            return;
        }
        if let Some(old) = self.links.remove(&node) {
            self.exchange.handle_link_closed(now, node);
            out.push(Action::Close(old.stream));
        }
        if !is_dialed {
            let answer = Frame::Hello(self.hello(Some(node))).encode();
            out.push(Action::Hello { stream, octets: answer });
        }
        self.links.insert(node, Link { stream, peer: hello.peer, is_dialed });
        self.membership.meet(now, hello.peer, hello.your_generation);
        self.exchange.handle_link(now, hello, is_dialed, &self.replica);
    }

    /// Of two links between two nodes both keep the one that the smaller id dialled; of two that one of them
    /// dialled, the newer.
    fn is_preferred(&self, node: NodeId, is_dialed: bool) -> bool {
        let dialer = |is_dialed: bool| if is_dialed { self.identity.id } else { node };
        let old = self.links.get(&node).map(|link| dialer(link.is_dialed));
        old.is_none_or(|old| dialer(is_dialed) <= old)
    }

    fn hello(&self, to: Option<NodeId>) -> Hello {
        let known = to.and_then(|to| self.membership.peer(to));
        let known = known.map_or(0, |(peer, _)| peer.generation);
        let name = self.identity.name.clone();
        self.exchange.hello(&self.replica, self.membership.own(), name, to, known)
    }

    /// The next frame for a stream whose buffer has room.
    pub(crate) fn next_frame(&mut self, stream: StreamId) -> Option<Outgoing> {
        let node = self.node_of(stream)?;
        self.exchange.next_frame(node, &self.replica)
    }

    /// The next urgent frame for a stream whose buffer is full.
    pub(crate) fn next_urgent_frame(&mut self, stream: StreamId) -> Option<Outgoing> {
        let node = self.node_of(stream)?;
        self.exchange.next_urgent_frame(node)
    }

    /// To whom a stream leads, once both have said hello.
    pub(crate) fn node_of(&self, stream: StreamId) -> Option<NodeId> {
        self.links.iter().find(|(_, link)| link.stream == stream).map(|(node, _)| *node)
    }

    pub(super) fn opening_deadline(&self) -> Option<Instant> {
        self.opening.values().map(|opening| opening.since + HANDSHAKE_TIME).min()
    }

    pub(super) fn give_up_openings(&mut self, now: Instant, out: &mut Vec<Action>) {
        let is_late = |opening: &Opening| opening.since + HANDSHAKE_TIME <= now;
        let late = self.opening.iter().filter(|(_, opening)| is_late(opening));
        let late: Vec<StreamId> = late.map(|(stream, _)| *stream).collect();
        for stream in late {
            out.push(Action::Close(stream));
            self.handle_dial_failed(now, stream, false, out);
        }
    }
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
        Ok(other) => format!("{other:?}"),
        Err(error) => error.to_string(),
    }
}
