//! A row in its place in a table, where it is found by its key.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::sync::Arc;

use super::row::{Entry, Place, Row, RowKey, RowState, Version};
use crate::model::Instance;

/// A row with its key and its version. Most rows are instances, whose ids tell their keys: a table that held the
/// keys beside them would take several times the room.
#[derive(Debug, Clone)]
pub(super) enum Slot {
    Instance(Version, Arc<Instance>),
    Other(Box<(RowKey, Entry)>),
}

impl Slot {
    pub(super) fn new(key: RowKey, entry: Entry) -> Self {
        match (&key, entry) {
            (
                RowKey::Instance(id),
                Entry { version, state: RowState::Present(Row::Instance(instance)) },
            ) if instance.id == *id => Self::Instance(version, instance),
            (_, entry) => Self::Other(Box::new((key, entry))),
        }
    }

    pub(super) fn version(&self) -> Version {
        match self {
            Self::Instance(version, _) => *version,
            Self::Other(other) => other.1.version,
        }
    }

    pub(super) fn key(&self) -> RowKey {
        match self {
            Self::Instance(_, instance) => RowKey::Instance(instance.id.clone()),
            Self::Other(other) => other.0.clone(),
        }
    }

    pub(super) fn state(&self) -> RowState {
        match self {
            Self::Instance(_, instance) => RowState::Present(Row::Instance(Arc::clone(instance))),
            Self::Other(other) => other.1.state.clone(),
        }
    }

    pub(super) fn entry(&self) -> Entry {
        Entry { version: self.version(), state: self.state() }
    }

    pub(super) fn is_present(&self) -> bool {
        match self {
            Self::Instance(..) => true,
            Self::Other(other) => matches!(other.1.state, RowState::Present(_)),
        }
    }
}

/// What has a place in the order of keys. By it a slot is found although it holds no key that could be borrowed.
pub(super) trait Keyed {
    fn place(&self) -> Place<'_>;
}

impl Keyed for RowKey {
    fn place(&self) -> Place<'_> {
        RowKey::place(self)
    }
}

impl Keyed for Slot {
    fn place(&self) -> Place<'_> {
        match self {
            Self::Instance(_, instance) => Place::of_instance(&instance.id),
            Self::Other(other) => other.0.place(),
        }
    }
}

impl<'a> Borrow<dyn Keyed + 'a> for Slot {
    fn borrow(&self) -> &(dyn Keyed + 'a) {
        self
    }
}

macro_rules! ordered_by_place {
    ($($keyed:ty),*) => {$(
        impl Ord for $keyed {
            fn cmp(&self, other: &Self) -> Ordering {
                self.place().cmp(&other.place())
            }
        }

        impl PartialOrd for $keyed {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl PartialEq for $keyed {
            fn eq(&self, other: &Self) -> bool {
                self.cmp(other).is_eq()
            }
        }

        impl Eq for $keyed {}
    )*};
}

ordered_by_place!(Slot, dyn Keyed + '_);
