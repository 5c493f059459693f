//! DNS questions as packets that are ready to be sent (RFC 1035 §4.1).

/// The type of address records.
pub const A: u16 = 1;
/// The type of records that name a target and its port (RFC 2782).
pub const SRV: u16 = 33;
/// Octets of the OPT record that ends each question.
pub const OPT_OCTETS: usize = 11;
/// Octets of the header of each message.
pub const HEADER_OCTETS: usize = 12;

/// A round of questions, each of which has its number as its message id.
pub struct Questions {
    octets: Vec<u8>,
    /// Where each question begins, and where the last one ends.
    starts: Vec<usize>,
}

impl Default for Questions {
    fn default() -> Self {
        Self { octets: Vec::new(), starts: vec![0] }
    }
}

impl Questions {
    /// One question for the targets of a name.
    pub fn one(name: &str, payload: u16) -> Self {
        Self::of_kind(name, SRV, payload)
    }

    /// One question for records of one type.
    pub fn of_kind(name: &str, kind: u16, payload: u16) -> Self {
        let mut round = Self::default();
        round.push(name, kind, payload);
        round
    }

    /// Adds a question for records of a type, with an OPT record that takes answers of up to `payload` octets.
    pub fn push(&mut self, name: &str, kind: u16, payload: u16) {
        let id = self.count() as u16;
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

    /// How many questions there are.
    pub fn count(&self) -> usize {
        self.starts.len() - 1
    }

    /// The question of a number; behind the last one comes the first again.
    pub fn packet(&self, number: usize) -> &[u8] {
        let at = number % self.count();
        &self.octets[self.starts[at]..self.starts[at + 1]]
    }

    /// Whether a packet answers one of these questions: the one that its id names is repeated in it.
    pub fn is_answered_by(&self, packet: &[u8]) -> bool {
        let Some(id) = packet.first_chunk() else { return false };
        let number = usize::from(u16::from_be_bytes(*id));
        let asked = self.packet(number);
        let question = &asked[HEADER_OCTETS..asked.len() - OPT_OCTETS];
        let repeated = packet.get(HEADER_OCTETS..HEADER_OCTETS + question.len());
        number < self.count() && repeated == Some(question)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_counted_round_and_round() {
        let mut round = Questions::one("a.example", 1232);
        round.push("b.example", A, 1232);
        assert_eq!(round.count(), 2);
        assert_eq!(round.packet(0)[..2], [0, 0]);
        assert_eq!(round.packet(1)[..2], [0, 1]);
        assert_eq!(round.packet(2), round.packet(0));
    }
}
