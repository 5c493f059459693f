//! The octets of deltas stay as they are, rows of newer versions pass through, and no octets cause a panic.

use proptest::prelude::*;

use super::*;
use crate::replica::rows::tests::{
    APPENDED, all_kinds, decode_row, gone, hex, id, key_octets, octets, state_octets,
};
use crate::replica::{DeltaRequest, Departure, Replica, Row, RowKey, RowState};

const ORIGIN: NodeId = NodeId::from_bytes([0x11; 16]);

fn delta(rows: Vec<(RowKey, RowState)>) -> Delta {
    let to = Version::new(300);
    let rows = rows.into_iter().map(|(key, state)| DeltaRow { version: to, key, state }).collect();
    let (from, floor) = (Version::new(299), Version::new(2));
    Delta { origin: ORIGIN, from, to, extent: Extent::up_to(to), floor, rows }
}

fn encoded(delta: &Delta) -> Vec<u8> {
    let mut out = Vec::new();
    delta.encode(&mut out);
    out
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
    for (key, state) in &mut rows {
        let mut grown = state_octets(state);
        grown.extend(APPENDED);
        (_, *state) = decode_row(&key_octets(key), &grown).unwrap();
    }
    let sent = delta(rows);
    let received = Delta::decode(&encoded(&sent)).unwrap();
    assert_eq!(received, sent);
    let mut replica = Replica::new(NodeId::from_bytes([0x22; 16]));
    let all = Delta { from: Version::ZERO, floor: Version::ZERO, ..received };
    replica.merge(&all).unwrap();
    let request = DeltaRequest { above: Version::ZERO, floor: Version::ZERO };
    assert_eq!(replica.delta(ORIGIN, request, usize::MAX), Some(all));
    for ((key, state), row) in all_kinds().into_iter().zip(&sent.rows).take(3) {
        assert!(matches!(row.state, RowState::Present(Row::Newer(_))), "{row:?}");
        assert_eq!(row.state.known(), state);
        assert_eq!(replica.row(ORIGIN, &key).as_ref(), state.present());
    }
    assert!(hex(&state_octets(&sent.rows[0].state)).ends_with(&hex(APPENDED)));
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

proptest! {
    #[test]
    fn random_octets_never_panic(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Delta::decode(&octets);
        let _ = Delta::decode(&[&[FORMAT], &octets[..]].concat());
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
