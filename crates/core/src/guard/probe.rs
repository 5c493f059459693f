//! What is known of one key by probing it.

use std::time::Instant;

/// The probe of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    /// The first one was asked for and has no result yet.
    Pending,
    /// The last one had this result. The next is asked for at the time `again`, which is `None` once it
    /// has been.
    Done { answered: bool, again: Option<Instant> },
}

impl Probe {
    /// When the next one is to be asked for.
    pub(super) fn again(self) -> Option<Instant> {
        match self {
            Self::Done { again, .. } => again,
            Self::Pending => None,
        }
    }

    /// Whether the last one found something that accepts connections.
    pub(super) fn is_answered(self) -> bool {
        matches!(self, Self::Done { answered: true, .. })
    }
}
