//! The questions of a flood: which names are asked for, how often each, and for which records.

use dunlin_bench::rig::questions::{A, Questions, SRV};
use dunlin_bench::rig::random::Random;

use super::store;

/// The questions of a round. Their numbers are their message ids, so that an answer names its question.
const ROUND: usize = 1 << 15;

/// How often each name is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Spread {
    /// All names are asked for equally often.
    Uniform,
    /// The name of rank n is asked for 1/n times as often as the first one.
    Zipf,
}

/// Which names and records the questions ask for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Mix {
    /// Names of services, half for addresses, half for targets.
    Both(Spread),
    /// Names of services, for targets alone.
    Targets,
    /// Names that do not exist, each a different one, among those that do.
    Unknown,
}

impl Mix {
    /// A round of questions with an OPT record that takes answers of up to `payload` octets.
    pub(super) fn questions(self, services: u64, payload: u16) -> Questions {
        let mut random = Random(services);
        let mut round = Questions::default();
        let zipf = Zipf::new(services);
        for _ in 0..ROUND {
            let number = match self {
                Self::Both(Spread::Zipf) => zipf.draw(&mut random),
                Self::Both(Spread::Uniform) | Self::Targets | Self::Unknown => {
                    random.below(services)
                }
            };
            let kind = match self {
                Self::Both(_) | Self::Unknown if random.below(2) == 0 => A,
                Self::Both(_) | Self::Targets | Self::Unknown => SRV,
            };
            let first = match self {
                Self::Unknown => format!("{}-{:x}", store::service(number), random.draw()),
                Self::Both(_) | Self::Targets => store::service(number),
            };
            round.push(&format!("{first}.{}", store::SUFFIX), kind, payload);
        }
        round
    }
}

/// The sums of 1, 1/2, 1/3 … up to each rank.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(ranks: u64) -> Self {
        let mut sum = 0.0;
        Self(
            (1..=ranks)
                .map(|rank| {
                    sum += 1.0 / rank as f64;
                    sum
                })
                .collect(),
        )
    }

    fn draw(&self, random: &mut Random) -> u64 {
        let unit = (random.draw() >> 11) as f64 / (1_u64 << 53) as f64;
        let at = unit * self.0.last().copied().unwrap_or_default();
        self.0.partition_point(|sum| *sum < at).min(self.0.len() - 1) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_names_are_most_of_zipf() {
        let (zipf, mut random) = (Zipf::new(10_000), Random(1));
        let drawn: Vec<u64> = (0..10_000).map(|_| zipf.draw(&mut random)).collect();
        let of_first = drawn.iter().filter(|rank| **rank < 100).count();
        // 5.19 of 9.79.
        assert!((5_000..5_600).contains(&of_first), "{of_first}");
        assert!(drawn.iter().all(|rank| *rank < 10_000));
    }

    #[test]
    fn a_question_is_answered_by_its_repetition_alone() {
        let round = Mix::Both(Spread::Uniform).questions(100, 1232);
        assert_eq!(round.count(), ROUND);
        let other = (1..ROUND).find(|n| round.packet(*n)[12..] != round.packet(0)[12..]).unwrap();
        let mut answer = round.packet(other).to_vec();
        assert!(round.is_answered_by(&answer));
        answer[..2].fill(0);
        assert!(!round.is_answered_by(&answer));
        assert!(!round.is_answered_by(&[0]));
    }
}
