//! Does one operation many times, for counting its instructions: `instructions OPERATION ROUNDS`.
//!
//! What twice as many rounds take more is what the rounds cost: neither the start nor what the operation needs
//! before is in the difference.

mod rows;

use std::env;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use dunlin_agent::dns::{Bare, DnsStats};
use dunlin_agent::http::encode;
use dunlin_core::catalog::{Catalog, CatalogOutput, CatalogView, GuardSettings, Topology};
use dunlin_core::dns::{DnsSettings, Domain, rtype};
use dunlin_core::model::{NodeName, ServiceName, Timestamp, ZoneName};
use dunlin_core::replica::{RowChange, RowKey};
use rows::{Failed, id, instance_row, node_row, service_name};

/// Services, and instances of each: few, so that a start under an emulator takes a second.
const SERVICES: u32 = 1_000;
const COPIES: u32 = 3;

fn main() -> Result<(), Failed> {
    let args: Vec<String> = env::args().collect();
    let [_, operation, rounds] = &args[..] else {
        return Err("instructions OPERATION ROUNDS".into());
    };
    let rounds: u32 = rounds.parse()?;
    let scene = Scene::new()?;
    match operation.as_str() {
        "dns-hit" => scene.ask(rounds, SERVICES as usize * 2, service_name),
        "dns-miss" => scene.ask(rounds, 0, service_name),
        "dns-unknown" => scene.ask(rounds, 0, |number| format!("none{number}.api.prod.shop")),
        "publish" => scene.publish(rounds),
        "lookup" => scene.look_up(rounds),
        "json" => scene.encode(rounds),
        other => Err(format!("there is no operation {other}").into()),
    }
}

struct Scene {
    catalog: Catalog,
    published: Arc<ArcSwap<CatalogView>>,
}

impl Scene {
    fn new() -> Result<Self, Failed> {
        let topology = Topology { own_zone: ZoneName::parse("z1")?, nearest_zones: Vec::new() };
        let mut catalog = Catalog::new(topology, GuardSettings::default(), 0);
        let mut all = Vec::new();
        for node in 0..COPIES {
            all.push((id(node), RowKey::Node, node_row(node)?));
            for service in 0..SERVICES {
                let (key, state) = instance_row(node, service, 100)?;
                all.push((id(node), key, state));
            }
        }
        catalog.load(all.iter().map(|(node, key, state)| (*node, key, state)));
        while catalog.poll_output().is_some() {}
        let published = Arc::new(ArcSwap::from_pointee(catalog.view().clone()));
        Ok(Self { catalog, published })
    }

    /// Asks a worker that keeps this many answers for one name after the other, by A and SRV.
    fn ask(self, rounds: u32, kept: usize, name: impl Fn(u32) -> String) -> Result<(), Failed> {
        let stats = DnsStats::new(1);
        let settings = DnsSettings::new(Domain::parse("dunlin.internal")?, NodeName::parse("n1")?);
        let mut worker = Bare::new(self.published, settings, kept, &stats);
        let question = |number: u32| {
            let kind = if number.is_multiple_of(2) { rtype::A } else { rtype::SRV };
            question(&format!("{}.dunlin.internal", name(number)), kind)
        };
        let questions: Vec<Vec<u8>> = (0..SERVICES).map(question).collect();
        let mut reply = Vec::new();
        for packet in questions.iter().chain(questions.iter().cycle().take(rounds as usize)) {
            if !worker.answer(black_box(packet), &mut reply) {
                return Err("a question without an answer".into());
            }
            black_box(&reply);
        }
        Ok(())
    }

    /// Changes one instance and publishes the view, as the driver does.
    fn publish(mut self, rounds: u32) -> Result<(), Failed> {
        for round in 0..rounds {
            let (node, weight) = (round % COPIES, i64::from(round / SERVICES % 2 + 1));
            let (key, state) = instance_row(node, round % SERVICES, weight)?;
            let (now, change) = (Instant::now(), [RowChange { key, state }]);
            self.catalog.handle_rows(now, Timestamp::default(), id(node), &change);
            while let Some(output) = self.catalog.poll_output() {
                if matches!(output, CatalogOutput::Publish { .. }) {
                    self.published.store(Arc::new(self.catalog.view().clone()));
                }
            }
        }
        Ok(())
    }

    fn look_up(self, rounds: u32) -> Result<(), Failed> {
        let view = self.published.load_full();
        for name in names()?.iter().cycle().take(rounds as usize) {
            if black_box(view.service(black_box(name))).is_none() {
                return Err(format!("{name} is missing").into());
            }
        }
        Ok(())
    }

    fn encode(self, rounds: u32) -> Result<(), Failed> {
        let view = self.published.load_full();
        let services: Vec<_> = view.services().collect();
        for service in services.iter().cycle().take(rounds as usize) {
            black_box(encode(black_box(service)));
        }
        Ok(())
    }
}

fn names() -> Result<Vec<ServiceName>, Failed> {
    let name = |number| Ok(ServiceName::parse(&service_name(number))?);
    (0..SERVICES).map(name).collect()
}

/// A question with an OPT record (RFC 1035 §4.1, RFC 6891 §6.1.2).
fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut packet = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    for label in name.split('.') {
        packet.extend(u8::try_from(label.len()));
        packet.extend(label.as_bytes());
    }
    packet.push(0);
    packet.extend(kind.to_be_bytes());
    packet.extend([0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    packet
}
