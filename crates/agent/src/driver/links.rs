//! The driver's end of the network: links, events and frames.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dunlin_core::host::{LinkId, PeerEvent, PeerOutput, SeenMember};
use dunlin_core::model::NodeId;
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use super::{Driver, moment};
use crate::handle::MemberInfo;
use crate::net::event::{Arrived, MembersRequest, NetEvent};
use crate::net::link::Link;
use crate::net::{Context, Fault, Net};

/// Events of the network that are handled in a row before other inputs get their turn.
const MAX_EVENTS: usize = 256;
/// Frames that are merged before their rows are shown and other inputs get their turn.
const MAX_FRAMES: usize = 16;
/// Time for which frames are merged before their rows are shown.
const MAX_MERGE_TIME: Duration = Duration::from_millis(2);
/// How long it may take to flush the links, and again to tell the members that this node leaves.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(500);

/// All links, and the queues of the network. Without a network the queues are closed.
#[derive(Debug)]
pub(super) struct Links {
    context: Option<Arc<Context>>,
    open: BTreeMap<LinkId, Link>,
    /// Whether the network is to be told of the links again.
    have_changed: bool,
    pub(super) events: mpsc::Receiver<NetEvent>,
    pub(super) frames: mpsc::Receiver<Arrived>,
}

impl Default for Links {
    fn default() -> Self {
        let (events, frames) = (mpsc::channel(1).1, mpsc::channel(1).1);
        Self { context: None, open: BTreeMap::new(), have_changed: false, events, frames }
    }
}

impl Links {
    pub(super) fn new(net: Net) -> Self {
        let context = Some(Arc::clone(net.context()));
        let Net { events, frames, .. } = net;
        Self { context, events, frames, ..Self::default() }
    }

    /// Waits until the kernel has everything that was handed to the links, then has membership announce the leave.
    pub(super) async fn leave(&self) {
        let Some(context) = &self.context else { return };
        let flushed = futures_util::future::join_all(self.open.values().map(Link::flushed));
        // Peers that do not read notice the leave when their links close.
        let _ = tokio::time::timeout(LEAVE_TIMEOUT, flushed).await;
        let (done, left) = oneshot::channel();
        context.try_request(MembersRequest::Leave(done));
        let _ = tokio::time::timeout(LEAVE_TIMEOUT, left).await;
    }
}

impl Driver {
    /// Handles the events of the network that wait.
    pub(super) fn take_events(&mut self) {
        let mut taken = 0;
        while taken < MAX_EVENTS
            && let Ok(event) = self.links.events.try_recv()
        {
            self.handle_event(event);
            taken += 1;
        }
        if taken > 0 {
            self.host.flush(moment());
        }
    }

    /// Handles an event that was waited for, and those behind it.
    pub(super) fn take_event(&mut self, event: NetEvent) {
        self.handle_event(event);
        self.take_events();
        self.host.flush(moment());
    }

    fn handle_event(&mut self, event: NetEvent) {
        let Some(context) = &self.links.context else { return };
        match event {
            NetEvent::Hello { to, reply } => {
                let hello = self.host.hello(context.own_peer(), to);
                // The connection may have ended meanwhile.
                let _ = reply.send(hello.map(Box::new));
            }
            NetEvent::Linked { hello, is_dialed, link } => {
                let id = LinkId(link.id);
                self.links.open.insert(id, link);
                self.links.have_changed = true;
                let linked = PeerEvent::Linked { hello, is_dialed, link: id };
                self.host.handle_peer(moment(), linked);
            }
            NetEvent::Closed { node, link } => self.handle_closed(node, LinkId(link)),
            NetEvent::DialFailed(node) => {
                self.host.handle_peer(moment(), PeerEvent::DialFailed(node));
            }
            NetEvent::Writable(node) => self.fill_link(node),
            NetEvent::Members(event) => {
                self.host.handle_peer(moment(), event);
            }
        }
    }

