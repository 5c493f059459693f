//! Flap damping in the manner of RFC 2439: a check that keeps failing and recovering is held critical for a while.
//!
//! Each loss of health adds to a penalty that decays by half in every half-life. Above the suppress limit
//! the check is held until the penalty has decayed to the reuse limit (RFC 2439 §4.2). Unlike in the RFC, the longest
//! hold is limited by a time and not by a ceiling on the penalty: with long half-lives that ceiling would lie below
//! the suppress limit, and no check would ever be held.
//!
//! Always holds: three losses never suppress, five within a few seconds of each other always do, and
//! no hold lasts longer than [`MAX_HOLD`].

use std::time::{Duration, Instant};

/// The penalty that each loss of health adds.
const PENALTY: f64 = 1000.0;
/// A check whose penalty exceeds this is held.
const SUPPRESS_ABOVE: f64 = 3500.0;
/// A held check is released when its penalty has decayed to this.
const REUSE_AT: f64 = 2000.0;
/// The limit of a penalty, so that a check that has become stable is released within two half-lives.
const MAX_PENALTY: f64 = 8000.0;
/// The shortest half-life, for checks with short intervals.
const MIN_HALF_LIFE: Duration = Duration::from_secs(60);
/// The longest time for which a check is held.
pub(super) const MAX_HOLD: Duration = Duration::from_secs(300);

/// The penalty of one check.
#[derive(Debug, Default)]
pub(super) struct Damper {
    penalty: f64,
    /// When the penalty had the value in `penalty`; it has decayed since.
    at: Option<Instant>,
    hold: Option<Hold>,
}

#[derive(Debug)]
struct Hold {
    since: Instant,
    until: Instant,
}

impl Damper {
    /// The half-life of the penalty of a check with this interval.
    pub(super) fn half_life(interval: Duration) -> Duration {
        MIN_HALF_LIFE.max(interval * 10)
    }

    /// Counts a loss of health, which may begin or prolong a hold.
    pub(super) fn punish(&mut self, now: Instant, half_life: Duration) {
        self.penalty = (self.decayed(now, half_life) + PENALTY).min(MAX_PENALTY);
        self.at = Some(now);
        if self.hold.is_none() && self.penalty <= SUPPRESS_ABOVE {
            return;
        }
        let since = self.hold.as_ref().map_or(now, |hold| hold.since);
        let half_lives = (self.penalty / REUSE_AT).log2().max(0.0);
        let until = (now + half_life.mul_f64(half_lives)).min(since + MAX_HOLD);
        self.hold = Some(Hold { since, until });
    }

    /// Ends a hold whose time is over. The released check starts again with a penalty of at most the reuse limit.
    pub(super) fn expire(&mut self, now: Instant, half_life: Duration) {
        if self.hold.as_ref().is_some_and(|hold| hold.until <= now) {
            self.hold = None;
            self.penalty = self.decayed(now, half_life).min(REUSE_AT);
            self.at = Some(now);
        }
    }

    /// Whether the check is held critical.
    pub(super) fn is_holding(&self) -> bool {
        self.hold.is_some()
    }

    /// When the hold ends, unless health is lost again.
    pub(super) fn holds_until(&self) -> Option<Instant> {
        self.hold.as_ref().map(|hold| hold.until)
    }

    fn decayed(&self, now: Instant, half_life: Duration) -> f64 {
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.penalty * (-passed.as_secs_f64() / half_life.as_secs_f64()).exp2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::tests::start_of_time;

    fn after_losses(count: u32, apart: Duration, half_life: Duration) -> (Damper, Instant) {
        let mut damper = Damper::default();
        let mut now = start_of_time();
        for _ in 0..count {
            now += apart;
            damper.expire(now, half_life);
            damper.punish(now, half_life);
        }
        (damper, now)
    }

    #[test]
    fn a_few_restarts_are_forgiven_and_flapping_is_not() {
        let half_life = Damper::half_life(Duration::from_secs(5));
        // losses, seconds between them, held
        let table = [
            (1, 1, false),
            (2, 1, false),
            (3, 0, false),
            (3, 5, false),
            (5, 1, true),
            (5, 10, true),
            (5, 15, true),
            (8, 60, false),
            (50, 120, false),
        ];
        for (losses, apart, held) in table {
            let (damper, _) = after_losses(losses, Duration::from_secs(apart), half_life);
            assert_eq!(damper.is_holding(), held, "{losses} losses {apart} s apart");
        }
    }

    #[test]
    fn a_hold_ends_when_the_penalty_has_decayed() {
        let half_life = Duration::from_secs(60);
        let (mut damper, now) = after_losses(4, Duration::ZERO, half_life);
        assert_eq!(damper.holds_until(), Some(now + half_life));
        damper.expire(now + half_life - Duration::from_millis(1), half_life);
        assert!(damper.is_holding());
        damper.expire(now + half_life, half_life);
        assert!(!damper.is_holding());
    }

    #[test]
    fn no_hold_outlasts_its_bound_however_much_flapping_goes_on() {
        let half_life = Damper::half_life(Duration::from_secs(3600));
        let (mut damper, _) = after_losses(4, Duration::ZERO, half_life);
        let mut now = start_of_time();
        for _ in 0..300 {
            now += Duration::from_secs(1);
            damper.expire(now, half_life);
            if now < start_of_time() + MAX_HOLD {
                assert!(damper.is_holding());
                damper.punish(now, half_life);
            }
        }
        assert!(!damper.is_holding(), "{damper:?}");
    }
}
