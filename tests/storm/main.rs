//! `cargo xtask storm`: load and faults together on three real agents, and an oracle that knows what answers may be.
//!
//! The agents run in network namespaces of their own, with TLS and a disk that is synced, as in production. At the
//! same time dnsperf asks one of them as fast as it can, thousands of watches are open, a thousand changes a second
//! are made, provider files are rewritten and spoiled, checks flap, and agents are killed, stopped, cut off and
//! restarted, one after the other. All the time a sample of answers is compared with what was acknowledged. No packet
//! leaves the machine.
//!
//! The storm is a target of the benches' package, whose rig it shares.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a person reads what is going on in the terminal"
)]

mod agreement;
mod chronicle;
mod dns;
mod faults;
mod files;
mod finale;
mod flaps;
mod flood;
mod interrupt;
mod ledger;
mod lookups;
#[path = "../e2e/cluster/network.rs"]
#[allow(dead_code, reason = "the end-to-end tests use more of it")]
mod network;
mod progress;
mod report;
mod stage;
mod watches;
mod writers;

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use chronicle::NODES;
use clap::Parser;
use dunlin_bench::rig::agent::{Agent, Site};
use dunlin_bench::rig::crowd::allow_descriptors;
use dunlin_bench::rig::fleet::Fleet;
use dunlin_bench::rig::random::Random;
use dunlin_bench::rig::release::Release;
use faults::Faults;
use files::Files;
use flood::Flood;
use ledger::{Ledger, SlotKind};
use lookups::Lookups;
use network::Network;
use progress::{Holding, Progress};
use report::Report;
use stage::{Post, Stage, count, pause};
use watches::Watches;
use writers::Writer;

/// How many services have instances on all agents.
const SERVICES: usize = 1_000;
/// How many instances of each of them every agent has.
const COPIES: usize = 2;
/// How many provider files each agent has, and how many checks of each kind that flap.
const FILES: usize = 4;
const FLAPPERS: usize = 4;
/// How many threads make changes at each agent.
const WRITERS: usize = 8;
/// The agent that dnsperf asks.
const FLOODED: usize = 0;
/// Descriptors that this process needs beyond those of watches.
const SPARE_DESCRIPTORS: u64 = 1_000;
/// How long agents are left alone before the resources that they hold are measured.
const REST: Duration = Duration::from_secs(15);
/// As [`REST`], at the end of the storm: agents give memory back twice a minute.
const LONG_REST: Duration = Duration::from_secs(40);
/// A storm that takes fewer minutes than this has many short faults.
const SHORT_MINUTES: f64 = 2.0;
/// How long it may take until all watches are open for the first time.
const OPEN_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a thread that was told to end may go on, since it may be waiting for an answer.
const END_TIMEOUT: Duration = Duration::from_secs(100);

/// The folder in the target folder that keeps the logs of the last storm.
const LOGS: &str = "storm";

/// Load and faults together on three real agents, and an oracle that knows what answers may be.
#[derive(Parser)]
#[command(name = "cargo xtask storm", bin_name = "cargo xtask storm")]
struct Args {
    /// How long faults happen.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// The number from which follows what is done, and when; without it, another one each time.
    #[arg(long)]
    seed: Option<u64>,
    /// How many watches are open.
    #[arg(long, default_value_t = 10_000)]
    watches: usize,
    /// How many changes are made each second.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    changes: u32,
    /// Do not build the release binary, but take the one that is there.
    #[arg(long)]
    no_build: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    ensure!(args.minutes > 0.0 && args.minutes < 1e6, "--minutes must be more than 0");
    Flood::is_possible()?;
    let release = Release::find(!args.no_build)?;
    release.build()?;
    let clock = || std::time::UNIX_EPOCH.elapsed().unwrap_or_default().subsec_nanos();
    let seed = args.seed.unwrap_or_else(|| u64::from(clock()));
    println!("storm: {} minutes, --seed {seed}", args.minutes);
    interrupt::listen()?;
    allow_descriptors(args.watches as u64 + SPARE_DESCRIPTORS)?;
    let network = Arc::new(Network::new(NODES)?);
    // The fleet is always dropped before the network, so that nothing runs in a namespace that is removed.
    let mut fleet = start(&network, &release)?;
    let result = storm(args, seed, &network, &mut fleet);
    keep_logs(&fleet, &release.target().join(LOGS))?;
    drop(fleet);
    let report = result.with_context(|| format!("--seed {seed}"))?;
    println!("\n{}", report.table());
    report.verdict(seed)
}

fn start(network: &Network, release: &Release) -> Result<Fleet> {
    let site = |host: usize| -> Result<Site> {
        let wrapper = ["ip", "netns", "exec", &network.namespace(host)].map(str::to_owned);
        Ok(Site { ip: network::address(host).parse()?, wrapper: wrapper.to_vec() })
    };
    let sites = (1..=NODES).map(site).collect::<Result<_>>()?;
    let mut fleet = Fleet::prepare_at(release, sites)?;
    fleet.agents.iter_mut().try_for_each(Agent::start)?;
    fleet.wait_until_joined()?;
    Ok(fleet)
}

