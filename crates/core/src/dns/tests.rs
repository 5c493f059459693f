//! Facts about answers, read back by another implementation.

mod scenario;
mod scenarios;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ::domain::base::iana::Rtype;
use ::domain::base::{Message, MessageBuilder, Name};
use ::domain::rdata::AllRecordData;
use proptest::prelude::*;

use super::*;
use crate::catalog::{CatalogView, Endpoint, GuardMark, NodeStatus, NodeView, Standing, Topology};
use crate::model::{
    Health, Instance, InstanceFields, InstanceId, NodeId, NodeName, NodePhase, NodeRow, ProviderId,
    ServiceName, Timestamp, ZoneName,
};

fn zone(text: &str) -> ZoneName {
    ZoneName::parse(text).unwrap()
}

fn node(name: &str, zone_name: &str, address: &str) -> NodeView {
    let row = NodeRow {
        name: NodeName::parse(name).unwrap(),
        zone: zone(zone_name),
        address: address.parse().unwrap(),
        serves_dns: true,
        meta: BTreeMap::new(),
        phase: NodePhase::Active,
    };
    NodeView { id: NodeId::from_bytes([0; 16]), row: Arc::new(row), status: NodeStatus::Alive }
}

/// `port` tells endpoints apart; `address` defaults to the node's.
fn endpoint(on: &NodeView, address: Option<&str>, port: u16, weight: u16) -> Endpoint {
    let fields = InstanceFields {
        id: InstanceId::parse(&format!("i{port}")).unwrap(),
        service: ServiceName::parse("any-service").unwrap(),
        address: address.map_or(on.row.address, |text| text.parse().unwrap()),
        port: port.into(),
        weight: weight.into(),
        tags: vec![],
        meta: BTreeMap::new(),
        provider: ProviderId::api(),
    };
    Endpoint {
        node_id: on.id,
        node: Arc::clone(&on.row),
        instance: Arc::new(Instance::new(fields).unwrap()),
        health: Health::Passing,
        checks: Arc::new([]),
        standing: Standing::Regular,
    }
}

fn put(view: &mut CatalogView, name: &str, endpoints: Vec<Endpoint>) {
    view.put_service(ServiceName::parse(name).unwrap(), None, endpoints);
}

/// Two zones, own zone `eu1`; `web` in both, `http.api.prod.shop` far away only, `six` on IPv6,
/// `sick` without a healthy instance, `big` with 200 addresses.
fn catalog() -> CatalogView {
    let topology = Topology { own_zone: zone("eu1"), nearest_zones: vec![zone("us1")] };
    let mut view = CatalogView::empty(topology, 0);
    view.advance();
    let (a, b) = (node("alpha", "eu1", "10.0.0.1"), node("beta", "us1", "10.1.0.1"));
    let c = node("gamma", "eu1", "fd00::3");
    for node in [&a, &b, &c] {
        view.put_node(node.clone());
    }
    let web = vec![
        endpoint(&a, None, 80, 100),
        endpoint(&a, None, 81, 100),
        endpoint(&a, Some("10.0.9.9"), 82, 100),
        endpoint(&b, None, 83, 100),
    ];
    put(&mut view, "web", web);
    put(&mut view, "http.api.prod.shop", vec![endpoint(&b, None, 8080, 7)]);
    put(&mut view, "six", vec![endpoint(&c, None, 80, 100)]);
    let mut sick = endpoint(&a, None, 80, 100);
    sick.health = Health::Critical;
    put(&mut view, "sick", vec![sick]);
    put(&mut view, "us1.trap", vec![endpoint(&a, None, 80, 100)]);
    let big = (0..200).map(|i| endpoint(&a, Some(&format!("10.2.0.{i}")), 80, 100));
    put(&mut view, "big", big.collect());
    view
}

fn settings() -> DnsSettings {
    let domain = Domain::parse("dunlin.internal").unwrap();
    DnsSettings::new(domain, NodeName::parse("alpha").unwrap())
}

/// A question with an OPT record that announces `payload`, if that is above 0.
fn question(name: &str, rtype: Rtype, payload: u16) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(0x1234);
    builder.header_mut().set_rd(true);
    let mut builder = builder.question();
    let name: Name<Vec<u8>> = name.parse().unwrap();
    builder.push((name, rtype)).unwrap();
    let mut builder = builder.additional();
    if payload > 0 {
        builder
            .opt(|opt| {
                opt.set_udp_payload_size(payload);
                Ok(())
            })
            .unwrap();
    }
    builder.finish()
}

