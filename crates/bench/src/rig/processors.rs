//! Which processors a process may use, so that servers and the load generator do not take time from each other.

use anyhow::{Result, bail};

use super::program::output;

/// One of the two processors that benches use, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processors {
    /// The processor of the server that is measured.
    First,
    /// The processor of the load generator.
    Second,
    /// Both processors.
    Both,
}

impl Processors {
    /// The list that `taskset -c` takes.
    pub fn list(self) -> &'static str {
        match self {
            Self::First => "0",
            Self::Second => "1",
            Self::Both => "0,1",
        }
    }
}

/// Moves a process with all its threads.
///
/// # Errors
/// If `taskset` is missing or may not do so.
pub fn pin(pid: u32, processors: Processors) -> Result<()> {
    output("taskset", ["-a", "-c", "-p", processors.list(), &pid.to_string()]).map(drop)
}

/// Moves this process with all its threads. Programs that it starts from now on begin on the same processors. An agent
/// chooses the number of its threads by the processors that it has when it starts.
pub fn pin_own(processors: Processors) -> Result<()> {
    pin(std::process::id(), processors)
}

/// Fails on machines where servers and the load generator cannot have a processor each.
///
/// # Errors
/// If there are fewer than two processors.
pub fn require_two() -> Result<()> {
    if std::thread::available_parallelism()?.get() < 2 {
        bail!("servers and the load generator need a processor each");
    }
    Ok(())
}
