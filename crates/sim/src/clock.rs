//! A node's clocks: one that only goes forward, a little too fast or too slow, and one that people set.

use std::time::{Duration, Instant};

use dunlin_core::model::Timestamp;

/// When the virtual world begins, as the wall clocks show it: 2026-01-01.
const EPOCH_MILLIS: i64 = 1_767_225_600_000;
const MILLION: u128 = 1_000_000;

#[derive(Debug, Clone)]
pub(crate) struct Clock {
    base: Instant,
    /// Parts in a million by which the monotonic clock goes: 1,000,000 is exact.
    rate: u128,
    /// How far the wall clock is off.
    pub(crate) wall_offset_millis: i64,
}

impl Clock {
    /// `base` is the same for all nodes of a run; only differences to it are ever looked at.
    pub(crate) fn new(base: Instant, deviation_ppm: i32, wall_offset_millis: i64) -> Self {
        let rate = u128::try_from(1_000_000 + i64::from(deviation_ppm)).unwrap_or(MILLION);
        Self { base, rate, wall_offset_millis }
    }

    /// What the node's monotonic clock shows.
    pub(crate) fn local(&self, time: Duration) -> Instant {
        self.base + nanos(time.as_nanos() * self.rate / MILLION)
    }

    /// The first moment at which the node's monotonic clock shows at least this.
    pub(crate) fn global(&self, at: Instant) -> Duration {
        let local = at.saturating_duration_since(self.base).as_nanos();
        nanos((local * MILLION).div_ceil(self.rate))
    }

    /// What the node's wall clock shows.
    pub(crate) fn wall(&self, time: Duration) -> Timestamp {
        let since = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let millis = EPOCH_MILLIS.saturating_add(since).saturating_add(self.wall_offset_millis);
        Timestamp::from_millis(u64::try_from(millis).unwrap_or(0))
    }
}

fn nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_reached_when_its_moment_comes() {
        let base = Instant::now();
        for ppm in [-3_000, 0, 1, 2_999] {
            let clock = Clock::new(base, ppm, 0);
            for nanos in [1_000, 999_999_937, 77_000_000_001] {
                let at = base + Duration::from_nanos(nanos);
                let moment = clock.global(at);
                assert!(clock.local(moment) >= at);
                assert!(clock.local(moment - Duration::from_nanos(2)) < at);
            }
        }
    }
}
