//! Waiting for conditions, with a deadline.

use std::time::{Duration, Instant};

/// The deadline, which is generous since benches measure speed.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Waits until `probe` returns a value, and returns it. After the deadline it fails with the words of `expected`.
pub(crate) fn until_some<T>(expected: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(begun.elapsed() < WAIT_TIMEOUT, "did not come true: {expected}");
        std::thread::sleep(Duration::from_millis(20)); // pause: between two observations of another process
    }
}

/// Waits until `probe` is true.
pub(crate) fn until(expected: &str, mut probe: impl FnMut() -> bool) {
    until_some(expected, || probe().then_some(()));
}
