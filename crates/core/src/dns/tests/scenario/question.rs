//! A question that a line of a scenario describes, octet for octet.

use ::domain::base::Name;
use ::domain::base::iana::{Class, Opcode, Rtype};

use super::reply;
use crate::dns::Transport;

const BOTH: &[Transport] = &[Transport::Udp, Transport::Tcp];
const RD: u16 = 0x0100;

/// The part of a reply that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    /// Every record is shown.
    Records,
    /// The number of records is shown, where the records are random.
    Counts,
    /// Every record is shown, and whether its names are compressed.
    Pointers,
}

pub(super) struct Question {
    /// The octets of the message behind its number.
    octets: Vec<u8>,
    transports: &'static [Transport],
    show: Show,
    /// Where the question ends in the packet, if it is one.
    question_end: Option<usize>,
}

impl Question {
    /// Parses `ask NAME TYPE WORDS` or `send HEX`.
    pub(super) fn parse(words: &[&str]) -> Self {
        match words {
            ["ask", name, rtype, rest @ ..] => Draft::new(name, rtype).read(rest),
            ["send", rest @ ..] => {
                let (transports, rest) = match rest {
                    ["over", "udp", rest @ ..] => (&BOTH[..1], rest),
                    ["over", "tcp", rest @ ..] => (&BOTH[1..], rest),
                    rest => (BOTH, rest),
                };
                let digits = rest.concat();
                Self { octets: hex(&digits), transports, show: Show::Records, question_end: None }
            }
            _ => panic!("ask NAME TYPE ..., or send HEX ...: {words:?}"),
        }
    }

    pub(super) fn transports(&self) -> &'static [Transport] {
        self.transports
    }

    /// The packet with this number.
    pub(super) fn packet(&self, id: u16) -> Vec<u8> {
        [&id.to_be_bytes(), &*self.octets].concat()
    }

    /// The reply as lines. It always has to repeat the question letter for letter, which is not shown.
    pub(super) fn read(&self, octets: &[u8]) -> Vec<String> {
        let has_question = octets[4..6] != [0, 0];
        if let Some(end) = self.question_end.filter(|_| has_question) {
            assert_eq!(octets[12..end], self.octets[10..end - 2], "the question comes back");
        }
        reply::lines(octets, self.show)
    }
}

/// The properties of a question that words of the line can change.
struct Draft {
    name: Vec<u8>,
    rtype: Rtype,
    class: Class,
    flags: u16,
    edns: Option<Edns>,
    transports: &'static [Transport],
    show: Show,
}

#[derive(Default)]
struct Edns {
    size: u16,
    version: u8,
    flags: u16,
    options: Vec<u8>,
    count: u16,
}

impl Draft {
    fn new(name: &str, rtype: &str) -> Self {
        let name: Name<Vec<u8>> = name.parse().expect("a name");
        Self {
            name: name.into_octets(),
            rtype: rtype.parse().expect("a type"),
            class: Class::IN,
            flags: RD,
            edns: None,
            transports: BOTH,
            show: Show::Records,
        }
    }

    fn read(mut self, mut words: &[&str]) -> Question {
        loop {
            words = match words {
                [] => return self.finish(),
                ["over", "udp", rest @ ..] => {
                    self.transports = &BOTH[..1];
                    rest
                }
                ["over", "tcp", rest @ ..] => {
                    self.transports = &BOTH[1..];
                    rest
                }
                ["class", class, rest @ ..] => {
                    self.class = class.parse().expect("a class");
                    rest
                }
                ["opcode", opcode, rest @ ..] => {
                    let opcode: Opcode = opcode.parse().expect("an opcode");
                    self.flags |= u16::from(opcode.to_int()) << 11;
                    rest
                }
                ["without", "rd", rest @ ..] => {
                    self.flags &= !RD;
                    rest
                }
                ["flags", digits, rest @ ..] => {
                    self.flags = u16::from_str_radix(digits, 16).expect("four digits");
                    rest
                }
                ["counts", rest @ ..] => {
                    self.show = Show::Counts;
                    rest
                }
                ["pointers", rest @ ..] => {
                    self.show = Show::Pointers;
                    rest
                }
                rest => self.edns.get_or_insert_default().read(rest),
            }
        }
    }

    fn finish(self) -> Question {
        let additional = self.edns.as_ref().map_or(0, |edns| edns.count);
        let mut octets = Vec::new();
        for word in [self.flags, 1, 0, 0, additional] {
            octets.extend(word.to_be_bytes());
        }
        octets.extend(&self.name);
        octets.extend(self.rtype.to_int().to_be_bytes());
        octets.extend(self.class.to_int().to_be_bytes());
        let question_end = Some(octets.len() + 2);
        for _ in 0..additional {
            octets.extend(self.edns.as_ref().map(Edns::record).unwrap_or_default());
        }
        Question { octets, transports: self.transports, show: self.show, question_end }
    }
}

impl Edns {
    /// Takes one setting; returns the words behind it.
    fn read<'a, 'b>(&mut self, words: &'b [&'a str]) -> &'b [&'a str] {
        self.count = self.count.max(1);
        match words {
            ["edns", size, rest @ ..] => {
                self.size = size.parse().expect("octets");
                rest
            }
            ["version", version, rest @ ..] => {
                self.version = version.parse().expect("a version");
                rest
            }
            ["do", rest @ ..] => {
                self.flags |= 0x8000;
                rest
            }
            ["option", code, digits, rest @ ..] => {
                let data = hex(digits);
                let code: u16 = code.parse().expect("an option's number");
                self.options.extend(code.to_be_bytes());
                self.options.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
                self.options.extend(data);
                rest
            }
            ["twice", rest @ ..] => {
                self.count = 2;
                rest
            }
            _ => panic!("not understood: {words:?}"),
        }
    }

    fn record(&self) -> Vec<u8> {
        let mut record = vec![0];
        record.extend(Rtype::OPT.to_int().to_be_bytes());
        record.extend(self.size.to_be_bytes());
        record.extend([0, self.version]);
        record.extend(self.flags.to_be_bytes());
        record.extend(u16::try_from(self.options.len()).unwrap().to_be_bytes());
        record.extend(&self.options);
        record
    }
}

/// Octets of hexadecimal digits; `-` stands for none.
fn hex(digits: &str) -> Vec<u8> {
    let digits = digits.trim_start_matches('-').as_bytes();
    let octet = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).unwrap();
        u8::from_str_radix(pair, 16).expect("hexadecimal digits")
    };
    digits.chunks(2).map(octet).collect()
}
