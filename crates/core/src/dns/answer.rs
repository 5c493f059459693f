//! An encoded answer for many clients: a template of whole records.

use std::hint;

use super::alike::Alike;
use super::query::{FLAG_QR, FLAG_RD, FLAG_TC, OPT_OCTETS, Query, QuestionKey, Rcode, opt_record};

use super::HEADER_OCTETS;
use super::settings::DnsSettings;
use super::shuffle::Shuffler;
use crate::catalog::CatalogView;

const FLAG_AA: u16 = 0x0400;
const FLAG_RA: u16 = 0x0080;

/// The octets that a processor fetches from memory at once.
const LINE_OCTETS: usize = 64;
/// The lines of memory behind an answer of 1,232 octets, with a few records that did not fit.
const TOUCHED_LINES: usize = 24;

/// How a record takes part in shuffling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rank {
    /// Records come in the order of their priorities; only records of equal priority are shuffled.
    pub(super) priority: u16,
    /// The record's share of the first places among records of its priority.
    pub(super) weight: u16,
}

impl Rank {
    pub(super) const EQUAL: Self = Self { priority: 0, weight: 1 };
}

/// One encoded record within [`Answer::octets`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    start: u32,
    len: u16,
    rank: Rank,
}

impl Block {
    pub(super) fn new(start: usize, end: usize, rank: Rank) -> Self {
        Self {
            start: u32::try_from(start).expect("an answer has some thousand records"),
            len: u16::try_from(end - start).expect("a record has some hundred octets"),
            rank,
        }
    }

    /// The record within a message.
    fn of<'a>(&self, message: &'a [u8]) -> &'a [u8] {
        &message[self.start as usize..][..usize::from(self.len)]
    }
}

/// The data that an answer was made from. The answer is current until it changes.
#[derive(Debug, Clone)]
pub(super) enum Depends {
    /// The answer depends on the question and the settings alone.
    Settings,
    /// The answer depends on the set of names, nodes and zones.
    Layout,
    /// The answer depends on one service, and on its name still having the same meaning.
    Service {
        /// The [`CatalogView::service_key`] of the service.
        key: Box<str>,
        /// The offset in the question of the label next to the domain, and whether that label is a zone's name. `None`
        /// if the label cannot become one.
        edge: Option<(u8, bool)>,
    },
}

/// The same as [`Depends`], with the service's key among the answer's octets.
#[derive(Debug, Clone, Copy)]
enum Basis {
    Settings,
    Layout,
    Service { edge: Option<(u8, bool)> },
}

/// The layout within [`Answer::octets`] of the records that are shuffled or may be left out.
#[derive(Debug, Clone)]
enum Blocks {
    /// All answers are alike and of one rank, and all additionals are alike. This holds for addresses and for most
    /// services.
    Alike { answers: Alike, additionals: Alike },
    /// The answers and then the additionals are listed one by one.
    Listed(Box<[Block]>),
}

/// The properties of a reply that [`Answer::write`] has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The response code in the reply.
    pub rcode: Rcode,
    /// Whether answers were left out, so that the client should ask over TCP.
    pub truncated: bool,
}

/// A template of a reply, which is encoded once and written many times, each time for one client.
///
/// A cache of many thousand answers is larger than a processor's caches, so the data that a write needs lies close
/// together.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The question's key, the kept records in the order of their sections, and the key of the service on which the
    /// answer depends.
    octets: Box<[u8]>,
    blocks: Blocks,
    /// Where in `octets` the question's key ends; the fields that follow are the ends of the other parts.
    question_end: u16,
    answers_end: u32,
    authority_end: u32,
    records_end: u32,
    /// The number of answers; the fields that follow are the numbers of records in the other sections.
    answers: u16,
    authority: u16,
    additionals: u16,
    flags: u16,
    udp_payload: u16,
    rcode: Rcode,
    has_weights: bool,
    is_kept: bool,
    basis: Basis,
}

