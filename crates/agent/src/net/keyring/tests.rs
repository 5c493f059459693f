use proptest::prelude::*;

use super::super::seal::Sealer;
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn secret(n: u8) -> Secret {
    Secret::from_bytes([n; 32])
}

fn first(now: Instant, n: u8) -> Keyring {
    let mut ring = Keyring::new();
    ring.rotate(now, secret(n));
    ring
}

fn active(ring: &Keyring, now: Instant) -> u32 {
    ring.active(now).unwrap().id()
}

#[test]
fn a_secret_is_never_printed() {
    let now = Instant::now();
    let ring = first(now, 0xab);
    let shown = format!("{ring:?} {:?}", ring.offers(now));
    assert!(!shown.contains("171, 171") && !shown.to_lowercase().contains("abab"), "{shown}");
}

#[test]
fn a_new_key_seals_when_it_has_settled() {
    let start = Instant::now();
    let mut ring = first(start, 1);
    let old = active(&ring, start);
    let new = ring.rotate(start + DAY, secret(2)).id();
    assert_eq!(active(&ring, start + DAY + SETTLE_AFTER - SECOND), old);
    assert_eq!(active(&ring, start + DAY + SETTLE_AFTER), new);
    assert_eq!(ring.next_deadline(start + DAY), Some(start + DAY + SETTLE_AFTER));
}

#[test]
fn a_key_is_due_once_a_day_or_after_many_packets() {
    let start = Instant::now();
    let mut ring = first(start, 1);
    assert!(!ring.should_rotate(start + DAY - SECOND, MAX_SEALED - 1));
    assert!(ring.should_rotate(start + DAY - SECOND, MAX_SEALED));
    assert!(ring.should_rotate(start + DAY, 0));
    ring.rotate(start + DAY, secret(2));
    assert!(!ring.should_rotate(start + DAY, MAX_SEALED), "a newer one is settling");
    assert!(ring.should_rotate(start + 2 * DAY, 0));
    assert!(!Keyring::new().should_rotate(start + DAY, MAX_SEALED));
}

#[test]
fn a_newcomer_takes_over_ages_and_so_seals_with_the_same_key() {
    let start = Instant::now();
    let mut ring = first(start, 1);
    ring.rotate(start + DAY, secret(2));
    for passed in [SECOND, SETTLE_AFTER, 2 * SETTLE_AFTER] {
        let now = start + DAY + passed;
        // What it kept from before it went away must not mute it.
        let mut newcomer = first(now, 9);
        assert!(newcomer.join(now, &ring.offers(now)));
        assert_eq!(active(&newcomer, now), active(&ring, now), "{passed:?}");
    }
}

#[test]
fn clusters_that_meet_come_to_seal_with_the_same_key() {
    let start = Instant::now();
    let (mut a, mut b) = (first(start, 1), first(start, 2));
    let met = start + DAY / 2;
    let offered = b.offers(met);
    assert!(b.merge(met, &a.offers(met)));
    assert!(a.merge(met + SECOND, &offered));
    assert!(!a.merge(met + SECOND, &offered), "nothing new");
    let later = met + SECOND + SETTLE_AFTER;
    assert_eq!(active(&a, later), active(&b, later));
    // The other one's key opens packets long enough, though one here is older.
    assert_eq!(a.accepted(met + SECOND + RETIRE_AFTER - SECOND).count(), 2);
    assert_eq!(b.accepted(met + RETIRE_AFTER - SECOND).count(), 2);
}

#[test]
fn the_oldest_of_too_many_keys_are_forgotten() {
    let now = Instant::now();
    let mut ring = first(now, 1);
    for n in 2..9 {
        ring.rotate(now, secret(n));
    }
    let generations: Vec<u64> = ring.accepted(now).map(Key::generation).collect();
    assert_eq!(generations, [5, 6, 7, 8]);
    let stale = KeyOffer { generation: 1, secret: secret(1), age_millis: 0 };
    assert!(!ring.merge(now, &[stale]));
    let mut last = KeyOffer { generation: u64::MAX, secret: secret(20), age_millis: u64::MAX };
    ring.join(now, &[last.clone()]);
    last.generation = 3;
    ring.join(now, &[last]);
    ring.rotate(now, secret(21));
    assert!(ring.next_deadline(now).is_some());
}

