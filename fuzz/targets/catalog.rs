//! A small catalog that never changes: two zones, names of all kinds, one service too large for a datagram.
#![allow(dead_code, reason = "not every target needs all of it")]

use std::collections::BTreeMap;
use std::sync::Arc;

use dunlin_core::catalog::{CatalogView, Endpoint, NodeStatus, NodeView, Standing, Topology};
use dunlin_core::dns::{DnsSettings, Domain};
use dunlin_core::model::{
    Health, Instance, InstanceFields, InstanceId, NodeId, NodeName, NodePhase, NodeRow, ProviderId,
    ServiceName, ZoneName,
};

pub(crate) fn settings() -> DnsSettings {
    let domain = Domain::parse("dunlin.internal").expect("a domain");
    DnsSettings::new(domain, NodeName::parse("alpha").expect("a name"))
}

pub(crate) fn catalog() -> CatalogView {
    let topology = Topology { own_zone: zone("eu1"), nearest_zones: vec![zone("us1")] };
    let mut view = CatalogView::empty(topology, 0);
    view.advance();
    let alpha = node("alpha", "eu1", "10.0.0.1");
    let beta = node("beta", "us1", "10.1.0.1");
    let gamma = node("gamma", "us1", "fd00::3");
    for node in [&alpha, &beta, &gamma] {
        view.put_node(node.clone());
    }
    let web = [endpoint(&alpha, "10.0.0.1", 80), endpoint(&beta, "10.1.0.1", 80)];
    put(&mut view, "web", web.into());
    let api = [endpoint(&beta, "10.1.0.9", 8080), endpoint(&gamma, "fd00::3", 8080)];
    put(&mut view, "http.api.prod.shop", api.into());
    let mut sick = endpoint(&alpha, "10.0.0.1", 25);
    sick.health = Health::Critical;
    put(&mut view, "mail", vec![sick]);
    let big = (0..200).map(|n| endpoint(&alpha, &format!("10.2.0.{n}"), 1000 + n));
    put(&mut view, "big", big.collect());
    view
}

fn zone(text: &str) -> ZoneName {
    ZoneName::parse(text).expect("a zone")
}

fn node(name: &str, zone_name: &str, address: &str) -> NodeView {
    let name = NodeName::parse(name).expect("a name");
    let id = NodeId::from_bytes([name.as_str().as_bytes()[0]; 16]);
    let row = NodeRow {
        name,
        zone: zone(zone_name),
        address: address.parse().expect("an address"),
        serves_dns: true,
        meta: BTreeMap::new(),
        phase: NodePhase::Active,
    };
    NodeView { id, row: Arc::new(row), status: NodeStatus::Alive }
}

fn endpoint(on: &NodeView, address: &str, port: u16) -> Endpoint {
    let fields = InstanceFields {
        id: InstanceId::parse(&format!("i{port}")).expect("an id"),
        service: ServiceName::parse("any-service").expect("a name"),
        address: address.parse().expect("an address"),
        port: port.into(),
        weight: 100,
        tags: vec!["v2".to_owned()],
        meta: BTreeMap::new(),
        provider: ProviderId::api(),
    };
    Endpoint {
        node_id: on.id,
        node: Arc::clone(&on.row),
        instance: Arc::new(Instance::new(fields).expect("an instance")),
        health: Health::Passing,
        checks: Arc::new([]),
        standing: Standing::Regular,
    }
}

fn put(view: &mut CatalogView, name: &str, endpoints: Vec<Endpoint>) {
    view.put_service(ServiceName::parse(name).expect("a name"), None, endpoints);
}
