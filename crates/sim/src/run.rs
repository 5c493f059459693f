//! One run: a cluster under load, faults, healing, and what must hold then.

use std::time::Duration;

use dunlin_core::gossip::{ExchangeSettings, MembershipSettings};
use dunlin_core::random::Random;

use crate::faults::Writer;
use crate::invariants::{Violation, has_converged};
use crate::world::{Event, World, WorldSettings};

/// The load begins when most nodes have found each other.
const LOAD_FROM: Duration = Duration::from_secs(3);
/// How long after healing the live nodes may still differ.
const CONVERGE_WITHIN: Duration = Duration::from_secs(15);
/// How long the healed cluster is watched; where nodes are forgotten, until that is done.
const WATCH: Duration = Duration::from_secs(25);
const WATCH_FORGETTING: Duration = Duration::from_secs(40);

/// How often it is looked whether the last news has arrived, and how long after each other.
const NEWS_LOOKS: u32 = 10;
const NEWS_INTERVAL: Duration = Duration::from_millis(300);

/// What a run is like. The same settings give the same run.
#[derive(Debug, Clone, Copy)]
pub struct RunSettings {
    /// From which everything random follows.
    pub seed: u64,
    /// How many nodes; by the seed, 3 to 25, if none.
    pub nodes: Option<usize>,
    /// Minutes of virtual time until all is healed.
    pub minutes: f64,
    /// Tell what happens on standard error.
    pub is_traced: bool,
}

/// How a run went.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Of which run.
    pub settings: RunSettings,
    /// How many nodes it had.
    pub nodes: usize,
    /// Events that happened.
    pub events: u64,
    /// Requests that clients got an answer to.
    pub requests: u64,
    /// Time from healing until all knew the same.
    pub converged_after: Duration,
    /// The first invariant that did not hold.
    pub violation: Option<Violation>,
    /// A number that follows from everything that happened: equal for equal runs.
    pub fingerprint: u64,
}

/// Does one run.
#[must_use]
pub fn run_seed(settings: RunSettings) -> Outcome {
    let mut random = Random::new(settings.seed);
    let count = settings.nodes.unwrap_or_else(|| size(&mut random));
    let zone_count = 1 + random.below(4.min(count));
    let zones: Vec<usize> = (0..count).map(|node| node % zone_count).collect();
    let heal = Duration::from_secs_f64(60.0 * settings.minutes.max(0.2));
    // Small frames cut what a node lacks into many pieces, between which all may happen.
    let frame_octets = [64 * 1024, 1_000, 150][random.below(3)];
    // Nodes that are gone are forgotten within the run, or not at all.
    let reap_after = [Duration::from_secs(15), Duration::from_secs(72 * 3600)][random.below(2)];
    let mut world = World::new(&WorldSettings {
        seed: random.next(),
        zones: zones.clone(),
        membership: MembershipSettings::default(),
        exchange: ExchangeSettings { frame_octets, ..ExchangeSettings::default() },
        deviation_ppm: 3_000,
        wall_offset_millis: 60_000,
        reap_after,
        is_checked: true,
        is_traced: settings.is_traced,
    });
    let far = [5, 30, 80, 150][random.below(4)];
    world.network.between_zones = Duration::from_millis(far);
    world.network.loss = if random.below(2) == 0 { 0.0 } else { 0.02 };
    world.client.period = Some(Duration::from_millis(20 + random.below(400) as u64));
    let faults = 2 + random.below(6 + count / 2);
    let script = Writer::new(&mut random, &zones, heal).write(faults, 2 * LOAD_FROM);
    world.follow(script);
    world.schedule(LOAD_FROM, Event::Load);
    world.schedule(Duration::from_millis(500), Event::Look);
    let mut converged_after = Duration::ZERO;
    let is_forgetting = reap_after < heal + WATCH;
    let watch = if is_forgetting { WATCH_FORGETTING } else { WATCH };
    let result = run(&mut world, (heal, watch), &mut converged_after);
    Outcome {
        settings,
        nodes: count,
        events: world.events,
        requests: world.oracle.answered,
        converged_after,
        violation: result.err(),
        fingerprint: fingerprint(&world),
    }
}

/// Small clusters more often than large ones: they are cheaper, and most faults need few nodes.
fn size(random: &mut Random) -> usize {
    let most = [3, 5, 8, 12, 25][random.below(5)];
    3 + random.below(most - 2)
}

fn run(
    world: &mut World,
    (heal, watch): (Duration, Duration),
    converged_after: &mut Duration,
) -> Result<(), Violation> {
    world.run_until(heal)?;
    while !has_converged(&world.nodes) && world.now < heal + CONVERGE_WITHIN {
        world.run_until(world.now + Duration::from_millis(100))?;
    }
    *converged_after = world.now - heal;
    world.run_until(world.now.max(heal + CONVERGE_WITHIN))?;
    eventually(world, |world| {
        world.invariants.finish_data(world.now, &world.nodes, &world.oracle)
    })?;
    world.run_until(heal + watch)?;
    eventually(world, |world| {
        world.invariants.finish_data(world.now, &world.nodes, &world.oracle)?;
        world.invariants.finish(world.now, &world.nodes, &world.client)
    })
}

/// Holds to what must be so in the end. A check of a server may have just had news, which is on its way then.
fn eventually(
    world: &mut World,
    check: impl Fn(&World) -> Result<(), Violation>,
) -> Result<(), Violation> {
    for _ in 0..NEWS_LOOKS {
        if check(world).is_ok() {
            return Ok(());
        }
        world.run_until(world.now + NEWS_INTERVAL)?;
    }
    check(world)
}

fn fingerprint(world: &World) -> u64 {
    let hosts = world.nodes.iter().filter_map(|node| node.host());
    let summaries = hosts.map(|host| host.replica().summary());
    let parts =
        summaries.chain([world.events, world.traffic.datagram_octets, world.traffic.frame_octets]);
    parts.fold(world.random.clone().next(), |all, part| all.rotate_left(7) ^ part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(seed: u64) -> RunSettings {
        RunSettings { seed, nodes: Some(3), minutes: 0.3, is_traced: false }
    }

    #[test]
    fn a_seed_replays_a_run_bit_by_bit() {
        let (first, second) = (run_seed(settings(7)), run_seed(settings(7)));
        assert_eq!(first.fingerprint, second.fingerprint);
        assert_eq!(first.events, second.events);
        assert_ne!(first.fingerprint, run_seed(settings(8)).fingerprint);
    }
}
