//! An encoded answer that many clients can have: a template of whole records.

use std::hint;
use std::sync::Arc;

use super::query::{FLAG_RD, OPT_OCTETS, Query, QuestionKey, Rcode};
use super::record::Rank;
use super::settings::Settings;
use super::shuffle::Shuffler;
use super::{HEADER_OCTETS, rtype};
use crate::catalog::{CatalogView, Topology};
use crate::model::ZoneName;

const FLAG_QR: u16 = 0x8000;
const FLAG_AA: u16 = 0x0400;
const FLAG_TC: u16 = 0x0200;
const FLAG_RA: u16 = 0x0080;

/// What processors fetch from memory at once.
const LINE_OCTETS: usize = 64;
/// What an answer of 1,232 octets is made from, and a few records that did not fit.
const TOUCHED_LINES: usize = 24;

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
}

/// What an answer was made from, and so how long it stays true.
#[derive(Debug, Clone)]
pub enum Depends {
    /// The question and the settings alone.
    Settings,
    /// The set of names, nodes and zones.
    Layout {
        /// [`CatalogView::layout_index`] when it was made.
        index: u64,
    },
    /// One service, and that its name is still read as it was.
    Service {
        /// [`CatalogView::service_key`] of the service.
        key: Box<str>,
        /// The service's own index when it was made.
        index: u64,
        /// The layout's index when this was last looked at.
        layout_index: u64,
        /// The label next to the domain, if it is a zone's name or could become one.
        edge: Option<ZoneName>,
        /// Whether it was one.
        edge_is_zone: bool,
        /// Distances of zones: they are the priorities in SRV.
        topology: Arc<Topology>,
    },
}

impl Depends {
    /// Whether an answer that was current in the view of the index `seen` is what would be made now. Costs next to
    /// nothing while its service does not change, and else one look into the view; remembers a changed layout that
    /// did not concern it.
    pub fn is_current(&mut self, view: &CatalogView, seen: u64) -> bool {
        match self {
            Self::Settings => true,
            Self::Layout { index } => *index == view.layout_index(),
            Self::Service { key, index, layout_index, edge, edge_is_zone, topology } => {
                if !view.is_unchanged_since(key, seen) && view.index_of(key) != Some(*index) {
                    return false;
                }
                if *layout_index == view.layout_index() {
                    return true;
                }
                let is_zone = edge.as_ref().is_some_and(|edge| view.is_zone(edge));
                let now = view.shared_topology();
                let same_topology = Arc::ptr_eq(topology, now) || topology == now;
                let holds = is_zone == *edge_is_zone && same_topology;
                if holds {
                    *layout_index = view.layout_index();
                }
                holds
            }
        }
    }
}

/// What [`Answer::write`] wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The code in the reply.
    pub rcode: Rcode,
    /// Whether answers were left out, so that the client should ask over TCP.
    pub truncated: bool,
}

/// A template: encoded once, written many times, each time for one client.
///
/// A cache of many thousands is larger than a processor's caches, so what a write needs lies close together.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The question's key, then the records in order of their sections.
    octets: Box<[u8]>,
    blocks: Box<[Block]>,
    /// Where in `octets` each part ends.
    question_end: u32,
    answers_end: u32,
    authority_end: u32,
    /// Records of two sections; what is left are additionals.
    answers: u16,
    authority: u16,
    flags: u16,
    udp_payload: u16,
    rcode: Rcode,
    has_weights: bool,
    is_kept: bool,
    depends: Box<Depends>,
}

impl Answer {
    pub(super) fn new(
        settings: &Settings,
        rcode: Rcode,
        depends: Depends,
        (octets, question): (Vec<u8>, usize),
        blocks: Vec<Block>,
        [answers, authority]: [usize; 2],
    ) -> Self {
        let size = |octets: usize| u32::try_from(octets).expect("some thousand records at most");
        let number = |count: usize| u16::try_from(count).expect("some thousand records at most");
        let end_of = |count: usize| {
            let last = count.checked_sub(1).and_then(|last| blocks.get(last));
            last.map_or(size(question), |b: &Block| b.start + u32::from(b.len))
        };
        let is_ours = matches!(rcode, Rcode::NoError | Rcode::NxDomain);
        let recurses = !settings.upstreams.is_empty();
        let weight = blocks.first().map(|b| b.rank.weight);
        Self {
            question_end: size(question),
            answers_end: end_of(answers),
            authority_end: end_of(answers + authority),
            answers: number(answers),
            authority: number(authority),
            flags: FLAG_QR | if is_ours { FLAG_AA } else { 0 } | if recurses { FLAG_RA } else { 0 },
            udp_payload: settings.udp_octets(),
            rcode,
            has_weights: blocks[..answers].iter().any(|b| Some(b.rank.weight) != weight),
            is_kept: rcode == Rcode::NoError,
            octets: octets.into(),
            blocks: blocks.into(),
            depends: Box::new(depends),
        }
    }

    /// An answer without records.
    #[must_use]
    pub fn bare(settings: &Settings, rcode: Rcode) -> Self {
        let depends = Depends::Settings;
        Self::new(settings, rcode, depends, (Vec::new(), 0), Vec::new(), [0, 0])
    }

