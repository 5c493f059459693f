//! What takes part in a batch: the life of its content from a draft to the disk.

use std::collections::BTreeSet;
use std::time::Instant;

use super::checks::Checks;
use super::event::Event;
use super::output::Moment;
use super::registry::Registry;
use super::request::{Answer, RequestError, Ticket};
use super::stored::Batch;
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

/// What a request led to at once, before anything is stored.
#[derive(Debug, Default)]
pub(super) struct AtOnce {
    pub(super) answers: Vec<(Ticket, Result<Answer, RequestError>)>,
    pub(super) events: Vec<Event>,
}
