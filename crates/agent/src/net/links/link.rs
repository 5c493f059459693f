//! One link: a TLS stream to a peer on which both sides have said hello.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dunlin_core::gossip::{Frame, FrameError, Lane, Outgoing, Peer};
use dunlin_core::model::NodeId;
use tokio::io::{AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsStream;
use tokio_util::sync::CancellationToken;

use super::allowance::Allowance;
use super::connect;
use super::framing::{Reader, Written};
use crate::net::event::{Arrived, Event, Request};
use crate::net::{Context, Fault};

/// Frames that may wait for the stream on each lane; what is beyond stays with the exchange, which knows better
/// than a queue what is still worth sending.
const QUEUE: usize = 4;
const URGENT_QUEUE: usize = 32;
/// How long one piece may take to be written before the peer counts as one that never reads.
const WRITE_TIME: Duration = Duration::from_secs(20);
/// How often it is looked whether the peer was fenced off.
const FENCE_PERIOD: Duration = Duration::from_millis(50);

/// The driver's end of a link. Dropping it closes the link.
#[derive(Debug)]
pub(crate) struct Link {
    /// Which of the links there ever were.
    pub(crate) id: u64,
    urgent: mpsc::Sender<Outgoing>,
    normal: mpsc::Sender<Outgoing>,
    starved: Arc<Starved>,
    closed: CancellationToken,
}

/// Lanes for which the driver had more than fitted, so that it wants to be told of room.
#[derive(Debug, Default)]
struct Starved {
    urgent: AtomicBool,
    normal: AtomicBool,
}

/// Room for one frame on a lane. If there is none, the mark is set first and the lane looked at once more, so that
/// room that was made meanwhile is not overlooked by both sides.
fn reserve<'a>(
    lane: &'a mpsc::Sender<Outgoing>,
    mark: &AtomicBool,
) -> Option<mpsc::Permit<'a, Outgoing>> {
    lane.try_reserve().ok().or_else(|| {
        mark.store(true, Ordering::SeqCst);
        lane.try_reserve().ok()
    })
}

impl Link {
    /// Sends as many frames as there is room for on either lane.
    pub(crate) fn fill(
        &self,
        mut next_urgent: impl FnMut() -> Option<Outgoing>,
        mut next: impl FnMut() -> Option<Outgoing>,
    ) {
        while let Some(room) = reserve(&self.urgent, &self.starved.urgent) {
            match next_urgent() {
                Some(frame) => room.send(frame),
                None => break,
            }
        }
        // The next frame is urgent only if the urgent lane was full: then it waits for room there.
        while let (Some(urgent), Some(normal)) = (
            reserve(&self.urgent, &self.starved.urgent),
            reserve(&self.normal, &self.starved.normal),
        ) {
            match next() {
                Some(frame) if frame.lane == Lane::Urgent => urgent.send(frame),
                Some(frame) => normal.send(frame),
                None => return,
            }
        }
    }

    /// Whether the link has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// A sender of urgent frames, for packets that do not get through as such.
    pub(crate) fn urgent_lane(&self) -> mpsc::Sender<Outgoing> {
        self.urgent.clone()
    }

