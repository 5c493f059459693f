//! The octets of rows stay as they are, newer versions may append to them, and no octets cause a panic.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::model::{
    CheckStatus, InstanceFields, Mode, NodeName, NodePhase, ProviderId, ServiceName, Timestamp,
    ZoneName,
};

pub(in crate::replica) fn octets(hex: &str) -> Vec<u8> {
    let hex: String = hex.split_whitespace().collect();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

pub(in crate::replica) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

pub(in crate::replica) fn key_octets(key: &RowKey) -> Vec<u8> {
    let mut out = Vec::new();
    key.encode(&mut out);
    out
}

pub(in crate::replica) fn state_octets(state: &RowState) -> Vec<u8> {
    let mut out = Vec::new();
    state.encode(&mut out);
    out
}

pub(in crate::replica) fn decode_row(
    key: &[u8],
    state: &[u8],
) -> Result<(RowKey, RowState), RowError> {
    RowDecoder::default().decode(key, state)
}

pub(in crate::replica) fn id(text: &str) -> InstanceId {
    InstanceId::parse(text).unwrap()
}

fn check_id(text: &str) -> CheckId {
    CheckId::parse(text).unwrap()
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
    (RowKey::Node, RowState::Present(node.into()))
}

fn an_instance(text: &str, mode: Mode) -> (RowKey, RowState) {
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
    let instance = Instance::new(fields).unwrap().in_mode(mode);
    (RowKey::Instance(id(text)), RowState::Present(instance.into()))
}

fn instance(text: &str) -> (RowKey, RowState) {
    an_instance(text, Mode::Maintenance { reason: "disk".into() })
}

fn a_check(row: CheckRow) -> (RowKey, RowState) {
    (RowKey::Check(id("web-1"), check_id("tcp")), RowState::Present(row.into()))
}

fn check() -> (RowKey, RowState) {
    a_check(CheckRow {
        status: CheckStatus::Critical,
        output: "refused".into(),
        since: Timestamp::from_millis(1_000),
        has_worked: true,
    })
}

/// A row of a kind that a later version might have.
fn other() -> (RowKey, RowState) {
    let key = RowKey::Other(octets("07 03 6b6579")[..].into());
    (key, RowState::Present(Row::Other(Arc::new(octets("07 ff00ff").into()))))
}

pub(in crate::replica) fn gone(key: RowKey, departure: Departure) -> (RowKey, RowState) {
    (key, RowState::Gone(departure))
}

/// What a newer version may have appended. It begins with the defaults of some fields, so that it still follows whatever
/// is known of a row when fields have been appended to some kinds.
pub(in crate::replica) const APPENDED: &[u8] = b"\0\0\0\0\0\0\0\0appended";

/// One row of each kind, in the order of their keys.
pub(in crate::replica) fn all_kinds() -> Vec<(RowKey, RowState)> {
    vec![node(), instance("web-1"), check(), other()]
}

/// Rows with the octets of the first version. Never change them: what is stored and what other agents send looks like
/// this.
fn golden() -> Vec<((RowKey, RowState), &'static str, &'static str)> {
    vec![
        (node(), "00", "00 00 026e31 026575 00 0a000001 01 01 047261636b 027237 01"),
        (
            instance("web-1"),
            "01 05 7765622d31",
            "00 01 05 7765622d31 08 687474702e617069 01 fd000000000000000000000000000001 903f 64
             02 0161 027632 01 016b 0176 0d 66696c653a7765622e746f6d6c 02 04 6469736b",
        ),
        (
            an_instance("b", Mode::Draining),
            "01 01 62",
            "00 01 01 62 08 687474702e617069 01 fd000000000000000000000000000001 903f 64
             02 0161 027632 01 016b 0176 0d 66696c653a7765622e746f6d6c 01",
        ),
        (check(), "02 05 7765622d31 03 746370", "00 02 02 07 72656675736564 e807 01"),
        (
            a_check(CheckRow::unproven(Timestamp::from_millis(1))),
            "02 05 7765622d31 03 746370",
            "00 02 02 0f 6e6f7420636865636b656420796574 01 00",
        ),
        (gone(RowKey::Node, Departure::Deregistered), "00", "01 00"),
        (gone(RowKey::Instance(id("a")), Departure::Dropped), "01 01 61", "01 01"),
        (other(), "07 03 6b6579", "00 07 ff00ff"),
    ]
}

#[test]
fn rows_of_the_first_version_are_read_and_written_with_the_same_octets() {
    for ((key, state), key_hex, state_hex) in golden() {
        assert_eq!(hex(&key_octets(&key)), hex(&octets(key_hex)), "{key:?}");
        assert_eq!(hex(&state_octets(&state)), hex(&octets(state_hex)), "{key:?}");
        assert_eq!(decode_row(&octets(key_hex), &octets(state_hex)), Ok((key, state)));
    }
}

#[test]
fn appended_octets_are_kept_beside_what_is_known() {
    for ((key, state), key_hex, state_hex) in golden() {
        let RowState::Present(row) = &state else { continue };
        let grown = [&octets(state_hex)[..], APPENDED].concat();
        let (_, read) = decode_row(&octets(key_hex), &grown).unwrap();
        assert_eq!(hex(&state_octets(&read)), hex(&grown), "{key:?}");
        let RowState::Present(Row::Newer(newer)) = &read else {
            assert!(matches!(row, Row::Other(_)), "{key:?} has no place for what is appended");
            continue;
        };
        assert_eq!((&newer.known, &*newer.rest), (row, APPENDED));
        assert_eq!((read.present(), read.known()), (Some(row), state.clone()));
        let known_parts =
            |row: &Row| (row.node().cloned(), row.instance().cloned(), row.check().cloned());
        assert_eq!(known_parts(&Row::Newer(Arc::clone(newer))), known_parts(row));
        assert_eq!(read.is_bad_news(&key), state.is_bad_news(&key), "{key:?}");
    }
}

#[test]
fn a_malformed_row_of_a_known_kind_is_named() {
    let (key, state) = instance("web-1");
    let state = state_octets(&state);
    let cut = decode_row(&key_octets(&key), &state[..state.len() - 1]).unwrap_err();
    assert!(cut.to_string().contains("\"web-1\""), "{cut}");
    let (other_key, _) = instance("web-2");
    let swapped = decode_row(&key_octets(&other_key), &state);
    assert_eq!(swapped, Err(RowError::State { key: other_key, problem: RowProblem::Kind }));
    for (key, state) in [("", "0101"), ("00", ""), ("00", "02"), ("00ff", "0101"), ("00", "010100")]
    {
        assert!(decode_row(&octets(key), &octets(state)).is_err(), "{key} {state}");
    }
    let error = decode_row(&octets("00ff"), &octets("0101")).unwrap_err().to_string();
    assert_eq!(error, "a malformed key [00, ff]: 1 octets too many");
}

#[test]
fn a_row_fits_no_key_of_another_kind() {
    let rows = all_kinds();
    for (at, (key, _)) in rows.iter().enumerate() {
        for (other, (_, state)) in rows.iter().enumerate() {
            assert_eq!(key.fits(state), at == other, "{key:?} {state:?}");
        }
        assert!(key.fits(&RowState::Gone(Departure::Dropped)), "a tombstone fits every key");
    }
}

#[test]
fn what_must_not_be_used_any_longer_is_bad_news() {
    let departure = Departure::Deregistered;
    let (check_key, _) = check();
    let (other_key, other_row) = other();
    let bad = [
        node(),
        instance("a"),
        an_instance("a", Mode::Draining),
        check(),
        gone(RowKey::Node, departure),
        gone(RowKey::Instance(id("a")), departure),
    ];
    for (key, state) in bad {
        assert!(state.is_bad_news(&key), "{key:?} {state:?}");
    }
    let good = [
        an_instance("a", Mode::Active),
        a_check(CheckRow::unproven(Timestamp::default())),
        gone(check_key, departure),
        gone(other_key.clone(), departure),
        (other_key, other_row),
    ];
    for (key, state) in good {
        assert!(!state.is_bad_news(&key), "{key:?} {state:?}");
    }
}

#[test]
fn instances_share_their_texts_with_their_key_and_the_instance_before() {
    let mut decoder = RowDecoder::default();
    let mut read = |text| {
        let (key, state) = an_instance(text, Mode::Active);
        let (_, state) = decoder.decode(&key_octets(&key), &state_octets(&state)).unwrap();
        Arc::clone(state.present().and_then(Row::instance).unwrap())
    };
    let (first, second) = (read("a"), read("b"));
    assert!(Arc::ptr_eq(&first.profile, &second.profile));
}

fn any_key() -> impl Strategy<Value = RowKey> {
    let text = "[a-z0-9.]{1,128}";
    let check = |(a, b): (String, String)| RowKey::Check(id(&a), check_id(&b));
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

fn any_node() -> impl Strategy<Value = (RowKey, RowState)> {
    let phases = vec![NodePhase::Active, NodePhase::Draining, NodePhase::Left];
    let meta = prop::collection::btree_map("[a-z]{1,3}", "[a-z]{0,3}", 0..3);
    ("[a-z]{1,9}", any::<IpAddr>(), any::<bool>(), meta, prop::sample::select(phases)).prop_map(
        |(name, address, serves_dns, meta, phase)| {
            let node = NodeRow {
                name: NodeName::parse(&name).unwrap(),
                zone: ZoneName::parse(&name).unwrap(),
                address,
                serves_dns,
                meta: meta.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
                phase,
            };
            (RowKey::Node, RowState::Present(node.into()))
        },
    )
}

fn any_instance() -> impl Strategy<Value = (RowKey, RowState)> {
    let mode = prop_oneof![
        Just(Mode::Active),
        Just(Mode::Draining),
        "[a-z]{0,9}".prop_map(|reason| Mode::Maintenance { reason: reason.into() }),
    ];
    let texts = ("[a-z0-9.]{1,128}", "[a-z]{1,9}(\\.[a-z]{1,9}){0,3}");
    let numbers = (any::<[u8; 3]>(), 1..=65_535_i64, 0..=65_535_i64);
    let tags = prop::collection::vec("[a-z]{1,3}", 0..4);
    let meta = prop::collection::btree_map("[a-z]{1,3}", "[a-z]{0,3}", 0..3);
    (texts, numbers, tags, meta, mode).prop_map(|((name, service), numbers, tags, meta, mode)| {
        let ([a, b, c], port, weight) = numbers;
        let fields = InstanceFields {
            id: id(&name),
            service: ServiceName::parse(&service).unwrap(),
            address: IpAddr::from([10, a, b, c]),
            port,
            weight,
            tags,
            meta,
            provider: ProviderId::api(),
        };
        let instance = Instance::new(fields).unwrap().in_mode(mode);
        (RowKey::Instance(id(&name)), RowState::Present(instance.into()))
    })
}

fn any_check() -> impl Strategy<Value = (RowKey, RowState)> {
    let statuses = vec![CheckStatus::Passing, CheckStatus::Warning, CheckStatus::Critical];
    (prop::sample::select(statuses), ".{0,200}", any::<u64>(), any::<bool>()).prop_map(
        |(status, output, since, has_worked)| {
            let since = Timestamp::from_millis(since);
            a_check(CheckRow { status, output: output.into(), since, has_worked })
        },
    )
}

fn any_row() -> impl Strategy<Value = (RowKey, RowState)> {
    let departures = vec![Departure::Deregistered, Departure::Dropped];
    prop_oneof![
        any_node(),
        any_instance(),
        any_check(),
        Just(other()),
        (any_key(), prop::sample::select(departures)).prop_map(|(key, why)| gone(key, why)),
    ]
}

proptest! {
    #[test]
    fn keys_are_in_the_order_of_their_octets(a in any_key(), b in any_key()) {
        prop_assert_eq!(a.cmp(&b), key_octets(&a).cmp(&key_octets(&b)));
        prop_assert_eq!(RowKey::decode(&key_octets(&a)), Ok(a));
    }

    #[test]
    fn every_row_is_passed_on_with_its_octets_whatever_is_appended(
        (key, state) in any_row(),
        tail in prop::collection::vec(any::<u8>(), 0..9),
    ) {
        let written = state_octets(&state);
        prop_assert_eq!(decode_row(&key_octets(&key), &written), Ok((key.clone(), state.clone())));
        if let RowState::Gone(_) = state {
            return Ok(());
        }
        let grown = [&written[..], &tail].concat();
        // The tail may begin with a field that is known by now, of which it then holds nonsense.
        if let Ok((_, read)) = decode_row(&key_octets(&key), &grown) {
            prop_assert_eq!(hex(&state_octets(&read)), hex(&grown));
            let framed = |key: &[u8], state: &[u8]| {
                postcard::to_allocvec(&(Version::new(7), key, state)).unwrap()
            };
            let mut out = Vec::new();
            put_row(&mut out, Version::new(7), &key, &read);
            prop_assert_eq!(out, framed(&key_octets(&key), &grown), "what digests are made of");
        }
    }

    #[test]
    fn random_octets_never_panic(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_row(&octets, &octets);
        for (key, state) in all_kinds() {
            let _ = decode_row(&key_octets(&key), &octets);
            let _ = decode_row(&octets, &state_octets(&state));
        }
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
