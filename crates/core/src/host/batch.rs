//! How what a host has to store becomes one batch: drafted, on its way to the disk, then settled or put back.
//!
//! Everything that takes part in a batch is a [`Participant`]. A new kind of content (cells of tables, magic
//! addresses, sources) is one more of them: it touches no other, only the list at [`Participants`].

use std::collections::BTreeSet;
use std::time::Instant;

use super::known_members::KnownMembers;
use super::lifetimes::Lifetimes;
use super::observed::Observed;
use super::output::Moment;
use super::participant::{AtOnce, Draft, Drafted, Participant, Refusal, Settling};
use super::purge::Purge;
use super::registry::Registry;
use super::remote::Remote;
use super::restatement::Restatement;
use super::statements::Statements;
use super::stored::{Batch, HistoryWrite};
use crate::replica::Replica;

/// Declares [`Participants`] from one list, in the order in which they draft.
macro_rules! participants {
    ($($name:ident: $kind:ty),+ $(,)?) => {
        /// Everything that takes part in a batch.
        #[derive(Debug)]
        pub(super) struct Participants {
            $(pub(super) $name: $kind,)+
        }

        impl Participants {
            fn all(&self) -> impl Iterator<Item = &dyn Participant> {
                [$(&self.$name as &dyn Participant),+].into_iter()
            }

            fn all_mut(&mut self) -> impl Iterator<Item = &mut dyn Participant> {
                [$(&mut self.$name as &mut dyn Participant),+].into_iter()
            }
        }
    };
}

// Statements come first: what is stored of checks depends on which instances there are.
participants! {
    statements: Statements,
    observed: Observed,
    restatement: Restatement,
    remote: Remote,
    lifetimes: Lifetimes,
    known_members: KnownMembers,
    purge: Purge,
}

impl Participants {
    /// Whether a client waits for a batch.
    pub(super) fn is_awaited(&self) -> bool {
        self.all().any(Participant::is_awaited)
    }

    /// When a batch is due for which no client waits.
    pub(super) fn due(&self) -> Option<Instant> {
        self.all().filter_map(Participant::due).min()
    }

    /// Drafts a batch of all that there is to store.
    pub(super) fn draft(&mut self, moment: Moment, replica: &Replica, is_rested: bool) -> Drafted {
        let mut draft = Draft {
            own: replica.own(),
            replica,
            is_rested,
            changes: Vec::new(),
            restated_above: None,
            batch: Batch::default(),
            registry: Registry::default(),
            renewed: BTreeSet::new(),
            at_once: AtOnce::default(),
        };
        for participant in self.all_mut() {
            participant.draft(moment, &mut draft);
        }
        let Draft { changes, restated_above, mut batch, at_once, .. } = draft;
        let delta = match restated_above {
            Some(above) => Some(replica.prepare_restatement(above, changes)),
            None => replica.prepare(changes),
        };
        match &delta {
            Some(delta) if restated_above.is_some() => {
                batch.histories.push(HistoryWrite::whole(delta));
            }
            Some(delta) => batch.deltas.push(delta.clone()),
            None => {}
        }
        Drafted { batch, delta, at_once }
    }

    pub(super) fn settle(&mut self, moment: Moment, settling: &mut Settling<'_>) {
        for participant in self.all_mut() {
            participant.settle(moment, settling);
        }
    }

    pub(super) fn put_back(&mut self, moment: Moment, refusal: &mut Refusal<'_>) {
        for participant in self.all_mut() {
            participant.put_back(moment, refusal);
        }
    }
}
