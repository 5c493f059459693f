//! How a server is flooded, and the targets for its figures.

use anyhow::Result;
use dunlin_bench::rig::questions::Questions;
use dunlin_bench::rig::usage::processor_time;

use super::farm::Server;
use super::flood::{Expected, Flood, flood};
use super::kind::ServerKind;
use super::row::Goal;
use super::setup::DnsSetup;

/// A kind of flood, with the targets for the time per query and for the rate.
#[derive(Clone, Copy)]
pub(super) struct Workload {
    pub(super) sockets: usize,
    pub(super) expected: Expected,
    pub(super) goal: Goal,
    pub(super) rate_goal: Goal,
}

impl Workload {
    /// Questions that are answered from a cache.
    pub(super) const HITS: Self = Self {
        sockets: 1,
        expected: Expected::Records,
        goal: Goal::Processor,
        rate_goal: Goal::Rate,
    };
    /// Answers with many records.
    pub(super) const LISTS: Self = Self { goal: Goal::None, rate_goal: Goal::None, ..Self::HITS };
    /// Names that do not exist.
    pub(super) const UNKNOWN: Self = Self {
        expected: Expected::NoSuchName,
        goal: Goal::Below(3.8),
        rate_goal: Goal::None,
        ..Self::HITS
    };
    /// Questions for two workers. The kernel spreads clients over them by their ports, so there must be many clients.
    pub(super) const TWO_WORKERS: Self = Self { sockets: 32, rate_goal: Goal::None, ..Self::HITS };
}

/// Floods one server for one turn.
pub(super) fn flood_one(
    setup: &DnsSetup,
    server: &Server,
    questions: &Questions,
    load: Workload,
) -> Result<Flood> {
    let is_echo = server.kind == ServerKind::Echo;
    let expected = if is_echo { Expected::Echo } else { load.expected };
    let how = (load.sockets, expected, setup.turn);
    let found = flood(server.address, questions, how, || processor_time(server.pid));
    found.map_err(|error| error.context(format!("{} in a flood", server.kind.name())))
}
