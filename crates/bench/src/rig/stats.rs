//! Medians and percentiles of samples.

use std::time::Duration;

/// The middle sample; of an even number, the mean of the two in the middle. Zero without samples.
pub fn median(samples: &[Duration]) -> Duration {
    let sorted = sorted(samples);
    let upper = sorted.len() / 2;
    match (sorted.len() % 2, sorted.get(upper)) {
        (_, None) => Duration::ZERO,
        (1, Some(&middle)) => middle,
        (_, Some(&above)) => (sorted[upper - 1] + above) / 2,
    }
}

/// As [`median`], of numbers of any unit.
pub fn middle(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
    f64::midpoint(at(sorted.len().saturating_sub(1) / 2), at(sorted.len() / 2))
}

/// The smallest sample that at least `percent` of all samples do not exceed (nearest rank). Zero without samples.
pub fn percentile(samples: &[Duration], percent: f64) -> Duration {
    let sorted = sorted(samples);
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or_default()
}

fn sorted(samples: &[Duration]) -> Vec<Duration> {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(values: &[u64]) -> Vec<Duration> {
        values.iter().copied().map(Duration::from_millis).collect()
    }

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        assert_eq!(median(&ms(&[9, 1, 5])), Duration::from_millis(5));
        assert_eq!(median(&ms(&[4, 1, 2, 3])), Duration::from_micros(2500));
        assert_eq!(median(&ms(&[7])), Duration::from_millis(7));
        assert!((middle(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!((middle(&[9.0, 1.0, 5.0]) - 5.0).abs() < 1e-9);
    }

    #[test]
    fn a_percentile_is_a_sample_of_that_rank() {
        let samples: Vec<_> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&samples, 99.0), Duration::from_millis(198));
        assert_eq!(percentile(&samples, 50.0), Duration::from_millis(100));
        assert_eq!(percentile(&samples, 0.0), Duration::from_millis(1));
        assert_eq!(percentile(&samples, 100.0), Duration::from_millis(200));
        assert_eq!(percentile(&ms(&[3, 8]), 99.0), Duration::from_millis(8));
    }

    #[test]
    fn without_samples_there_is_nothing_to_say() {
        assert_eq!(median(&[]), Duration::ZERO);
        assert_eq!(percentile(&[], 99.0), Duration::ZERO);
    }
}
