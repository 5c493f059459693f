//! The two tasks of a link: one writes and one reads.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dunlin_core::gossip::{Frame, FrameError, Lane, Peer};
use dunlin_core::model::NodeId;
use tokio::io::{AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsStream;
use tokio_util::sync::CancellationToken;

use super::allowance::Allowance;
use super::framing::{FrameReader, FrameWriter};
use super::link::{Lanes, Link};
use super::verify::verify;
use crate::net::event::{Arrived, MembersRequest, NetEvent};
use crate::net::transport::Stream;
use crate::net::{Context, Fault};

/// How long the kernel may take to accept one piece, until the peer counts as one that never reads.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the goodbye of TLS may take.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(200);

/// What both tasks of a link know.
struct Running {
    peer: Peer,
    node: NodeId,
    id: u64,
    remote: SocketAddr,
    context: Arc<Context>,
    closed: CancellationToken,
    /// Set when writing has failed, since the agent of the peer may have died.
    has_failed: AtomicBool,
}

/// Starts the tasks of a link and returns the driver's end. `reader` has what was read behind the peer's hello.
pub(super) fn start(
    context: &Arc<Context>,
    peer: Peer,
    stream: Stream,
    reader: FrameReader,
) -> Link {
    let transport = context.transport();
    let id = context.next_link.fetch_add(1, Ordering::Relaxed);
    let closed = transport.stop().child_token();
    let (link, lanes) = Link::new(id, closed.clone());
    let (read, write) = tokio::io::split(stream.tls);
    let running = Arc::new(Running {
        peer,
        node: peer.id,
        id,
        remote: stream.remote,
        context: Arc::clone(context),
        closed,
        has_failed: AtomicBool::new(false),
    });
    let writer = LinkWriter { stream: write, lanes, keys: context.keys.subscribe() };
    transport.tasks().spawn(write_all(Arc::clone(&running), writer));
    transport.tasks().spawn(read_all(running, read, reader));
    link
}

struct LinkWriter {
    stream: WriteHalf<TlsStream<TcpStream>>,
    lanes: Lanes,
    keys: watch::Receiver<Arc<[u8]>>,
}

async fn write_all(running: Arc<Running>, mut writer: LinkWriter) {
    let writing = write_frames(&running, &mut writer);
    if let Some(Err(error)) = running.closed.run_until_cancelled(writing).await {
        running.has_failed.store(true, Ordering::Relaxed);
        running.context.report(running.node, Fault::Stream, &error.to_string());
    }
    running.closed.cancel();
    if running.context.transport().is_cut_off() {
        return;
    }
    // The peer may be gone already.
    let _ = timeout(GOODBYE_TIMEOUT, writer.stream.shutdown()).await;
}

async fn write_frames(running: &Running, writer: &mut LinkWriter) -> io::Result<()> {
    let LinkWriter { stream, lanes, keys } = writer;
    keys.mark_changed();
    // A newcomer learns of the whole cluster at once.
    let members = Frame::Members(running.context.known.load().to_vec()).encode();
    let mut normal = Some(FrameWriter::new(Lane::Normal, members));
    loop {
        let mut urgent = None;
        tokio::select! {
            biased;
            Some(frame) = lanes.urgent.recv() => {
                urgent = Some(FrameWriter::new(Lane::Urgent, frame.octets));
            }
            Ok(()) = keys.changed() => {
                let keys = keys.borrow_and_update().to_vec();
                // There are none yet: the members' thread is about to make or read them.
                if keys.is_empty() {
                    continue;
                }
                urgent = Some(FrameWriter::new(Lane::Urgent, Frame::Keys(keys).encode()));
            }
            () = std::future::ready(()), if normal.is_some() => {}
            Some(frame) = lanes.normal.recv(), if normal.is_none() => {
                normal = Some(FrameWriter::new(Lane::Normal, frame.octets));
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
        if lanes.should_tell_of_room(normal.is_some()) {
            // Should the driver's queue be full, the driver looks at all links within a second.
            let _ = running.context.hint(NetEvent::Writable(running.node));
        }
        if normal.is_none() && lanes.is_empty() {
            in_time(stream.flush()).await?;
        }
    }
}

async fn in_time<T>(write: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "the peer does not read");
    timeout(WRITE_TIMEOUT, write).await.map_err(|_| late())?
}

async fn read_all(
    running: Arc<Running>,
    mut stream: ReadHalf<TlsStream<TcpStream>>,
    mut reader: FrameReader,
) {
    let transport = running.context.transport();
    let is_broken = tokio::select! {
        () = running.closed.cancelled() => running.has_failed.load(Ordering::Relaxed),
        is_broken = read_frames(&running, &mut stream, &mut reader) => is_broken,
        () = transport.side().fenced_off(running.remote.ip()) => false,
    };
    running.closed.cancel();
    running.context.tell(NetEvent::Closed { node: running.node, link: running.id }).await;
    if is_broken {
        // The host of the peer may have closed the stream because its agent died.
        verify(&running.context, running.peer).await;
    }
}

/// Reads until the link has to end. True when the stream broke, which an agent that lives does not let happen.
async fn read_frames(
    running: &Running,
    stream: &mut ReadHalf<TlsStream<TcpStream>>,
    reader: &mut FrameReader,
) -> bool {
    let mut allowance = Allowance::new(Instant::now());
    loop {
        match reader.next(stream).await {
            Ok(Some(octets)) => {
                // Nothing is read meanwhile, so that the peer's own queue fills and not this agent's.
                let wait = allowance.take(Instant::now(), octets.len());
                // To sleep for no time at all takes a millisecond: the timer's next tick.
                if !wait.is_zero() {
                    tokio::time::sleep(wait).await;
                }
                if !take(running, &octets).await {
                    return false;
                }
            }
            // TLS announces the end (RFC 8446 §6.1): the agent lives, or it has stopped and said goodbye by itself.
            Ok(None) => return false,
            Err(error) => {
                running.context.report(running.node, Fault::Stream, &error.to_string());
                return true;
            }
        }
    }
}

/// Passes a frame to the part that it concerns. False ends the link.
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
    let request = match frame {
        Frame::Members(members) => MembersRequest::Introduce(members),
        Frame::Keys(keys) => MembersRequest::Keys(running.node, keys),
        Frame::Packet(packet) => MembersRequest::Packet(running.node, packet),
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
    };
    context.request(request).await;
    true
}