/// All sections as text: `owner TYPE data`, sorted within each section.
#[derive(Debug, PartialEq)]
struct Read {
    rcode: String,
    truncated: bool,
    sections: [Vec<String>; 3],
    has_opt: bool,
}

fn read(reply: &[u8]) -> Read {
    let message = Message::from_octets(reply).unwrap();
    assert!(message.header().qr());
    let mut has_opt = false;
    let mut lines = |section: ::domain::base::message::RecordSection<'_, [u8]>| -> Vec<String> {
        let mut out = Vec::new();
        for record in section.limit_to::<AllRecordData<_, _>>() {
            let record = record.unwrap();
            if record.rtype() == Rtype::OPT {
                has_opt = true;
            } else {
                let (owner, kind, data) = (record.owner(), record.rtype(), record.data());
                let data = data.to_string();
                let words = data.split(' ').map(|word| word.strip_suffix('.').unwrap_or(word));
                let data = words.collect::<Vec<_>>().join(" ");
                out.push(format!("{owner} {kind} {data}"));
            }
        }
        out.sort();
        out
    };
    let message = Message::from_slice(message.as_slice()).unwrap();
    let sections = [
        lines(message.answer().unwrap()),
        lines(message.authority().unwrap()),
        lines(message.additional().unwrap()),
    ];
    Read {
        rcode: message.header().rcode().to_string(),
        truncated: message.header().tc(),
        sections,
        has_opt,
    }
}

fn ask_with(view: &CatalogView, packet: &[u8], transport: Transport) -> (DnsOutcome, Vec<u8>) {
    let mut out = Vec::new();
    let shuffler = &mut Shuffler::new(1);
    let outcome = respond(packet, view, &settings(), transport, shuffler, &mut out);
    (outcome, out)
}

fn ask(name: &str, rtype: Rtype) -> Read {
    let packet = question(name, rtype, 1232);
    let (outcome, reply) = ask_with(&catalog(), &packet, Transport::Udp);
    assert!(matches!(outcome, DnsOutcome::Reply(_)), "{name}");
    read(&reply)
}

fn answers(name: &str, rtype: Rtype) -> Vec<String> {
    let read = ask(name, rtype);
    assert_eq!(read.rcode, "NOERROR", "{name}");
    let [answers, ..] = read.sections;
    let data = |line: &String| line.splitn(3, ' ').last().unwrap().to_owned();
    let mut answers: Vec<_> = answers.iter().map(data).collect();
    answers.sort();
    answers
}

#[test]
fn names_of_services_give_addresses_of_the_asked_zones() {
    for (name, expected) in [
        ("web.dunlin.internal", &["10.0.0.1", "10.0.9.9"][..]),
        ("WEB.Dunlin.internal", &["10.0.0.1", "10.0.9.9"]),
        ("web.us1.dunlin.internal", &["10.1.0.1"]),
        ("web.any.dunlin.internal", &["10.0.0.1", "10.0.9.9", "10.1.0.1"]),
        ("_web._tcp.dunlin.internal", &["10.0.0.1", "10.0.9.9"]),
        ("_web._udp.us1.dunlin.internal", &["10.1.0.1"]),
        ("http.api.prod.shop.dunlin.internal", &["10.1.0.1"]),
        ("_http._tcp.api.prod.shop.dunlin.internal", &["10.1.0.1"]),
        ("http.api.prod.shop.us1.dunlin.internal", &["10.1.0.1"]),
        ("http.api.prod.shop.eu1.dunlin.internal", &[]),
        ("sick.dunlin.internal", &[]),
        ("six.dunlin.internal", &[]),
        ("alpha.node.dunlin.internal", &["10.0.0.1"]),
        ("alpha.node.eu1.dunlin.internal", &["10.0.0.1"]),
        ("0a000909.ip.node.eu1.dunlin.internal", &["10.0.9.9"]),
    ] {
        assert_eq!(answers(name, Rtype::A), expected, "{name}");
    }
    assert_eq!(answers("six.dunlin.internal", Rtype::AAAA), ["fd00::3"]);
    assert_eq!(answers("gamma.node.dunlin.internal", Rtype::AAAA), ["fd00::3"]);
}

