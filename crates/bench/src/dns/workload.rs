//! How a server is flooded, and what is wanted of it.

use anyhow::Result;
use dunlin_bench::rig::questions::Questions;
use dunlin_bench::rig::usage::processor_time;

use super::farm::Server;
use super::flood::{Expected, Flood, flood};
use super::kind::Kind;
use super::row::Goal;
use super::setup::Setup;

/// How a flood is made and what is wanted of its time per query.
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
    /// Two workers: the kernel spreads clients over them by their port, so there must be many.
    pub(super) const TWO_WORKERS: Self = Self { sockets: 32, rate_goal: Goal::None, ..Self::HITS };
}

/// Floods one server for one turn.
pub(super) fn flood_one(
    setup: &Setup,
    server: &Server,
    questions: &Questions,
    load: Workload,
) -> Result<Flood> {
    let is_echo = server.kind == Kind::Echo;
    let expected = if is_echo { Expected::Echo } else { load.expected };
    let how = (load.sockets, expected, setup.turn);
    let found = flood(server.address, questions, how, || processor_time(server.pid));
    found.map_err(|error| error.context(format!("{} in a flood", server.kind.name())))
}
