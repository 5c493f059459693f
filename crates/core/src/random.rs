//! Random numbers that follow from a seed alone.

use std::convert::Infallible;

use rand::TryRng;

/// 2⁶⁴ divided by the golden ratio, made odd. Its multiples modulo 2⁶⁴ are the most evenly spread of all.
pub(crate) const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// SplitMix64 (Steele, Lea, Flood 2014). Not for secrets. Specified here rather than taken from a library, so
/// that a seed replays the same run for ever.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The numbers of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// 64 random bits.
    #[inline]
    #[allow(
        clippy::should_implement_trait,
        reason = "it never ends, so an iterator would only get in the way"
    )]
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// A number below `end`; 0 if `end` is 0. The bias of one in 2^48 does not matter here.
    #[inline]
    pub fn below(&mut self, end: usize) -> usize {
        let wide = u128::from(self.next()) * (end as u128);
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    /// From 0 to just below 1.
    pub fn fraction(&mut self) -> f64 {
        unit(self.next())
    }

    /// Up to `wanted` of the items, in random order.
    pub fn choose<T>(&mut self, mut items: Vec<T>, wanted: usize) -> Vec<T> {
        let wanted = wanted.min(items.len());
        for at in 0..wanted {
            let other = at + self.below(items.len() - at);
            items.swap(at, other);
        }
        items.truncate(wanted);
        items
    }
}

/// SplitMix64's last step, by which numbers that differ little come to differ in all their bits.
#[inline]
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The upper 53 bits as a number from 0 to just below 1; 53 bits are what an f64 holds exactly.
#[inline]
pub(crate) fn unit(bits: u64) -> f64 {
    const STEPS: f64 = (1_u64 << 53) as f64;
    #[allow(clippy::cast_precision_loss, reason = "53 bits fit an f64")]
    let bits = (bits >> 11) as f64;
    bits / STEPS
}

/// For libraries that ask for a source of random numbers.
impl TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::try_from(self.next() >> 32).unwrap_or_default())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.next())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays_the_numbers_of_the_paper() {
        let mut random = Random::new(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn a_choice_holds_each_item_once() {
        let mut random = Random::new(7);
        let mut chosen = random.choose((0..10).collect(), 10);
        chosen.sort_unstable();
        assert_eq!(chosen, (0..10).collect::<Vec<_>>());
        assert_eq!(random.choose(vec![1], 5), [1]);
        assert_eq!(random.below(0), 0);
    }
}