/// Copies the agents' logs to a folder, where the next storm replaces them.
fn keep_logs(fleet: &Fleet, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    for agent in &fleet.agents {
        std::fs::write(folder.join(format!("{}.log", agent.name)), agent.log())?;
    }
    Ok(())
}

fn posts(fleet: &Fleet) -> Vec<Post> {
    let post = |agent: &Agent| Post {
        name: agent.name.clone(),
        api: agent.address(),
        dns: agent.dns_address(),
        socket: agent.socket(),
        services: agent.services.clone(),
    };
    fleet.agents.iter().map(post).collect()
}

fn ledger() -> Ledger {
    let mut ledger = Ledger::default();
    let nodes: Vec<usize> = (0..NODES * COPIES).map(|copy| copy % NODES).collect();
    for number in 0..SERVICES {
        ledger.add(format!("s{number}"), SlotKind::Single, &nodes);
    }
    for node in 0..NODES {
        for number in 0..FILES {
            let name = format!("file{number}-n{}", node + 1);
            ledger.add(name, SlotKind::File, &[node; files::INSTANCES]);
        }
        for number in 0..FLAPPERS {
            for (word, kind) in
                [("tcp", SlotKind::Tcp), ("ttl", SlotKind::Ttl), ("wild", SlotKind::Wild)]
            {
                ledger.add(format!("{word}{number}-n{}", node + 1), kind, &[node]);
            }
        }
    }
    ledger
}

/// The function that a thread runs.
type Act = Box<dyn FnOnce(&Stage) -> Result<()> + Send>;

/// A name, and the thread that has it.
type Worker = (String, JoinHandle<Result<()>>);

/// Starts a thread that lives on an agent's host.
fn on_host(
    network: &Arc<Network>,
    stage: &Arc<Stage>,
    agent: usize,
    name: &str,
    act: impl FnOnce(&Stage) -> Result<()> + Send + 'static,
) -> Result<Worker> {
    let (weak, stage) = (Arc::downgrade(network), Arc::clone(stage));
    let (entered, is_there) = mpsc::sync_channel(1);
    let handle = thread::spawn(move || {
        // The network is not held any longer than that, so that its namespaces are removed even if this thread goes on.
        let result = weak.upgrade().context("there is no network").and_then(|n| n.enter(agent + 1));
        let is_in = result.is_ok();
        let _ = entered.send(result);
        if is_in { act(&stage) } else { Ok(()) }
    });
    is_there.recv().context("a thread ended at once")??;
    Ok((format!("{name} of n{}", agent + 1), handle))
}

/// Waits for threads that were told to end.
fn join(stage: &Stage, workers: Vec<Worker>) -> Result<()> {
    let deadline = Instant::now() + END_TIMEOUT;
    for (name, handle) in workers {
        while !handle.is_finished() {
            ensure!(Instant::now() < deadline, "{name} did not end within {END_TIMEOUT:?}");
            pause(Duration::from_millis(20))?;
        }
        match handle.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => stage.violation(format!("{name}: {error:#}")),
            Err(_) => bail!("{name} panicked"),
        }
    }
    Ok(())
}

/// Registers all instances that are present at the beginning.
fn populate(stage: &Arc<Stage>) -> Result<()> {
    let populate_one = |agent: usize| {
        let stage = Arc::clone(stage);
        thread::spawn(move || {
            writers::register_all(&stage, agent, &stage.posts[agent])?;
            files(&stage, agent, 0).begin()
        })
    };
    let threads: Vec<_> = (0..NODES).map(populate_one).collect();
    threads.into_iter().try_for_each(|t| t.join().map_err(|_| anyhow!("a thread panicked"))?)
}

fn files(stage: &Stage, agent: usize, seed: u64) -> Files<'_> {
    let is_file = |service: &usize| {
        let slot = &stage.ledger.slots[stage.ledger.services[*service].slots[0]];
        slot.kind == SlotKind::File && slot.node == agent
    };
    let services: Vec<usize> = (0..stage.ledger.services.len()).filter(is_file).collect();
    Files::new(stage, agent, &services, seed)
}

/// Threads, grouped by the order that ends them.
#[derive(Default)]
struct Crew {
    changes: Vec<Worker>,
    watches: Vec<Worker>,
    lookups: Vec<Worker>,
}

