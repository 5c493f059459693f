//! Connections that the server ends by itself, counted by what was wrong with them.

use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Stalled;
use crate::metrics::{Metric, Sink, number};

/// Why the server ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shed {
    /// The client did not send a whole request in time, at the beginning or after another one.
    Idle,
    /// The client took nothing of an answer for too long.
    Stalled,
    /// The client's host does not acknowledge anything any more.
    Vanished,
    /// The TLS handshake failed or took too long.
    Handshake,
    /// The connection's slot went to a client with fewer connections.
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

    /// The reason that an error of a stream stands for; `None` when the client ended the connection, or the error is
    /// not the stream's.
    #[must_use]
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let error = error.downcast_ref::<io::Error>()?;
        if error.kind() != io::ErrorKind::TimedOut {
            return None;
        }
        let is_stall = error.get_ref().is_some_and(|inner| inner.is::<Stalled>());
        Some(if is_stall { Self::Stalled } else { Self::Vanished })
    }
}

/// The number of connections that were ended for each reason.
#[derive(Debug, Default)]
pub(super) struct Sheds([AtomicU64; Shed::ALL.len()]);

impl Sheds {
    pub(super) fn count(&self, shed: Shed) {
        if let Some(at) = Shed::ALL.iter().position(|s| *s == shed) {
            self.0[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn collect(&self, metric: &Metric, sink: &mut Sink<'_>) {
        let counts = Shed::ALL.iter().zip(&self.0);
        let value = |counter: &AtomicU64| number(counter.load(Ordering::Relaxed));
        sink.values(metric, counts.map(|(s, n)| ([("reason", s.as_str())], value(n))));
    }
}
