//! The driver's end of a link, and the queues between it and the stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dunlin_core::gossip::{Lane, Outgoing};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Frames that may wait for the stream on each lane. What does not fit stays with the exchange, which knows better
/// than a queue what is still worth sending.
const MAX_NORMAL_FRAMES: usize = 4;
const MAX_URGENT_FRAMES: usize = 32;

/// The driver's end of a link. Dropping it closes the link.
#[derive(Debug)]
pub(crate) struct Link {
    /// The number of this link among all links that there ever were.
    pub(crate) id: u64,
    urgent: mpsc::Sender<Outgoing>,
    normal: mpsc::Sender<Outgoing>,
    starved: Arc<Starved>,
    closed: CancellationToken,
}

/// The stream's end of a link's queues.
#[derive(Debug)]
pub(super) struct Lanes {
    pub(super) urgent: mpsc::Receiver<Outgoing>,
    pub(super) normal: mpsc::Receiver<Outgoing>,
    starved: Arc<Starved>,
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
    /// Both ends of a link's queues. Cancelling `closed` ends the link.
    pub(super) fn new(id: u64, closed: CancellationToken) -> (Self, Lanes) {
        let (urgent, urgent_frames) = mpsc::channel(MAX_URGENT_FRAMES);
        let (normal, normal_frames) = mpsc::channel(MAX_NORMAL_FRAMES);
        let starved = Arc::new(Starved::default());
        let lanes =
            Lanes { urgent: urgent_frames, normal: normal_frames, starved: Arc::clone(&starved) };
        (Self { id, urgent, normal, starved, closed }, lanes)
    }

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

    /// A sender of urgent frames, for packets that do not get through as datagrams.
    pub(crate) fn urgent_lane(&self) -> mpsc::Sender<Outgoing> {
        self.urgent.clone()
    }

    /// Waits until the kernel has everything that was handed over, or the link is closed.
    pub(crate) async fn flushed(&self) {
        let normal = self.normal.reserve_many(MAX_NORMAL_FRAMES);
        let urgent = self.urgent.reserve_many(MAX_URGENT_FRAMES);
        // Errors mean that the link is closed.
        let _ = tokio::join!(normal, urgent);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

impl Lanes {
    /// Whether no frame waits.
    pub(super) fn is_empty(&self) -> bool {
        self.normal.is_empty() && self.urgent.is_empty()
    }

    /// Whether the driver wanted to be told of room that there is now. `is_writing_normal` says whether a frame of the
    /// normal lane is still being written.
    pub(super) fn should_tell_of_room(&self, is_writing_normal: bool) -> bool {
        self.urgent.is_empty() && self.starved.urgent.swap(false, Ordering::SeqCst)
            || !is_writing_normal && self.starved.normal.swap(false, Ordering::SeqCst)
    }
}
