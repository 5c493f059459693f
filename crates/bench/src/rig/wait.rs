//! Waiting until something is so.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// For what should take a second at most.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Asks every two milliseconds until the answer is yes.
///
/// # Errors
/// If asking fails, or if the answer is still no after a minute.
pub fn wait_for(what: &str, is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_within(what, WAIT_TIMEOUT, POLL_INTERVAL, is_so)
}

/// Asks at an interval until the answer is yes.
///
/// # Errors
/// If asking fails, or if the answer is still no after `timeout`.
pub fn wait_within(
    what: &str,
    timeout: Duration,
    interval: Duration,
    mut is_so: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let start = Instant::now();
    while !is_so()? {
        if start.elapsed() > timeout {
            bail!("waited {timeout:?} in vain for {what}");
        }
        thread::sleep(interval);
    }
    Ok(())
}
