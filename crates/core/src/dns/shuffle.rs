//! The order of records in an answer: random, with heavier records in front more often.

use crate::random::Random;

/// A random generator with buffers for shuffling. Each worker owns one, so that shuffling neither locks nor allocates.
/// It must not be used for secrets.
#[derive(Debug, Clone)]
pub struct Shuffler {
    random: Random,
    order: Vec<u16>,
    keys: Vec<(f64, u16)>,
}

impl Shuffler {
    /// A generator that gives the same orders for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), order: Vec::new(), keys: Vec::new() }
    }

    /// A number below `end`, which is not 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.random.below(end)
    }

    /// The first `wanted` places of a uniform random permutation of `first..first + count`.
    pub(super) fn uniform(&mut self, first: u16, count: u16, wanted: usize) -> &[u16] {
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        order.extend(first..first + count);
        let wanted = wanted.min(order.len());
        for at in 0..wanted {
            let other = at + self.below(order.len() - at);
            order.swap(at, other);
        }
        self.order = order;
        &self.order[..wanted]
    }

    /// The first `wanted` places of a permutation of `first..` drawn by weight without replacement: each number has the
    /// key `-ln(u) / weight`, and the smallest key comes first (Efraimidis, Spirakis 2006). Numbers of weight 0 come
    /// after all others (RFC 2782 leaves them "a very small chance").
    pub(super) fn weighted(
        &mut self,
        first: u16,
        weights: impl Iterator<Item = u16>,
        wanted: usize,
    ) -> &[u16] {
        let mut keys = std::mem::take(&mut self.keys);
        keys.clear();
        for (index, weight) in (first..).zip(weights) {
            // The number has 53 bits and is above zero, so that the logarithm is finite.
            #[allow(clippy::cast_precision_loss, reason = "53 bits fit an f64")]
            let unit = ((self.random.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
            let wait = -unit.ln();
            let key = if weight == 0 {
                // With a weight of at least 1 the key is at most ln(2^53), which is below 37.
                64.0 + wait
            } else {
                wait / f64::from(weight)
            };
            keys.push((key, index));
        }
        let wanted = wanted.min(keys.len());
        if wanted > 0 && wanted < keys.len() {
            keys.select_nth_unstable_by(wanted - 1, |a, b| a.0.total_cmp(&b.0));
        }
        keys[..wanted].sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        self.order.clear();
        self.order.extend(keys[..wanted].iter().map(|(_, index)| *index));
        self.keys = keys;
        &self.order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffles_keep_the_set() {
        let mut shuffler = Shuffler::new(7);
        for count in 0..40_u16 {
            let mut order = shuffler.uniform(3, count, usize::MAX).to_vec();
            order.sort_unstable();
            assert_eq!(order, (3..3 + count).collect::<Vec<_>>());
            let weights = (0..count).map(|i| i % 3);
            let mut order = shuffler.weighted(3, weights, usize::MAX).to_vec();
            order.sort_unstable();
            assert_eq!(order, (3..3 + count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn every_record_leads_equally_often() {
        let mut shuffler = Shuffler::new(1);
        let mut led = [0_u32; 5];
        for _ in 0..10_000 {
            led[usize::from(shuffler.uniform(0, 5, 1)[0])] += 1;
        }
        assert!(led.iter().all(|n| (1_800..2_200).contains(n)), "{led:?}");
    }

    #[test]
    fn heavier_records_lead_more_often_and_weight_0_comes_last() {
        let mut shuffler = Shuffler::new(2);
        let mut led = [0_u32; 4];
        for _ in 0..10_000 {
            let order = shuffler.weighted(0, [100, 0, 300, 600].into_iter(), 4);
            assert_eq!(order[3], 1);
            led[usize::from(order[0])] += 1;
        }
        let near = |n: u32, share: u32| n.abs_diff(share) < 300;
        assert!(near(led[0], 1_000) && near(led[2], 3_000) && near(led[3], 6_000), "{led:?}");
    }
}
