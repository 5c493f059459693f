//! Frames as a peer sends them: they are read, written again, and handled by an agent that has a link to that peer.
#![cfg_attr(fuzzing, no_main)]

#[path = "deltas.rs"]
mod deltas;

use std::time::Instant;

use dunlin_core::catalog::{Catalog, GuardSettings, Topology};
use dunlin_core::gossip::{Exchange, ExchangeOutput, ExchangeSettings, Frame, Hello, Peer};
use dunlin_core::model::{NodeId, NodeName, Timestamp, ZoneName};
use dunlin_core::replica::{Replica, Version};

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|octets: &[u8]| run(octets));

/// Frames of one link in a row, each with two octets of length in front.
pub(crate) fn run(mut octets: &[u8]) {
    let now = Instant::now();
    let mut replica = Replica::new(deltas::OWN);
    let zone = ZoneName::parse("z1").expect("a zone");
    let settings = ExchangeSettings::default();
    let topology = Topology { own_zone: zone.clone(), nearest_zones: Vec::new() };
    let mut catalog = Catalog::new(topology, GuardSettings::default(), 0);
    let mut exchange = Exchange::new(now, &replica, zone, settings, 1);
    exchange.handle_link(now, &hello(), true, &replica);
    while let Some((length, rest)) = octets.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (frame, rest) = rest.split_at(length);
        octets = rest;
        let Ok(frame) = Frame::decode(frame) else { continue };
        assert_eq!(Frame::decode(&frame.encode()), Ok(frame.clone()), "written and read again");
        if let Frame::Push(deltas) | Frame::Rows(deltas) = &frame {
            deltas.iter().for_each(deltas::judge);
        }
        exchange.handle_frame(now, deltas::PEER, frame, &mut replica);
        drain(now, &mut exchange, &replica, &mut catalog);
    }
    deltas::judge_replica(&replica);
    exchange.handle_deadline(exchange.next_deadline(), &mut replica);
    drain(now, &mut exchange, &replica, &mut catalog);
}

fn drain(now: Instant, exchange: &mut Exchange, replica: &Replica, catalog: &mut Catalog) {
    while let Some(output) = exchange.poll_output() {
        if let ExchangeOutput::Visible { origin, rows } = output {
            catalog.handle_rows(now, Timestamp::default(), origin, &rows);
        }
    }
    let mut frames = 0;
    while let Some(outgoing) = exchange.next_frame(deltas::PEER, replica) {
        Frame::decode(&outgoing.octets).expect("what is sent can be read");
        frames += 1;
        assert!(frames < 10_000, "an answer without end");
    }
    assert!(exchange.next_deadline() >= now);
}

fn hello() -> Hello {
    Hello {
        minor: 0,
        peer: peer(deltas::PEER),
        name: NodeName::parse("p").expect("a name"),
        zone: ZoneName::parse("z2").expect("a zone"),
        your_generation: 0,
        your_head: Version::ZERO,
        your_digest: 0,
        has_forgotten_you: false,
        summary: 0,
        to: Some(deltas::OWN),
    }
}

fn peer(id: NodeId) -> Peer {
    Peer { id, generation: 1, address: ([127, 0, 0, 1], 5370).into() }
}
