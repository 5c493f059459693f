//! The catalog as the agent last kept it on disk, for lookups while no agent runs.

use std::path::Path;
use std::time::SystemTime;

use anyhow::{Result, bail};
use dunlin_core::catalog::CatalogView;

/// What was found on disk.
pub(crate) struct Kept {
    /// All services as they were.
    pub(crate) view: CatalogView,
    /// When it was last written.
    pub(crate) written: SystemTime,
}

/// Opens what the agent kept in its data directory, without changing anything there.
///
/// This is the seam to `dunlin_agent::last_known_good`.
pub(crate) fn open(data_dir: &Path) -> Result<Kept> {
    bail!("the last known good state in {} could not be opened", data_dir.display())
}
