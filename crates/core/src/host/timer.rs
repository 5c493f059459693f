//! Everything that a host does because time passes.

use std::time::Instant;

use super::{Host, Moment};

/// What rings a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// A check is to run, or a pushed status or a hold of a check ends.
    Checks,
    /// The guard ends a hold, or asks for further probes.
    Guard,
    /// Peers are compared with, asked or told again.
    Exchange,
    /// Nodes are looked for that are gone for good.
    Tidy,
    /// The own head is marked, for the purge of tombstones.
    Mark,
    /// The disk has had its pause since it refused a batch.
    Retry,
    /// Something is to be stored for which no client waits.
    Batch,
}

impl Timer {
    pub(super) const ALL: [Self; 7] = [
        Self::Checks,
        Self::Guard,
        Self::Exchange,
        Self::Tidy,
        Self::Mark,
        Self::Retry,
        Self::Batch,
    ];
}

impl Host {
    /// When a timer rings next.
    pub(super) fn due(&self, timer: Timer) -> Option<Instant> {
        match timer {
            Timer::Checks => self.checks.scheduler.next_deadline(),
            Timer::Guard => self.catalog.next_deadline(),
            Timer::Exchange => self.peers.as_ref().map(|peers| peers.exchange.next_deadline()),
            Timer::Tidy => {
                let next = self.participants.lifetimes.next_tidy();
                self.peers.as_ref().map(|_| next)
            }
            Timer::Mark => self.participants.purge.next_mark(),
            Timer::Retry => self.retry_at,
            Timer::Batch => {
                let is_blocked = self.in_flight.is_some() || self.retry_at.is_some();
                self.participants.due().filter(|_| !is_blocked)
            }
        }
    }

    /// Does what a timer rings for.
    pub(super) fn ring(&mut self, moment: Moment, timer: Timer) {
        let Moment { now, wall } = moment;
        match timer {
            Timer::Checks => self.checks.scheduler.handle_deadline(now, wall),
            Timer::Guard => self.catalog.handle_deadline(now, wall),
            Timer::Exchange => {
                if let Some(peers) = &mut self.peers {
                    peers.exchange.handle_deadline(now, &mut self.replica);
                }
                self.follow_exchange(moment);
                self.show_news(moment);
            }
            Timer::Tidy => self.tidy(moment),
            Timer::Mark => self.participants.purge.mark(now, self.replica.head(self.own)),
            Timer::Retry => self.retry_at = None,
            // The batch begins when all timers have rung.
            Timer::Batch => {}
        }
    }
}
