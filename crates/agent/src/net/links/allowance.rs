//! How much one peer may send: a token bucket for frames and one for octets, so that a peer that sends without end
//! costs a bounded share of this agent's time.

use std::time::{Duration, Instant};

/// Frames that may come each second, and frames that may come at once.
const FRAMES: Bucket = Bucket { per_second: 20_000.0, burst: 40_000.0 };
/// Octets that may come each second, and octets that may come at once: a newcomer's catch-up fits, and a million rows a
/// second do not.
const OCTETS: Bucket = Bucket { per_second: 64e6, burst: 128e6 };

#[derive(Debug, Clone, Copy)]
struct Bucket {
    per_second: f64,
    burst: f64,
}

/// What one peer may still send before it is slowed down.
#[derive(Debug)]
pub(super) struct Allowance {
    frames: f64,
    octets: f64,
    at: Instant,
}

impl Allowance {
    /// The whole allowance.
    pub(super) fn new(now: Instant) -> Self {
        Self { frames: FRAMES.burst, octets: OCTETS.burst, at: now }
    }

    /// Takes a frame, and returns how long to wait before it is dealt with.
    pub(super) fn take(&mut self, now: Instant, octets: usize) -> Duration {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        let refill =
            |left: f64, bucket: Bucket| (left + passed * bucket.per_second).min(bucket.burst);
        #[allow(clippy::cast_precision_loss, reason = "a frame is far below 2^52 octets")]
        let octets = octets as f64;
        self.frames = refill(self.frames, FRAMES) - 1.0;
        self.octets = refill(self.octets, OCTETS) - octets;
        let wait = |left: f64, bucket: Bucket| (-left / bucket.per_second).max(0.0);
        Duration::from_secs_f64(wait(self.frames, FRAMES).max(wait(self.octets, OCTETS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_within_its_allowance_never_waits() {
        let mut now = Instant::now();
        let mut allowance = Allowance::new(now);
        for _ in 0..10_000 {
            now += Duration::from_millis(1);
            assert_eq!(allowance.take(now, 10_000), Duration::ZERO);
        }
    }

    #[test]
    fn a_flood_is_slowed_down_to_the_rate() {
        let start = Instant::now();
        let mut now = start;
        let mut allowance = Allowance::new(now);
        for _ in 0..240_000 {
            now += allowance.take(now, 100);
        }
        // Beyond the burst of 40,000, the other 200,000 take ten seconds.
        let taken = now - start;
        assert!(taken > Duration::from_millis(9_900) && taken < Duration::from_millis(10_100));
        let mut allowance = Allowance::new(start);
        assert_eq!(allowance.take(start, 128_000_000), Duration::ZERO);
        assert!(allowance.take(start, 64_000_000) >= Duration::from_millis(999));
    }
}
