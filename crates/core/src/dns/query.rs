//! The question of a packet: the header, one question, and an optional OPT record.
//!
//! Compression pointers in the question's name are not followed: in the first name of a message a pointer could only
//! lead into the header or to itself, so it is a format error. The records behind the question are skipped one after
//! another. Each is at least eleven octets long, so parsing takes at most one pass over the packet.

use super::settings::DnsSettings;
use super::{CLASS_IN, HEADER_OCTETS, MIN_UDP_OCTETS, TCP_MESSAGE_OCTETS, Transport, rtype};

/// The flag of a message that is a response (RFC 1035 §4.1.1).
pub(super) const FLAG_QR: u16 = 0x8000;
/// The flag of a reply that was truncated.
pub(super) const FLAG_TC: u16 = 0x0200;
const OPCODE_MASK: u16 = 0x7800;
/// The flag of a client that desires recursion, which the reply repeats.
pub(super) const FLAG_RD: u16 = 0x0100;
/// The limit of a name on the wire in octets (RFC 1035 §2.3.4).
const MAX_NAME_WIRE_OCTETS: usize = 255;
/// The length of an OPT record without options, in octets.
pub(super) const OPT_OCTETS: usize = 11;

/// An OPT record without options (RFC 6891 §6.1.2, §6.1.3). `rcode` is the response code, whose upper bits it carries.
pub(super) fn opt_record(payload: u16, rcode: u16, dnssec_ok: bool) -> [u8; OPT_OCTETS] {
    let [[kind_0, kind_1], [payload_0, payload_1], [upper, _]] =
        [rtype::OPT, payload, rcode << 4].map(u16::to_be_bytes);
    [0, kind_0, kind_1, payload_0, payload_1, upper, 0, u8::from(dnssec_ok) << 7, 0, 0, 0]
}

/// Response codes (RFC 1035 §4.1.1, RFC 6891 §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rcode {
    /// The name exists, with or without data of the type asked for.
    NoError,
    /// The packet is not a well-formed question.
    FormErr,
    /// An upstream did not answer.
    ServFail,
    /// The name does not exist, nor any below it (RFC 8020).
    NxDomain,
    /// The opcode is not QUERY.
    NotImp,
    /// The name is outside the domain, the class is not IN, or the question is for a zone transfer.
    Refused,
    /// The EDNS version is above 0.
    BadVers,
}

impl Rcode {
    /// All codes that this server sends.
    pub const ALL: [Self; 7] = [
        Self::NoError,
        Self::FormErr,
        Self::ServFail,
        Self::NxDomain,
        Self::NotImp,
        Self::Refused,
        Self::BadVers,
    ];

    /// The number on the wire; above 15 its upper bits go into the OPT record.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::NoError => 0,
            Self::FormErr => 1,
            Self::ServFail => 2,
            Self::NxDomain => 3,
            Self::NotImp => 4,
            Self::Refused => 5,
            Self::BadVers => 16,
        }
    }

    /// The mnemonic of the code, in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoError => "noerror",
            Self::FormErr => "formerr",
            Self::ServFail => "servfail",
            Self::NxDomain => "nxdomain",
            Self::NotImp => "notimp",
            Self::Refused => "refused",
            Self::BadVers => "badvers",
        }
    }
}

/// The contents of the client's OPT record (RFC 6891 §6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// The longest datagram that the client accepts, in octets.
    pub payload: u16,
    /// The client's EDNS version; this server supports only 0.
    pub version: u8,
    /// The DO bit, which the reply repeats (RFC 3225 §3); there are no signatures to send.
    pub dnssec_ok: bool,
}

/// A packet that gets no proper answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    /// The packet is shorter than a header, or itself a response. It gets no reply, so that two servers never answer
    /// each other.
    Silent,
    /// The packet gets a reply of the header alone, with this code.
    Reply(Rcode),
}

impl Reject {
    /// Writes the reply, if there is one: the client's id, opcode and RD, and the code.
    /// Returns the code, or `None` for silence.
    pub fn write(self, packet: &[u8], out: &mut Vec<u8>) -> Option<Rcode> {
        out.clear();
        let Self::Reply(rcode) = self else {
            return None;
        };
        let flags = word(packet, 2)?;
        let flags = FLAG_QR | (flags & (OPCODE_MASK | FLAG_RD)) | (rcode.number() & 15);
        out.extend_from_slice(packet.get(..2)?);
        out.extend_from_slice(&flags.to_be_bytes());
        out.extend_from_slice(&[0; HEADER_OCTETS - 4]);
        Some(rcode)
    }
}

