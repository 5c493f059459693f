//! Rows of made-up nodes, for the programs that measure.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use dunlin_core::model::{
    Instance, InstanceFields, InstanceId, NodeId, NodeName, NodePhase, NodeRow, ProviderId,
    ServiceName, ZoneName,
};
use dunlin_core::replica::{Row, RowKey, RowState};

pub(crate) type Failed = Box<dyn Error + Send + Sync>;

pub(crate) fn id(node: u32) -> NodeId {
    let mut id = *b"dunlin-seed-0000";
    id[12..].copy_from_slice(&node.to_be_bytes());
    NodeId::from_bytes(id)
}

fn address(node: u32) -> IpAddr {
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 10, 0, 1).to_bits() + node).into()
}

pub(crate) fn service_name(number: u32) -> String {
    format!("s{number:03}.api.prod.shop")
}

pub(crate) fn node_row(node: u32) -> Result<RowState, Failed> {
    Ok(RowState::Present(Row::Node(Arc::new(NodeRow {
        name: NodeName::parse(&format!("m{node:04}"))?,
        zone: ZoneName::parse("z1")?,
        address: address(node),
        serves_dns: false,
        meta: BTreeMap::new(),
        phase: NodePhase::Active,
    }))))
}

pub(crate) fn instance_row(
    node: u32,
    service: u32,
    weight: i64,
) -> Result<(RowKey, RowState), Failed> {
    let instance = Instance::new(InstanceFields {
        id: InstanceId::parse(&format!("s{service:03}-m{node:04}"))?,
        service: ServiceName::parse(&service_name(service))?,
        address: address(node),
        port: 8080,
        weight,
        tags: Vec::new(),
        meta: BTreeMap::new(),
        provider: ProviderId::parse("file:web.toml")?,
    })?;
    let key = RowKey::Instance(instance.id.clone());
    Ok((key, RowState::Present(Row::Instance(Arc::new(instance)))))
}