impl Answer {
    pub(super) fn new(
        settings: &DnsSettings,
        rcode: Rcode,
        depends: Depends,
        (octets, question): (Vec<u8>, usize),
        blocks: &[Block],
        [answers, authority]: [usize; 2],
    ) -> Self {
        let size = |octets: usize| u32::try_from(octets).expect("some thousand records at most");
        let number = |count: usize| u16::try_from(count).expect("some thousand records at most");
        let is_ours = matches!(rcode, Rcode::NoError | Rcode::NxDomain);
        let recurses = !settings.upstreams.is_empty();
        let (answered, others) = blocks.split_at(answers);
        let sections = [answered, &others[..authority], &others[authority..]];
        let (mut octets, blocks, ends) = pack(octets, question, sections);
        let basis = match depends {
            Depends::Settings => Basis::Settings,
            Depends::Layout => Basis::Layout,
            Depends::Service { key, edge } => {
                octets.extend_from_slice(key.as_bytes());
                Basis::Service { edge }
            }
        };
        Self {
            question_end: number(question),
            answers_end: size(ends[0]),
            authority_end: size(ends[1]),
            records_end: size(ends[2]),
            answers: number(answers),
            authority: number(authority),
            additionals: number(sections[2].len()),
            flags: FLAG_QR | if is_ours { FLAG_AA } else { 0 } | if recurses { FLAG_RA } else { 0 },
            udp_payload: settings.udp_octets(),
            rcode,
            has_weights: !answered.is_sorted_by(|a, b| a.rank.weight == b.rank.weight),
            is_kept: rcode == Rcode::NoError,
            octets: octets.into(),
            blocks,
            basis,
        }
    }

    /// An answer without records.
    #[must_use]
    pub fn bare(settings: &DnsSettings, rcode: Rcode) -> Self {
        let depends = Depends::Settings;
        Self::new(settings, rcode, depends, (Vec::new(), 0), &[], [0, 0])
    }

    /// Whether the answer was made for this question.
    #[must_use]
    pub fn is_for(&self, key: &QuestionKey) -> bool {
        self.octets[..usize::from(self.question_end)] == *key.as_bytes()
    }

    /// The response code of the answer.
    #[must_use]
    pub fn rcode(&self) -> Rcode {
        self.rcode
    }

    /// Whether an answer that was current in the same catalog's view of the index `seen` is still current in this view.
    /// The cost is negligible while its service does not change, and otherwise one look-up in the view.
    #[must_use]
    pub fn is_current(&self, view: &CatalogView, seen: u64) -> bool {
        let is_same_layout = view.layout_index() <= seen;
        match self.basis {
            Basis::Settings => true,
            Basis::Layout => is_same_layout,
            Basis::Service { edge } => {
                let key = str::from_utf8(&self.octets[self.records_end as usize..]);
                let is_same_service = key.is_ok_and(|key| {
                    view.is_unchanged_since(key, seen)
                        || view.index_of(key).is_some_and(|index| index <= seen)
                });
                // The priorities in SRV records are the distances of zones.
                is_same_service
                    && (is_same_layout
                        || view.topology_index() <= seen
                            && edge.is_none_or(|e| self.is_as_was(e, view)))
            }
        }
    }

    /// Whether the label next to the domain still is, or still is not, a zone's name.
    fn is_as_was(&self, (at, was_zone): (u8, bool), view: &CatalogView) -> bool {
        let label = self.octets[usize::from(at)..].split_first();
        let label = label.and_then(|(len, rest)| rest.get(..usize::from(*len)));
        let label = label.and_then(|label| str::from_utf8(label).ok());
        label.is_some_and(|label| view.zone(label).is_some() == was_zone)
    }

    /// Whether a cache should keep the answer. Only answers whose number is bounded are kept, so that a flood of random
    /// names cannot evict answers that are needed every day.
    #[must_use]
    pub fn is_worth_keeping(&self) -> bool {
        self.is_kept
    }

    pub(super) fn not_kept(mut self) -> Self {
        self.is_kept = false;
        self
    }

    /// Reads from all lines of memory that a write into a usual datagram needs, so that they are in the processor's
    /// cache then.
    pub fn touch(&self) {
        let lines = self.octets.iter().step_by(LINE_OCTETS).take(TOUCHED_LINES);
        let blocks: &[Block] = match &self.blocks {
            Blocks::Alike { .. } => &[],
            Blocks::Listed(blocks) => blocks,
        };
        let blocks = blocks.iter().step_by(LINE_OCTETS / size_of::<Block>());
        let blocks = blocks.take(TOUCHED_LINES / 4).map(|block| block.len);
        hint::black_box((
            lines.fold(0, |sum, octet| sum ^ octet),
            blocks.fold(0, |sum, len| sum ^ len),
        ));
    }