#[test]
fn ten_newcomers_do_not_push_out_the_key_that_seals() {
    let start = Instant::now();
    let mut ring = first(start, 1);
    let (old, now) = (active(&ring, start), start + DAY / 2);
    for n in 2..12 {
        ring.merge(now, &first(now, n).offers(now));
        assert_eq!(active(&ring, now), old);
        assert!(ring.accepted(now).count() <= MAX_KEYS);
    }
}

/// What happens to the keys of two agents in the minutes around a change of the key.
#[derive(Debug, Clone)]
struct Course {
    /// Their clocks have nothing to do with each other.
    skew: Duration,
    handover: Duration,
    /// When packets leave, in milliseconds from the change, and whether from the one that made the key.
    packets: Vec<(u64, bool)>,
    flight: Duration,
}

fn course() -> impl Strategy<Value = Course> {
    let millis = |most: u64| (0..=most).prop_map(Duration::from_millis);
    let packets = prop::collection::vec((0..1_200_000_u64, any::<bool>()), 1..80);
    (millis(1_000_000_000), millis(60_000), packets, millis(5_000)).prop_map(
        |(skew, handover, mut packets, flight)| {
            packets.sort_unstable();
            Course { skew, handover, packets, flight }
        },
    )
}

proptest! {
    #[test]
    fn a_change_of_the_key_loses_no_packet(course in course()) {
        let begin = Instant::now();
        let theirs = |t: Duration| begin + course.skew + DAY + t;
        let ours = |t: Duration| begin + DAY + t;
        let mut maker = first(begin, 1);
        let mut other = Keyring::new();
        other.join(theirs(Duration::ZERO) - DAY, &maker.offers(begin));
        maker.rotate(ours(Duration::ZERO), secret(2));
        // At one moment the hand-over comes first, as with a delay just below the limit.
        let mut handed_over = false;
        for (at, from_maker) in course.packets {
            let sent = Duration::from_millis(at);
            let hand_over = |other: &mut Keyring, done: &mut bool, now: Duration| {
                if !*done && now >= course.handover {
                    other.merge(theirs(course.handover), &maker.offers(ours(course.handover)));
                    *done = true;
                }
            };
            let mut datagram = Vec::new();
            hand_over(&mut other, &mut handed_over, sent);
            if from_maker {
                Sealer::new(&maker, ours(sent)).seal(b"m", &mut datagram).unwrap();
            } else {
                Sealer::new(&other, theirs(sent)).seal(b"m", &mut datagram).unwrap();
            }
            let arrived = sent + course.flight;
            // A copy: the next packet may leave before this one arrives.
            let (mut receiver, mut done) = (other.clone(), handed_over);
            hand_over(&mut receiver, &mut done, arrived);
            let opened = if from_maker {
                Sealer::new(&receiver, theirs(arrived)).open(&mut datagram).map(|_| ())
            } else {
                Sealer::new(&maker, ours(arrived)).open(&mut datagram).map(|_| ())
            };
            prop_assert_eq!(opened, Ok(()), "sent at {:?}", sent);
        }
    }

    #[test]
    fn a_union_of_keys_does_not_depend_on_the_order(
        offers in prop::collection::vec((0_u64..4, any::<u8>()), 0..8),
        order in any::<prop::sample::Index>(),
    ) {
        let now = Instant::now();
        let offers: Vec<_> = offers
            .into_iter()
            .map(|(generation, n)| KeyOffer { generation, secret: secret(n), age_millis: 0 })
            .collect();
        let (mut a, mut b) = (Keyring::new(), Keyring::new());
        a.merge(now, &offers);
        let mut turned = offers;
        if !turned.is_empty() {
            let by = order.index(turned.len());
            turned.rotate_left(by);
        }
        for one in turned.chunks(1) {
            b.merge(now, one);
        }
        let keys = |ring: &Keyring| ring.accepted(now).cloned().collect::<Vec<_>>();
        // A secret under two generations is no case: each new key has a secret of its own.
        let secrets: std::collections::BTreeSet<_> = turned.iter().map(|o| &o.secret).collect();
        prop_assume!(secrets.len() == turned.len());
        prop_assert_eq!(keys(&a), keys(&b));
        prop_assert!(keys(&a).len() <= MAX_KEYS);
    }
}
