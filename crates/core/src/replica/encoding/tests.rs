//! The format stays as it is, newer versions may grow it, and no octets cause a panic.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::model::{
    CheckStatus, InstanceFields, Mode, NodeName, NodePhase, ProviderId, ServiceName, Timestamp,
    ZoneName,
};
use crate::replica::{Replica, Request};

const ORIGIN: NodeId = NodeId::from_bytes([0x11; 16]);

fn octets(hex: &str) -> Vec<u8> {
    let hex: String = hex.split_whitespace().collect();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn key_octets(key: &RowKey) -> Vec<u8> {
    let mut out = Vec::new();
    key.encode(&mut out);
    out
}

fn state_octets(state: &RowState) -> Vec<u8> {
    let mut out = Vec::new();
    state.encode(&mut out);
    out
}

fn decode_row(key: &[u8], state: &[u8]) -> Result<(RowKey, RowState), DecodeError> {
    RowDecoder::default().decode(key, state)
}

fn id(text: &str) -> InstanceId {
    InstanceId::parse(text).unwrap()
}

fn node() -> (RowKey, RowState) {
    let node = NodeRow {
        name: NodeName::parse("n1").unwrap(),
        zone: ZoneName::parse("eu").unwrap(),
        address: IpAddr::from([10, 0, 0, 1]),
        serves_dns: true,
        meta: BTreeMap::from([("rack".into(), "r7".into())]),
        phase: NodePhase::Draining,
    };
    (RowKey::Node, RowState::Present(Row::Node(node.into())))
}

fn instance(text: &str) -> (RowKey, RowState) {
    let fields = InstanceFields {
        id: id(text),
        service: ServiceName::parse("http.api").unwrap(),
        address: "fd00::1".parse().unwrap(),
        port: 8080,
        weight: 100,
        tags: vec!["v2".into(), "a".into()],
        meta: BTreeMap::from([("k".into(), "v".into())]),
        provider: ProviderId::parse("file:web.toml").unwrap(),
    };
    let mode = Mode::Maintenance { reason: "disk".into() };
    let instance = Instance::new(fields).unwrap().in_mode(mode);
    (RowKey::Instance(id(text)), RowState::Present(Row::Instance(instance.into())))
}

fn check() -> (RowKey, RowState) {
    let check = CheckRow {
        status: CheckStatus::Critical,
        output: "refused".into(),
        since: Timestamp::from_millis(1_000),
        has_worked: true,
    };
    let key = RowKey::Check(id("web-1"), CheckId::parse("tcp").unwrap());
    (key, RowState::Present(Row::Check(check.into())))
}

/// A kind of row that a later version might have.
fn other() -> (RowKey, RowState) {
    let key = RowKey::Other(octets("07 03 6b6579")[..].into());
    (key, RowState::Present(Row::Other(Arc::new(octets("07 ff00ff").into()))))
}

fn gone(key: RowKey, departure: Departure) -> (RowKey, RowState) {
    (key, RowState::Gone(departure))
}

fn delta(rows: Vec<(RowKey, RowState)>) -> Delta {
    let to = Version::new(300);
    let rows = rows.into_iter().map(|(key, state)| DeltaRow { version: to, key, state }).collect();
    let (from, floor) = (Version::new(299), Version::new(2));
    Delta { origin: ORIGIN, from, to, extent: Extent::up_to(to), floor, rows }
}

/// One of each, in the order of their keys.
fn all_kinds() -> Vec<(RowKey, RowState)> {
    vec![node(), instance("web-1"), check(), other()]
}

fn encoded(delta: &Delta) -> Vec<u8> {
    let mut out = Vec::new();
    delta.encode(&mut out);
    out
}

#[test]
fn each_kind_of_row_looks_like_this() {
    let table = [
        (node(), "00", "00 00 026e31 026575 00 0a000001 01 01 047261636b 027237 01"),
        (
            instance("web-1"),
            "01 05 7765622d31",
            "00 01 05 7765622d31 08 687474702e617069 01 fd000000000000000000000000000001 903f 64
             02 0161 027632 01 016b 0176 0d 66696c653a7765622e746f6d6c 02 04 6469736b",
        ),
        (check(), "02 05 7765622d31 03 746370", "00 02 02 07 72656675736564 e807 01"),
        (gone(RowKey::Node, Departure::Deregistered), "00", "01 00"),
        (gone(RowKey::Instance(id("a")), Departure::Dropped), "01 01 61", "01 01"),
        (other(), "07 03 6b6579", "00 07 ff00ff"),
    ];
    for ((key, state), key_hex, state_hex) in table {
        assert_eq!(hex(&key_octets(&key)), hex(&octets(key_hex)), "{key:?}");
        assert_eq!(hex(&state_octets(&state)), hex(&octets(state_hex)), "{key:?}");
        assert_eq!(decode_row(&octets(key_hex), &octets(state_hex)), Ok((key, state)));
    }
}

/// An instance whose provider is of a kind that a later version might have.
#[test]
fn a_provider_of_an_unknown_kind_is_kept_with_its_row() {
    let (key, known) = instance("web-1");
    let known = hex(&state_octets(&known));
    let (file, docker) = ("0d66696c653a7765622e746f6d6c", "0c646f636b65723a7765622e31");
    let newer = octets(&known.replace(file, docker));
    let (_, state) = decode_row(&key_octets(&key), &newer).unwrap();
    let RowState::Present(Row::Instance(read)) = &state else { panic!("{state:?}") };
    assert_eq!(read.profile.provider.to_string(), "docker:web.1");
    assert_eq!(hex(&state_octets(&state)), hex(&newer), "it is passed on as it came");
    let without_kind = octets(&known.replace(file, "01 78"));
    assert!(decode_row(&key_octets(&key), &without_kind).is_err());
}

#[test]
fn a_delta_looks_like_this() {
    let key = RowKey::Instance(id("a"));
    let delta = delta(vec![gone(key, Departure::Dropped)]);
    let golden = "01 11111111111111111111111111111111 ab02 ac02 ac02 00 02 01
                  ac02 03 010161 02 0101";
    assert_eq!(hex(&encoded(&delta)), hex(&octets(golden)));
}

#[test]
fn digests_stay_what_they_are() {
    let mut replica = Replica::new(NodeId::from_bytes([0x22; 16]));
    replica.merge(&Delta { from: Version::ZERO, ..delta(all_kinds()) }).unwrap();
    assert_eq!(format!("{:016x}", replica.digest(ORIGIN)), "e36860e7865372b8");
    assert_eq!(format!("{:016x}", replica.summary()), "527686eb4b70f06e");
}

#[test]
fn what_only_newer_versions_know_is_kept_and_passed_on() {
    let mut rows = all_kinds();
    for (_, state) in &mut rows {
        let mut grown = state_octets(state);
        grown.extend(b"appended");
        *state = RowDecoder::default().decode_state(&RowKey::Node, &grown).unwrap();
    }
    let sent = delta(rows);
    let received = Delta::decode(&encoded(&sent)).unwrap();
    assert_eq!(received, sent);
    let mut replica = Replica::new(NodeId::from_bytes([0x22; 16]));
    let all = Delta { from: Version::ZERO, floor: Version::ZERO, ..received };
    replica.merge(&all).unwrap();
    let request = Request { above: Version::ZERO, floor: Version::ZERO };
    assert_eq!(replica.delta(ORIGIN, request, usize::MAX), Some(all));
    for ((key, state), row) in all_kinds().into_iter().zip(&sent.rows).take(3) {
        assert!(matches!(row.state, RowState::Present(Row::Newer(_))), "{row:?}");
        assert_eq!(row.state.known(), state);
        assert_eq!(replica.row(ORIGIN, &key).as_ref(), state.present());
    }
    assert!(hex(&state_octets(&sent.rows[0].state)).ends_with(&hex(b"appended")));
}

#[test]
fn a_malformed_row_of_a_known_kind_is_named() {
    let (key, state) = instance("web-1");
    let state = state_octets(&state);
    let cut = decode_row(&key_octets(&key), &state[..state.len() - 1]).unwrap_err();
    assert!(cut.to_string().contains("\"web-1\""), "{cut}");
    let (other_key, _) = instance("web-2");
    let swapped = decode_row(&key_octets(&other_key), &state);
    assert_eq!(swapped, Err(DecodeError::State { key: other_key, problem: Problem::Kind }));
    for (key, state) in [("", "0101"), ("00", ""), ("00", "02"), ("00ff", "0101"), ("00", "010100")]
    {
        assert!(decode_row(&octets(key), &octets(state)).is_err(), "{key} {state}");
    }
    let error = decode_row(&octets("00ff"), &octets("0101")).unwrap_err().to_string();
    assert_eq!(error, "a malformed key [00, ff]: 1 octets too many");
}

#[test]
fn a_delta_that_claims_too_much_is_refused() {
    let good = encoded(&delta(all_kinds()));
    assert!(matches!(Delta::decode(&[]), Err(DecodeError::Format { found: None })));
    assert!(matches!(Delta::decode(&[2, 0]), Err(DecodeError::Format { found: Some(2) })));
    let header = "01 11111111111111111111111111111111 00 01 01 00 00";
    let count = octets(&format!("{header} ffffffffffffffffff01"));
    assert_eq!(Delta::decode(&count), Err(DecodeError::Rows { at: 0, rows: u64::MAX }));
    let behind = [&good[..], &[0]].concat();
    assert_eq!(Delta::decode(&behind), Err(DecodeError::Rows { at: 4, rows: 4 }));
    for end in 0..good.len() {
        assert!(Delta::decode(&good[..end]).is_err(), "cut at {end}");
    }
    let long = vec![FORMAT; Delta::MAX_OCTETS + 1];
    assert!(matches!(Delta::decode(&long), Err(DecodeError::TooLong { .. })));
}

fn any_key() -> impl Strategy<Value = RowKey> {
    let text = "[a-z0-9.]{1,128}";
    let check = |(a, b): (String, String)| RowKey::Check(id(&a), CheckId::parse(&b).unwrap());
    prop_oneof![
        Just(RowKey::Node),
        text.prop_map(|text| RowKey::Instance(id(&text))),
        "[ab]{1,3}".prop_map(|text| RowKey::Instance(id(&text))),
        ("[ab]{1,2}", text).prop_map(check),
        ("[ab]{1,2}", "[ab]{1,2}").prop_map(check),
        (3..=u8::MAX, prop::collection::vec(any::<u8>(), 0..9))
            .prop_map(|(kind, rest)| { RowKey::Other([&[kind], &rest[..]].concat().into()) }),
    ]
}

proptest! {
    #[test]
    fn keys_are_in_the_order_of_their_octets(a in any_key(), b in any_key()) {
        prop_assert_eq!(a.cmp(&b), key_octets(&a).cmp(&key_octets(&b)));
        prop_assert_eq!(decode_key(&key_octets(&a)), Ok(a));
    }

    #[test]
    fn random_octets_never_panic(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Delta::decode(&octets);
        let _ = Delta::decode(&[&[FORMAT], &octets[..]].concat());
        let _ = decode_row(&octets, &octets);
        for (key, state) in all_kinds() {
            let _ = decode_row(&key_octets(&key), &octets);
            let _ = decode_row(&octets, &state_octets(&state));
        }
    }

    #[test]
    fn what_is_left_of_a_damaged_delta_encodes_again(
        at in any::<prop::sample::Index>(),
        octet in any::<u8>(),
    ) {
        let mut octets = encoded(&delta(all_kinds()));
        let at = at.index(octets.len());
        octets[at] = octet;
        if let Ok(read) = Delta::decode(&octets) {
            prop_assert_eq!(Delta::decode(&encoded(&read)), Ok(read));
        }
    }
}