#[test]
fn names_between_exist_without_data_and_others_do_not_exist() {
    for name in [
        "shop",
        "prod.shop",
        "api.prod.shop.eu1",
        "_tcp",
        "_tcp.api.prod.shop",
        "node",
        "any",
        "node.eu1",
        "ip.node.eu1",
        "eu1",
        "us1",
        "prod.shop.any",
        "web.eu1",
        "trap",
    ] {
        let read = ask(&format!("{name}.dunlin.internal"), Rtype::TXT);
        let expected = if name == "web.eu1" { 1 } else { 0 };
        assert_eq!(read.rcode, "NOERROR", "{name}");
        assert_eq!(read.sections[0].len(), expected, "{name}");
        assert_eq!(read.sections[1].len(), 1 - expected, "{name}");
    }
    for name in [
        "nothing",
        "x.web",
        "local",
        "x.local",
        "any.any",
        "any.eu1",
        "beta.node.eu1",
        "zeta.node",
        "zzzzzzzz.ip.node.eu1",
        "0a000909.ip.node.nowhere",
        "0a000909.ip.node",
        "web._tcp",
        "_nothing._tcp",
        "_tcp.web",
        "a.b.c.d.e.f.g.h.i",
        "web.web",
        "w\\.eb",
        "us1.trap.x",
        "00000000000000000000ffff0a000001.ip.node.eu1",
    ] {
        let read = ask(&format!("{name}.dunlin.internal"), Rtype::A);
        assert_eq!(read.rcode, "NXDOMAIN", "{name}");
        let soa = "dunlin.internal SOA alpha.node.eu1.dunlin.internal hostmaster.dunlin.internal";
        assert!(read.sections[1][0].starts_with(soa), "{:?}", read.sections);
    }
}

#[test]
fn srv_carries_priority_weight_port_target_and_every_targets_address() {
    let read = ask("_web._tcp.any.dunlin.internal", Rtype::SRV);
    let owner = "_web._tcp.any.dunlin.internal SRV";
    let expected = [
        format!("{owner} 0 100 80 alpha.node.eu1.dunlin.internal"),
        format!("{owner} 0 100 81 alpha.node.eu1.dunlin.internal"),
        format!("{owner} 0 100 82 0a000909.ip.node.eu1.dunlin.internal"),
        format!("{owner} 1 100 83 beta.node.us1.dunlin.internal"),
    ];
    assert_eq!(read.sections[0], expected);
    let expected = [
        "0a000909.ip.node.eu1.dunlin.internal A 10.0.9.9",
        "alpha.node.eu1.dunlin.internal A 10.0.0.1",
        "beta.node.us1.dunlin.internal A 10.1.0.1",
    ];
    assert_eq!(read.sections[2], expected);
    assert!(read.has_opt && !read.truncated);
}

#[test]
fn srv_lists_the_nearest_zones_first() {
    let packet = question("web.any.dunlin.internal", Rtype::SRV, 1232);
    let (view, settings) = (catalog(), settings());
    let mut shuffler = Shuffler::new(3);
    let mut out = Vec::new();
    for _ in 0..50 {
        respond(&packet, &view, &settings, Transport::Udp, &mut shuffler, &mut out);
        let message = Message::from_octets(out.as_slice()).unwrap();
        let records = message.answer().unwrap().limit_to::<::domain::rdata::Srv<_>>();
        let priorities: Vec<u16> = records.map(|r| r.unwrap().data().priority()).collect();
        assert_eq!(priorities, [0, 0, 0, 1]);
    }
}

#[test]
fn the_domain_and_its_zones_name_their_servers() {
    let all = [
        "alpha.node.eu1.dunlin.internal",
        "beta.node.us1.dunlin.internal",
        "gamma.node.eu1.dunlin.internal",
    ];
    assert_eq!(answers("dunlin.internal", Rtype::NS), all);
    assert_eq!(answers("eu1.dunlin.internal", Rtype::NS), [all[0], all[2]]);
    assert_eq!(ask("dunlin.internal", Rtype::NS).sections[2].len(), 3);
    let soa = answers("dunlin.internal", Rtype::SOA);
    let expected = "alpha.node.eu1.dunlin.internal hostmaster.dunlin.internal 1 3600 600 86400 1";
    assert_eq!(soa, [expected]);
}

