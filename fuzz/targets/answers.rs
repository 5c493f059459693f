//! The properties of every answer to any question, which another implementation of DNS judges.

#[path = "catalog.rs"]
mod catalog;

use std::sync::LazyLock;

use domain::base::{Message, Rtype};
use domain::rdata::AllRecordData;
use dunlin_core::catalog::CatalogView;
use dunlin_core::dns::{DnsOutcome, DnsSettings, Domain, Shuffler, Transport, respond};

/// The catalog and the settings of the server that is asked.
static KNOWN: LazyLock<(CatalogView, DnsSettings)> =
    LazyLock::new(|| (catalog::catalog(), catalog::settings()));

/// Asks over both transports and judges what comes back. Returns the code of the answer over UDP.
pub(crate) fn ask(packet: &[u8]) -> Option<u8> {
    let (view, settings) = &*KNOWN;
    let mut rcode = None;
    for transport in [Transport::Tcp, Transport::Udp] {
        let mut reply = vec![0xEE; 7];
        let shuffler = &mut Shuffler::new(packet.len() as u64);
        rcode = match respond(packet, view, settings, transport, shuffler, &mut reply) {
            DnsOutcome::Reply(_) => Some(judge(packet, &reply, transport)),
            DnsOutcome::Silent => {
                assert!(packet.len() < 12 || packet[2] & 0x80 != 0, "silence to a question");
                None
            }
            DnsOutcome::Forward => panic!("forwarded without an upstream"),
        };
    }
    rcode
}

/// The domain of all names of the catalog.
#[allow(dead_code, reason = "not every target needs it")]
pub(crate) fn domain() -> &'static Domain {
    &KNOWN.1.domain
}

/// Judges one reply and returns its code.
fn judge(packet: &[u8], reply: &[u8], transport: Transport) -> u8 {
    let question = Message::from_octets(packet).expect("only what has a header is replied to");
    let answer = Message::from_octets(reply).expect("a reply has a header");
    let (asked, header) = (question.header(), answer.header());
    assert_eq!((header.id(), header.qr()), (asked.id(), true));
    assert_eq!((header.opcode(), header.rd()), (asked.opcode(), asked.rd()));
    assert!(!header.z() && !header.ad() && !header.cd(), "bits that nothing here means");
    let rcode = header.rcode().to_int();
    if answer.header_counts().qdcount() == 0 {
        assert!(matches!(rcode, 1 | 4), "a bare header with code {rcode}");
        assert_eq!(reply.len(), 12);
        return rcode;
    }
    let asked = question.sole_question().expect("what is answered was one question");
    let echoed = answer.sole_question().expect("the answer holds the question");
    assert_eq!(asked.qname().to_string(), echoed.qname().to_string(), "letter for letter");
    assert_eq!((asked.qtype(), asked.qclass()), (echoed.qtype(), echoed.qclass()));
    // A client's parser could take octets behind the last record for another one.
    assert_eq!(records(&answer), reply.len(), "octets behind the message");
    let announced = question.opt().map_or(512, |opt| opt.udp_payload_size().clamp(512, 1232));
    let limit = if transport == Transport::Tcp { 65_535 } else { usize::from(announced) };
    assert!(reply.len() <= limit, "{} octets, {limit} allowed", reply.len());
    assert_eq!(answer.opt().is_some(), question.opt().is_some(), "EDNS answers EDNS");
    rcode
}

/// Reads every record of an answer; returns where the last one ends.
fn records(answer: &Message<&[u8]>) -> usize {
    let mut opts = 0;
    let mut sections = vec![answer.answer().expect("an answer section")];
    let authority = sections[0].next_section().expect("readable").expect("a section follows");
    let additional = authority.next_section().expect("readable").expect("a section follows");
    sections.extend([authority, additional]);
    let mut end = 0;
    for section in sections {
        let mut section = section;
        for record in section.by_ref() {
            let record = record.expect("every record is well-formed");
            opts += usize::from(record.rtype() == Rtype::OPT);
            record.to_any_record::<AllRecordData<_, _>>().expect("its data is well-formed");
        }
        end = section.pos();
    }
    assert!(opts <= 1, "{opts} OPT records");
    end
}
