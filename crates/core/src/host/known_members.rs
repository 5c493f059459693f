//! The members as membership wants to know them at the next start.

use std::time::Instant;

use super::output::Moment;
use super::participant::{Draft, Participant, Refusal, Settling};
use crate::model::NodeId;

/// One encoded entry for each member.
type Entries = Vec<(NodeId, Vec<u8>)>;

/// The participant that stores who the members are.
#[derive(Debug, Default)]
pub(super) struct KnownMembers {
    changed: Option<(Entries, Instant)>,
    in_flight: Option<(Entries, Instant)>,
}

impl KnownMembers {
    pub(super) fn note(&mut self, now: Instant, entries: Entries) {
        self.changed = Some((entries, now));
    }
}

impl Participant for KnownMembers {
    fn due(&self) -> Option<Instant> {
        self.changed.as_ref().map(|(_, since)| *since)
    }

    fn draft(&mut self, _: Moment, draft: &mut Draft<'_>) {
        self.in_flight = self.changed.take();
        draft.batch.peers = self.in_flight.as_ref().map(|(entries, _)| entries.clone());
    }

    fn settle(&mut self, _: Moment, _: &mut Settling<'_>) {
        self.in_flight = None;
    }

    fn put_back(&mut self, _: Moment, _: &mut Refusal<'_>) {
        let in_flight = self.in_flight.take();
        self.changed = self.changed.take().or(in_flight);
    }
}
