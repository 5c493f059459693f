//! A reply as lines, as another implementation of DNS reads it: every section and every flag.

use ::domain::base::iana::{Opcode, Rtype};
use ::domain::base::message::RecordSection;
use ::domain::base::{Message, ParsedName, ParsedRecord};
use ::domain::rdata::AllRecordData;

use super::question::Show;

/// Shows the code and the flags, the sections, each sorted since answers are shuffled, and EDNS.
pub(super) fn lines(reply: &[u8], show: Show) -> Vec<String> {
    let message = Message::from_octets(reply).expect("a reply has a header");
    assert!(message.header().qr(), "a reply says that it is one");
    let mut lines = vec![first_line(&message)];
    if message.header_counts().qdcount() == 0 {
        lines.push("no question".to_owned());
    }
    let sections = [
        ("answer", message.answer().unwrap()),
        ("authority", message.authority().unwrap()),
        ("additional", message.additional().unwrap()),
    ];
    for (name, section) in sections {
        let records = records(section, show);
        if show == Show::Counts && !records.is_empty() {
            lines.push(format!("{name} {} records", records.len()));
        } else {
            lines.extend(records.iter().map(|record| format!("{name} {record}")));
        }
    }
    lines.extend(edns(&message));
    lines
}

fn first_line(message: &Message<&[u8]>) -> String {
    let header = message.header();
    let mut words = vec![message.opt_rcode().to_string()];
    if header.opcode() != Opcode::QUERY {
        let opcode = header.opcode();
        let known = opcode.to_mnemonic_str().map(str::to_owned);
        words.push(known.unwrap_or_else(|| format!("OPCODE{}", opcode.to_int())));
    }
    let flags = [
        ("aa", header.aa()),
        ("tc", header.tc()),
        ("rd", header.rd()),
        ("ra", header.ra()),
        ("z", header.z()),
        ("ad", header.ad()),
        ("cd", header.cd()),
    ];
    words.extend(flags.into_iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| flag.to_owned()));
    words.join(" ")
}

fn records(section: RecordSection<'_, &[u8]>, show: Show) -> Vec<String> {
    let records = section.map(|record| record.expect("a well-formed record"));
    let mut lines: Vec<String> =
        records.filter(|record| record.rtype() != Rtype::OPT).map(|r| line(&r, show)).collect();
    lines.sort();
    lines
}

fn line(parsed: &ParsedRecord<'_, &[u8]>, show: Show) -> String {
    let record = parsed.to_any_record::<AllRecordData<_, ParsedName<&[u8]>>>();
    let record = record.expect("well-formed data");
    let (owner, ttl) = (record.owner(), record.ttl().as_secs());
    let (class, kind, data) = (record.class(), record.rtype(), record.data().to_string());
    let words = data.split(' ').map(|word| word.strip_suffix('.').unwrap_or(word));
    let data = words.collect::<Vec<_>>().join(" ");
    let line = format!("{owner} {ttl} {class} {kind} {data}");
    if show != Show::Pointers {
        return line;
    }
    let how = |name: &&ParsedName<&[u8]>| if name.is_compressed() { "compressed" } else { "whole" };
    let names: Vec<&str> = names(record.data()).iter().map(how).collect();
    if names.is_empty() { line } else { format!("{line} ; {}", names.join(", ")) }
}

/// The names within a record's data.
#[allow(clippy::wildcard_enum_match_arm, reason = "the library knows dozens of types")]
fn names<'a, O>(data: &'a AllRecordData<O, ParsedName<&'a [u8]>>) -> Vec<&'a ParsedName<&'a [u8]>> {
    match data {
        AllRecordData::Ns(ns) => vec![ns.nsdname()],
        AllRecordData::Soa(soa) => vec![soa.mname(), soa.rname()],
        AllRecordData::Ptr(ptr) => vec![ptr.ptrdname()],
        AllRecordData::Srv(srv) => vec![srv.target()],
        _ => Vec::new(),
    }
}

fn edns(message: &Message<&[u8]>) -> Option<String> {
    let opt = message.opt()?;
    let mut line = format!("edns version {} size {}", opt.version(), opt.udp_payload_size());
    if opt.dnssec_ok() {
        line.push_str(" do");
    }
    if opt.opt().is_empty() { Some(line) } else { Some(format!("{line} with options")) }
}
