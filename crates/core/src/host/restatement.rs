//! Whether the own history is to be stated again as a whole: peers know it further, or otherwise, than this host.

use std::time::Instant;

use super::output::Moment;
use super::participant::{Draft, Participant, Refusal, Settling};
use crate::replica::Version;

/// The participant that states the own history again.
#[derive(Debug, Default)]
pub(super) struct Restatement {
    /// Above which version, and since when that is known.
    wanted: Option<(Version, Instant)>,
    in_flight: Option<(Version, Instant)>,
}

impl Restatement {
    pub(super) fn want(&mut self, now: Instant, above: Version) {
        let (known, since) = self.wanted.unwrap_or((above, now));
        self.wanted = Some((known.max(above), since));
    }
}

impl Participant for Restatement {
    fn due(&self) -> Option<Instant> {
        self.wanted.map(|(_, since)| since)
    }

    fn draft(&mut self, _: Moment, draft: &mut Draft<'_>) {
        self.in_flight = self.wanted.take();
        draft.restated_above = self.in_flight.map(|(above, _)| above);
    }

    fn settle(&mut self, _: Moment, _: &mut Settling<'_>) {
        self.in_flight = None;
    }

    fn put_back(&mut self, _: Moment, _: &mut Refusal<'_>) {
        if let Some((above, since)) = self.in_flight.take() {
            self.want(since, above);
        }
    }
}