#[test]
fn txt_states_facts_and_any_is_answered_minimally() {
    let facts = r#""instances=4" "healthy=4" "guarded=false""#;
    assert_eq!(answers("web.dunlin.internal", Rtype::TXT), [facts]);
    let facts = r#""instances=1" "healthy=1" "guarded=false""#;
    assert_eq!(answers("web.us1.dunlin.internal", Rtype::TXT), [facts]);
    let any = ask("web.dunlin.internal", Rtype::ANY);
    assert_eq!(any.sections[0].len(), 1);
    assert!(any.sections[0][0].contains("HINFO"), "{any:?}");
    let mut view = catalog();
    let mark = GuardMark { since: Timestamp::from_millis(1) };
    view.put_service(ServiceName::parse("g").unwrap(), Some(mark), vec![]);
    let packet = question("g.dunlin.internal", Rtype::TXT, 0);
    let (_, reply) = ask_with(&view, &packet, Transport::Udp);
    assert!(read(&reply).sections[0][0].contains("guarded=true"));
}

#[test]
fn addresses_of_nodes_have_names() {
    let v4 = answers("1.0.0.10.in-addr.arpa", Rtype::PTR);
    assert_eq!(v4, ["alpha.node.eu1.dunlin.internal"]);
    let digits = "fd000000000000000000000000000003".chars().rev();
    let name: String = digits.flat_map(|c| [c, '.']).collect();
    let v6 = answers(&format!("{name}ip6.arpa"), Rtype::PTR);
    assert_eq!(v6, ["gamma.node.eu1.dunlin.internal"]);
    let other = ask("1.0.0.10.in-addr.arpa", Rtype::A);
    assert!(other.sections[0].is_empty());
    assert!(other.sections[1][0].starts_with("1.0.0.10.in-addr.arpa SOA"));
    for name in ["2.0.0.10.in-addr.arpa", "01.0.0.10.in-addr.arpa", "0.0.10.in-addr.arpa"] {
        assert_eq!(ask(name, Rtype::PTR).rcode, "REFUSED", "{name}");
    }
}

#[test]
fn outside_the_domain_is_refused_or_forwarded() {
    for name in ["example.org", "xdunlin.internal", "internal", "dunlin.internal.org", "."] {
        assert_eq!(ask(name, Rtype::A).rcode, "REFUSED", "{name}");
    }
    // A label that holds the domain's octets is not the domain.
    let mut packet = question("a.b", Rtype::A, 0);
    packet.splice(12..17, *b"\x10\x06dunlin\x08internal\x00");
    let (_, reply) = ask_with(&catalog(), &packet, Transport::Udp);
    assert_eq!(read(&reply).rcode, "REFUSED");
    let mut with_upstream = settings();
    with_upstream.upstreams = vec![([127, 0, 0, 1], 53).into()];
    let packet = question("example.org", Rtype::A, 0);
    let (mut out, shuffler) = (Vec::new(), &mut Shuffler::new(1));
    let udp = Transport::Udp;
    let outcome = respond(&packet, &catalog(), &with_upstream, udp, shuffler, &mut out);
    assert_eq!(outcome, DnsOutcome::Forward);
}

