use std::time::Duration;

use proptest::prelude::*;

use super::super::keyring::{RETIRE_AFTER, SETTLE_AFTER, Secret};
use super::*;

fn ring(now: Instant, secret: u8) -> Keyring {
    let mut ring = Keyring::new();
    ring.rotate(now, Secret::from_bytes([secret; 32]));
    ring
}

fn sealed(sealer: &Sealer, message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    sealer.seal(message, &mut out).unwrap();
    out
}

#[test]
fn what_was_sealed_opens_in_its_place() {
    let now = Instant::now();
    let sealer = Sealer::new(&ring(now, 1), now);
    let mut out = Vec::with_capacity(MAX_DATAGRAM);
    let place = out.as_ptr();
    for message in [&b""[..], b"suspect n7", &[7; MAX_MESSAGE]] {
        sealer.seal(message, &mut out).unwrap();
        assert_eq!(out.len(), message.len() + OVERHEAD);
        assert_eq!(out.as_ptr(), place, "nothing was allocated");
        assert_eq!(sealer.open(&mut out).unwrap(), message);
    }
    assert_eq!(sealer.sealed(), 3);
}

#[test]
fn the_same_message_never_looks_the_same() {
    let now = Instant::now();
    let sealer = Sealer::new(&ring(now, 1), now);
    assert_ne!(sealed(&sealer, b"ping"), sealed(&sealer, b"ping"));
}

#[test]
fn what_cannot_be_sealed_says_why() {
    let now = Instant::now();
    let mut out = vec![1];
    assert_eq!(Sealer::default().seal(b"x", &mut out), Err(SealError::NoKey));
    let sealer = Sealer::new(&ring(now, 1), now);
    let octets = MAX_MESSAGE + 1;
    assert_eq!(sealer.seal(&vec![0; octets], &mut out), Err(SealError::TooLarge { octets }));
    assert!(out.is_empty());
}

#[test]
fn a_datagram_of_another_cluster_is_refused() {
    let now = Instant::now();
    let (ours, theirs) = (Sealer::new(&ring(now, 1), now), Sealer::new(&ring(now, 2), now));
    let mut datagram = sealed(&theirs, b"ping");
    assert!(matches!(ours.open(&mut datagram), Err(OpenError::UnknownKey(_))));
}

#[test]
fn a_retired_key_is_refused_by_name() {
    let start = Instant::now();
    let mut ring = ring(start, 1);
    let sealer = Sealer::new(&ring, start);
    let old = sealed(&sealer, b"ping");
    ring.rotate(start, Secret::from_bytes([2; 32]));
    let retired = start + SETTLE_AFTER + RETIRE_AFTER;
    sealer.update(&ring, retired - Duration::from_millis(1));
    assert!(sealer.open(&mut old.clone()).is_ok());
    assert_eq!(ring.next_deadline(retired - Duration::from_millis(1)), Some(retired));
    sealer.update(&ring, retired);
    assert!(matches!(sealer.open(&mut old.clone()), Err(OpenError::RetiredKey(_))));
    assert_eq!(sealer.sealed(), 0, "the new key counts anew");
}

#[test]
fn a_change_of_any_octet_is_noticed() {
    let now = Instant::now();
    let sealer = Sealer::new(&ring(now, 1), now);
    let datagram = sealed(&sealer, b"n7 is down");
    for at in 0..datagram.len() {
        for bit in 0..8 {
            let mut forged = datagram.clone();
            forged[at] ^= 1 << bit;
            assert!(sealer.open(&mut forged).is_err(), "octet {at}, bit {bit}");
        }
        assert!(sealer.open(&mut datagram[..at].to_vec()).is_err(), "cut at {at}");
    }
}

proptest! {
    #[test]
    fn no_datagram_can_make_it_panic(
        noise in prop::collection::vec(any::<u8>(), 0..1500),
        looks_right in any::<bool>(),
    ) {
        let now = Instant::now();
        let ring = ring(now, 1);
        let sealer = Sealer::new(&ring, now);
        let mut noise = noise;
        if looks_right && noise.len() >= HEADER {
            noise[0] = VERSION;
            noise[1..HEADER].copy_from_slice(&ring.active(now).unwrap().id().to_be_bytes());
        }
        prop_assert!(sealer.open(&mut noise).is_err());
    }
}
