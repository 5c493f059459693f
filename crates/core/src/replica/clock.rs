//! A hybrid clock: wall time where that grows, a counter where it does not (Kulkarni, Demirbas, Madappa, Avva,
//! Leone 2014). It orders what several nodes write to the same cell.
//!
//! What always holds: [`HybridClock::tick`] gives each time once, in growing order, and after all times that were
//! observed, however the wall clock jumps. A peer whose clock is more than [`MAX_AHEAD`] ahead does not move the clocks
//! of others.

use std::time::Duration;

use thiserror::Error;

use crate::model::Timestamp;

/// How far the time of another node may be ahead of the own wall clock.
pub const MAX_AHEAD: Duration = Duration::from_secs(10);

/// A moment of a hybrid clock: milliseconds of wall time, then a counter within them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HybridTime {
    /// The wall time; it may be ahead of the clock that gave it out.
    pub wall: Timestamp,
    /// The number of earlier moments with the same wall time.
    pub count: u32,
}

/// A time is too far ahead: the wall clock of its origin is wrong, or the own one is. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a clock is {ahead:?} ahead; {MAX_AHEAD:?} are allowed")]
pub struct ClockError {
    /// By how much the time is ahead.
    pub ahead: Duration,
}

/// One node's hybrid clock.
#[derive(Debug, Clone, Default)]
pub struct HybridClock {
    last: HybridTime,
}

impl HybridClock {
    /// A clock that continues after a stored time.
    #[must_use]
    pub fn after(last: HybridTime) -> Self {
        Self { last }
    }

    /// The next time, given what the wall clock says.
    pub fn tick(&mut self, wall: Timestamp) -> HybridTime {
        self.last = if wall > self.last.wall {
            HybridTime { wall, count: 0 }
        } else {
            self.following(self.last)
        };
        self.last
    }

    /// Takes a time that another node gave out, so that the next time of this clock comes after it.
    ///
    /// # Errors
    /// When the time is too far ahead of the wall clock.
    pub fn observe(&mut self, wall: Timestamp, seen: HybridTime) -> Result<(), ClockError> {
        let ahead = seen.wall.since(wall);
        if ahead > MAX_AHEAD {
            return Err(ClockError { ahead });
        }
        self.last = self.last.max(seen);
        Ok(())
    }

    fn following(&self, time: HybridTime) -> HybridTime {
        match time.count.checked_add(1) {
            Some(count) => HybridTime { count, ..time },
            None => {
                let wall = Timestamp::from_millis(time.wall.as_millis().saturating_add(1));
                HybridTime { wall, count: 0 }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_peer_that_is_far_ahead_drags_nobody_along() {
        let mut clock = HybridClock::default();
        let far = HybridTime { wall: at(3_600_000), count: 0 };
        let error = clock.observe(at(1_000), far).unwrap_err();
        assert_eq!(error.ahead, Duration::from_millis(3_599_000));
        assert_eq!(clock.tick(at(1_000)).wall, at(1_000));
    }

    #[test]
    fn what_is_written_after_a_time_was_seen_comes_after_it() {
        let mut clock = HybridClock::default();
        let seen = HybridTime { wall: at(9_000), count: 7 };
        clock.observe(at(1_000), seen).unwrap();
        assert_eq!(clock.tick(at(1_001)), HybridTime { wall: at(9_000), count: 8 });
    }

    proptest! {
        #[test]
        fn times_grow_whatever_the_wall_clock_does(
            steps in prop::collection::vec((0_u64..50_000, 0_u64..50_000, any::<bool>()), 1..100)
        ) {
            let mut clock = HybridClock::default();
            let mut last = HybridTime::default();
            for (wall, other, observes) in steps {
                if observes {
                    let _ = clock.observe(at(wall), HybridTime { wall: at(other), count: u32::MAX });
                }
                let time = clock.tick(at(wall));
                prop_assert!(time > last);
                last = time;
            }
        }
    }
}
