//! Writes the rows of many nodes into an agent's data directory, for benches: `seed DIR NODES ROWS [COPIES]`.
//!
//! The agent must not be running. Every node has instances of `ROWS` services; the first `COPIES` nodes have the
//! same ones, the next have others, and so on, and an instance is no more than an address and a port. Without
//! `COPIES`, all nodes have the same services, and instances have tags and meta data.

#![allow(clippy::print_stdout, reason = "it tells what it wrote")]

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use dunlin_agent::store::Store;
use dunlin_core::host::Batch;
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
    let [_, dir, nodes, rows, copies @ ..] = &args[..] else {
        return Err("seed DIR NODES ROWS [COPIES]".into());
    };
    let nodes: u32 = nodes.parse()?;
    let copies = copies.first().map(|copies| copies.parse()).transpose()?;
    let seed = Seed { rows: rows.parse()?, copies };
    let (store, _, _) = Store::open(Path::new(dir))?;
    let (mut octets, mut encoded) = (0, Vec::new());
    let numbers: Vec<u32> = (0..nodes).collect();
    for numbers in numbers.chunks(BATCH) {
        let deltas: Vec<Delta> =
            numbers.iter().map(|node| seed.history(*node)).collect::<Result<_, _>>()?;
        for row in deltas.iter().flat_map(|delta| &delta.rows) {
            encoded.clear();
            row.state.encode(&mut encoded);
            octets += encoded.len();
        }
        store.write(Batch { deltas, ..Batch::default() }).await?;
    }
    println!("{} rows, {octets} octets of data", nodes * (seed.rows + 1));
    Ok(())
}

/// What each node has.
struct Seed {
    rows: u32,
    /// Nodes with the same services, if not all have the same.
    copies: Option<NonZeroU32>,
}

impl Seed {
    /// All that a node says of itself, as its first commit.
    fn history(&self, node: u32) -> Result<Delta, Box<dyn Error>> {
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
        let first = self.copies.map_or(0, |copies| node / copies * self.rows);
        for number in first..first + self.rows {
            let instance = self.instance(node, number, address)?;
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

    /// About 93 octets when it is stored, unless it is a bare one.
    fn instance(
        &self,
        node: u32,
        number: u32,
        address: Ipv4Addr,
    ) -> Result<Instance, Box<dyn Error>> {
        let bare = InstanceFields {
            id: InstanceId::parse(&format!("s{number:03}-m{node:04}"))?,
            service: ServiceName::parse(&format!("s{number:03}.api.prod.shop"))?,
            address: IpAddr::V4(address),
            port: 8080,
            weight: 100,
            tags: Vec::new(),
            meta: BTreeMap::new(),
            provider: ProviderId::parse("file:web.toml")?,
        };
        if self.copies.is_some() {
            return Ok(Instance::new(bare)?);
        }
        let meta = [("version", "2026-11-21"), ("shard", "17")];
        Ok(Instance::new(InstanceFields {
            tags: vec!["http".to_owned()],
            meta: meta.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            ..bare
        })?)
    }
}
