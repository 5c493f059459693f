//! Waiting until a condition holds.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The limit of a wait that usually ends within a second.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Checks a condition every two milliseconds until it holds.
///
/// # Errors
/// If a check fails, or the condition does not hold after a minute.
pub fn wait_for(what: &str, is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_within(what, WAIT_TIMEOUT, POLL_INTERVAL, is_so)
}

/// Checks a condition at an interval until it holds.
///
/// # Errors
/// If a check fails, or the condition does not hold after `timeout`.
pub fn wait_within(
    what: &str,
    timeout: Duration,
    interval: Duration,
    mut is_so: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let start = Instant::now();
    while !is_so()? {
        if start.elapsed() > timeout {
            bail!("waited {timeout:?} for {what}");
        }
        thread::sleep(interval);
    }
    Ok(())
}
