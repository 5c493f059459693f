//! The catalog alone, for its bench: `catalog SERVICES COPIES CHANGES` loads instances, asks for what concerns one
//! node, then changes one instance after the other while another thread looks services up.
//!
//! Every line it prints is a name and a number: nanoseconds, octets, or a count.

#![allow(clippy::print_stdout, reason = "it tells what it measured")]

mod rows;

use std::env;
use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Cache};
use dunlin_core::catalog::{Catalog, CatalogOutput, CatalogView, GuardSettings, Topology};
use dunlin_core::model::{ServiceName, Timestamp, ZoneName};
use dunlin_core::replica::{RowChange, RowKey};
use rows::{Failed, id, instance_row, node_row, service_name};

/// Instances that one node may have.
const PER_NODE: u32 = 10_000;
/// The node of the agent whose catalog this is.
const OWN: u32 = 0;
/// Lookups whose times are kept.
const SAMPLES: usize = 1 << 22;
/// Answers about one node whose times are kept.
const NODE_SAMPLES: u32 = 10_000;
/// Lists of all instances of the own node whose times are kept.
const LIST_SAMPLES: u32 = 200;
/// Between two changes where these are not made as fast as possible: a thousand a second.
const INTERVAL: Duration = Duration::from_millis(1);
/// How long such changes go on.
const AT_A_PACE: Duration = Duration::from_secs(2);

fn main() -> Result<(), Failed> {
    let args: Vec<u32> = env::args().skip(1).map(|arg| arg.parse()).collect::<Result<_, _>>()?;
    let [services, copies, changes] = args[..] else {
        return Err("catalog SERVICES COPIES CHANGES".into());
    };
    let mut scene = Scene::new(Shape { services, copies })?;
    let before = resident()?;
    let load = scene.load()?;
    println!("load {}", load.as_nanos());
    println!("resident {}", resident()?.saturating_sub(before));
    println!("instances {}", services * copies);
    report("clock", (0..SAMPLES).map(|_| nanos(Instant::now())).collect());
    scene.ask_of_nodes()?;
    for (name, pace) in [("paced", Some(INTERVAL)), ("fast", None)] {
        let reader = Reader::start(&scene)?;
        let applied = scene.change(changes, pace)?;
        report(&format!("apply_{name}"), applied);
        report(&format!("lookup_{name}"), reader.stop()?);
    }
    Ok(())
}

/// How many services there are, and instances of each.
#[derive(Clone, Copy)]
struct Shape {
    services: u32,
    copies: u32,
}

struct Scene {
    shape: Shape,
    catalog: Catalog,
    published: Arc<ArcSwap<CatalogView>>,
}

impl Scene {
    fn new(shape: Shape) -> Result<Self, Failed> {
        let topology = Topology { own_zone: ZoneName::parse("z1")?, nearest_zones: Vec::new() };
        let mut catalog = Catalog::new(topology, GuardSettings::default(), 0);
        catalog.set_own_node(id(OWN));
        let published = Arc::new(ArcSwap::from_pointee(catalog.view().clone()));
        Ok(Self { shape, catalog, published })
    }

    /// Loads all rows, those of nodes with the same services together. Returns the time without that of making them.
    fn load(&mut self) -> Result<Duration, Failed> {
        let mut took = Duration::ZERO;
        for first in (0..self.shape.services).step_by(PER_NODE as usize) {
            let mut rows = Vec::new();
            for copy in 0..self.shape.copies {
                let node = first / PER_NODE * self.shape.copies + copy;
                rows.push((id(node), RowKey::Node, node_row(node)?));
                for service in first..self.shape.services.min(first + PER_NODE) {
                    let (key, row) = instance_row(node, service, 100)?;
                    rows.push((id(node), key, row));
                }
            }
            let begun = Instant::now();
            self.catalog.load(rows.iter().map(|(node, key, state)| (*node, key, state)));
            self.publish();
            took += begun.elapsed();
        }
        Ok(took)
    }

