//! What a view says, built by hand.

use std::collections::BTreeMap;

use super::*;
use crate::catalog::{NodeStatus, Scope, Standing};
use crate::model::{Health, Instance, InstanceFields, NodePhase, ProviderId};

fn node(name: &str, zone: &str, address: [u8; 4]) -> NodeView {
    let row = NodeRow {
        name: NodeName::parse(name).unwrap(),
        zone: ZoneName::parse(zone).unwrap(),
        address: address.into(),
        serves_dns: true,
        meta: BTreeMap::new(),
        phase: NodePhase::Active,
    };
    NodeView {
        id: NodeId::from_bytes([address[3]; 16]),
        row: Arc::new(row),
        status: NodeStatus::Alive,
    }
}

fn endpoint(id: &str, service: &str, node: &NodeView, health: Health) -> Endpoint {
    let fields = InstanceFields {
        id: InstanceId::parse(id).unwrap(),
        service: ServiceName::parse(service).unwrap(),
        address: node.row.address,
        port: 80,
        weight: 100,
        tags: vec![],
        meta: BTreeMap::new(),
        provider: ProviderId::api(),
    };
    Endpoint {
        node_id: node.id,
        node: node.row.clone(),
        instance: Arc::new(Instance::new(fields).unwrap()),
        health,
        checks: Arc::new([]),
        standing: Standing::Regular,
    }
}

fn view() -> CatalogView {
    let own_zone = ZoneName::parse("eu1").unwrap();
    let nearest_zones = vec![ZoneName::parse("us1").unwrap(), ZoneName::parse("ap1").unwrap()];
    CatalogView::empty(Topology { own_zone, nearest_zones }, 0)
}

fn service(text: &str) -> ServiceName {
    ServiceName::parse(text).unwrap()
}

#[test]
fn the_nearest_zone_with_a_healthy_instance_answers() {
    let (here, us, ap) = (
        node("a", "eu1", [127, 0, 0, 1]),
        node("b", "us1", [127, 0, 0, 2]),
        node("c", "ap1", [127, 0, 0, 3]),
    );
    let mut view = view();
    view.advance();
    let endpoints = vec![
        endpoint("w3", "web", &ap, Health::Passing),
        endpoint("w1", "web", &here, Health::Critical),
        endpoint("w2", "web", &us, Health::Warning),
    ];
    view.put_service(service("web"), None, endpoints);
    let web = view.service(&service("web")).unwrap();
    let ids =
        |scope| -> Vec<&str> { web.answered(scope).map(|e| e.instance.id.as_str()).collect() };
    assert_eq!(ids(Scope::Nearest), ["w2"]);
    assert_eq!(ids(Scope::Any), ["w2", "w3"]);
    assert_eq!(ids(Scope::Zone(&ap.row.zone)), ["w3"]);
    assert!(ids(Scope::Zone(&here.row.zone)).is_empty());
}

#[test]
fn panic_in_the_own_zone_hides_nothing_healthy_and_the_guard_does() {
    let (here, us) = (node("a", "eu1", [127, 0, 0, 1]), node("b", "us1", [127, 0, 0, 2]));
    for (standing, expected) in [(Standing::Panic, "w2"), (Standing::Held, "w1")] {
        let mut own = endpoint("w1", "web", &here, Health::Critical);
        own.standing = standing;
        let mut view = view();
        let far = endpoint("w2", "web", &us, Health::Passing);
        view.put_service(service("web"), None, vec![own, far]);
        let web = view.service(&service("web")).unwrap();
        let ids: Vec<_> = web.answered(Scope::Nearest).map(|e| e.instance.id.as_str()).collect();
        assert_eq!(ids, [expected]);
    }
}