#[test]
fn what_is_no_question_gets_a_code_or_silence() {
    let good = question("web.dunlin.internal", Rtype::A, 1232);
    let opt_at = good.len() - 11;
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = good.clone();
        change(&mut packet);
        let (outcome, reply) = ask_with(&catalog(), &packet, Transport::Udp);
        match outcome {
            DnsOutcome::Silent => None,
            DnsOutcome::Reply(written) => {
                assert_eq!(reply[..2], packet[..2]);
                Some(written.rcode)
            }
            DnsOutcome::Forward => panic!("forwarded"),
        }
    };
    let class_at = opt_at - 2;
    type Change<'a> = &'a dyn Fn(&mut Vec<u8>);
    let table: [(&str, Change<'_>, Option<Rcode>); 13] = [
        ("as it is", &|_| {}, Some(Rcode::NoError)),
        ("a response", &|p| p[2] |= 0x80, None),
        ("shorter than a header", &|p| p.truncate(11), None),
        ("a notify", &|p| p[2] |= 4 << 3, Some(Rcode::NotImp)),
        ("an update", &|p| p[2] |= 5 << 3, Some(Rcode::NotImp)),
        ("no question", &|p| p[5] = 0, Some(Rcode::FormErr)),
        ("two questions", &|p| p[5] = 2, Some(Rcode::FormErr)),
        ("a pointer to itself", &|p| p[12..14].copy_from_slice(&[0xC0, 12]), Some(Rcode::FormErr)),
        ("class CH", &|p| p[class_at + 1] = 3, Some(Rcode::Refused)),
        ("class ANY", &|p| p[class_at + 1] = 255, Some(Rcode::Refused)),
        ("AXFR", &|p| p[class_at - 1] = 252, Some(Rcode::Refused)),
        ("EDNS version 1", &|p| p[opt_at + 6] = 1, Some(Rcode::BadVers)),
        (
            "two OPT records",
            &|p| {
                let opt = p[opt_at..].to_vec();
                p.extend(opt);
                p[11] = 2;
            },
            Some(Rcode::FormErr),
        ),
    ];
    for (what, change, expected) in table {
        assert_eq!(changed(change), expected, "{what}");
    }
}

#[test]
fn answers_keep_within_what_the_client_takes() {
    let view = catalog();
    for (name, rtype) in [("big", Rtype::A), ("big", Rtype::SRV), ("web", Rtype::SRV)] {
        for payload in [0, 100, 512, 700, 1232, 4096] {
            let packet = question(&format!("{name}.dunlin.internal"), rtype, payload);
            let (_, reply) = ask_with(&view, &packet, Transport::Udp);
            let limit = usize::from(payload.clamp(512, 1232));
            assert!(reply.len() <= limit, "{name} {payload}: {}", reply.len());
            let got = read(&reply);
            assert_eq!(got.truncated, name == "big");
            assert_eq!(got.has_opt, payload > 0);
            if name == "big" {
                // As many whole records as fit: no room for one more is left.
                let longest = if rtype == Rtype::A { 16 } else { 70 };
                assert!(limit - reply.len() < longest, "{payload}: {}", reply.len());
                assert!(got.sections[1].is_empty() && got.sections[2].is_empty());
            }
        }
        let packet = question(&format!("{name}.dunlin.internal"), rtype, 0);
        let (_, reply) = ask_with(&view, &packet, Transport::Tcp);
        let got = read(&reply);
        assert!(!got.truncated);
        let expected = if name == "big" { 200 } else { 3 };
        assert_eq!(got.sections[0].len(), expected);
    }
}

#[test]
fn additionals_go_before_answers_do() {
    let mut view = catalog();
    let a = node("alpha", "eu1", "10.0.0.1");
    let even = (0..7).map(|i| endpoint(&a, Some(&format!("10.3.0.{i}")), 80, 100));
    put(&mut view, "even", even.collect());
    // The node's own name is shorter than those of other addresses.
    let uneven = (0..7).map(|i| {
        let address = (i > 0).then(|| format!("10.3.0.{i}"));
        endpoint(&a, address.as_deref(), 80, 100)
    });
    put(&mut view, "odd", uneven.collect());
    let mut shuffler = Shuffler::new(3);
    for name in ["even", "odd"] {
        let packet = question(&format!("{name}.dunlin.internal"), Rtype::SRV, 0);
        let (mut out, mut met) = (Vec::new(), BTreeSet::new());
        for _ in 0..50 {
            respond(&packet, &view, &settings(), Transport::Udp, &mut shuffler, &mut out);
            let got = read(&out);
            assert!(!got.truncated);
            let targets: BTreeSet<&str> =
                got.sections[0].iter().filter_map(|line| line.rsplit(' ').next()).collect();
            assert_eq!(targets.len(), 7);
            let hosts: BTreeSet<String> = got.sections[2]
                .iter()
                .filter_map(|l| l.split(' ').next())
                .map(str::to_owned)
                .collect();
            assert_eq!(hosts.len(), got.sections[2].len(), "each once");
            assert!(hosts.iter().all(|host| targets.contains(host.as_str())), "{hosts:?}");
            assert!(hosts.len() < 7 && 512 - out.len() < 60, "{name}: {} octets", out.len());
            met.extend(hosts);
        }
        assert_eq!(met.len(), 7, "each has its turn");
    }
}

