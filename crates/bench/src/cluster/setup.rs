//! How the rows of the cluster's bench are measured.

use anyhow::Result;
use dunlin_bench::rig::fleet::Fleet;
use dunlin_bench::rig::release::Release;

/// What every row needs.
pub(super) struct Setup {
    pub(super) release: Release,
    pub(super) agents: usize,
    /// Whether the number of agents was asked for.
    pub(super) is_size_given: bool,
    pub(super) is_quick: bool,
}

impl Setup {
    /// Running agents that see each other.
    pub(super) fn fleet(&self) -> Result<Fleet> {
        Fleet::start(&self.release, self.agents)
    }

    /// One of two amounts: that of a whole run, or that of a quick one.
    pub(super) fn pick<T>(&self, whole: T, quick: T) -> T {
        if self.is_quick { quick } else { whole }
    }
}