/// Starts all load but the flood.
fn load(
    args: &Args,
    random: &mut Random,
    network: &Arc<Network>,
    stage: &Arc<Stage>,
) -> Result<Crew> {
    let mut crew = Crew::default();
    let interval = Duration::from_secs((NODES * WRITERS) as u64) / args.changes;
    for agent in 0..NODES {
        let on = |name: &str, act: Act| on_host(network, stage, agent, name, act);
        let seed = random.draw();
        crew.lookups.push(on("servers", Box::new(move |s| flaps::serve(s, agent, seed)))?);
        crew.lookups.push(on("pushes", Box::new(move |s| flaps::push(s, agent, seed)))?);
        let seed = random.draw();
        let lookups = move |stage: &Stage| {
            Lookups::new(stage, agent, seed)?.run();
            Ok(())
        };
        crew.lookups.push(on("lookups", Box::new(lookups))?);
        let seed = random.draw();
        let rewrite = move |stage: &Stage| {
            files(stage, agent, seed).run();
            Ok(())
        };
        crew.changes.push(on("files", Box::new(rewrite))?);
        let slots = stage.ledger.of(agent, SlotKind::Single);
        for share in slots.chunks(slots.len().div_ceil(WRITERS)) {
            let (share, seed) = (share.to_vec(), random.draw());
            let write = move |stage: &Stage| {
                Writer::new(stage, agent, share).run(interval, seed);
                Ok(())
            };
            crew.changes.push(on("writer", Box::new(write))?);
        }
        let mine = (agent..args.watches).step_by(NODES).map(|watch| watch % SERVICES).collect();
        let watch = move |stage: &Stage| Watches::new(stage, agent, mine)?.run();
        crew.watches.push(on("watches", Box::new(watch))?);
    }
    Ok(crew)
}

fn storm(args: &Args, seed: u64, network: &Arc<Network>, fleet: &mut Fleet) -> Result<Report> {
    let stage = Stage::new(ledger(), posts(fleet));
    let mut random = Random(seed);
    populate(&stage)?;
    let took = agreement::wait_for(&stage).context("before the storm")?;
    println!(
        "{} services with {} instances on {NODES} agents, equal after {:.1} s; at rest for {} s",
        stage.ledger.services.len(),
        stage.ledger.slots.len(),
        took.as_secs_f64(),
        REST.as_secs()
    );
    pause(REST)?;
    let before = hold(fleet)?;
    let mut progress = Progress::new();
    let mut crew = load(args, &mut random, network, &stage)?;
    let dir = stage.posts[FLOODED].services.parent().context("no folder")?.to_owned();
    let (flooder, host) = (Arc::downgrade(network), FLOODED + 1);
    let command = move |program: &str| match flooder.upgrade() {
        Some(network) => network.command(host, program),
        None => std::process::Command::new(program),
    };
    let mut flood = Flood::start(&stage, FLOODED, &dir, command)?;
    wait_for_watches(args, &stage, fleet, &mut progress)?;
    let end = Instant::now() + Duration::from_secs_f64(args.minutes * 60.0);
    let begun = Instant::now();
    Faults {
        stage: &stage,
        network,
        fleet,
        flood: &mut flood,
        progress: &mut progress,
        random: Random(random.draw()),
        is_short: args.minutes < SHORT_MINUTES,
    }
    .run(end)?;
    let stormed = begun.elapsed();
    stage.orders.end_changes.store(true, Ordering::Relaxed);
    let flooded = flood.stop()?;
    join(&stage, std::mem::take(&mut crew.changes))?;
    let agreed = agreement::wait_for(&stage);
    let agreed = agreed.map_err(|error| stage.violation(format!("{error:#}"))).ok();
    let told = Instant::now();
    finale::change_all(&stage)?;
    join(&stage, std::mem::take(&mut crew.watches))?;
    let told = told.elapsed();
    stage.orders.end_lookups.store(true, Ordering::Relaxed);
    join(&stage, std::mem::take(&mut crew.lookups))?;
    println!("the storm is over; at rest for {} s", LONG_REST.as_secs());
    pause(LONG_REST)?;
    let after = hold(fleet)?;
    finale::end(&stage, &mut fleet.agents)?;
    Ok(Report { stage, stormed, flooded, agreed, told, before, after, most: progress.most })
}

fn hold(fleet: &Fleet) -> Result<[Holding; NODES]> {
    let mut held = [Holding::default(); NODES];
    for (held, agent) in held.iter_mut().zip(&fleet.agents) {
        *held = Holding::of(agent)?;
    }
    Ok(held)
}

fn wait_for_watches(
    args: &Args,
    stage: &Stage,
    fleet: &Fleet,
    progress: &mut Progress,
) -> Result<()> {
    let begun = Instant::now();
    while count(&stage.tally.watches_open) < args.watches as u64 {
        ensure!(begun.elapsed() < OPEN_TIMEOUT, "watches were not open within {OPEN_TIMEOUT:?}");
        progress.tell(stage, &fleet.agents);
        pause(Duration::from_millis(100))?;
    }
    println!("{} watches open after {:.1} s", args.watches, begun.elapsed().as_secs_f64());
    Ok(())
}
