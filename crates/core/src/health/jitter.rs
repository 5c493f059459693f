//! Spreads runs in time, so that a thousand checks of one interval do not fire together.
//!
//! The sequences follow from the seed alone, so they are no source of secrets.

use std::time::Duration;

use crate::random::{GOLDEN, mix, unit};

/// Draws phases and jitter from a seed.
#[derive(Debug)]
pub(super) struct Jitter {
    seed: u64,
    drawn: u64,
}

impl Jitter {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    /// A delay of less than `interval`. Successive draws are spread evenly over it: a Weyl sequence,
    /// because independent random draws would clump.
    pub(super) fn phase(&mut self, interval: Duration) -> Duration {
        self.drawn = self.drawn.wrapping_add(1);
        let point = mix(self.seed).wrapping_add(self.drawn.wrapping_mul(GOLDEN));
        interval.mul_f64(unit(point))
    }

    /// The interval, up to a twentieth shorter or longer.
    pub(super) fn around(&mut self, interval: Duration) -> Duration {
        self.drawn = self.drawn.wrapping_add(1);
        let point = mix(self.seed.wrapping_add(self.drawn.wrapping_mul(GOLDEN)));
        interval.mul_f64(0.95 + unit(point) / 10.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    proptest! {
        #[test]
        fn a_thousand_phases_are_even_to_a_few_per_bucket(seed in any::<u64>()) {
            let mut jitter = Jitter::new(seed);
            let mut buckets = [0_u32; 20];
            for _ in 0..1000 {
                let phase = jitter.phase(SECOND);
                buckets[usize::try_from(phase.as_millis() / 50).unwrap()] += 1;
            }
            prop_assert!(buckets.iter().all(|n| (45..=55).contains(n)), "{:?}", buckets);
        }

        #[test]
        fn jitter_stays_within_a_tenth(seed in any::<u64>(), millis in 100_u64..86_400_000) {
            let interval = Duration::from_millis(millis);
            let mut jitter = Jitter::new(seed);
            for _ in 0..20 {
                let drawn = jitter.around(interval);
                prop_assert!(drawn >= interval * 94 / 100 && drawn <= interval * 106 / 100);
            }
        }
    }
}
