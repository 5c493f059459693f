//! Plays `testdata/dns/*.txt` to the logic alone.

use super::scenario::{Answerer, World, Writes, play_all};
use super::*;

/// Answers by [`respond`], with a shuffler of its own.
struct Logic(Shuffler);

impl Answerer for Logic {
    fn ask(&mut self, world: World<'_>, packet: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let World { view, settings } = world;
        let mut reply = Vec::new();
        match respond(packet, view, settings, transport, &mut self.0, &mut reply) {
            DnsOutcome::Reply(_) => Some(reply),
            DnsOutcome::Silent => None,
            DnsOutcome::Forward => panic!("no scenario has upstreams"),
        }
    }

    fn ask_stream(&mut self, world: World<'_>, packets: &[Vec<u8>], _: Writes) -> Vec<Vec<u8>> {
        packets.iter().filter_map(|packet| self.ask(world, packet, Transport::Tcp)).collect()
    }
}

#[test]
fn answers_are_as_the_scenarios_say() {
    play_all(&mut Logic(Shuffler::new(5)));
}