    /// Whether it was made for this very question.
    #[must_use]
    pub fn is_for(&self, key: &QuestionKey) -> bool {
        self.octets[..self.question_end as usize] == *key.as_bytes()
    }

    /// The code it carries.
    #[must_use]
    pub fn rcode(&self) -> Rcode {
        self.rcode
    }

    /// What it was made from.
    pub fn depends(&mut self) -> &mut Depends {
        &mut self.depends
    }

    /// Whether a cache should keep it: only what there is a bounded number of, so that a flood of
    /// random names cannot push out what is asked for every day.
    #[must_use]
    pub fn is_worth_keeping(&self) -> bool {
        self.is_kept
    }

    pub(super) fn not_kept(mut self) -> Self {
        self.is_kept = false;
        self
    }

    /// Reads from all lines of memory that a write into a usual datagram needs, so that they are near then.
    pub fn touch(&self) {
        let lines = self.octets.iter().step_by(LINE_OCTETS).take(TOUCHED_LINES);
        let blocks = self.blocks.iter().step_by(LINE_OCTETS / size_of::<Block>());
        let blocks = blocks.take(TOUCHED_LINES / 4).map(|block| block.len);
        hint::black_box((
            lines.fold(0, |sum, octet| sum ^ octet),
            blocks.fold(0, |sum, len| sum ^ len),
        ));
    }

    /// How much memory it takes, roughly.
    #[must_use]
    pub fn octets(&self) -> usize {
        size_of::<Self>()
            + self.octets.len()
            + size_of_val(&*self.blocks)
            + size_of_val(&*self.depends)
    }

    /// Writes the reply for one client into `out`, at most `limit` octets, which must be 512 or more.
    /// Allocates nothing once `out` and the shuffler have grown to their size.
    ///
    /// The query must ask the question that the template was made for, in whatever case.
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
        let [start, answers_end, authority_end] =
            [self.question_end, self.answers_end, self.authority_end].map(|end| end as usize);
        let (all, without_additionals) = (self.octets.len() - start, authority_end - start);
        let (answers, mut additional) = if all <= room {
            let answers = self.push_answers(usize::MAX, shuffler, out);
            out.extend_from_slice(&self.octets[answers_end..]);
            (answers, self.additionals().len())
        } else if without_additionals <= room {
            let answers = self.push_answers(usize::MAX, shuffler, out);
            out.extend_from_slice(&self.octets[answers_end..authority_end]);
            (answers, self.push_some_additionals(room - without_additionals, shuffler, out))
        } else {
            (self.push_answers(room, shuffler, out), 0)
        };
        let truncated = answers < usize::from(self.answers);
        let authority = if truncated { 0 } else { usize::from(self.authority) };
        if opt > 0 {
            self.push_opt(query, out);
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

    fn additionals(&self) -> &[Block] {
        &self.blocks[usize::from(self.answers) + usize::from(self.authority)..]
    }

    /// Appends the answer section in a random order, as many records as fit. Returns how many.
    fn push_answers(&self, room: usize, shuffler: &mut Shuffler, out: &mut Vec<u8>) -> usize {
        let blocks = &self.blocks[..usize::from(self.answers)];
        if let [only] = blocks {
            return self.push_if_fits(only, room, out);
        }
        let mut left = room;
        let mut pushed = 0;
        let mut first = 0;
        for run in blocks.chunk_by(|a, b| a.rank.priority == b.rank.priority) {
            // No more places are drawn than records can fit.
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

    /// Appends those additionals that fit. They begin at a random one, so that clients which take
    /// addresses from here alone do not all meet the same few.
    fn push_some_additionals(
        &self,
        room: usize,
        shuffler: &mut Shuffler,
        out: &mut Vec<u8>,
    ) -> usize {
        let blocks = self.additionals();
        if blocks.is_empty() {
            return 0;
        }
        let (before, after) = blocks.split_at(shuffler.below(blocks.len()));
        let mut left = room;
        let mut pushed = 0;
        for block in after.iter().chain(before) {
            let fits = self.push_if_fits(block, left, out);
            left -= fits * usize::from(block.len);
            pushed += fits;
        }
        pushed
    }

    fn push_if_fits(&self, block: &Block, room: usize, out: &mut Vec<u8>) -> usize {
        let len = usize::from(block.len);
        if len > room {
            return 0;
        }
        let start = block.start as usize;
        out.extend_from_slice(&self.octets[start..start + len]);
        1
    }

    /// The OPT record of a reply to a query that had one (RFC 6891 §6.1.1, §6.1.3).
    fn push_opt(&self, query: &Query<'_>, out: &mut Vec<u8>) {
        let [upper, _] = (self.rcode.number() << 4).to_be_bytes();
        let dnssec_ok = query.edns().is_some_and(|edns| edns.dnssec_ok);
        out.push(0);
        out.extend_from_slice(&rtype::OPT.to_be_bytes());
        out.extend_from_slice(&self.udp_payload.to_be_bytes());
        out.extend_from_slice(&[upper, 0, u8::from(dnssec_ok) << 7, 0, 0, 0]);
    }
}
