//! How the parts of the DNS bench are measured.

use std::time::Duration;

use anyhow::Result;
use dunlin_bench::rig::processors::{Processors, pin_own};
use dunlin_bench::rig::release::Release;

use super::farm::{Farm, Plan};
use super::store::Store;

/// What most resolvers announce, and what passes any path in one piece.
pub(super) const USUAL_PAYLOAD: u16 = 1232;
pub(super) const LARGE_PAYLOAD: u16 = 4096;

/// What every part needs.
pub(super) struct Setup {
    pub(super) release: Release,
    pub(super) rounds: u32,
    /// How long one measurement of one server takes.
    pub(super) turn: Duration,
}

impl Setup {
    /// Starts all servers. With one worker they share one processor, and this process has the other.
    pub(super) fn farm(&self, store: Store, workers: usize) -> Result<Farm> {
        // Agents and servers look at the processors they have when they start.
        pin_own(Processors::Both)?;
        let processors = if workers == 1 { Processors::First } else { Processors::Both };
        let farm = Farm::start(&Plan { release: &self.release, store, workers, processors })?;
        if workers == 1 {
            pin_own(Processors::Second)?;
        }
        Ok(farm)
    }
}