    fn handle_closed(&mut self, node: NodeId, link: LinkId) {
        self.links.open.remove(&link);
        self.links.have_changed = true;
        self.host.handle_peer(moment(), PeerEvent::LinkClosed { node, link });
    }

    /// Merges frames, a few at a time, and shows their rows together.
    pub(super) fn take_frames(&mut self, first: Arrived) {
        let start = Instant::now();
        let (mut next, mut taken) = (Some(first), 0);
        while let Some(Arrived { from, link, frame }) = next {
            let link = LinkId(link);
            if !self.host.has_link(from, link) {
                // The first frames of a link may arrive before the event that says it is open. What events make
                // visible is newer than the frames so far, so those are shown first.
                self.host.flush(moment());
                self.take_events();
            }
            let is_full = self.host.handle_frame(moment(), from, link, frame);
            taken += 1;
            let has_time = taken < MAX_FRAMES && !is_full && start.elapsed() < MAX_MERGE_TIME;
            next = if has_time { self.links.frames.try_recv().ok() } else { None };
        }
        self.host.flush(moment());
    }

    /// Performs outputs that concern other agents.
    pub(super) fn perform_for_peers(&mut self, output: PeerOutput) {
        let Some(context) = &self.links.context else { return };
        match output {
            PeerOutput::Dial(peer) => context.dial(peer),
            PeerOutput::CloseLink { node, link, reason } => {
                debug!(%node, reason, "link closed");
                // Dropping it closes it.
                self.links.open.remove(&link);
                self.links.have_changed = true;
            }
            PeerOutput::Ready(node) => self.fill_link(node),
            PeerOutput::SendUrgent { to, packet } => {
                context.try_request(MembersRequest::Urgent { to, packet });
            }
            PeerOutput::Met { peer, known_generation } => {
                context.try_request(MembersRequest::Meet { peer, known_generation });
            }
            PeerOutput::Misbehaved { node, problem } => context.report(node, Fault::Rows, &problem),
            PeerOutput::ShowMembers(members) => self.show_members(members),
        }
    }

    /// Tells the network what has changed, once all outputs are performed.
    pub(super) fn after_outputs(&mut self) {
        let Some(context) = &self.links.context else { return };
        context.set_summary(self.host.replica().summary());
        if std::mem::take(&mut self.links.have_changed) {
            let lane = |(node, id): (NodeId, LinkId)| {
                Some((node, self.links.open.get(&id)?.urgent_lane()))
            };
            context.set_lanes(self.host.links().filter_map(lane).collect());
        }
    }

    fn fill_link(&mut self, node: NodeId) {
        let link = self.host.link(node).and_then(|id| self.links.open.get(&id));
        let Some(link) = link else { return };
        let host = RefCell::new(&mut self.host);
        link.fill(
            || host.borrow_mut().next_urgent_frame(node),
            || host.borrow_mut().next_frame(node),
        );
    }

    /// Shows readers all members with their round-trip times, and looks after the links. The engine asks for this once
    /// a second.
    fn show_members(&mut self, members: Vec<SeenMember>) {
        let Some(context) = &self.links.context else { return };
        let info = |SeenMember { peer, rtt, newest_head }: SeenMember| {
            let cluster_address = Some(peer.address);
            (peer.id, MemberInfo { rtt, newest_head, cluster_address })
        };
        self.shared.members.0.store(Arc::new(members.into_iter().map(info).collect()));
        if let Some(stats) = self.host.exchange_stats() {
            context.set_exchange_stats(stats);
        }
        self.publish_heads();
        self.look_after_links();
    }

    /// Does for each link what an event that was lost would have done.
    fn look_after_links(&mut self) {
        let links: Vec<(NodeId, LinkId)> = self.host.links().collect();
        for (node, id) in links {
            let is_closed = self.links.open.get(&id).is_none_or(Link::is_closed);
            if is_closed {
                self.handle_closed(node, id);
            } else {
                self.fill_link(node);
            }
        }
    }
}
