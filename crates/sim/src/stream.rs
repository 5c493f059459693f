//! A link as TCP gives it: in order, of limited bandwidth, silent for a while before it breaks. In front of it,
//! at each end, the driver's buffer with two lanes.

use std::collections::VecDeque;
use std::time::Duration;

use dunlin_core::gossip::Lane;

/// Octets that wait at one end at most, unless one frame is larger.
pub(crate) const BUFFER_OCTETS: usize = 128 * 1024;
/// Octets beyond, for urgent frames.
pub(crate) const URGENT_OCTETS: usize = 64 * 1024;
/// Octets on the wire, or received and not read, at most: TCP's window.
const WINDOW_OCTETS: usize = 256 * 1024;

pub(crate) type StreamId = u64;

/// The end that opened a stream, and the end that was dialled.
pub(crate) const DIALER: usize = 0;
pub(crate) const ACCEPTOR: usize = 1;

#[derive(Debug)]
pub(crate) struct Stream {
    /// The nodes at both ends.
    pub(crate) nodes: [usize; 2],
    pub(crate) ends: [End; 2],
}

/// One end, with what is sent from it.
#[derive(Debug, Default)]
pub(crate) struct End {
    /// The process at this end has it open.
    pub(crate) is_open: bool,
    urgent: VecDeque<Vec<u8>>,
    normal: VecDeque<Vec<u8>>,
    queued: usize,
    /// Until when the wire is taken.
    pub(crate) busy_until: Duration,
    /// A `Sent` event is under way.
    pub(crate) is_sending: bool,
    /// When the last frame arrives at the other end: later ones do not overtake it.
    pub(crate) last_arrival: Duration,
    /// Octets that were sent and not read.
    pub(crate) in_flight: usize,
    /// What arrived while the direction was cut; none is the end of the stream.
    pub(crate) held: VecDeque<Option<Vec<u8>>>,
    /// Since when this end hears nothing.
    pub(crate) silent_since: Option<Duration>,
}

impl Stream {
    pub(crate) fn new(dialer: usize, acceptor: usize) -> Self {
        Self { nodes: [dialer, acceptor], ends: [End::default(), End::default()] }
    }
}

impl End {
    /// Whether the driver may put another frame into the buffer.
    pub(crate) fn has_room(&self) -> bool {
        self.is_open && self.queued < BUFFER_OCTETS
    }

    /// Whether urgent frames may be put into it still.
    pub(crate) fn has_room_for_urgent(&self) -> bool {
        self.is_open && self.queued < BUFFER_OCTETS + URGENT_OCTETS
    }

    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    pub(crate) fn push(&mut self, lane: Lane, octets: Vec<u8>) {
        self.queued += octets.len();
        match lane {
            Lane::Urgent => self.urgent.push_back(octets),
            Lane::Normal => self.normal.push_back(octets),
        }
    }

    /// The next frame for the wire, if there is room on it.
    pub(crate) fn next_for_wire(&mut self, now: Duration) -> Option<(Lane, Vec<u8>)> {
        if self.busy_until > now || self.in_flight >= WINDOW_OCTETS {
            return None;
        }
        let urgent = self.urgent.pop_front().map(|octets| (Lane::Urgent, octets));
        let next = urgent.or_else(|| self.normal.pop_front().map(|octets| (Lane::Normal, octets)));
        let (lane, octets) = next?;
        self.queued -= octets.len();
        self.in_flight += octets.len();
        Some((lane, octets))
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.queued > 0
    }

    /// The process is gone, and what it had not sent with it.
    pub(crate) fn close(&mut self) {
        self.is_open = false;
        self.urgent.clear();
        self.normal.clear();
        self.queued = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urgent_frames_overtake_what_is_not_on_the_wire() {
        let mut end = End { is_open: true, ..End::default() };
        end.push(Lane::Normal, vec![1]);
        end.push(Lane::Normal, vec![2]);
        assert_eq!(end.next_for_wire(Duration::ZERO), Some((Lane::Normal, vec![1])));
        end.push(Lane::Urgent, vec![3]);
        assert_eq!(end.next_for_wire(Duration::ZERO), Some((Lane::Urgent, vec![3])));
    }

    #[test]
    fn the_buffer_and_the_window_have_limits() {
        let mut end = End { is_open: true, ..End::default() };
        for _ in 0..8 {
            assert!(end.has_room());
            end.push(Lane::Normal, vec![0; 16 * 1024]);
        }
        assert!(!end.has_room());
        end.in_flight = WINDOW_OCTETS;
        assert_eq!(end.next_for_wire(Duration::ZERO), None);
    }
}