/// A well-formed question, borrowed from its packet.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    packet: &'a [u8],
    question_end: usize,
    qtype: u16,
    qclass: u16,
    edns: Option<Edns>,
}

impl<'a> Query<'a> {
    /// Reads a packet. Octets behind the last record are ignored, as are records other than OPT.
    ///
    /// # Errors
    /// [`Reject`] says what to reply, if anything.
    pub fn parse(packet: &'a [u8]) -> Result<Self, Reject> {
        if packet.len() < HEADER_OCTETS {
            return Err(Reject::Silent);
        }
        let malformed = Reject::Reply(Rcode::FormErr);
        let field = |at| word(packet, at).ok_or(malformed);
        let flags = field(2)?;
        if flags & FLAG_QR != 0 {
            return Err(Reject::Silent);
        }
        if flags & OPCODE_MASK != 0 {
            return Err(Reject::Reply(Rcode::NotImp));
        }
        if field(4)? != 1 {
            return Err(malformed);
        }
        let name_end = plain_name_end(packet).ok_or(malformed)?;
        let (qtype, qclass) = (field(name_end)?, field(name_end + 2)?);
        if qtype == rtype::OPT {
            return Err(malformed);
        }
        let question_end = name_end + 4;
        let before_additional = usize::from(field(6)?) + usize::from(field(8)?);
        let additional = usize::from(field(10)?);
        let edns = if before_additional + additional == 0 {
            None
        } else {
            find_edns(packet, question_end, before_additional, additional).ok_or(malformed)?
        };
        Ok(Self { packet, question_end, qtype, qclass, edns })
    }

    /// The client's number for this question.
    #[must_use]
    pub fn id(&self) -> u16 {
        word(self.packet, 0).unwrap_or(0)
    }

    /// Whether recursion is desired: only then a question is forwarded.
    #[must_use]
    pub fn wants_recursion(&self) -> bool {
        self.flags() & FLAG_RD != 0
    }

    /// The type asked for.
    #[must_use]
    pub fn qtype(&self) -> u16 {
        self.qtype
    }

    /// The client's OPT record, if there was one.
    #[must_use]
    pub fn edns(&self) -> Option<Edns> {
        self.edns
    }

    /// The name, type and class with the octets of the packet.
    #[must_use]
    pub fn question(&self) -> &'a [u8] {
        &self.packet[HEADER_OCTETS..self.question_end]
    }

    /// The longest reply that this client accepts, in octets.
    #[must_use]
    pub fn reply_limit(&self, settings: &DnsSettings, transport: Transport) -> usize {
        match transport {
            Transport::Tcp => TCP_MESSAGE_OCTETS,
            Transport::Udp => {
                let announced = self.edns.map_or(MIN_UDP_OCTETS, |edns| edns.payload);
                usize::from(announced.max(MIN_UDP_OCTETS).min(settings.udp_octets()))
            }
        }
    }

    /// The code with which the question is refused regardless of its name: for an EDNS version above 0 (RFC 6891
    /// §6.1.3), a class other than IN (also ANY, which asks for data that no single server has), or a zone transfer.
    #[must_use]
    pub fn refusal(&self) -> Option<Rcode> {
        if self.edns.is_some_and(|edns| edns.version > 0) {
            Some(Rcode::BadVers)
        } else if self.qclass != CLASS_IN || matches!(self.qtype, rtype::AXFR | rtype::IXFR) {
            Some(Rcode::Refused)
        } else {
            None
        }
    }

    pub(super) fn flags(&self) -> u16 {
        word(self.packet, 2).unwrap_or(0)
    }

    /// The flags that every reply repeats: opcode and RD.
    pub(super) fn repeated_flags(&self) -> u16 {
        self.flags() & (OPCODE_MASK | FLAG_RD)
    }

    pub(super) fn id_octets(&self) -> [u8; 2] {
        self.id().to_be_bytes()
    }
}