#[test]
fn every_answer_comes_first_in_turn_and_heavier_ones_more_often() {
    let mut view = catalog();
    let a = node("alpha", "eu1", "10.0.0.1");
    let weighted = [(1, 10), (2, 30), (3, 60), (4, 0)]
        .map(|(i, weight)| endpoint(&a, Some(&format!("10.4.0.{i}")), 80, weight));
    put(&mut view, "heavy", weighted.into());
    let packet = question("heavy.dunlin.internal", Rtype::A, 0);
    let (settings, mut shuffler) = (settings(), Shuffler::new(9));
    let (mut out, mut led) = (Vec::new(), BTreeMap::new());
    for _ in 0..5_000 {
        respond(&packet, &view, &settings, Transport::Udp, &mut shuffler, &mut out);
        let message = Message::from_octets(out.as_slice()).unwrap();
        let records = message.answer().unwrap().limit_to::<::domain::rdata::A>();
        let order: Vec<IpAddr> = records.map(|r| r.unwrap().data().addr().into()).collect();
        let set: BTreeSet<_> = order.iter().collect();
        assert_eq!((order.len(), set.len()), (4, 4));
        assert_eq!(order[3], IpAddr::from([10, 4, 0, 4]));
        *led.entry(order[0]).or_insert(0_u32) += 1;
    }
    let led: Vec<u32> = led.into_values().collect();
    let near = |n: u32, share: u32| n.abs_diff(share) < 200;
    assert!(near(led[0], 500) && near(led[1], 1_500) && near(led[2], 3_000), "{led:?}");
}

/// The answer to a question, for tests of what it depends on.
fn template(view: &CatalogView, name: &str, rtype: Rtype) -> Answer {
    let packet = question(&format!("{name}.dunlin.internal"), rtype, 0);
    let query = Query::parse(&packet).unwrap();
    let key = QuestionKey::of(&query);
    match resolve(&query, &key, view, &settings()) {
        Resolution::Answer(answer) => answer,
        Resolution::NoSuchName => no_such_name(&key, view, &settings()),
        Resolution::Forward => panic!("forwarded"),
    }
}

#[test]
fn an_answer_is_current_until_what_it_was_made_from_changes() {
    let mut view = catalog();
    let a = node("alpha", "eu1", "10.0.0.1");
    let web = template(&view, "web", Rtype::SRV);
    let above = template(&view, "prod.shop", Rtype::A);
    let missing = template(&view, "new", Rtype::A);
    let made = view.index();
    let current =
        |view: &CatalogView| [&web, &above, &missing].map(|answer| answer.is_current(view, made));
    assert_eq!(current(&view), [true; 3]);
    view.advance();
    put(&mut view, "six", vec![]);
    assert_eq!(current(&view), [true; 3], "another service changed");
    view.advance();
    put(&mut view, "new", vec![endpoint(&a, None, 80, 100)]);
    assert_eq!(current(&view), [true, false, false], "a service appeared");
    view.advance();
    view.put_node(node("delta", "ap1", "10.7.0.1"));
    assert!(current(&view)[0], "a zone of another name appeared");
    let mut zoned = view.clone();
    zoned.advance();
    zoned.put_node(node("omega", "web", "10.8.0.1"));
    assert!(!current(&zoned)[0], "its label became a zone");
    let mut moved = view.clone();
    moved.advance();
    moved.set_topology(Topology { own_zone: zone("eu1"), nearest_zones: vec![zone("ap1")] });
    assert!(!current(&moved)[0], "priorities changed");
    view.advance();
    put(&mut view, "web", vec![]);
    assert!(!current(&view)[0], "it changed itself");
}

