//! What is asked, as packets that are ready to be sent.

use super::store;

/// Questions in a round: their numbers are message ids, so an answer tells which question it is for.
const ROUND: usize = 1 << 15;
pub(crate) const A: u16 = 1;
pub(crate) const SRV: u16 = 33;

/// How often each name is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Spread {
    Uniform,
    /// The name of rank n once as n names are asked for, so some are asked for all the time.
    Zipf,
}

/// What the questions ask.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Asked {
    /// Names of services, half for addresses, half for targets.
    Both(Spread),
    /// Targets alone.
    Targets,
    /// Names that do not exist, each a different one, among those that do.
    Unknown,
}

/// A round of questions.
pub(crate) struct Questions {
    octets: Vec<u8>,
    /// Where each begins; one more than there are questions.
    starts: Vec<usize>,
}

impl Questions {
    /// With an OPT record that takes answers of up to `payload` octets.
    pub(super) fn new(asked: Asked, services: u64, payload: u16) -> Self {
        let mut random = Random(services);
        let mut round = Self { octets: Vec::new(), starts: vec![0] };
        let zipf = Zipf::new(services);
        for id in 0..ROUND {
            let number = match asked {
                Asked::Both(Spread::Zipf) => zipf.draw(&mut random),
                Asked::Both(Spread::Uniform) | Asked::Targets | Asked::Unknown => {
                    random.below(services)
                }
            };
            let kind = match asked {
                Asked::Both(_) | Asked::Unknown if random.below(2) == 0 => A,
                Asked::Both(_) | Asked::Targets | Asked::Unknown => SRV,
            };
            let first = match asked {
                Asked::Unknown => format!("{}-{:x}", store::service(number), random.next()),
                Asked::Both(_) | Asked::Targets => store::service(number),
            };
            round.push(id as u16, &format!("{first}.{}", store::SUFFIX), kind, payload);
        }
        round
    }

    /// One question, for a name of the domain.
    pub(crate) fn one(name: &str, payload: u16) -> Self {
        Self::of_kind(name, SRV, payload)
    }

    /// One question for records of one kind.
    pub(crate) fn of_kind(name: &str, kind: u16, payload: u16) -> Self {
        let mut round = Self { octets: Vec::new(), starts: vec![0] };
        round.push(0, name, kind, payload);
        round
    }

    fn push(&mut self, id: u16, name: &str, kind: u16, payload: u16) {
        let out = &mut self.octets;
        out.extend(id.to_be_bytes());
        // Recursion desired; one question, one additional.
        out.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
        for label in name.split('.') {
            out.push(label.len() as u8);
            out.extend(label.as_bytes());
        }
        out.push(0);
        out.extend(kind.to_be_bytes());
        out.extend([0, 1]);
        // OPT: the root, 41, the payload, no flags, no options (RFC 6891 §6.1.2).
        out.extend([0, 0, 41]);
        out.extend(payload.to_be_bytes());
        out.extend([0; 6]);
        self.starts.push(out.len());
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// The question of a number, counted round and round.
    pub(crate) fn packet(&self, number: usize) -> &[u8] {
        let at = number % self.len();
        &self.octets[self.starts[at]..self.starts[at + 1]]
    }

    /// Whether a packet answers one of these: by its id, it repeats that question.
    pub(super) fn is_answered_by(&self, packet: &[u8]) -> bool {
        let Some(id) = packet.first_chunk() else { return false };
        let number = usize::from(u16::from_be_bytes(*id));
        let asked = self.packet(number);
        // All but the OPT record.
        let question = &asked[12..asked.len() - 11];
        number < self.len() && packet.get(12..12 + question.len()) == Some(question)
    }
}

/// SplitMix64: every run asks the same.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }
}

/// Shares of ranks 1, 2, 3 … as 1, 1/2, 1/3 …, summed up.
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
        let unit = (random.next() >> 11) as f64 / (1_u64 << 53) as f64;
        let at = unit * self.0.last().copied().unwrap_or_default();
        self.0.partition_point(|sum| *sum < at).min(self.0.len() - 1) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_by_its_repetition_alone() {
        let round = Questions::new(Asked::Both(Spread::Uniform), 100, 1232);
        assert_eq!(round.len(), ROUND);
        let other = (1..ROUND).find(|n| round.packet(*n)[12..] != round.packet(0)[12..]).unwrap();
        let mut answer = round.packet(other).to_vec();
        assert!(round.is_answered_by(&answer));
        answer[..2].fill(0);
        assert!(!round.is_answered_by(&answer));
        assert!(!round.is_answered_by(&[0]));
    }

    #[test]
    fn few_names_are_most_of_zipf() {
        let (zipf, mut random) = (Zipf::new(10_000), Random(1));
        let drawn: Vec<u64> = (0..10_000).map(|_| zipf.draw(&mut random)).collect();
        let of_first = drawn.iter().filter(|rank| **rank < 100).count();
        // 5.19 of 9.79.
        assert!((5_000..5_600).contains(&of_first), "{of_first}");
        assert!(drawn.iter().all(|rank| *rank < 10_000));
    }
}
