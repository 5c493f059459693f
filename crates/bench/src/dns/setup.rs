//! The settings of the DNS bench that every part needs.

use std::time::Duration;

use anyhow::Result;
use dunlin_bench::rig::processors::{Processors, pin_own};
use dunlin_bench::rig::release::Release;

use super::farm::{Farm, Plan};
use super::store::Store;

/// The payload that most resolvers announce; a datagram of this size passes any path in one piece.
pub(super) const USUAL_PAYLOAD: u16 = 1232;
pub(super) const LARGE_PAYLOAD: u16 = 4096;

/// The settings of one run.
pub(super) struct DnsSetup {
    pub(super) release: Release,
    pub(super) rounds: u32,
    /// How long one measurement of one server takes.
    pub(super) turn: Duration,
}

impl DnsSetup {
    /// Starts all servers. With one worker they share one processor, and this process has the other.
    pub(super) fn farm(&self, store: Store, workers: usize) -> Result<Farm> {
        // Agents and servers choose their threads by the processors that they have when they start.
        pin_own(Processors::Both)?;
        let processors = if workers == 1 { Processors::First } else { Processors::Both };
        let farm = Farm::start(&Plan { release: &self.release, store, workers, processors })?;
        if workers == 1 {
            pin_own(Processors::Second)?;
        }
        Ok(farm)
    }
}