    /// The approximate size of the answer in memory, in octets.
    #[must_use]
    pub fn octets(&self) -> usize {
        let blocks = match &self.blocks {
            Blocks::Alike { .. } => 0,
            Blocks::Listed(blocks) => size_of_val(&**blocks),
        };
        size_of::<Self>() + self.octets.len() + blocks
    }

    /// Writes the reply for one client into `out`, at most `limit` octets, which must be 512 or more.
    /// Allocates nothing once `out` and the shuffler have grown to their size.
    ///
    /// The query must ask the question for which the template was made, in any case.
    pub fn write(
        &self,
        query: &Query<'_>,
        limit: usize,
        shuffler: &mut Shuffler,
        out: &mut Vec<u8>,
    ) -> Written {
        out.clear();
        out.extend_from_slice(&query.id_octets());
        out.extend_from_slice(&[0; HEADER_OCTETS - 2]);
        out.extend_from_slice(query.question());
        let opt = if query.edns().is_some() { OPT_OCTETS } else { 0 };
        let room = limit.saturating_sub(out.len() + opt);
        let [answer_octets, additional_octets] = self.written_octets();
        let authority = &self.octets[self.answers_end as usize..self.authority_end as usize];
        let without_additionals = answer_octets + authority.len();
        let (answers, mut additional) = if without_additionals > room {
            (self.push_answers(room, shuffler, out), 0)
        } else {
            let answers = self.push_answers(usize::MAX, shuffler, out);
            out.extend_from_slice(authority);
            let room = room - without_additionals;
            if additional_octets <= room {
                (answers, self.push_all_additionals(out))
            } else {
                (answers, self.push_some_additionals(room, shuffler, out))
            }
        };
        let truncated = answers < usize::from(self.answers);
        let authority = if truncated { 0 } else { usize::from(self.authority) };
        if let Some(edns) = query.edns() {
            out.extend(opt_record(self.udp_payload, self.rcode.number(), edns.dnssec_ok));
            additional += 1;
        }
        let flags = self.flags
            | (query.flags() & FLAG_RD)
            | if truncated { FLAG_TC } else { 0 }
            | (self.rcode.number() & 15);
        let counts = [1, answers, authority, additional];
        out[2..4].copy_from_slice(&flags.to_be_bytes());
        for (place, count) in out[4..HEADER_OCTETS].chunks_exact_mut(2).zip(counts) {
            let count = u16::try_from(count).unwrap_or(u16::MAX);
            place.copy_from_slice(&count.to_be_bytes());
        }
        Written { rcode: self.rcode, truncated }
    }

    fn kept_answers(&self) -> &[u8] {
        &self.octets[usize::from(self.question_end)..self.answers_end as usize]
    }

    fn kept_additionals(&self) -> &[u8] {
        &self.octets[self.authority_end as usize..self.records_end as usize]
    }

    /// The octets that all answers, and all additionals, have when written.
    fn written_octets(&self) -> [usize; 2] {
        match &self.blocks {
            Blocks::Alike { answers, additionals } => [
                answers.octets(usize::from(self.answers)),
                additionals.octets(usize::from(self.additionals)),
            ],
            Blocks::Listed(_) => [self.kept_answers().len(), self.kept_additionals().len()],
        }
    }

    /// Appends as many records of the answer section as fit, in a random order. Returns their number.
    fn push_answers(&self, room: usize, shuffler: &mut Shuffler, out: &mut Vec<u8>) -> usize {
        match &self.blocks {
            Blocks::Alike { answers, .. } => {
                let wanted = usize::from(self.answers).min(answers.fitting(room));
                let order = shuffler.uniform(0, self.answers, wanted);
                answers.write(self.kept_answers(), order.iter().map(|at| usize::from(*at)), out);
                wanted
            }
            Blocks::Listed(blocks) => {
                self.push_listed(&blocks[..usize::from(self.answers)], room, shuffler, out)
            }
        }
    }

