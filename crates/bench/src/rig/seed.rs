//! Rows of many nodes in the database of an agent that has not been started.

use std::path::Path;

use anyhow::Result;

use super::program::output;
use super::release::Release;

/// Writes the rows of many nodes into an agent's data directory. The shape is the number of nodes, the number of rows on
/// each and, where not all nodes have the same services, the number of nodes that do.
///
/// # Errors
/// If the agent's example that does this cannot be built, or fails.
pub fn seed(release: &Release, data: &Path, shape: &[u64]) -> Result<()> {
    let program = release.example("seed")?;
    let shape = shape.iter().map(u64::to_string);
    let args = [data.display().to_string()].into_iter().chain(shape);
    output(program, args).map(drop)
}
