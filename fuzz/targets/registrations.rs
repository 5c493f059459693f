//! The properties of every registration that is accepted.

use std::collections::BTreeSet;
use std::sync::Arc;

use dunlin_core::host::Registry;
use dunlin_core::model::limits::{MAX_ID_OCTETS, MAX_META_PAIRS, MAX_NAME_OCTETS, MAX_TAGS};
use dunlin_core::model::{ProviderId, Registration, Timestamp};
use dunlin_core::replica::{Row, RowDecoder, RowKey, RowState};

/// It keeps the limits, and is the same after it was written to the disk and to the wire and read again.
pub(crate) fn judge(registration: &Registration) {
    let instance = &registration.instance;
    assert!(instance.id.as_str().len() <= MAX_ID_OCTETS);
    assert!(instance.service.as_str().len() <= MAX_NAME_OCTETS);
    assert!(
        instance.profile.tags.len() <= MAX_TAGS
            && instance.profile.meta.iter().count() <= MAX_META_PAIRS
    );
    let stored = serde_json::to_string(registration).expect("a registration can be stored");
    let read: Registration = serde_json::from_str(&stored).expect("what is stored can be read");
    assert_eq!(read, *registration, "stored and read again");
    let ids: BTreeSet<_> = registration.checks.iter().map(|check| &check.id).collect();
    assert_eq!(ids.len(), registration.checks.len(), "two checks of one id");
    for check in &registration.checks {
        assert_eq!(check.validate(), Ok(()));
    }
    let key = RowKey::Instance(instance.id.clone());
    let state = RowState::Present(Row::Instance(Arc::new(instance.clone())));
    let (mut key_octets, mut octets) = (Vec::new(), Vec::new());
    key.encode(&mut key_octets);
    state.encode(&mut octets);
    let read = RowDecoder::default().decode(&key_octets, &octets);
    assert_eq!(read, Ok((key, state)), "sent and read again");
}

/// Judges the registrations as the whole statement of one provider.
pub(crate) fn judge_set(provider: &ProviderId, registrations: Vec<Registration>) {
    registrations.iter().for_each(judge);
    let mut registry = Registry::default();
    let count = registrations.len();
    let stated = registry.state(Timestamp::default(), provider, registrations.clone(), None);
    let Ok(effects) = stated else { return };
    assert_eq!((effects.len(), registry.len()), (count, count));
    let again = registry.state(Timestamp::default(), provider, registrations, None);
    assert_eq!(again, Ok(Vec::new()), "the same statement again changes nothing");
}
