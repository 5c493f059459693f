//! Dunlin's DNS server beside NSD, Knot and unbound, and above a bare UDP echo.
//!
//! All serve the same names from memory on loopback at the same time and are asked in turns, so that a busy machine
//! slows all alike. With one worker they share one processor, and the load generator has the other.

mod changes;
mod datagrams;
mod echo;
mod farm;
pub(super) mod load;
pub(crate) mod process;
pub(crate) mod questions;
mod row;
mod store;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
pub(crate) use echo::serve as serve_echo;
use farm::{Farm, Kind, Plan, Server};
use load::Expected;
use questions::{Asked, Questions, Spread};
use row::{Goal, Row, Unit};
use store::Store;

use super::Args;
use super::cluster::finding;
use super::stats::{median, percentile};
use crate::workspace::Workspace;

pub(super) const ABOUT: &str =
    "DNS beside NSD, Knot, unbound: time per query, floods, latency, memory (--only PART, --quick)";

/// What most resolvers announce, and what passes any path in one piece.
const USUAL_PAYLOAD: u16 = 1232;
const LARGE_PAYLOAD: u16 = 4096;
const PACE_PER_SECOND: u32 = 20_000;
/// The server's processor while it has one worker, and the load generator's.
const SERVER_CORE: &str = "0";
const LOAD_CORE: &str = "1";
const ALL_CORES: &str = "0,1";

const FEW: Store = Store { services: 10_000, copies: 3 };
const MANY_COPIES: Store = Store { services: 10_000, copies: 30 };
const MANY_NAMES: Store = Store { services: 100_000, copies: 3 };

/// What every part needs.
struct Setup {
    binary: PathBuf,
    builds: bool,
    rounds: u32,
    /// How long one measurement of one server takes.
    turn: Duration,
}

impl Setup {
    fn farm(&self, store: Store, workers: usize) -> Result<Farm> {
        // Agents and servers look at the processors they have when they start.
        process::pin(std::process::id(), ALL_CORES)?;
        let cores = if workers == 1 { SERVER_CORE } else { ALL_CORES };
        let plan = Plan { binary: &self.binary, builds: self.builds, store, workers, cores };
        let farm = Farm::start(&plan)?;
        if workers == 1 {
            process::pin(std::process::id(), LOAD_CORE)?;
        }
        Ok(farm)
    }
}

/// Rows that need the same servers.
struct Part {
    name: &'static str,
    run: fn(&Setup) -> Result<Vec<Row>>,
}

const PARTS: &[Part] = &[
    Part { name: "three", run: three },
    Part { name: "thirty", run: thirty },
    Part { name: "two-workers", run: two_workers },
    Part { name: "many-names", run: many_names },
];

pub(super) fn run(args: &Args) -> Result<()> {
    let names = || PARTS.iter().map(|part| part.name).collect::<Vec<_>>().join(", ");
    if let Some(unknown) = args.only.iter().find(|name| PARTS.iter().all(|p| p.name != **name)) {
        bail!("there is no part {unknown}; these are: {}", names());
    }
    if std::thread::available_parallelism()?.get() < 2 {
        bail!("servers and the load generator need a processor each");
    }
    let setup = Setup {
        binary: Workspace::read()?.release_binary("dunlin")?,
        builds: !args.no_build,
        rounds: if args.quick { 3 } else { args.runs },
        turn: Duration::from_millis(if args.quick { 250 } else { 500 }),
    };
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "{} · {} rounds of {} ms · load {} at the start",
        farm::versions(&setup.binary)?,
        setup.rounds,
        setup.turn.as_millis(),
        load.split(' ').next().unwrap_or_default(),
    );
    let mut rows = Vec::new();
    for part in
        PARTS.iter().filter(|p| args.only.is_empty() || args.only.iter().any(|n| n == p.name))
    {
        let start = Instant::now();
        let found = (part.run)(&setup)?;
        println!("── {} took {:.1} s", part.name, start.elapsed().as_secs_f64());
        println!("{}", row::render(&found));
        rows.extend(found);
    }
    println!("\n{}", row::render(&rows));
    Ok(())
}

fn three(setup: &Setup) -> Result<Vec<Row>> {
    let farm = setup.farm(FEW, 1)?;
    let mut rows = Vec::new();
    for (name, spread) in [("uniform", Spread::Uniform), ("Zipf", Spread::Zipf)] {
        let questions = Questions::new(Asked::Both(spread), FEW.services, USUAL_PAYLOAD);
        let what = format!("3 instances, {name}");
        rows.extend(flood(setup, &farm, &what, &questions, Workload::HITS)?);
        if spread == Spread::Uniform {
            rows.extend(latency(setup, &farm, &what, &questions)?);
        }
    }
    let unknown = Questions::new(Asked::Unknown, FEW.services, USUAL_PAYLOAD);
    rows.extend(flood(setup, &farm, "unknown names, 10,000 stored", &unknown, Workload::UNKNOWN)?);
    rows.push(memory(&farm, "resident, 10,000 × 3", Goal::None)?);
    Ok(rows)
}

fn thirty(setup: &Setup) -> Result<Vec<Row>> {
    let farm = setup.farm(MANY_COPIES, 1)?;
    let mut rows = Vec::new();
    for (name, spread) in [("uniform", Spread::Uniform), ("Zipf", Spread::Zipf)] {
        let questions = Questions::new(Asked::Both(spread), MANY_COPIES.services, USUAL_PAYLOAD);
        let what = format!("30 instances, {name}");
        rows.extend(flood(setup, &farm, &what, &questions, Workload::HITS)?);
    }
    for payload in [USUAL_PAYLOAD, LARGE_PAYLOAD] {
        let questions = Questions::new(Asked::Targets, MANY_COPIES.services, payload);
        let what = format!("SRV, 30 targets, EDNS {payload}");
        let is_usual = payload == USUAL_PAYLOAD;
        let goal = if is_usual { Goal::Below(3.8) } else { Goal::None };
        rows.extend(flood(setup, &farm, &what, &questions, Workload { goal, ..Workload::LISTS })?);
    }
    rows.push(memory(&farm, "resident, 10,000 × 30", Goal::None)?);
    Ok(rows)
}

