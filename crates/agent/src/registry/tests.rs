//! Who holds what when providers state, contradict each other, fail and go.

use std::collections::BTreeMap;
use std::net::IpAddr;

use dunlin_core::model::{Instance, InstanceFields, ServiceName};

use super::*;

fn registration(id: &str, port: i64) -> Registration {
    let fields = InstanceFields {
        id: InstanceId::parse(id).unwrap(),
        service: ServiceName::parse("web").unwrap(),
        address: IpAddr::from([127, 0, 0, 1]),
        port,
        weight: 100,
        tags: vec![],
        meta: BTreeMap::new(),
        provider: ProviderId::api(),
    };
    Registration::new(Instance::new(fields).unwrap(), vec![]).unwrap()
}

fn provider(text: &str) -> ProviderId {
    ProviderId::parse(text).unwrap()
}

fn id(text: &str) -> InstanceId {
    InstanceId::parse(text).unwrap()
}

const NOW: Timestamp = Timestamp::from_millis(1);

fn state(
    registry: &mut Registry,
    from: &str,
    set: Vec<Registration>,
) -> Result<Vec<Effect>, RegistryError> {
    registry.state(NOW, &provider(from), set, None)
}

#[test]
fn what_a_provider_no_longer_mentions_is_gone() {
    let mut registry = Registry::default();
    let both = vec![registration("a", 1), registration("b", 2)];
    assert_eq!(state(&mut registry, "file:x", both.clone()).unwrap().len(), 2);
    assert_eq!(state(&mut registry, "file:x", both).unwrap(), [], "restating changes nothing");
    let effects = state(&mut registry, "file:x", vec![registration("a", 1)]).unwrap();
    assert_eq!(effects, [Effect::Remove(id("b"), Departure::Dropped)]);
}

#[test]
fn the_first_provider_keeps_an_id_and_the_second_is_reported() {
    let mut registry = Registry::default();
    state(&mut registry, "http:x", vec![registration("a", 1)]).unwrap();
    assert_eq!(state(&mut registry, "file:y", vec![registration("a", 2)]).unwrap(), []);
    let reports = registry.reports();
    let second = reports.iter().find(|r| r.provider == provider("file:y")).unwrap();
    assert_eq!(second.conflicts, [(id("a"), provider("http:x"))]);
    assert_eq!(second.instances, 0);
    let effects = registry.remove(&provider("http:x"), Departure::Dropped).unwrap();
    assert!(matches!(&effects[..], [Effect::Upsert(r)] if r.instance.port.get() == 2));
}

#[test]
fn a_statement_with_a_repeated_id_changes_nothing() {
    let mut registry = Registry::default();
    state(&mut registry, "file:x", vec![registration("a", 1)]).unwrap();
    let before = registry.clone();
    let twice = vec![registration("b", 1), registration("b", 2)];
    let error = state(&mut registry, "file:x", twice).unwrap_err();
    assert_eq!(error, RegistryError::DuplicateId(id("b")));
    assert_eq!(registry, before);
}

#[test]
fn a_failed_provider_keeps_its_last_good_state() {
    let mut registry = Registry::default();
    state(&mut registry, "file:x", vec![registration("a", 1)]).unwrap();
    registry.fail(NOW, &provider("file:x"), "line 3: bad".into());
    assert_eq!(registry.len(), 1);
    assert_eq!(registry.reports()[0].error.as_deref(), Some("line 3: bad"));
    state(&mut registry, "file:x", vec![registration("a", 1)]).unwrap();
    assert_eq!(registry.reports()[0].error, None);
}

#[test]
fn only_what_came_by_the_api_is_deregistered_by_id() {
    let mut registry = Registry::default();
    state(&mut registry, "file:x", vec![registration("a", 1)]).unwrap();
    assert!(matches!(registry.deregister(NOW, &id("a")), Err(RegistryError::Held { .. })));
    let api = ProviderId::api();
    let (is_new, _) = registry.put_one(NOW, &api, registration("b", 1)).unwrap();
    assert!(is_new);
    assert!(matches!(
        registry.put_one(NOW, &api, registration("a", 1)),
        Err(RegistryError::Held { .. })
    ));
    let effects = registry.deregister(NOW, &id("b")).unwrap();
    assert_eq!(effects, [Effect::Remove(id("b"), Departure::Deregistered)]);
    assert!(matches!(registry.deregister(NOW, &id("b")), Err(RegistryError::UnknownInstance(_))));
}