#[test]
fn names_above_services_exist_and_others_do_not() {
    let here = node("a", "eu1", [127, 0, 0, 1]);
    let mut view = view();
    view.advance();
    let name = service("http.api.prod.shop");
    view.put_service(name.clone(), None, vec![endpoint("w", "x", &here, Health::Passing)]);
    view.put_service(service("shop"), None, vec![endpoint("s", "x", &here, Health::Passing)]);
    for above in ["prod.shop", "api.prod.shop"] {
        assert!(matches!(view.named(above), Named::Suffix), "{above}");
    }
    for other in ["hop", "api.prod", "pro.shop", "x.http.api.prod.shop", ""] {
        assert!(matches!(view.named(other), Named::Nothing), "{other}");
    }
    for service in ["http.api.prod.shop", "shop"] {
        assert!(matches!(view.named(service), Named::Service(_)), "{service}");
    }
    view.remove_service(&service("shop"));
    assert!(matches!(view.named("shop"), Named::Suffix));
    view.remove_service(&name);
    for gone in ["shop", "prod.shop", "http.api.prod.shop"] {
        assert!(matches!(view.named(gone), Named::Nothing), "{gone}");
    }
}

#[test]
fn names_are_found_however_many_come_and_go() {
    let here = node("a", "eu1", [127, 0, 0, 1]);
    let mut view = view();
    let name = |number: u32| service(&format!("s{number}.p{}", number % 7));
    let count = 3 * u32::try_from(Hints::for_names(0).room()).unwrap();
    for number in 0..count {
        view.advance();
        let endpoint = endpoint("w", "x", &here, Health::Passing);
        view.put_service(name(number), None, vec![endpoint]);
        if number % 2 == 0 {
            view.remove_service(&name(number));
        }
    }
    for number in 0..count {
        let is_there = matches!(view.named(name(number).as_str()), Named::Service(_));
        assert_eq!(is_there, number % 2 == 1, "{number}");
    }
    assert!((0..7).all(|n| matches!(view.named(&format!("p{n}")), Named::Suffix)));
}

#[test]
fn a_service_is_unchanged_until_it_changes() {
    let here = node("a", "eu1", [127, 0, 0, 1]);
    let mut view = view();
    view.advance();
    let put = |view: &mut CatalogView, name: &str| {
        let endpoint = endpoint("w", name, &here, Health::Passing);
        view.put_service(service(name), None, vec![endpoint]);
    };
    put(&mut view, "web");
    let key = CatalogView::service_key(&service("web"));
    let made = view.index();
    view.advance();
    put(&mut view, "other");
    assert!(view.is_unchanged_since(&key, made));
    view.advance();
    put(&mut view, "web");
    assert!(!view.is_unchanged_since(&key, made));
    let changed = view.index();
    assert!(view.is_unchanged_since(&key, changed));
    view.advance();
    view.remove_service(&service("web"));
    assert!(!view.is_unchanged_since(&key, changed));
}

#[test]
fn an_older_view_does_not_change() {
    let here = node("a", "eu1", [127, 0, 0, 1]);
    let mut view = view();
    view.advance();
    view.put_service(service("web"), None, vec![endpoint("w", "web", &here, Health::Passing)]);
    let before = view.clone();
    view.advance();
    view.remove_service(&service("web"));
    assert!(before.service(&service("web")).is_some());
    assert!(view.service(&service("web")).is_none());
    let removed: Vec<_> = view.removed_since(before.index()).unwrap().collect();
    assert_eq!(removed, [(2, &service("web"))]);
    assert!(view.layout_index() > before.layout_index());
}

#[test]
fn a_shared_address_belongs_to_the_first_node_by_name() {
    let mut view = view();
    view.advance();
    view.put_node(node("b", "eu1", [127, 0, 0, 1]));
    view.put_node(node("a", "us1", [127, 0, 0, 1]));
    let at =
        |view: &CatalogView| view.node_at([127, 0, 0, 1].into()).map(|n| n.row.name.to_string());
    assert_eq!(at(&view).as_deref(), Some("a"));
    let a = NodeName::parse("a").unwrap();
    view.remove_node(NodeId::from_bytes([9; 16]), &a);
    assert!(view.node(&a).is_some(), "the name is another node's");
    view.remove_node(NodeId::from_bytes([1; 16]), &a);
    assert_eq!(at(&view).as_deref(), Some("b"));
    assert!(!view.is_zone(&ZoneName::parse("us1").unwrap()));
}
