//! Who holds what when providers state, contradict each other, fail and go.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::*;
use crate::model::{Instance, InstanceFields, ServiceName};

fn registration(id: &str, port: i64) -> Registration {
    registration_with(id, port, BTreeMap::new())
}

fn registration_with(id: &str, port: i64, meta: BTreeMap<String, String>) -> Registration {
    let fields = InstanceFields {
        id: InstanceId::parse(id).unwrap(),
        service: ServiceName::parse("web").unwrap(),
        address: IpAddr::from([127, 0, 0, 1]),
        port,
        weight: 100,
        tags: vec![],
        meta,
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
fn what_a_kind_unknown_here_has_stated_holds_until_somebody_removes_it() {
    let docker = ProviderId::decode("docker:x").unwrap();
    let stored = [(docker.clone(), None, vec![registration("a", 1)])];
    let mut registry = Registry::restore(NOW, stored, &[]);
    assert_eq!(registry.holder(&id("a")), Some(&docker));
    assert!(matches!(registry.deregister(NOW, &id("a")), Err(RegistryError::Held { .. })));
    assert!(docker.kind().is_removed_on_purpose());
    let effects = registry.remove(&docker, Departure::Deregistered).unwrap();
    assert_eq!(effects, [Effect::Remove(id("a"), Departure::Deregistered)]);
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
    assert!(
        matches!(&effects[..], [Effect::Upsert(r)] if r.instance.profile.mode == Mode::Draining)
    );
    state(&mut registry, "file:x", vec![]).unwrap();
    let effects = state(&mut registry, "file:x", vec![registration("a", 9)]).unwrap();
    assert!(matches!(&effects[..], [Effect::Upsert(r)] if r.instance.profile.mode == Mode::Active));
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
    assert!(writes.contains(&ProviderWrite::Put(provider("file:x"), None)));
}

/// What the disk would hold of a registry: the statements, and the own rows.
#[derive(Default)]
struct Disk {
    providers: BTreeMap<ProviderId, BTreeMap<InstanceId, Registration>>,
    rows: Vec<Arc<Instance>>,
}

impl Disk {
    fn store(&mut self, before: &Registry, after: &Registry, from: &str) {
        for write in stored_differences(before, after, &provider(from)) {
            match write {
                ProviderWrite::Put(id, _) => _ = self.providers.entry(id).or_default(),
                ProviderWrite::PutRegistration(id, one) => {
                    let noted = self.providers.get_mut(&id).unwrap();
                    noted.insert(one.instance.id.clone(), *one);
                }
                ProviderWrite::RemoveRegistration(id, gone) => {
                    self.providers.get_mut(&id).unwrap().remove(&gone);
                }
                ProviderWrite::Remove(id) => _ = self.providers.remove(&id),
            }
        }
        let rows = after.instance_ids().filter_map(|id| after.registration(id));
        self.rows = rows.map(|r| Arc::new(r.instance.clone())).collect();
    }

    fn noted(&self) -> usize {
        self.providers.values().map(BTreeMap::len).sum()
    }

    fn restored(&self) -> Registry {
        let statements = self.providers.iter();
        let statements =
            statements.map(|(id, noted)| (id.clone(), None, noted.values().cloned().collect()));
        Registry::restore(NOW, statements, &self.rows)
    }
}

fn of(from: &str, mut one: Registration) -> Registration {
    Arc::make_mut(&mut one.instance.profile).provider = provider(from);
    one
}

fn with_check(mut one: Registration) -> Registration {
    let kind = crate::model::CheckKind::Tcp { target: None };
    let check = crate::model::CheckId::parse("tcp").unwrap();
    one.checks = vec![crate::model::CheckSpec::with_defaults(check, kind)];
    one
}

#[test]
fn what_rows_tell_is_not_stored_twice_and_is_found_again() {
    let (x, y) = (|one| of("http:x", one), |one| of("http:y", one));
    let (mut registry, mut disk) = (Registry::default(), Disk::default());
    let mut step = |noted: usize, from: &str, change: &dyn Fn(&mut Registry)| {
        let before = registry.clone();
        change(&mut registry);
        disk.store(&before, &registry, from);
        assert_eq!(disk.noted(), noted, "after {from}");
        let restored = disk.restored();
        for (provider, _) in registry.providers() {
            assert!(registry.stated(provider).eq(restored.stated(provider)), "{provider}");
        }
        // What was taken out is stated again after a restart.
        let has_taken_out = registry.reports().iter().any(|report| !report.suppressed.is_empty());
        assert!(has_taken_out || registry.instance_ids().eq(restored.instance_ids()));
    };
    let say = |from: &'static str, set: Vec<Registration>| {
        move |registry: &mut Registry| _ = state(registry, from, set.clone()).unwrap()
    };
    let [a, b, a2, checked] =
        [registration("a", 1), registration("b", 2), registration("a", 3), registration("a", 4)];
    step(0, "http:x", &say("http:x", vec![x(a.clone()), x(b.clone())]));
    step(0, "http:x", &say("http:x", vec![x(a2.clone()), x(b.clone())]));
    // Another provider holds it, or it has checks: a row does not tell.
    step(1, "http:y", &say("http:y", vec![y(a.clone())]));
    step(2, "http:x", &say("http:x", vec![x(with_check(checked.clone())), x(b.clone())]));
    step(1, "http:x", &say("http:x", vec![x(checked), x(b.clone())]));
    // The heir's is stored from before, and outdated by its row from now on.
    step(1, "http:x", &say("http:x", vec![x(b.clone())]));
    step(1, "http:y", &say("http:y", vec![y(a2)]));
    step(0, "http:y", &say("http:y", vec![]));
    // What was taken out has no row.
    step(1, "http:x", &|registry| _ = registry.suppress(NOW, &id("b")));
    step(0, "http:x", &say("http:x", vec![]));
}

#[test]
fn too_many_instances_are_refused_whole() {
    let mut registry = Registry::default();
    let many = (0..=MAX_INSTANCES_PER_NODE).map(|n| registration(&format!("i{n}"), 1)).collect();
    let error = state(&mut registry, "http:x", many).unwrap_err();
    assert!(matches!(error, RegistryError::TooManyInstances { .. }));
    assert!(registry.is_empty());
}

#[test]
fn instances_that_are_too_large_all_together_are_refused() {
    let large = |n: usize| {
        let pairs = (0..64).map(|pair| (format!("k{pair}"), "v".repeat(4_000)));
        registration_with(&format!("i{n}"), 1, pairs.collect())
    };
    let fitting = MAX_INSTANCE_OCTETS_PER_NODE / large(0).instance.approx_octets();
    let mut registry = Registry::default();
    state(&mut registry, "http:x", (0..fitting).map(large).collect()).unwrap();
    let error = state(&mut registry, "http:y", vec![large(fitting)]).unwrap_err();
    assert!(matches!(error, RegistryError::TooLargeInForce { .. }), "{error}");
    state(&mut registry, "http:x", (1..fitting).map(large).collect()).unwrap();
    state(&mut registry, "http:y", vec![large(fitting)]).unwrap();
    for provider in ["http:x", "http:y"] {
        state(&mut registry, provider, vec![]).unwrap();
    }
    assert_eq!(registry.octets, 0);
}

#[test]
fn what_providers_state_together_is_limited_even_if_all_state_the_same() {
    let all = || {
        (0..MAX_INSTANCES_PER_NODE).map(|n| registration(&n.to_string(), 80)).collect::<Vec<_>>()
    };
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
    // All state the same, so that no more is in force than may be.
    let octets = large("0".to_owned()).octets();
    let each = MAX_INSTANCE_OCTETS_PER_NODE / octets - 1;
    for provider in 0..MAX_STATED_OCTETS_PER_NODE / (each * octets) {
        let set = (0..each).map(|n| large(n.to_string())).collect();
        state(&mut registry, &format!("file:{provider}"), set).unwrap();
    }
    let set = (0..each).map(|n| large(n.to_string())).collect();
    let error = state(&mut registry, "http:b", set).unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error}");
    state(&mut registry, "http:b", vec![registration("b", 80)]).unwrap();
}
