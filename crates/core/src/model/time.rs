//! Wall-clock time, for people to read. Nothing is scheduled or ordered by it, since wall clocks jump.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The last moment that RFC 3339 can express: the end of the year 9999.
    const MAX_MILLIS: u64 = 253_402_300_799_999;

    /// The timestamp of milliseconds since the epoch, limited to the end of the year 9999.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(if millis > Self::MAX_MILLIS { Self::MAX_MILLIS } else { millis })
    }

    /// The timestamp of a clock reading; a time before the epoch becomes the epoch.
    #[must_use]
    pub fn from_system(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// The number of milliseconds since the epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time passed since `earlier`; zero if the clock went back.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The timestamp that is earlier by this time; the epoch at the earliest.
    #[must_use]
    pub fn before(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// Writes RFC 3339 in UTC to the second: `2026-11-21T03:00:00Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = UNIX_EPOCH + Duration::from_millis(self.0.min(Self::MAX_MILLIS));
        fmt::Display::fmt(&humantime::format_rfc3339_seconds(time), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_reads_as_rfc_3339() {
        assert_eq!(Timestamp::from_millis(1_795_230_000_000).to_string(), "2026-11-21T03:00:00Z");
        assert_eq!(Timestamp::from_millis(u64::MAX).to_string(), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn time_passed_is_zero_when_the_clock_went_back() {
        let (early, late) = (Timestamp::from_millis(1_000), Timestamp::from_millis(3_600_000));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(late.since(early), Duration::from_millis(3_599_000));
    }
}
