//! Connections that the agent ends by itself, counted by what was wrong with them.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::stall::Stalled;
use crate::observe::{Collect, Metric, Sink, number};

/// Why a connection was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shed {
    /// No whole request came in time, at its beginning or after another.
    Idle,
    /// Its client took nothing of an answer for too long.
    Stalled,
    /// Its client's host does not acknowledge anything any more.
    Vanished,
    /// TLS did not come about.
    Handshake,
    /// Its place went to a client with fewer connections.
    Crowded,
}

impl Shed {
    const ALL: [Self; 5] =
        [Self::Idle, Self::Stalled, Self::Vanished, Self::Handshake, Self::Crowded];

    fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Stalled => "stalled",
            Self::Vanished => "vanished",
            Self::Handshake => "handshake",
            Self::Crowded => "crowded",
        }
    }

    /// What an error of a connection means; `None` when its client ended it.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_timeout) {
                return Some(Self::Idle);
            }
            if let Some(error) = error.downcast_ref::<io::Error>()
                && error.kind() == io::ErrorKind::TimedOut
            {
                let is_stall = error.get_ref().is_some_and(|inner| inner.is::<Stalled>());
                return Some(if is_stall { Self::Stalled } else { Self::Vanished });
            }
            cause = error.source();
        }
        None
    }
}

/// How many there were of each.
#[derive(Debug, Default)]
pub(super) struct Sheds([AtomicU64; Shed::ALL.len()]);

impl Sheds {
    pub(super) fn count(&self, shed: Shed) {
        if let Some(at) = Shed::ALL.iter().position(|s| *s == shed) {
            self.0[at].fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[derive(Debug)]
pub(super) struct ShownSheds(pub(super) Arc<Sheds>);

impl Collect for ShownSheds {
    fn collect(&self, sink: &mut Sink<'_>) {
        let shed = Metric::counter("http_connections_shed", "Connections ended by the agent");
        let counts = Shed::ALL.iter().zip(&self.0.0);
        let value = |counter: &AtomicU64| number(counter.load(Ordering::Relaxed));
        sink.values(&shed, counts.map(|(s, n)| ([("reason", s.as_str())], value(n))));
    }
}
