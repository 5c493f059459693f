//! When a guard steps in.

use std::time::Duration;

/// When a guard steps in, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GuardRules {
    /// The share of the healthy keys, 0 to 1, that may vanish unquestioned. Too low, and ordinary
    /// restarts are held back; too high, and a broken health endpoint empties answers.
    pub max_drop: f64,
    /// How many keys must vanish at least. Too low, and small groups are held at every restart.
    pub min_instances: usize,
    /// Keys that vanish within this time count together.
    pub window: Duration,
    /// The longest hold.
    pub hold: Duration,
    /// Whether keys that accept connections are served when no key is healthy.
    pub panic: bool,
}

/// How much of a group is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DropSize {
    /// How many healthy keys vanished within the window.
    pub vanished: usize,
    /// How many keys are healthy now.
    pub healthy: usize,
}

impl GuardRules {
    /// Whether a drop is believed at once. Otherwise it has to be confirmed by probes. The whole decision
    /// is made here.
    #[must_use]
    pub fn believe(&self, drop: DropSize) -> bool {
        let DropSize { vanished, healthy } = drop;
        #[allow(
            clippy::cast_precision_loss,
            reason = "counts of instances stay far below the 52 bits that a float holds exactly"
        )]
        let is_sharp = vanished as f64 > self.max_drop * (healthy + vanished) as f64;
        vanished < self.min_instances.max(1) || !is_sharp
    }
}

impl Default for GuardRules {
    fn default() -> Self {
        Self {
            max_drop: 0.5,
            min_instances: 3,
            window: Duration::from_secs(30),
            hold: Duration::from_secs(600),
            panic: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_is_believed_unless_it_is_large_and_sharp() {
        let rules = GuardRules::default();
        let off = GuardRules { max_drop: 1.0, ..rules };
        let strict = GuardRules { max_drop: 0.0, min_instances: 0, ..rules };
        for (rules, vanished, healthy, expected) in [
            (rules, 0, 0, true),
            (rules, 2, 0, true),
            (rules, 3, 3, true),
            (rules, 3, 2, false),
            (rules, 500, 499, false),
            (off, 500, 0, true),
            (strict, 0, 0, true),
            (strict, 1, 1_000, false),
        ] {
            let drop = DropSize { vanished, healthy };
            assert_eq!(rules.believe(drop), expected, "{drop:?}");
        }
    }
}
