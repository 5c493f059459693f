//! Thousands of watches on one agent, which are opened again when the agent's end has ended them.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use dunlin_bench::rig::client::holds;
use dunlin_bench::rig::crowd::Crowd;

use super::stage::{Post, Stage, add};

/// How long one read waits for news.
const READ_TIMEOUT: Duration = Duration::from_millis(50);
/// The most connections that are opened again between two reads.
const MAX_REOPENED: usize = 50;
/// The beginning of every event.
const EVENT: &[u8] = b"event: ";
/// The weight of the last change of each service, by which watches recognise it.
pub(super) const LAST_WEIGHT: u32 = 64_999;
/// How long it may take until watches are told of that.
const TELL_TIMEOUT: Duration = Duration::from_secs(30);
/// The octets of a connection that are kept for the next read, so that a text is found that two reads share.
const MAX_TAIL: usize = 24;

/// Watches of services, on one agent.
pub(super) struct Watches<'a> {
    stage: &'a Stage,
    post: &'a Post,
    agent: usize,
    /// The service of each watch.
    services: Vec<usize>,
    crowd: Crowd,
    /// The numbers of the watches that are not open.
    lost: Vec<usize>,
    /// The last octets that each watch has received.
    tails: Vec<Vec<u8>>,
    /// Whether each watch has been told of the last change.
    told: Vec<bool>,
}

impl<'a> Watches<'a> {
    /// Must be called on the agent's host, as all other methods.
    pub(super) fn new(stage: &'a Stage, agent: usize, services: Vec<usize>) -> Result<Self> {
        let count = services.len();
        Ok(Self {
            stage,
            post: &stage.posts[agent],
            agent,
            services,
            crowd: Crowd::empty(count)?,
            lost: (0..count).rev().collect(),
            tails: vec![Vec::new(); count],
            told: vec![false; count],
        })
    }

    /// Keeps the watches open until it is told to end. Then each must have been told of the last change.
    pub(super) fn run(&mut self) -> Result<()> {
        let mut is_first = true;
        while !self.stage.orders.end_watches.load(Ordering::Relaxed) {
            self.look()?;
            self.open_some(!is_first);
            is_first &= !self.lost.is_empty();
        }
        let deadline = Instant::now() + TELL_TIMEOUT;
        while self.told.contains(&false) {
            if Instant::now() > deadline {
                let count = self.told.iter().filter(|told| !**told).count();
                bail!("{count} watches on {} were not told of the last change", self.post.name);
            }
            self.look()?;
            self.open_some(true);
        }
        Ok(())
    }

    /// Receives what has come.
    fn look(&mut self) -> Result<()> {
        let begun = Instant::now();
        let Self { stage, crowd, tails, told, .. } = self;
        let sign = format!("\"weight\":{LAST_WEIGHT},");
        let mut lost = Vec::new();
        let mut take = |number: usize, octets: &[u8]| {
            let tail: &mut Vec<u8> = &mut tails[number];
            let known = tail.len();
            tail.extend_from_slice(octets);
            let from = known.saturating_sub(EVENT.len() - 1);
            let events = tail[from..].windows(EVENT.len()).filter(|found| *found == EVENT).count();
            add(&stage.tally.events, events as u64);
            told[number] |= holds(tail, sign.as_bytes());
            tail.drain(..tail.len().saturating_sub(MAX_TAIL));
            Ok(())
        };
        crowd.take_or_lose(READ_TIMEOUT, &mut take, &mut lost)?;
        if lost.is_empty() {
            return Ok(());
        }
        add(&stage.tally.watches_open, 0_u64.wrapping_sub(lost.len() as u64));
        let is_untouched = stage.is_untouched(self.agent, begun - Duration::from_secs(2));
        if is_untouched {
            let (count, name) = (lost.len(), &self.post.name);
            self.stage.violation(format!("{name} ended {count} watches"));
        }
        self.lost.extend(lost);
        Ok(())
    }

    /// Opens some of the watches that are not open, if the agent runs.
    fn open_some(&mut self, is_again: bool) {
        for _ in 0..MAX_REOPENED {
            if self.lost.is_empty() || !self.stage.is_up(self.agent) {
                return;
            }
            let Some(number) = self.lost.pop() else { return };
            let service = &self.stage.ledger.services[self.services[number]].name;
            let request = format!(
                "GET /api/services/{service}/watch HTTP/1.1\r\nHost: {}\r\n\r\n",
                self.post.api
            );
            self.tails[number].clear();
            if self.crowd.reopen(number, self.post.api, &request).is_err() {
                self.lost.push(number);
                return;
            }
            add(&self.stage.tally.watches_open, 1);
            add(&self.stage.tally.watches_reopened, u64::from(is_again));
        }
    }
}
