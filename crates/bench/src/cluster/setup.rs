//! The settings of the cluster's bench that every row needs.

use anyhow::Result;
use dunlin_bench::rig::fleet::Fleet;
use dunlin_bench::rig::release::Release;

/// The settings of one run.
pub(super) struct ClusterSetup {
    pub(super) release: Release,
    pub(super) agents: usize,
    /// Whether the number of agents was given on the command line.
    pub(super) is_size_given: bool,
    pub(super) is_quick: bool,
}

impl ClusterSetup {
    /// Running agents that see each other.
    pub(super) fn fleet(&self) -> Result<Fleet> {
        Fleet::start(&self.release, self.agents)
    }

    /// One of two amounts: that of a whole run, or that of a quick one.
    pub(super) fn pick<T>(&self, whole: T, quick: T) -> T {
        if self.is_quick { quick } else { whole }
    }
}
