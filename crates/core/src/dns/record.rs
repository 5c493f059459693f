//! Encoding records into an answer's template.
//!
//! Each record is a block that may be moved or left out: its compression pointers lead only to the question, whose
//! position in a message never changes (RFC 1035 §4.1.4). Names within SRV are never compressed (RFC 2782), nor names
//! within PTR outside the domain.

use std::net::IpAddr;

use super::answer::{Answer, Block, Depends, Rank};
use super::domain::push_label;
use super::query::Rcode;
use super::reading::{ADDRESS_LABEL, NODE_LABEL};
use super::settings::DnsSettings;
use super::{CLASS_IN, HEADER_OCTETS, rtype};
use crate::catalog::Endpoint;
use crate::model::{NodeName, ZoneName};

/// The limit of records in an answer section; no more A records than this would fit over TCP anyway. If there are more
/// instances, those of the nearest zones are taken.
const MAX_ANSWERS: usize = 4096;
/// The compression pointer to the question's name.
const QUESTION_POINTER: u16 = 0xC000 | HEADER_OCTETS as u16;

/// The name of a host inside the domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target<'a> {
    /// `NODE.node.ZONE.D` stands for the address of a node.
    Node { name: &'a NodeName, zone: &'a ZoneName },
    /// `HEX.ip.node.ZONE.D` stands for an address that is not the node's own.
    Address { address: IpAddr, zone: &'a ZoneName },
}

impl<'a> Target<'a> {
    /// The host at which an endpoint is reached, and its address.
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

/// The name that a record belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Owner<'a> {
    /// The record belongs to the name asked for.
    Question,
    /// The record belongs to the domain itself.
    Domain,
    /// The record belongs to a host.
    Target(&'a Target<'a>),
}

/// Builds an answer. The sections are filled in order: answers, authority, additionals.
pub(super) struct Builder<'a> {
    settings: &'a DnsSettings,
    /// The compression pointer to the domain, if the question's name ends with it.
    domain_pointer: Option<u16>,
    /// The question's key, and behind it the records.
    octets: Vec<u8>,
    question: usize,
    blocks: Vec<Block>,
    answers: usize,
    authority: usize,
}

impl<'a> Builder<'a> {
    /// An answer without records. `inner_octets` is the number of octets in front of the domain in the question's name;
    /// `question` is the key of the question, or empty if the answer serves several questions.
    pub(super) fn new(
        settings: &'a DnsSettings,
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

    /// Whether the answer section has reached its limit.
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

    /// Adds an A or AAAA record to the answer section.
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

    /// Adds one TXT record with a string for each fact, cut to 255 octets.
    pub(super) fn answer_txt(&mut self, facts: &[String]) {
        self.record(Owner::Question, rtype::TXT, Rank::EQUAL, |_, out| {
            for fact in facts {
                push_text(out, fact);
            }
        });
        self.answers += 1;
    }

    /// Adds the minimal answer to ANY (RFC 8482 §4.2).
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

    /// Adds the SOA of a negative answer (RFC 2308 §3).
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
            // The serial, then refresh, retry and expire, which have no effect without secondaries, and the negative
            // TTL.
            for number in [serial, 3600, 600, 86_400, ttl] {
                out.extend_from_slice(&number.to_be_bytes());
            }
        });
    }

    /// Adds the address of a host that an answer names.
    pub(super) fn additional(&mut self, target: &Target<'_>, address: IpAddr) {
        self.push_address(Owner::Target(target), address, Rank::EQUAL);
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    let text = &text.as_bytes()[..text.len().min(255)];
    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(text);
}