    /// Appends as many of the records as fit, those of each priority in a random order.
    fn push_listed(
        &self,
        blocks: &[Block],
        room: usize,
        shuffler: &mut Shuffler,
        out: &mut Vec<u8>,
    ) -> usize {
        let mut left = room;
        let mut pushed = 0;
        let mut first = 0;
        for run in blocks.chunk_by(|a, b| a.rank.priority == b.rank.priority) {
            // The draw is limited to the number of records that can fit.
            let shortest = run.iter().map(|b| b.len).min().map_or(1, usize::from);
            let wanted = run.len().min(left / shortest.max(1));
            let count = u16::try_from(run.len()).unwrap_or(u16::MAX);
            let order = if self.has_weights {
                shuffler.weighted(first, run.iter().map(|b| b.rank.weight), wanted)
            } else {
                shuffler.uniform(first, count, wanted)
            };
            for index in order {
                let block = &blocks[usize::from(*index)];
                if self.push_if_fits(block, left, out) == 0 {
                    return pushed;
                }
                left -= usize::from(block.len);
                pushed += 1;
            }
            if wanted < run.len() {
                return pushed;
            }
            first += count;
        }
        pushed
    }

    fn push_all_additionals(&self, out: &mut Vec<u8>) -> usize {
        let count = usize::from(self.additionals);
        match &self.blocks {
            Blocks::Alike { additionals, .. } => {
                additionals.write(self.kept_additionals(), 0..count, out);
            }
            Blocks::Listed(_) => out.extend_from_slice(self.kept_additionals()),
        }
        count
    }

    /// Appends those additionals that fit, beginning at a random one, so that clients which take addresses from this
    /// section alone do not all use the same few.
    fn push_some_additionals(
        &self,
        room: usize,
        shuffler: &mut Shuffler,
        out: &mut Vec<u8>,
    ) -> usize {
        let count = usize::from(self.additionals);
        let first = shuffler.below(count);
        let order = (0..count).map(|at| (first + at) % count);
        match &self.blocks {
            Blocks::Alike { additionals, .. } => {
                let pushed = count.min(additionals.fitting(room));
                additionals.write(self.kept_additionals(), order.take(pushed), out);
                pushed
            }
            Blocks::Listed(blocks) => {
                let blocks = &blocks[usize::from(self.answers)..];
                let mut left = room;
                let mut pushed = 0;
                for at in order {
                    let fits = self.push_if_fits(&blocks[at], left, out);
                    left -= fits * usize::from(blocks[at].len);
                    pushed += fits;
                }
                pushed
            }
        }
    }

    fn push_if_fits(&self, block: &Block, room: usize, out: &mut Vec<u8>) -> usize {
        let len = usize::from(block.len);
        if len > room {
            return 0;
        }
        out.extend_from_slice(block.of(&self.octets));
        1
    }
}

/// Packs the records of a message. Returns the octets to keep, the layout of the records, and where each section ends.
/// `message` holds the question and then the records as they are sent; the sections are the answers, the authority and
/// the additionals.
fn pack(
    message: Vec<u8>,
    question: usize,
    [answers, authority, additionals]: [&[Block]; 3],
) -> (Vec<u8>, Blocks, [usize; 3]) {
    let records = |blocks: &'_ [Block]| blocks.iter().map(|b| b.of(&message)).collect::<Vec<_>>();
    let [alike_answers, alike_additionals] = [answers, additionals].map(records);
    let is_one_rank = answers.is_sorted_by(|a, b| a.rank == b.rank);
    let alike = is_one_rank
        .then(|| Alike::of(alike_answers.iter().copied()))
        .flatten()
        .zip(Alike::of(alike_additionals.iter().copied()));
    let Some((of_answers, of_additionals)) = alike else {
        let octets = |blocks: &[Block]| blocks.iter().map(|b| usize::from(b.len)).sum::<usize>();
        let answers_end = question + octets(answers);
        let ends = [answers_end, answers_end + octets(authority), message.len()];
        return (message, Blocks::Listed([answers, additionals].concat().into()), ends);
    };
    let mut octets = message[..question].to_vec();
    of_answers.keep(alike_answers.into_iter(), &mut octets);
    let answers_end = octets.len();
    authority.iter().for_each(|block| octets.extend_from_slice(block.of(&message)));
    let authority_end = octets.len();
    of_additionals.keep(alike_additionals.into_iter(), &mut octets);
    let ends = [answers_end, authority_end, octets.len()];
    let blocks = Blocks::Alike { answers: of_answers, additionals: of_additionals };
    (octets, blocks, ends)
}
