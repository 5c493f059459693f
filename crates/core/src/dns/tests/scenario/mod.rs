//! Plays scenario files: a catalog, questions, and the expected replies. `testdata/dns/README.md` describes the format.
//!
//! It is a folder with a `mod.rs`, since the agent's tests include this module by its path and play the same files over
//! sockets. The items that it names by `crate` exist in both crates.

mod catalog;
mod question;
mod reply;

use catalog::Scenario;
use question::Question;

use crate::catalog::CatalogView;
use crate::dns::{DnsSettings, Transport};

macro_rules! files {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../../../testdata/dns/", $name)))),*]
    };
}

/// All scenarios: the two of zones first, then by RFC.
const FILES: &[(&str, &str)] = files![
    "zones.txt" "failover.txt" "rfc1035.txt" "rfc2181.txt" "rfc2308.txt" "rfc2782.txt" "rfc3597.txt"
    "rfc4343.txt" "rfc6891.txt" "rfc7766.txt" "rfc8020.txt" "rfc8482.txt"
];

/// Plays every file.
pub(crate) fn play_all(answerer: &mut impl Answerer) {
    for (name, text) in FILES {
        play(name, text, answerer);
    }
}

/// Answers the questions of a scenario.
pub(crate) trait Answerer {
    /// The reply to a packet; `None` if there is none, or the stream was closed.
    fn ask(&mut self, world: World<'_>, packet: &[u8], transport: Transport) -> Option<Vec<u8>>;

    /// The replies on one stream to packets that are sent before the first reply is read. They may come in any order.
    fn ask_stream(&mut self, world: World<'_>, packets: &[Vec<u8>], writes: Writes)
    -> Vec<Vec<u8>>;
}

/// The view and the settings from which answers are made.
#[derive(Clone, Copy)]
pub(crate) struct World<'a> {
    pub(crate) view: &'a CatalogView,
    pub(crate) settings: &'a DnsSettings,
}

/// How packets are written to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writes {
    /// All packets are written at once.
    Together,
    /// Each octet is written by itself.
    Octets,
}

/// A question of the file, and the expected reply.
struct Asked {
    line: String,
    question: Question,
    expected: Vec<String>,
}

impl Asked {
    fn compare(&self, reply: Option<&[u8]>, how: &str) {
        let got =
            reply.map_or_else(|| vec!["silence".to_owned()], |reply| self.question.read(reply));
        let list = |lines: &[String]| lines.join("\n> ");
        let (got, expected) = (list(&got), list(&self.expected));
        assert_eq!(got, expected, "{} ({how}): this came back:\n> {got}\n", self.line);
    }

    fn play(&self, scenario: &mut Scenario, answerer: &mut impl Answerer) {
        for transport in self.question.transports() {
            let packet = self.question.packet(1);
            let reply = answerer.ask(scenario.world(), &packet, *transport);
            self.compare(reply.as_deref(), &format!("{transport:?}"));
        }
    }
}

fn play(name: &str, text: &str, answerer: &mut impl Answerer) {
    let mut scenario = None;
    let mut stream: Option<(Writes, Vec<Asked>)> = None;
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let place = format!("{name}, line {}: {line}", number + 1);
        match (words.as_slice(), &mut scenario) {
            ([] | ["#", ..], _) => {}
            (["own", rest @ ..], None) => scenario = Some(Scenario::own(rest)),
            (["ask" | "send", ..], Some(scenario)) => {
                let expected = std::iter::from_fn(|| lines.next_if(|(_, l)| l.starts_with("> ")));
                let expected = expected.map(|(_, line)| line[2..].to_owned()).collect();
                let asked = Asked { line: place, question: Question::parse(&words), expected };
                match &mut stream {
                    Some((_, questions)) => questions.push(asked),
                    None => asked.play(scenario, answerer),
                }
            }
            (["stream", rest @ ..], Some(_)) if stream.is_none() => {
                let writes = if rest.is_empty() { Writes::Together } else { Writes::Octets };
                stream = Some((writes, Vec::new()));
            }
            (["end"], Some(scenario)) => {
                let (writes, questions) = stream.take().expect("a stream ends that began");
                play_stream(scenario, answerer, writes, &questions);
            }
            (words, Some(scenario)) => {
                assert!(scenario.change(words), "{place}: not understood");
            }
            _ => panic!("{place}: stands before the first line that counts"),
        }
    }
    assert!(stream.is_none(), "a stream without an end");
}

/// Matches replies with their questions by number, since they may come in any order (RFC 7766 §6.2.1.1).
fn play_stream(
    scenario: &mut Scenario,
    answerer: &mut impl Answerer,
    writes: Writes,
    questions: &[Asked],
) {
    let packets: Vec<_> = (1..).zip(questions).map(|(id, q)| q.question.packet(id)).collect();
    let replies = answerer.ask_stream(scenario.world(), &packets, writes);
    assert_eq!(replies.len(), questions.len(), "every question has one reply");
    for (asked, packet) in questions.iter().zip(&packets) {
        let reply = replies.iter().find(|reply| reply[..2] == packet[..2]);
        asked.compare(reply.map(Vec::as_slice), "stream");
    }
}