fn two_workers(setup: &Setup) -> Result<Vec<Row>> {
    let farm = setup.farm(FEW, 2)?;
    let questions = Questions::new(Asked::Both(Spread::Uniform), FEW.services, USUAL_PAYLOAD);
    flood(setup, &farm, "two workers, 3 instances, uniform", &questions, Workload::TWO_WORKERS)
}

fn many_names(setup: &Setup) -> Result<Vec<Row>> {
    let mut farm = setup.farm(MANY_NAMES, 1)?;
    let mut rows = vec![memory(&farm, "resident, 100,000 × 3, at first", Goal::Below(120.0))?];
    let unknown = Questions::new(Asked::Unknown, MANY_NAMES.services, USUAL_PAYLOAD);
    rows.extend(flood(setup, &farm, "unknown names, 100,000 stored", &unknown, Workload::UNKNOWN)?);
    let all = Questions::new(Asked::Both(Spread::Uniform), MANY_NAMES.services, USUAL_PAYLOAD);
    let what = "3 instances, uniform over 100,000 names";
    rows.extend(flood(setup, &farm, what, &all, Workload { goal: Goal::None, ..Workload::HITS })?);
    rows.push(memory(&farm, "resident, 100,000 × 3, asked for all", Goal::Below(120.0))?);
    rows.extend(changes::measure(setup, &mut farm)?);
    Ok(rows)
}

/// How a flood is made and what is wanted of its time per query.
#[derive(Clone, Copy)]
struct Workload {
    sockets: usize,
    expected: Expected,
    goal: Goal,
    rate_goal: Goal,
}

impl Workload {
    const HITS: Self = Self {
        sockets: 1,
        expected: Expected::Records,
        goal: Goal::Processor,
        rate_goal: Goal::Rate,
    };
    const LISTS: Self = Self { goal: Goal::None, rate_goal: Goal::None, ..Self::HITS };
    const UNKNOWN: Self = Self {
        expected: Expected::NoSuchName,
        goal: Goal::Below(3.8),
        rate_goal: Goal::None,
        ..Self::HITS
    };
    /// The kernel spreads clients over workers by their port, so there must be many.
    const TWO_WORKERS: Self = Self { sockets: 32, rate_goal: Goal::None, ..Self::HITS };
}

/// Floods every server in turns.
fn flood(
    setup: &Setup,
    farm: &Farm,
    what: &str,
    questions: &Questions,
    load: Workload,
) -> Result<Vec<Row>> {
    let mut used = Row::new(format!("{what}: processor time"), Unit::Micros, load.goal);
    let mut rates = Row::new(format!("{what}: flood"), Unit::PerSecond, load.rate_goal);
    let mut lost = [0; Kind::ALL.len()];
    let mut last = [load::Flood::default(); Kind::ALL.len()];
    for _ in 0..setup.rounds {
        for server in &farm.servers {
            let found = flood_one(setup, server, questions, load)?;
            used.add(server.kind, found.micros_per_answer());
            rates.add(server.kind, found.per_second());
            lost[server.kind as usize] += found.lost;
            last[server.kind as usize] = found;
        }
    }
    if lost.iter().any(|lost| *lost > 0) {
        println!("{what}: questions without an answer: {lost:?}");
    }
    let sizes = last.map(|f| {
        let cut = f.truncated * 100 / f.answers.max(1);
        format!("{} octets, {cut} % cut", f.octets / f.answers.max(1))
    });
    println!("{what}: answers of {}", sizes.join(" · "));
    Ok(vec![used, rates])
}

fn flood_one(
    setup: &Setup,
    server: &Server,
    questions: &Questions,
    load: Workload,
) -> Result<load::Flood> {
    let is_echo = server.kind == Kind::Echo;
    let expected = if is_echo { Expected::Echo } else { load.expected };
    let how = (load.sockets, expected, setup.turn);
    let found = load::flood(server.address, questions, how, || process::processor_time(server.pid));
    found.map_err(|error| error.context(format!("{} in a flood", server.kind.name())))
}

fn latency(setup: &Setup, farm: &Farm, what: &str, questions: &Questions) -> Result<Vec<Row>> {
    let pace = finding::grouped(f64::from(PACE_PER_SECOND));
    let row = |part: &str| {
        Row::new(format!("{what}: latency at {pace}/s, {part}"), Unit::Micros, Goal::NoWorse)
    };
    let (mut middle, mut tail) = (row("p50"), row("p99"));
    for _ in 0..setup.rounds {
        for server in &farm.servers {
            let (samples, lost) =
                load::pace(server.address, questions, PACE_PER_SECOND, setup.turn)?;
            if lost > 0 {
                println!("{what}: {} lost {lost} questions", server.kind.name());
            }
            middle.add(server.kind, median(&samples).as_secs_f64() * 1e6);
            tail.add(server.kind, percentile(&samples, 99.0).as_secs_f64() * 1e6);
        }
    }
    Ok(vec![middle, tail])
}

fn memory(farm: &Farm, what: &str, goal: Goal) -> Result<Row> {
    let mut row = Row::new(what.to_owned(), Unit::Megabytes, goal);
    for server in &farm.servers {
        row.add(server.kind, process::resident(server.pid)? as f64 / 1e6);
    }
    Ok(row)
}