    /// Closes the link.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    /// Waits until what was handed over is with the kernel, or the link is closed.
    pub(crate) async fn flushed(&self) {
        let (normal, urgent) =
            (self.normal.reserve_many(QUEUE), self.urgent.reserve_many(URGENT_QUEUE));
        // Errors mean that the link is closed.
        let _ = tokio::join!(normal, urgent);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

/// What runs a link.
struct Running {
    peer: Peer,
    node: NodeId,
    id: u64,
    remote: SocketAddr,
    context: Arc<Context>,
    closed: CancellationToken,
    /// Set where writing failed: the peer's agent may have died.
    has_failed: AtomicBool,
}

/// Starts the tasks of a link and returns the driver's end.
pub(super) fn start(
    context: &Arc<Context>,
    peer: Peer,
    remote: SocketAddr,
    stream: TlsStream<TcpStream>,
    reader: Reader,
) -> Link {
    let id = context.next_link.fetch_add(1, Ordering::Relaxed);
    let closed = context.stop.child_token();
    let (urgent, urgent_frames) = mpsc::channel(URGENT_QUEUE);
    let (normal, normal_frames) = mpsc::channel(QUEUE);
    let starved = Arc::new(Starved::default());
    let (read, write) = tokio::io::split(stream);
    let running = Arc::new(Running {
        peer,
        node: peer.id,
        id,
        remote,
        context: Arc::clone(context),
        closed: closed.clone(),
        has_failed: AtomicBool::new(false),
    });
    let keys = context.keys.subscribe();
    let writer = Writer { urgent_frames, normal_frames, starved: Arc::clone(&starved), keys };
    context.tasks.spawn(write_all(Arc::clone(&running), write, writer));
    context.tasks.spawn(read_all(running, read, reader));
    Link { id, urgent, normal, starved, closed }
}

struct Writer {
    urgent_frames: mpsc::Receiver<Outgoing>,
    normal_frames: mpsc::Receiver<Outgoing>,
    starved: Arc<Starved>,
    keys: watch::Receiver<Arc<[u8]>>,
}

async fn write_all(
    running: Arc<Running>,
    mut stream: WriteHalf<TlsStream<TcpStream>>,
    mut writer: Writer,
) {
    let closed = running.closed.clone();
    let result = closed.run_until_cancelled(write_frames(&running, &mut stream, &mut writer)).await;
    if let Some(Err(error)) = result {
        running.has_failed.store(true, Ordering::Relaxed);
        running.context.report(running.node, Fault::Stream, &error.to_string());
    }
    running.closed.cancel();
    if running.context.is_cut_off.load(Ordering::Relaxed) {
        return;
    }
    // The peer may be gone already.
    let _ = tokio::time::timeout(Duration::from_millis(200), stream.shutdown()).await;
}

async fn write_frames(
    running: &Running,
    stream: &mut WriteHalf<TlsStream<TcpStream>>,
    writer: &mut Writer,
) -> std::io::Result<()> {
    writer.keys.mark_changed();
    // A newcomer learns of the whole cluster at once.
    let members = Frame::Members(running.context.known.load().to_vec()).encode();
    let mut normal = Some(Written::new(Lane::Normal, members));
    loop {
        let mut urgent = None;
        tokio::select! {
            biased;
            Some(frame) = writer.urgent_frames.recv() => {
                urgent = Some(Written::new(Lane::Urgent, frame.octets));
            }
            Ok(()) = writer.keys.changed() => {
                let keys = writer.keys.borrow_and_update().to_vec();
                // None yet: the members' thread is about to make or read them.
                if keys.is_empty() {
                    continue;
                }
                urgent = Some(Written::new(Lane::Urgent, Frame::Keys(keys).encode()));
            }
            () = std::future::ready(()), if normal.is_some() => {}
            Some(frame) = writer.normal_frames.recv(), if normal.is_none() => {
                normal = Some(Written::new(Lane::Normal, frame.octets));
            }
            else => return Ok(()),
        }
        if let Some(mut urgent) = urgent {
            while !in_time(urgent.write_piece(stream)).await? {}
        } else if let Some(frame) = &mut normal
            && in_time(frame.write_piece(stream)).await?
        {
            normal = None;
        }
        // Should the driver's queue be full, the driver looks at all links within a second.
        let has_urgent_room = writer.urgent_frames.is_empty();
        if has_urgent_room && writer.starved.urgent.swap(false, Ordering::SeqCst)
            || normal.is_none() && writer.starved.normal.swap(false, Ordering::SeqCst)
        {
            let _ = running.context.hint(Event::Writable(running.node));
        }
        if normal.is_none() && writer.normal_frames.is_empty() && writer.urgent_frames.is_empty() {
            in_time(stream.flush()).await?;
        }
    }
}

async fn in_time<T>(write: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    let late = || std::io::Error::new(std::io::ErrorKind::TimedOut, "the peer does not read");
    tokio::time::timeout(WRITE_TIME, write).await.map_err(|_| late())?
}

async fn read_all(
    running: Arc<Running>,
    mut stream: ReadHalf<TlsStream<TcpStream>>,
    mut reader: Reader,
) {
    let closed = running.closed.clone();
    let mut allowance = Allowance::new(Instant::now());
    let frames = async {
        loop {
            match reader.next(&mut stream).await {
                Ok(Some(octets)) => {
                    // Not read meanwhile, so that the peer's own queue fills and not this agent's.
                    let wait = allowance.take(Instant::now(), octets.len());
                    // To sleep for no time at all takes a millisecond: the timer's next tick.
                    if !wait.is_zero() {
                        tokio::time::sleep(wait).await;
                    }
                    if !take(&running, &octets).await {
                        return false;
                    }
                }
                // TLS says so (RFC 8446 §6.1): the agent lives, or has stopped and said goodbye by itself.
                Ok(None) => return false,
                Err(error) => {
                    running.context.report(running.node, Fault::Stream, &error.to_string());
                    return true;
                }
            }
        }
    };
    let is_broken = tokio::select! {
        () = closed.cancelled() => running.has_failed.load(Ordering::Relaxed),
        is_broken = frames => is_broken,
        () = fenced_off(&running) => false,
    };
    running.closed.cancel();
    running.context.tell(Event::Closed { node: running.node, link: running.id }).await;
    if is_broken {
        // Its host may have closed the stream because its agent died.
        connect::verify(Arc::clone(&running.context), running.peer).await;
    }
}

/// Passes a frame to whom it concerns. False ends the link.
async fn take(running: &Running, octets: &[u8]) -> bool {
    let context = &running.context;
    let frame = match Frame::decode(octets) {
        Ok(frame) => frame,
        Err(FrameError::UnknownKind(kind)) => {
            context.report(running.node, Fault::UnknownFrame, &format!("kind {kind}"));
            return true;
        }
        Err(error) => {
            context.report(running.node, Fault::Frame, &error.to_string());
            return false;
        }
    };
    match frame {
        Frame::Members(members) => context.request(Request::Introduce(members)).await,
        Frame::Keys(keys) => context.request(Request::Keys(running.node, keys)).await,
        Frame::Packet(packet) => context.request(Request::Packet(running.node, packet)).await,
        frame @ (Frame::Hello(_)
        | Frame::Push(_)
        | Frame::Rows(_)
        | Frame::Summary(_)
        | Frame::Buckets(_)
        | Frame::Heads { .. }
        | Frame::Want(_)
        | Frame::Prune
        | Frame::Graft) => {
            let arrived = Arrived { from: running.node, link: running.id, frame };
            // The queue's room is what slows a peer down that sends faster than this agent merges.
            return context.frames.send(arrived).await.is_ok();
        }
    }
    true
}

/// Ends when the peer is fenced off; never in production, where there is no fence.
async fn fenced_off(running: &Running) {
    let (side, there) = (&running.context.side, running.remote.ip());
    if side.fence.is_none() {
        return std::future::pending().await;
    }
    let mut ticks = tokio::time::interval(FENCE_PERIOD);
    while !side.is_mute_to(there) && !side.is_deaf_to(there) {
        ticks.tick().await;
    }
}
