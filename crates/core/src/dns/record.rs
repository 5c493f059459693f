//! Encoding records into an answer's template.
//!
//! Each record is a block that may be moved or left out: it refers by compression only to the question,
//! whose place in a message never changes (RFC 1035 §4.1.4). Names within SRV are never compressed
//! (RFC 2782), nor names within PTR outside the domain.

use std::net::IpAddr;

use super::answer::{Answer, Block, Depends};
use super::domain::push_label;
use super::query::Rcode;
use super::reading::{ADDRESS_LABEL, NODE_LABEL};
use super::settings::Settings;
use super::{CLASS_IN, HEADER_OCTETS, rtype};
use crate::catalog::Endpoint;
use crate::model::{NodeName, ZoneName};

/// Records in an answer section at most; over TCP no more A records than this would fit anyway. Of more
/// instances, those of the nearest zones are taken.
const MAX_ANSWERS: usize = 4096;
/// A pointer to the question's name.
const QUESTION_POINTER: u16 = 0xC000 | HEADER_OCTETS as u16;

/// A host inside the domain that has an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target<'a> {
    /// `NODE.node.ZONE.D`
    Node { name: &'a NodeName, zone: &'a ZoneName },
    /// `HEX.ip.node.ZONE.D`, for an address that is not the node's own.
    Address { address: IpAddr, zone: &'a ZoneName },
}

impl<'a> Target<'a> {
    /// The host that an endpoint is reached at, and its address.
    pub(super) fn of(endpoint: &'a Endpoint) -> (Self, IpAddr) {
        let address = endpoint.instance.address.to_canonical();
        let node = &endpoint.node;
        let zone = &node.zone;
        let target = if address == node.address.to_canonical() {
            Self::Node { name: &node.name, zone }
        } else {
            Self::Address { address, zone }
        };
        (target, address)
    }

    fn push_labels(&self, out: &mut Vec<u8>) {
        let zone = match self {
            Self::Node { name, zone } => {
                push_label(out, name.as_str().as_bytes());
                zone
            }
            Self::Address { address, zone } => {
                let digits = match address {
                    IpAddr::V4(v4) => format!("{:08x}", v4.to_bits()),
                    IpAddr::V6(v6) => format!("{:032x}", v6.to_bits()),
                };
                push_label(out, digits.as_bytes());
                push_label(out, ADDRESS_LABEL.as_bytes());
                zone
            }
        };
        push_label(out, NODE_LABEL.as_bytes());
        push_label(out, zone.as_str().as_bytes());
    }
}

/// Whose record it is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Owner<'a> {
    /// The name asked for.
    Question,
    /// The domain itself.
    Domain,
    /// Some host.
    Target(&'a Target<'a>),
}

/// How a record takes part in shuffling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rank {
    /// Only records of equal priority change places; they come in order of priority.
    pub(super) priority: u16,
    /// How much more often it leads than others.
    pub(super) weight: u16,
}

impl Rank {
    pub(super) const EQUAL: Self = Self { priority: 0, weight: 1 };
}

/// An answer in the making. Sections are filled in order: answers, authority, additionals.
pub(super) struct Builder<'a> {
    settings: &'a Settings,
    /// A pointer to the domain within the question's name, if it is there.
    domain_pointer: Option<u16>,
    /// The question, as its key has it, and behind it the records.
    octets: Vec<u8>,
    question: usize,
    blocks: Vec<Block>,
    answers: usize,
    authority: usize,
}

impl<'a> Builder<'a> {
    /// `inner_octets`: how many octets of the question's name stand in front of the domain. `question`: the key
    /// of the question, if the answer is for that one alone.
    pub(super) fn new(
        settings: &'a Settings,
        inner_octets: Option<usize>,
        question: &[u8],
    ) -> Self {
        let offset = inner_octets.and_then(|octets| u16::try_from(octets).ok());
        Self {
            settings,
            domain_pointer: offset.map(|offset| QUESTION_POINTER + offset),
            octets: question.to_vec(),
            question: question.len(),
            blocks: Vec::new(),
            answers: 0,
            authority: 0,
        }
    }

    pub(super) fn finish(self, rcode: Rcode, depends: Depends) -> Answer {
        Answer::new(
            self.settings,
            rcode,
            depends,
            (self.octets, self.question),
            &self.blocks,
            [self.answers, self.authority],
        )
    }

    /// Whether the answer section takes no more.
    pub(super) fn is_full(&self) -> bool {
        self.answers >= MAX_ANSWERS
    }

    pub(super) fn has_answers(&self) -> bool {
        self.answers > 0
    }

