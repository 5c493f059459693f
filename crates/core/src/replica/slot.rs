//! A row as it is kept in a table, where it is found by its key.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::sync::Arc;

use super::rows::{Entry, KeyPart, KeyPlace, Row, RowKey, RowState};
use super::version::Version;
use crate::model::Instance;

/// A row with its key and its version. Most rows are instances, whose ids tell their keys: a table that held the
/// keys beside them would take several times as much memory.
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

/// Something with a place in the order of keys. Since a slot holds no key that could be borrowed, it is found by this.
pub(super) trait Keyed {
    fn place(&self) -> KeyPlace<'_>;
}

impl Keyed for RowKey {
    fn place(&self) -> KeyPlace<'_> {
        RowKey::place(self)
    }
}

impl Keyed for Slot {
    fn place(&self) -> KeyPlace<'_> {
        match self {
            Self::Instance(_, instance) => KeyPlace::Instance(instance.id.place()),
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::net::IpAddr;

    use super::*;
    use crate::model::{CheckId, InstanceFields, InstanceId, ProviderId, ServiceName};
    use crate::replica::Departure;

    fn instance(id: &InstanceId) -> Row {
        let fields = InstanceFields {
            id: id.clone(),
            service: ServiceName::parse("web").unwrap(),
            address: IpAddr::from([127, 0, 0, 1]),
            port: 80,
            weight: 100,
            tags: vec![],
            meta: BTreeMap::new(),
            provider: ProviderId::api(),
        };
        Row::Instance(Arc::new(Instance::new(fields).unwrap()))
    }

    #[test]
    fn an_instance_takes_two_words_beside_itself() {
        assert_eq!(size_of::<Slot>(), 16);
    }

    #[test]
    fn slots_are_found_by_keys_and_in_their_order() {
        let ids = ["a", "b", "aa", "a-name-that-is-longer-than-most-are"];
        let ids = ids.map(|id| InstanceId::parse(id).unwrap());
        let check = CheckId::parse("tcp").unwrap();
        let gone = || Entry { version: Version::new(1), state: RowState::Gone(Departure::Dropped) };
        let mut rows = BTreeMap::from([(RowKey::Node, gone())]);
        for id in &ids {
            let state = RowState::Present(instance(id));
            rows.insert(RowKey::Instance(id.clone()), Entry { version: Version::new(2), state });
            rows.insert(RowKey::Check(id.clone(), check.clone()), gone());
        }
        rows.insert(RowKey::Instance(ids[1].clone()), gone());
        rows.insert(RowKey::Other([9, 1].into()), gone());
        let slots: BTreeSet<Slot> =
            rows.clone().into_iter().map(|(key, entry)| Slot::new(key, entry)).collect();
        assert!(slots.iter().map(|slot| (slot.key(), slot.entry())).eq(rows.clone()));
        for (key, entry) in &rows {
            assert_eq!(slots.get::<dyn Keyed>(key).map(Slot::entry).as_ref(), Some(entry));
        }
        let absent = RowKey::Check(ids[0].clone(), CheckId::least());
        assert!(!slots.contains::<dyn Keyed>(&absent));
    }

    #[test]
    fn an_instance_under_a_foreign_key_keeps_it() {
        let [a, b] = ["a", "b"].map(|id| InstanceId::parse(id).unwrap());
        let entry = Entry { version: Version::new(1), state: RowState::Present(instance(&a)) };
        assert_eq!(Slot::new(RowKey::Instance(b.clone()), entry).key(), RowKey::Instance(b));
    }
}