/// The part of a question that is the same for all its clients: the name in lower case (RFC 4343) and the type.
#[derive(Clone, Copy)]
pub struct QuestionKey {
    octets: [u8; MAX_NAME_WIRE_OCTETS + 2],
    len: usize,
}

impl QuestionKey {
    /// The key of a question.
    #[must_use]
    pub fn of(query: &Query<'_>) -> Self {
        let question = query.question();
        // The class is left out, since it is always IN where keys are used.
        let len = question.len() - 2;
        let mut octets = [0; MAX_NAME_WIRE_OCTETS + 2];
        octets[..len].copy_from_slice(&question[..len]);
        // Length octets are at most 63, below the letters, so folding does not change them. The type is not folded,
        // since its octets may look like letters.
        octets[..len - 2].make_ascii_lowercase();
        Self { octets, len }
    }

    /// The name and the type as octets, for a hash table.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.octets[..self.len]
    }

    /// The name in wire form and lower case.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.octets[..self.len - 2]
    }
}

/// Where the question's name ends: labels only, at most 255 octets.
fn plain_name_end(packet: &[u8]) -> Option<usize> {
    let mut at = HEADER_OCTETS;
    loop {
        let len = usize::from(*packet.get(at)?);
        if len > 63 {
            return None;
        }
        at += 1 + len;
        if at - HEADER_OCTETS > MAX_NAME_WIRE_OCTETS {
            return None;
        }
        if len == 0 {
            return Some(at);
        }
    }
}

/// Where any other name ends: labels, then the root or a pointer to an earlier offset at which the rest of the name is
/// (RFC 1035 §4.1.4).
fn any_name_end(packet: &[u8], start: usize) -> Option<usize> {
    let (mut at, mut octets, mut end) = (start, 1, None);
    // Each pointer has to lead to an offset before the last one, so the loop ends.
    let mut earlier = HEADER_OCTETS..start;
    while octets <= MAX_NAME_WIRE_OCTETS {
        let len = usize::from(*packet.get(at)?);
        match len {
            0 => return Some(end.unwrap_or(at + 1)),
            1..=63 => {
                at += 1 + len;
                octets += 1 + len;
            }
            0xC0.. => {
                let target = usize::from(word(packet, at)? & 0x3FFF);
                if !earlier.contains(&target) {
                    return None;
                }
                end = end.or(Some(at + 2));
                earlier.end = target;
                at = target;
            }
            _ => return None,
        }
    }
    None
}

/// The one OPT record, which must be in the additional section under the root's name.
/// The outer `None` is a format error: a second OPT record, one in another section, options that do not end with their
/// record, or a record that is cut short.
fn find_edns(
    packet: &[u8],
    start: usize,
    before_additional: usize,
    additional: usize,
) -> Option<Option<Edns>> {
    let mut at = start;
    let mut edns = None;
    for index in 0..before_additional + additional {
        let fixed = any_name_end(packet, at)?;
        let data_len = usize::from(word(packet, fixed + 8)?);
        if word(packet, fixed)? == rtype::OPT {
            let is_root = fixed == at + 1;
            if index < before_additional || !is_root || edns.is_some() {
                return None;
            }
            if !are_options(packet.get(fixed + 10..fixed + 10 + data_len)?) {
                return None;
            }
            edns = Some(Edns {
                payload: word(packet, fixed + 2)?,
                version: *packet.get(fixed + 5)?,
                dnssec_ok: packet.get(fixed + 6)? & 0x80 != 0,
            });
        }
        at = fixed + 10 + data_len;
        if at > packet.len() {
            return None;
        }
    }
    Some(edns)
}

/// Whether these octets are well-formed options: each a code and a length, then that number of octets (RFC 6891
/// §6.1.2).
fn are_options(mut data: &[u8]) -> bool {
    while !data.is_empty() {
        let rest = word(data, 2).and_then(|octets| data.get(4 + usize::from(octets)..));
        let Some(rest) = rest else { return false };
        data = rest;
    }
    true
}

fn word(packet: &[u8], at: usize) -> Option<u16> {
    let octets = packet.get(at..)?.first_chunk()?;
    Some(u16::from_be_bytes(*octets))
}
