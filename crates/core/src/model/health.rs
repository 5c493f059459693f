//! The health of an instance: the worst of its checks, unless an operator or the state of its node overrides them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::check::CheckStatus;
use super::instance::Mode;

/// The health of an instance, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Health {
    /// Every check passes.
    Passing,
    /// Some check warns; the instance is still in answers.
    Warning,
    /// Some check fails.
    Critical,
    /// The instance is about to end: it gets no new clients and finishes its work.
    Draining,
    /// An operator has taken the instance out of answers.
    Maintenance,
    /// The instance's node is down, as membership sees it.
    Unreachable,
}

impl Health {
    /// All values, best first.
    pub const ALL: [Self; 6] = [
        Self::Passing,
        Self::Warning,
        Self::Critical,
        Self::Draining,
        Self::Maintenance,
        Self::Unreachable,
    ];

    /// Whether answers hold an instance of this health.
    #[must_use]
    pub const fn is_healthy(self) -> bool {
        matches!(self, Self::Passing | Self::Warning)
    }

    /// The word that users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Draining => "draining",
            Self::Maintenance => "maintenance",
            Self::Unreachable => "unreachable",
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The health of an instance in this mode, with these checks, on a node that is or is not alive. An instance without
/// checks is passing.
#[must_use]
pub fn effective_health(
    mode: &Mode,
    node_is_live: bool,
    checks: impl IntoIterator<Item = CheckStatus>,
) -> Health {
    match (node_is_live, mode) {
        (false, _) => Health::Unreachable,
        (true, Mode::Maintenance { .. }) => Health::Maintenance,
        (true, Mode::Draining) => Health::Draining,
        (true, Mode::Active) => match checks.into_iter().max() {
            None | Some(CheckStatus::Passing) => Health::Passing,
            Some(CheckStatus::Warning) => Health::Warning,
            Some(CheckStatus::Critical) => Health::Critical,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use CheckStatus::{Critical, Passing, Warning};

    #[test]
    fn health_is_the_worst_of_the_checks() {
        let health =
            |checks: &[CheckStatus]| effective_health(&Mode::Active, true, checks.iter().copied());
        assert_eq!(health(&[]), Health::Passing);
        assert_eq!(health(&[Passing, Warning]), Health::Warning);
        assert_eq!(health(&[Warning, Critical, Passing]), Health::Critical);
    }

    #[test]
    fn the_node_and_the_operator_overrule_the_checks() {
        let maintenance = Mode::Maintenance { reason: "disk".into() };
        assert_eq!(effective_health(&maintenance, true, [Passing]), Health::Maintenance);
        assert_eq!(effective_health(&Mode::Draining, true, [Critical]), Health::Draining);
        assert_eq!(effective_health(&maintenance, false, [Passing]), Health::Unreachable);
    }
}
