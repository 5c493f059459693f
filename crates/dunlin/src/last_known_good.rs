//! The catalog as the agent last kept it on disk, for lookups while no agent runs.

use std::path::Path;

use anyhow::{Context as _, Result};
use dunlin_agent::LastKnown;

/// Opens what the agent kept in its data directory, without changing anything there.
pub(crate) fn open(data_dir: &Path) -> Result<LastKnown> {
    let what = || format!("the last known state in {} cannot be read", data_dir.display());
    dunlin_agent::last_known(data_dir).with_context(what)
}