    fn record(
        &mut self,
        owner: Owner<'_>,
        kind: u16,
        rank: Rank,
        data: impl FnOnce(&Self, &mut Vec<u8>),
    ) {
        let mut records = std::mem::take(&mut self.octets);
        let start = records.len();
        match owner {
            Owner::Question => records.extend_from_slice(&QUESTION_POINTER.to_be_bytes()),
            Owner::Domain => self.push_domain(&mut records, true),
            Owner::Target(target) => self.push_target(&mut records, target, true),
        }
        records.extend_from_slice(&kind.to_be_bytes());
        records.extend_from_slice(&CLASS_IN.to_be_bytes());
        records.extend_from_slice(&self.settings.ttl_secs().to_be_bytes());
        let length_at = records.len();
        records.extend_from_slice(&[0, 0]);
        data(self, &mut records);
        let length = u16::try_from(records.len() - length_at - 2)
            .expect("data is a few names, addresses or short texts");
        records[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
        self.blocks.push(Block::new(start, records.len(), rank));
        self.octets = records;
    }

    fn push_domain(&self, out: &mut Vec<u8>, compress: bool) {
        match self.domain_pointer.filter(|_| compress) {
            Some(pointer) => out.extend_from_slice(&pointer.to_be_bytes()),
            None => out.extend_from_slice(self.settings.domain.wire()),
        }
    }

    fn push_target(&self, out: &mut Vec<u8>, target: &Target<'_>, compress: bool) {
        target.push_labels(out);
        self.push_domain(out, compress);
    }

    /// An A or AAAA record in the answer section.
    pub(super) fn answer_address(&mut self, address: IpAddr, rank: Rank) {
        self.push_address(Owner::Question, address, rank);
        self.answers += 1;
    }

    fn push_address(&mut self, owner: Owner<'_>, address: IpAddr, rank: Rank) {
        match address {
            IpAddr::V4(v4) => {
                self.record(owner, rtype::A, rank, |_, out| out.extend(v4.octets()));
            }
            IpAddr::V6(v6) => {
                self.record(owner, rtype::AAAA, rank, |_, out| out.extend(v6.octets()));
            }
        }
    }

    pub(super) fn answer_srv(&mut self, target: &Target<'_>, port: u16, rank: Rank) {
        self.record(Owner::Question, rtype::SRV, rank, |this, out| {
            out.extend_from_slice(&rank.priority.to_be_bytes());
            out.extend_from_slice(&rank.weight.to_be_bytes());
            out.extend_from_slice(&port.to_be_bytes());
            this.push_target(out, target, false);
        });
        self.answers += 1;
    }

    pub(super) fn answer_ns(&mut self, target: &Target<'_>) {
        self.record(Owner::Question, rtype::NS, Rank::EQUAL, |this, out| {
            this.push_target(out, target, true);
        });
        self.answers += 1;
    }

    pub(super) fn answer_ptr(&mut self, target: &Target<'_>) {
        self.record(Owner::Question, rtype::PTR, Rank::EQUAL, |this, out| {
            this.push_target(out, target, false);
        });
        self.answers += 1;
    }

    /// One record with a string per fact, each below 256 octets.
    pub(super) fn answer_txt(&mut self, facts: &[String]) {
        self.record(Owner::Question, rtype::TXT, Rank::EQUAL, |_, out| {
            for fact in facts {
                push_text(out, fact);
            }
        });
        self.answers += 1;
    }

    /// The minimal answer to ANY (RFC 8482 §4.2).
    pub(super) fn answer_any(&mut self) {
        self.record(Owner::Question, rtype::HINFO, Rank::EQUAL, |_, out| {
            push_text(out, "RFC8482");
            push_text(out, "");
        });
        self.answers += 1;
    }

    pub(super) fn answer_soa(&mut self, own_zone: &ZoneName, serial: u32) {
        self.push_soa(Owner::Question, own_zone, serial);
        self.answers += 1;
    }

    /// The SOA of a negative answer (RFC 2308 §3).
    pub(super) fn authority_soa(&mut self, owner: Owner<'_>, own_zone: &ZoneName, serial: u32) {
        self.push_soa(owner, own_zone, serial);
        self.authority += 1;
    }

    fn push_soa(&mut self, owner: Owner<'_>, own_zone: &ZoneName, serial: u32) {
        let settings = self.settings;
        let ttl = settings.ttl_secs();
        self.record(owner, rtype::SOA, Rank::EQUAL, |this, out| {
            let primary = Target::Node { name: &settings.node, zone: own_zone };
            this.push_target(out, &primary, true);
            push_label(out, b"hostmaster");
            this.push_domain(out, true);
            // Serial, refresh, retry, expire, negative TTL. There are no secondaries to refresh.
            for number in [serial, 3600, 600, 86_400, ttl] {
                out.extend_from_slice(&number.to_be_bytes());
            }
        });
    }

    /// The address of a host that an answer named.
    pub(super) fn additional(&mut self, target: &Target<'_>, address: IpAddr) {
        self.push_address(Owner::Target(target), address, Rank::EQUAL);
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    let text = &text.as_bytes()[..text.len().min(255)];
    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(text);
}
