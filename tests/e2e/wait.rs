//! Waiting for things to become true, with a deadline.

use std::time::{Duration, Instant};

/// Generous: speed is measured elsewhere.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `probe` says something, and returns it. Fails with what was `expected` after the deadline.
pub(crate) fn until_some<T>(expected: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "did not come true: {expected}");
        std::thread::sleep(Duration::from_millis(20)); // pause: between two looks at another process
    }
}

/// Waits until `probe` is true.
pub(crate) fn until(expected: &str, mut probe: impl FnMut() -> bool) {
    until_some(expected, || probe().then_some(()));
}
