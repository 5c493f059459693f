//! Checks that flap: servers that come and go, and pushes whose status changes.

use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dunlin_bench::rig::random::Random;

use super::ledger::{CHECKED_PORT, Slot, SlotKind};
use super::stage::{KeptClient, Stage, add, is_set_within};

/// The time between two rounds over the servers.
const SERVE_INTERVAL: Duration = Duration::from_millis(20);
/// The time between two pushes.
const PUSH_INTERVAL: Duration = Duration::from_secs(1);

/// The milliseconds that a state lasts at least, and how many more it may last. With the slow states an instance loses its
/// health once in 45 seconds or more, which damping tolerates.
fn lasting(kind: SlotKind) -> (u64, u64) {
    if kind == SlotKind::Wild { (500, 2_500) } else { (22_500, 20_000) }
}

/// A checked instance that is healthy or not, in turns.
struct Flapper<'a> {
    slot: &'a Slot,
    is_healthy: bool,
    until: Instant,
    server: Option<TcpListener>,
}

impl<'a> Flapper<'a> {
    /// The slots of some kinds on a node, all healthy.
    fn all(stage: &'a Stage, agent: usize, kinds: &[SlotKind], random: &mut Random) -> Vec<Self> {
        let slots = kinds.iter().flat_map(|kind| stage.ledger.of(agent, *kind));
        let mut flapper = |slot: usize| {
            let slot = &stage.ledger.slots[slot];
            let (least, more) = lasting(slot.kind);
            // Each flapper changes at another time.
            let first = Duration::from_millis(random.below(least + more));
            Self { slot, is_healthy: true, until: Instant::now() + first, server: None }
        };
        slots.map(&mut flapper).collect()
    }

    /// Opens or closes its server, as its state says.
    fn serve(&mut self) -> Result<()> {
        self.server = None;
        if self.is_healthy {
            let server = TcpListener::bind((self.slot.address, CHECKED_PORT))
                .with_context(|| format!("no port for {}", self.slot.id))?;
            server.set_nonblocking(true)?;
            self.server = Some(server);
        }
        Ok(())
    }

    /// Changes the state if it is due, or to healthy at the end. Returns whether it has changed.
    fn turn(&mut self, random: &mut Random, is_end: bool) -> bool {
        let now = Instant::now();
        let is_due = if is_end { !self.is_healthy } else { now >= self.until };
        if is_due {
            let (least, more) = lasting(self.slot.kind);
            self.is_healthy = !self.is_healthy;
            self.until = now + Duration::from_millis(least + random.below(more));
        }
        is_due
    }
}

/// Runs the servers of one host. Must be called on that host.
pub(super) fn serve(stage: &Stage, agent: usize, seed: u64) -> Result<()> {
    let mut random = Random(seed);
    let mut flappers = Flapper::all(stage, agent, &[SlotKind::Tcp, SlotKind::Wild], &mut random);
    for flapper in &mut flappers {
        flapper.slot.begin(true);
        flapper.serve()?;
        flapper.slot.acknowledge();
    }
    while !is_set_within(&stage.orders.end_lookups, SERVE_INTERVAL) {
        let is_end = stage.orders.end_changes.load(Ordering::Relaxed);
        for flapper in &mut flappers {
            while flapper.server.as_ref().is_some_and(|server| server.accept().is_ok()) {}
            if flapper.turn(&mut random, is_end) {
                flapper.slot.begin(flapper.is_healthy);
                flapper.serve()?;
                flapper.slot.acknowledge();
                add(&stage.tally.flaps, 1);
            }
        }
    }
    Ok(())
}

/// Sends pushes to the TTL checks of one agent.
pub(super) fn push(stage: &Stage, agent: usize, seed: u64) -> Result<()> {
    let mut random = Random(seed);
    let mut flappers = Flapper::all(stage, agent, &[SlotKind::Ttl], &mut random);
    let mut line = KeptClient::default();
    for flapper in &flappers {
        flapper.slot.begin(true);
    }
    loop {
        let is_end = stage.orders.end_changes.load(Ordering::Relaxed);
        for flapper in &mut flappers {
            if flapper.turn(&mut random, is_end) {
                flapper.slot.begin(flapper.is_healthy);
                add(&stage.tally.flaps, 1);
            }
            if !stage.is_up(agent) {
                line.close();
                continue;
            }
            match push_once(stage, agent, &mut line, flapper) {
                Ok(()) => add(&stage.tally.pushes, 1),
                Err(error) => {
                    let since = line.close();
                    if stage.is_untouched(agent, since) {
                        let name = &stage.posts[agent].name;
                        stage.violation(format!("{name} on a push: {error:#}"));
                    }
                }
            }
        }
        if is_set_within(&stage.orders.end_lookups, PUSH_INTERVAL) {
            return Ok(());
        }
    }
}

fn push_once(
    stage: &Stage,
    agent: usize,
    line: &mut KeptClient,
    flapper: &Flapper<'_>,
) -> Result<()> {
    let client = line.open(|| stage.posts[agent].local())?;
    let status = if flapper.is_healthy { "passing" } else { "critical" };
    let path = format!("/api/instances/{}/checks/ttl", flapper.slot.id);
    let body = format!("{{\"status\":\"{status}\",\"output\":\"\"}}");
    client.expect("PUT", &path, body.as_bytes())?;
    flapper.slot.acknowledge();
    Ok(())
}
