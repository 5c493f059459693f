//! Datagrams of a member after their seal is opened: they are read, written again, and handled.
#![cfg_attr(fuzzing, no_main)]

#[path = "deltas.rs"]
mod deltas;

use std::time::{Duration, Instant};

use dunlin_core::gossip::{
    Exchange, ExchangeSettings, Membership, MembershipSettings, Packet, Peer,
};
use dunlin_core::model::{NodeId, ZoneName};
use dunlin_core::replica::Replica;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|octets: &[u8]| run(octets));

/// The input is packets in a row, each with two octets of length in front.
pub(crate) fn run(mut octets: &[u8]) {
    let now = Instant::now();
    let mut replica = Replica::new(deltas::OWN);
    let mut membership = Membership::new(peer(deltas::OWN), MembershipSettings::default(), 1);
    membership.meet(now, peer(deltas::PEER), 0);
    let zone = ZoneName::parse("z1").expect("a zone");
    let mut exchange = Exchange::new(now, &replica, zone, ExchangeSettings::default(), 1);
    let mut passed = 0;
    while let Some((length, rest)) = octets.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (packet, rest) = rest.split_at(length);
        octets = rest;
        let Ok(packet) = Packet::decode(packet) else { continue };
        let mut again = Vec::new();
        packet.encode(&mut again);
        assert_eq!(Packet::decode(&again), Ok(packet.clone()), "written and read again");
        passed += 1;
        let now = now + Duration::from_millis(100 * passed);
        match packet {
            // A malformed packet is an error and has no other effect.
            Packet::Membership { packet, .. } => {
                drop(membership.handle_packet(now, deltas::PEER, &packet));
            }
            Packet::Urgent(delta) => {
                deltas::judge(&delta);
                exchange.handle_urgent(now, deltas::PEER, delta, &mut replica);
            }
            Packet::Ping { .. } | Packet::Pong { .. } => {
                membership.handle_heard(now, deltas::PEER);
            }
        }
        membership.handle_deadline(now);
        let outputs = std::iter::from_fn(|| membership.poll_output()).count();
        assert!(outputs < 10_000, "{outputs} outputs for one packet");
        while exchange.poll_output().is_some() {}
    }
    deltas::judge_replica(&replica);
}

fn peer(id: NodeId) -> Peer {
    Peer { id, generation: 1, address: ([127, 0, 0, 1], 5370).into() }
}
