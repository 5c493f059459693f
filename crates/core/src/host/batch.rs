//! How what a host has to store becomes one batch: drafted, on its way to the disk, then settled or put back.
//!
//! Everything that takes part in a batch is a [`Participant`]. A new kind of content (cells of tables, magic
//! addresses, sources) is one more of them: it touches no other, only the list at [`Participants`].

use std::collections::BTreeSet;
use std::time::Instant;

use super::checks::Checks;
use super::event::Event;
use super::known_members::KnownMembers;
use super::lifetimes::Lifetimes;
use super::observed::Observed;
use super::output::Moment;
use super::purge::Purge;
use super::registry::Registry;
use super::remote::Remote;
use super::request::{Answer, RequestError, Ticket};
use super::restatement::Restatement;
use super::statements::{AtOnce, Statements};
use super::stored::{Batch, HistoryWrite};
use crate::model::{InstanceId, NodeId};
use crate::replica::{Change, Delta, Replica, Version};

/// One kind of content that is stored together with others. There is one batch at a time: after [`draft`] comes
/// either [`settle`] or [`put_back`], before the next draft.
///
/// [`draft`]: Participant::draft
/// [`settle`]: Participant::settle
/// [`put_back`]: Participant::put_back
pub(super) trait Participant {
    /// Whether a client waits for what this one has to store. Then it is tried although the disk has just refused.
    fn is_awaited(&self) -> bool {
        false
    }

    /// When there is something to store for which no client waits, if there is.
    fn due(&self) -> Option<Instant>;

    /// Adds what there is to store, and keeps it as being on its way.
    fn draft(&mut self, moment: Moment, draft: &mut Draft<'_>);

    /// The disk has it. The own rows of the batch are in the replica and shown.
    fn settle(&mut self, moment: Moment, settling: &mut Settling<'_>);

    /// The disk refused the batch: everything is as it was before the draft.
    fn put_back(&mut self, moment: Moment, refusal: &mut Refusal<'_>);
}

/// A batch while it is drafted.
pub(super) struct Draft<'a> {
    pub(super) own: NodeId,
    pub(super) replica: &'a Replica,
    /// Whether the disk has taken the last batch, or has had its pause since it refused one.
    pub(super) is_rested: bool,
    /// What the own rows become.
    pub(super) changes: Vec<Change>,
    /// Above which version the own history is stated again as a whole, if it is.
    pub(super) restated_above: Option<Version>,
    /// What is stored beside the own rows.
    pub(super) batch: Batch,
    /// The registry as it is once the batch is stored.
    pub(super) registry: Registry,
    /// Instances that were gone in between, so that former states of their checks say nothing.
    pub(super) renewed: BTreeSet<InstanceId>,
    /// What requests led to although nothing is stored yet.
    pub(super) at_once: AtOnce,
}

/// A batch that was drafted.
pub(super) struct Drafted {
    pub(super) batch: Batch,
    /// The own commit in it, if there is one.
    pub(super) delta: Option<Delta>,
    pub(super) at_once: AtOnce,
}

/// A batch that is stored, and what follows from it.
pub(super) struct Settling<'a> {
    pub(super) own: NodeId,
    pub(super) replica: &'a mut Replica,
    pub(super) checks: &'a mut Checks,
    pub(super) answers: &'a mut Vec<(Ticket, Result<Answer, RequestError>)>,
    pub(super) events: &'a mut Vec<Event>,
    /// Set where the registry that readers may see has changed.
    pub(super) has_registry_changed: bool,
    /// Set where the batch was the first after a start.
    pub(super) has_started: bool,
}

/// A batch that was refused.
pub(super) struct Refusal<'a> {
    /// What the disk said.
    pub(super) error: &'a str,
    /// When the disk is tried again.
    pub(super) retry_at: Instant,
    pub(super) replica: &'a Replica,
    pub(super) answers: &'a mut Vec<(Ticket, Result<Answer, RequestError>)>,
    pub(super) events: &'a mut Vec<Event>,
    /// Set where the registry that readers may see has changed.
    pub(super) has_registry_changed: bool,
}

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