    /// Answers what the API asks about one node: its page, one instance of the own node, all of them.
    fn ask_of_nodes(&self) -> Result<(), Failed> {
        let view = self.published.load_full();
        let nodes: Vec<_> = view.nodes().map(|node| node.row.name.clone()).collect();
        let page = |number: u32| {
            let name = &nodes[number as usize * 7_919 % nodes.len()];
            let begun = Instant::now();
            let count = view.node(black_box(name)).map(|node| view.endpoint_count(node.id));
            black_box(count.filter(|count| *count > 0).ok_or("a node without instances"))?;
            Ok::<_, Failed>(nanos(begun))
        };
        report("node", (0..NODE_SAMPLES).map(page).collect::<Result<_, _>>()?);
        let own: Vec<_> = view.own_endpoints().map(|e| e.instance.id.clone()).collect();
        let one = |number: u32| {
            let id = &own[number as usize * 7_919 % own.len()];
            let begun = Instant::now();
            black_box(view.own_endpoint(black_box(id)).ok_or("an own instance is missing"))?;
            Ok::<_, Failed>(nanos(begun))
        };
        report("own_one", (0..NODE_SAMPLES).map(one).collect::<Result<_, _>>()?);
        let all = |_| {
            let begun = Instant::now();
            let count = view.own_endpoints().map(black_box).count();
            (nanos(begun), count)
        };
        let (times, counts): (Vec<_>, Vec<_>) = (0..LIST_SAMPLES).map(all).unzip();
        report("own_all", times);
        println!("own_instances {}", counts[0]);
        Ok(())
    }

    /// Changes the weight of one instance after the other, far apart. Returns how long each took until it was
    /// published.
    fn change(&mut self, count: u32, pace: Option<Duration>) -> Result<Vec<u32>, Failed> {
        let Shape { services, copies } = self.shape;
        let count = pace.map_or(count, |pace| (AT_A_PACE.as_nanos() / pace.as_nanos()) as u32);
        let mut samples = Vec::with_capacity(count as usize);
        let mut due = Instant::now();
        for number in 0..count {
            let service = (u64::from(number) * 7_919 % u64::from(services)) as u32;
            let node = service / PER_NODE * copies + number % copies;
            let (key, state) = instance_row(node, service, i64::from(number % 1_000 + 1))?;
            if let Some(pace) = pace {
                due += pace;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            let begun = Instant::now();
            let change = [RowChange { key, state }];
            self.catalog.handle_rows(begun, Timestamp::default(), id(node), &change);
            self.publish();
            samples.push(nanos(begun));
        }
        Ok(samples)
    }

    /// As the driver does.
    fn publish(&mut self) {
        while let Some(output) = self.catalog.poll_output() {
            if matches!(output, CatalogOutput::Publish { .. }) {
                self.published.store(Arc::new(self.catalog.view().clone()));
            }
        }
    }
}

/// A thread that looks services up, one after the other, far apart.
struct Reader {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Vec<u32>>,
}

impl Reader {
    fn start(scene: &Scene) -> Result<Self, Failed> {
        let names: Vec<ServiceName> = (0..scene.shape.services)
            .map(|number| ServiceName::parse(&service_name(number)))
            .collect::<Result<_, _>>()?;
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let mut view = Cache::new(Arc::clone(&scene.published));
        let read = move || {
            let mut samples = vec![0; SAMPLES];
            let mut number = 0;
            while !is_over.load(Ordering::Relaxed) {
                let name = &names[number * 7_919 % names.len()];
                // Whoever asks has the name at hand.
                black_box(name.as_str().as_bytes().first());
                let begun = Instant::now();
                let found = view.load().service(name).map(|service| service.index);
                let took = nanos(begun);
                assert!(found.is_some(), "{name} is missing");
                samples[number % SAMPLES] = took;
                number += 1;
            }
            samples.truncate(number);
            samples
        };
        Ok(Self { stop, thread: thread::spawn(read) })
    }

    fn stop(self) -> Result<Vec<u32>, Failed> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the reader panicked".into())
    }
}

fn report(name: &str, mut samples: Vec<u32>) {
    samples.sort_unstable();
    let at = |part: f64| samples[((samples.len() - 1) as f64 * part) as usize];
    let mean = samples.iter().map(|ns| u64::from(*ns)).sum::<u64>() / samples.len() as u64;
    println!("{name}_p50 {}\n{name}_p99 {}\n{name}_p999 {}", at(0.5), at(0.99), at(0.999));
    println!("{name}_mean {mean}\n{name}_count {}", samples.len());
}

fn nanos(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_nanos()).unwrap_or(u32::MAX)
}

/// Resident octets of this process.
fn resident() -> Result<u64, Failed> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmRSS")?;
    Ok(kib.parse::<u64>()? * 1024)
}