#[test]
fn names_that_do_not_exist_share_what_each_would_get_alone() {
    let mut view = catalog();
    let a = node("alpha", "eu1", "10.0.0.1");
    let mut absent = AbsentNames::default();
    let mut shuffler = Shuffler::new(1);
    for service in ["one", "another"] {
        for name in ["nothing", "nowhere", "nothing.eu1", "no.such.name", "nowhere"] {
            let packet = question(&format!("{name}.dunlin.internal"), Rtype::A, 0);
            let query = Query::parse(&packet).unwrap();
            let (mut shared, mut alone) = (Vec::new(), Vec::new());
            let answer = absent.answer(&QuestionKey::of(&query), &view, &settings());
            answer.write(&query, 512, &mut shuffler, &mut shared);
            respond(&packet, &view, &settings(), Transport::Udp, &mut shuffler, &mut alone);
            assert_eq!(shared, alone, "{name} before there is {service}");
        }
        view.advance();
        put(&mut view, service, vec![endpoint(&a, None, 80, 100)]);
    }
}

#[test]
fn only_what_is_bounded_in_number_is_worth_keeping() {
    let view = catalog();
    for (name, rtype, expected) in [
        ("web", Rtype::A, true),
        ("web", Rtype::AAAA, true),
        ("prod.shop", Rtype::A, true),
        ("web", Rtype::from_int(4711), false),
        ("nothing", Rtype::A, false),
        ("0a000909.ip.node.eu1", Rtype::A, false),
    ] {
        let answer = template(&view, name, rtype);
        assert_eq!(answer.is_worth_keeping(), expected, "{name} {rtype}");
    }
}

#[test]
fn the_questions_case_and_id_come_back() {
    let packet = question("wEb.DunLIN.internal", Rtype::A, 0);
    let (_, reply) = ask_with(&catalog(), &packet, Transport::Udp);
    assert_eq!(reply[..2], packet[..2]);
    assert_eq!(reply[12..packet.len()], packet[12..]);
    let key = |name: &str| QuestionKey::of(&Query::parse(&question(name, Rtype::A, 0)).unwrap());
    let (lower, mixed) = (key("web.dunlin.internal"), key("wEb.DunLIN.internal"));
    assert_eq!(lower.as_bytes(), mixed.as_bytes());
}

/// Asserts for any packet that nothing panics, and that the reply is well-formed and fits.
fn survive(view: &CatalogView, packet: &[u8]) {
    for (transport, limit) in [(Transport::Udp, 1232), (Transport::Tcp, TCP_MESSAGE_OCTETS)] {
        let (outcome, reply) = ask_with(view, packet, transport);
        if matches!(outcome, DnsOutcome::Reply(_)) {
            assert!(reply.len() <= limit);
            read(&reply);
        }
    }
}

#[test]
fn every_prefix_and_every_changed_octet_is_survived() {
    let view = catalog();
    for (name, rtype) in [
        ("_web._tcp.any.dunlin.internal", Rtype::SRV),
        ("alpha.node.eu1.dunlin.internal", Rtype::A),
        ("1.0.0.10.in-addr.arpa", Rtype::PTR),
    ] {
        let packet = question(name, rtype, 1232);
        for end in 0..packet.len() {
            survive(&view, &packet[..end]);
        }
        for at in 0..packet.len() {
            for octet in [0, 1, 3, 41, 63, 64, 128, 192, 255] {
                let mut changed = packet.clone();
                changed[at] = octet;
                survive(&view, &changed);
            }
        }
    }
}

proptest! {
    #[test]
    fn random_octets_are_survived(packet in prop::collection::vec(any::<u8>(), 0..600)) {
        survive(&catalog(), &packet);
    }

    #[test]
    fn random_names_are_survived(
        labels in prop::collection::vec(
            prop_oneof![
                Just(b"web".to_vec()), Just(b"_tcp".to_vec()), Just(b"any".to_vec()),
                Just(b"node".to_vec()), Just(b"eu1".to_vec()), Just(b"ip".to_vec()),
                prop::collection::vec(any::<u8>(), 1..64),
            ],
            0..6,
        ),
        rtype in prop_oneof![Just(1_u16), Just(33), Just(2), Just(6), Just(16), Just(255), any::<u16>()],
    ) {
        let mut packet = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in &labels {
            packet.push(u8::try_from(label.len()).unwrap());
            packet.extend_from_slice(label);
        }
        packet.extend_from_slice(b"\x06dunlin\x08internal\x00");
        packet.extend_from_slice(&rtype.to_be_bytes());
        packet.extend_from_slice(&[0, 1]);
        survive(&catalog(), &packet);
    }
}