#[test]
fn a_mode_outlives_restating_and_ends_with_the_instance() {
    let mut registry = Registry::default();
    state(&mut registry, "file:x", vec![registration("a", 1)]).unwrap();
    registry.set_mode(&id("a"), Mode::Draining).unwrap();
    let effects = state(&mut registry, "file:x", vec![registration("a", 9)]).unwrap();
    assert!(matches!(&effects[..], [Effect::Upsert(r)] if r.instance.mode == Mode::Draining));
    state(&mut registry, "file:x", vec![]).unwrap();
    let effects = state(&mut registry, "file:x", vec![registration("a", 9)]).unwrap();
    assert!(matches!(&effects[..], [Effect::Upsert(r)] if r.instance.mode == Mode::Active));
}

#[test]
fn a_suppressed_instance_returns_when_stated_differently() {
    let mut registry = Registry::default();
    state(&mut registry, "http:x", vec![registration("a", 1)]).unwrap();
    assert_eq!(registry.suppress(NOW, &id("a")), [Effect::Remove(id("a"), Departure::Dropped)]);
    assert_eq!(state(&mut registry, "http:x", vec![registration("a", 1)]).unwrap(), []);
    let report = &registry.reports()[0];
    assert_eq!((report.instances, &report.suppressed[..]), (0, &[id("a")][..]));
    assert_eq!(state(&mut registry, "http:x", vec![registration("a", 2)]).unwrap().len(), 1);
}

#[test]
fn a_file_that_is_read_again_brings_suppressed_instances_back() {
    let mut registry = Registry::default();
    state(&mut registry, "file:x", vec![registration("a", 1)]).unwrap();
    state(&mut registry, "http:y", vec![registration("a", 9)]).unwrap();
    // The other provider inherits the id; both are counted where they are.
    registry.suppress(NOW, &id("a"));
    assert_eq!(registry.reports().iter().map(|r| r.instances).sum::<usize>(), 1);
    registry.remove(&provider("http:y"), Departure::Dropped).unwrap();
    assert_eq!(state(&mut registry, "file:x", vec![registration("a", 1)]).unwrap().len(), 1);
}

#[test]
fn a_provider_that_failed_at_first_is_stored_when_it_is_mended() {
    let mut registry = Registry::default();
    registry.fail(NOW, &provider("file:x"), "half written".into());
    let before = registry.clone();
    state(&mut registry, "file:x", vec![registration("a", 1)]).unwrap();
    let writes = stored_differences(&before, &registry, &provider("file:x"));
    assert!(writes.contains(&crate::store::ProviderWrite::Put(provider("file:x"), None)));
}

#[test]
fn too_many_instances_are_refused_whole() {
    let mut registry = Registry::default();
    let many = (0..=INSTANCES_PER_NODE).map(|n| registration(&format!("i{n}"), 1)).collect();
    let error = state(&mut registry, "http:x", many).unwrap_err();
    assert!(matches!(error, RegistryError::TooManyInstances { .. }));
    assert!(registry.is_empty());
}

#[test]
fn what_providers_state_together_is_limited_even_if_all_state_the_same() {
    let all =
        || (0..INSTANCES_PER_NODE).map(|n| registration(&n.to_string(), 80)).collect::<Vec<_>>();
    let mut registry = Registry::default();
    for (from, _) in [("file:a", 1), ("file:b", 2)] {
        state(&mut registry, from, all()).unwrap();
    }
    let before = registry.clone();
    let error = state(&mut registry, "file:c", vec![registration("1", 80)]).unwrap_err();
    assert_eq!(error, RegistryError::TooManyStated { found: 20_001 });
    assert_eq!(registry, before, "nothing was changed");
    state(&mut registry, "file:b", all()).unwrap();
    registry.remove(&provider("file:b"), Departure::Dropped).unwrap();
    state(&mut registry, "file:c", vec![registration("1", 80)]).unwrap();
    for from in ["file:a", "file:c"] {
        registry.remove(&provider(from), Departure::Dropped).unwrap();
    }
    assert_eq!(registry.stated, Load::default());
}

#[test]
fn what_providers_state_together_may_only_be_so_large() {
    let meta: BTreeMap<_, _> = (0..62).map(|n| (n.to_string(), "v".repeat(4_000))).collect();
    let large = |id: String| {
        let fields = InstanceFields {
            id: InstanceId::parse(&id).unwrap(),
            service: ServiceName::parse("web").unwrap(),
            address: IpAddr::from([127, 0, 0, 1]),
            port: 80,
            weight: 100,
            tags: vec![],
            meta: meta.clone(),
            provider: ProviderId::api(),
        };
        Registration::new(Instance::new(fields).unwrap(), vec![]).unwrap()
    };
    let mut registry = Registry::default();
    let most = STATED_OCTETS_PER_NODE / large(String::from("a")).octets();
    state(&mut registry, "file:a", (0..most).map(|n| large(n.to_string())).collect()).unwrap();
    let error = state(&mut registry, "http:b", vec![large("b".to_owned())]).unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error}");
    state(&mut registry, "http:b", vec![registration("b", 80)]).unwrap();
}
