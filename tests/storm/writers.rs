//! Registrations and deregistrations of single instances, at a steady pace.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use dunlin_bench::rig::client::Client;
use dunlin_bench::rig::random::Random;

use super::ledger::{CHECKED_PORT, Slot, SlotKind};
use super::stage::{KeptClient, Post, Stage, add, is_set_within};

/// One change of this many removes an instance that is present.
const REMOVAL_EVERY: u64 = 4;
/// The most time that is made up for when answers were slow.
const MAX_MADE_UP: Duration = Duration::from_secs(1);
/// The time after a request that failed until the next one.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// The result of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Acknowledged,
    /// The request may have been carried out, or not.
    Unknown,
}

/// Changes some slots of one agent until the end. No other thread changes them.
pub(super) struct Writer<'a> {
    stage: &'a Stage,
    agent: usize,
    slots: Vec<usize>,
    line: KeptClient,
}

impl<'a> Writer<'a> {
    pub(super) fn new(stage: &'a Stage, agent: usize, slots: Vec<usize>) -> Self {
        Self { stage, agent, slots, line: KeptClient::default() }
    }

    /// Makes one change after another at this interval, as far as the agent keeps up.
    pub(super) fn run(&mut self, interval: Duration, seed: u64) {
        let mut random = Random(seed);
        let mut due = Instant::now();
        while !self.stage.orders.end_changes.load(Ordering::Relaxed) {
            let now = Instant::now();
            due += interval;
            // Time that a fault took is not made up for, only that of slow answers.
            due = due.max(now.checked_sub(MAX_MADE_UP).unwrap_or(now));
            // pause: changes are made at a steady rate.
            thread::sleep(due.saturating_duration_since(now));
            if !self.stage.is_up(self.agent) {
                self.line.close();
                is_set_within(&self.stage.orders.end_changes, RETRY_INTERVAL);
                continue;
            }
            let slot = &self.stage.ledger.slots
                [self.slots[random.below(self.slots.len() as u64) as usize]];
            let is_present = !slot.is_present() || random.below(REMOVAL_EVERY) > 0;
            self.change(slot, is_present);
        }
    }

    /// Registers or deregisters one instance, and counts the result.
    fn change(&mut self, slot: &Slot, is_present: bool) {
        let post = &self.stage.posts[self.agent];
        let outcome = match self.line.open(|| Client::tcp(post.api)) {
            Ok(client) => change(client, slot, is_present),
            Err(error) => Err(error),
        };
        let (stage, tally) = (self.stage, &self.stage.tally);
        match outcome {
            Ok(Outcome::Acknowledged) => add(&tally.acknowledged, 1),
            Ok(Outcome::Unknown) => add(&tally.refused, 1),
            Err(error) => {
                add(&tally.unknown, 1);
                let since = self.line.close();
                if stage.is_untouched(self.agent, since) {
                    let name = &stage.posts[self.agent].name;
                    stage.violation(format!("{name} on a change of {}: {error:#}", slot.id));
                }
                is_set_within(&stage.orders.end_changes, RETRY_INTERVAL);
            }
        }
    }
}

/// Requests a state of a slot, and notes it in the slot.
pub(super) fn change(client: &mut Client, slot: &Slot, is_present: bool) -> Result<Outcome> {
    let path = format!("/api/instances/{}", slot.id);
    let answer = if is_present {
        let body = registration(slot, slot.begin(true), 100);
        client.ask("PUT", &path, body.as_bytes())?
    } else {
        slot.begin(false);
        client.ask("DELETE", &path, b"")?
    };
    match answer.status {
        200 | 201 | 204 => {}
        // The instance was absent already.
        404 if !is_present => {}
        503 => return Ok(Outcome::Unknown),
        other => {
            anyhow::bail!("status {other}: {}", String::from_utf8_lossy(&answer.body));
        }
    }
    slot.acknowledge();
    Ok(Outcome::Acknowledged)
}

/// The body that registers a slot's instance. The id begins with the name of the service.
pub(super) fn registration(slot: &Slot, port: u16, weight: u32) -> String {
    let check = match slot.kind {
        SlotKind::Single | SlotKind::File => String::new(),
        SlotKind::Tcp | SlotKind::Wild => {
            ",\"check\":[{\"kind\":\"tcp\",\"interval\":\"500ms\"}]".to_owned()
        }
        SlotKind::Ttl => ",\"check\":[{\"kind\":\"ttl\",\"ttl\":\"1m\"}]".to_owned(),
    };
    let service = slot.id.rsplit_once('.').map_or("", |(service, _)| service);
    format!(
        "{{\"service\":\"{service}\",\"address\":\"{}\",\"port\":{port},\"weight\":{weight}{check}}}",
        slot.address
    )
}

/// Registers all slots of a node that requests register, which is the state to begin with.
pub(super) fn register_all(stage: &Stage, agent: usize, post: &Post) -> Result<()> {
    let mut client = post.local()?;
    for slot in stage.ledger.slots.iter().filter(|slot| slot.node == agent) {
        match slot.kind {
            SlotKind::Single => {
                change(&mut client, slot, true)?;
            }
            SlotKind::Tcp | SlotKind::Ttl | SlotKind::Wild => {
                // These are registered all the time; only their health changes.
                let body = registration(slot, CHECKED_PORT, 100);
                client.expect("PUT", &format!("/api/instances/{}", slot.id), body.as_bytes())?;
            }
            SlotKind::File => {}
        }
    }
    Ok(())
}
