//! Plays scenario files: a catalog, questions, and what comes back. `testdata/dns/README.md` tells the format.
//!
//! A folder with a `mod.rs`, since the agent's tests have this module by its path and play the same files
//! over sockets. What it names by `crate` is to be found in both.

mod catalog;
mod question;
mod reply;

use catalog::Scenario;
use question::Question;

use crate::catalog::CatalogView;
use crate::dns::{Settings, Transport};

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

/// Who answers the questions of a scenario.
pub(crate) trait Answerer {
    /// What comes back for a packet; `None` for silence, or a stream that was closed.
    fn ask(&mut self, world: World<'_>, packet: &[u8], transport: Transport) -> Option<Vec<u8>>;

    /// What comes back on one stream for packets that are sent before the first reply is read, in whatever order.
    fn ask_stream(&mut self, world: World<'_>, packets: &[Vec<u8>], writes: Writes)
    -> Vec<Vec<u8>>;
}

/// What answers are made from.
#[derive(Clone, Copy)]
pub(crate) struct World<'a> {
    pub(crate) view: &'a CatalogView,
    pub(crate) settings: &'a Settings,
}

/// How packets are written to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writes {
    /// All at once.
    Together,
    /// Each octet by itself.
    Octets,
}

/// A question of the file, and what is expected.
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

/// Replies find their questions by number, in whatever order they come (RFC 7766 §6.2.1.1).
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
