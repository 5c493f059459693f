//! Writes the rows of many nodes into an agent's data directory, for benches: `seed DIR NODES ROWS`.
//!
//! The agent must not be running. Every node has an instance of each of `ROWS` services.

#![allow(clippy::print_stdout, reason = "it tells what it wrote")]

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use dunlin_agent::store::{Batch, Store};
use dunlin_core::model::{
    Instance, InstanceFields, InstanceId, NodeId, NodeName, NodePhase, NodeRow, ProviderId,
    ServiceName, ZoneName,
};
use dunlin_core::replica::{Delta, DeltaRow, Extent, Row, RowKey, RowState, Version};

/// Nodes that are written together.
const BATCH: usize = 100;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().collect();
    let [_, dir, nodes, rows] = &args[..] else { return Err("seed DIR NODES ROWS".into()) };
    let (nodes, rows): (u32, u32) = (nodes.parse()?, rows.parse()?);
    let (store, _, _) = Store::open(Path::new(dir))?;
    let (mut octets, mut encoded) = (0, Vec::new());
    let numbers: Vec<u32> = (0..nodes).collect();
    for numbers in numbers.chunks(BATCH) {
        let deltas: Vec<Delta> =
            numbers.iter().map(|node| history(*node, rows)).collect::<Result<_, _>>()?;
        for row in deltas.iter().flat_map(|delta| &delta.rows) {
            encoded.clear();
            row.state.encode(&mut encoded);
            octets += encoded.len();
        }
        store.write(Batch { deltas, ..Batch::default() }).await?;
    }
    println!("{} rows, {octets} octets of data", nodes * (rows + 1));
    Ok(())
}

/// All that a node says of itself, as its first commit.
fn history(node: u32, rows: u32) -> Result<Delta, Box<dyn Error>> {
    let version = Version::ZERO.next();
    let row = |key, row| DeltaRow { version, key, state: RowState::Present(row) };
    let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 10, 0, 1)) + node);
    let about = NodeRow {
        name: NodeName::parse(&format!("m{node:04}"))?,
        zone: ZoneName::parse("z1")?,
        address: IpAddr::V4(address),
        serves_dns: false,
        meta: BTreeMap::new(),
        phase: NodePhase::Active,
    };
    let mut all = vec![row(RowKey::Node, Row::Node(Arc::new(about)))];
    for number in 0..rows {
        let instance = instance(node, number, address)?;
        all.push(row(RowKey::Instance(instance.id.clone()), Row::Instance(Arc::new(instance))));
    }
    all.sort_by(|a, b| a.key.cmp(&b.key));
    let mut id = *b"dunlin-seed-0000";
    id[12..].copy_from_slice(&node.to_be_bytes());
    Ok(Delta {
        origin: NodeId::from_bytes(id),
        from: Version::ZERO,
        to: version,
        extent: Extent::up_to(version),
        floor: Version::ZERO,
        rows: all,
    })
}

/// About 93 octets when it is stored.
fn instance(node: u32, number: u32, address: Ipv4Addr) -> Result<Instance, Box<dyn Error>> {
    let service = ServiceName::parse(&format!("s{number:03}.api.prod.shop"))?;
    let meta = [("version", "2026-11-21"), ("shard", "17")];
    Ok(Instance::new(InstanceFields {
        id: InstanceId::parse(&format!("s{number:03}-m{node:04}"))?,
        service,
        address: IpAddr::V4(address),
        port: 8080,
        weight: 100,
        tags: vec!["http".to_owned()],
        meta: meta.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        provider: ProviderId::parse("file:web.toml")?,
    })?)
}
