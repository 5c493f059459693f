//! Dunlin's DNS server beside NSD, Knot and unbound, and above a bare UDP echo.
//!
//! All servers run at the same time, serve the same names from memory on loopback, and are asked in turns, so that a busy
//! machine slows all alike. With one worker they share one processor, and the load generator has the other.

mod changes;
pub(super) mod echo;
mod farm;
mod flood;
mod kind;
mod mix;
mod row;
mod setup;
mod store;
mod workload;

use std::time::{Duration, Instant};

use anyhow::Result;
use dunlin_bench::rig::finding::{Finding, grouped};
use dunlin_bench::rig::pace::pace;
use dunlin_bench::rig::processors::require_two;
use dunlin_bench::rig::questions::Questions;
use dunlin_bench::rig::release::Release;
use dunlin_bench::rig::stats::{median, percentile};
use dunlin_bench::rig::usage::resident;
use farm::Farm;
use flood::Flood;
use kind::ServerKind;
use mix::{Mix, Spread};
use row::{Goal, Row, Unit};
use setup::{DnsSetup, LARGE_PAYLOAD, USUAL_PAYLOAD};
use store::Store;
use workload::{Workload, flood_one};

use super::{Args, Part, chosen, load_average};

pub(super) const ABOUT: &str =
    "DNS beside NSD, Knot, unbound: time per query, floods, latency, memory (--only PART, --quick)";

const PACE_PER_SECOND: u32 = 20_000;

const FEW: Store = Store { services: 10_000, copies: 3 };
const MANY_COPIES: Store = Store { services: 10_000, copies: 30 };
const MANY_NAMES: Store = Store { services: 100_000, copies: 3 };

/// Measures rows that need the same servers.
type Measure = fn(&DnsSetup) -> Result<Vec<Row>>;

const PARTS: &[Part<Measure>] = &[
    ("three", three),
    ("thirty", thirty),
    ("two-workers", two_workers),
    ("many-names", many_names),
];

pub(super) fn run(args: &Args, release: &Release) -> Result<Vec<Finding>> {
    let parts = chosen(PARTS, &args.only)?;
    require_two()?;
    let setup = DnsSetup {
        release: release.clone(),
        rounds: if args.quick { 3 } else { args.runs },
        turn: Duration::from_millis(if args.quick { 250 } else { 500 }),
    };
    println!(
        "{} · {} rounds of {} ms · load {} at the start",
        farm::versions(release)?,
        setup.rounds,
        setup.turn.as_millis(),
        load_average(),
    );
    let mut rows = Vec::new();
    for (name, run) in parts {
        let start = Instant::now();
        let found = run(&setup)?;
        println!("── {name} took {:.1} s", start.elapsed().as_secs_f64());
        println!("{}", row::render(&found));
        rows.extend(found);
    }
    if args.lines {
        return Ok(rows.iter().filter_map(Row::finding).collect());
    }
    println!("\n{}", row::render(&rows));
    // The table with all servers says more than one with Dunlin alone.
    Ok(Vec::new())
}

fn three(setup: &DnsSetup) -> Result<Vec<Row>> {
    let farm = setup.farm(FEW, 1)?;
    let mut rows = Vec::new();
    for (name, spread) in [("uniform", Spread::Uniform), ("Zipf", Spread::Zipf)] {
        let questions = Mix::Both(spread).questions(FEW.services, USUAL_PAYLOAD);
        let what = format!("3 instances, {name}");
        rows.extend(flood(setup, &farm, &what, &questions, Workload::HITS)?);
        if spread == Spread::Uniform {
            rows.extend(latency(setup, &farm, &what, &questions)?);
        }
    }
    let unknown = Mix::Unknown.questions(FEW.services, USUAL_PAYLOAD);
    rows.extend(flood(setup, &farm, "unknown names, 10,000 stored", &unknown, Workload::UNKNOWN)?);
    rows.push(memory(&farm, "resident, 10,000 × 3", Goal::None)?);
    Ok(rows)
}

fn thirty(setup: &DnsSetup) -> Result<Vec<Row>> {
    let farm = setup.farm(MANY_COPIES, 1)?;
    let mut rows = Vec::new();
    for (name, spread) in [("uniform", Spread::Uniform), ("Zipf", Spread::Zipf)] {
        let questions = Mix::Both(spread).questions(MANY_COPIES.services, USUAL_PAYLOAD);
        let what = format!("30 instances, {name}");
        rows.extend(flood(setup, &farm, &what, &questions, Workload::HITS)?);
    }
    for payload in [USUAL_PAYLOAD, LARGE_PAYLOAD] {
        let questions = Mix::Targets.questions(MANY_COPIES.services, payload);
        let what = format!("SRV, 30 targets, EDNS {payload}");
        let is_usual = payload == USUAL_PAYLOAD;
        let goal = if is_usual { Goal::Below(3.8) } else { Goal::None };
        rows.extend(flood(setup, &farm, &what, &questions, Workload { goal, ..Workload::LISTS })?);
    }
    rows.push(memory(&farm, "resident, 10,000 × 30", Goal::None)?);
    Ok(rows)
}

fn two_workers(setup: &DnsSetup) -> Result<Vec<Row>> {
    let farm = setup.farm(FEW, 2)?;
    let questions = Mix::Both(Spread::Uniform).questions(FEW.services, USUAL_PAYLOAD);
    flood(setup, &farm, "two workers, 3 instances, uniform", &questions, Workload::TWO_WORKERS)
}

fn many_names(setup: &DnsSetup) -> Result<Vec<Row>> {
    let mut farm = setup.farm(MANY_NAMES, 1)?;
    let mut rows = vec![memory(&farm, "resident, 100,000 × 3, at first", Goal::Below(120.0))?];
    let unknown = Mix::Unknown.questions(MANY_NAMES.services, USUAL_PAYLOAD);
    rows.extend(flood(setup, &farm, "unknown names, 100,000 stored", &unknown, Workload::UNKNOWN)?);
    let all = Mix::Both(Spread::Uniform).questions(MANY_NAMES.services, USUAL_PAYLOAD);
    let what = "3 instances, uniform over 100,000 names";
    rows.extend(flood(setup, &farm, what, &all, Workload { goal: Goal::None, ..Workload::HITS })?);
    rows.push(memory(&farm, "resident, 100,000 × 3, asked for all", Goal::Below(120.0))?);
    rows.extend(changes::measure(setup, &mut farm)?);
    Ok(rows)
}

/// Floods every server in turns.
fn flood(
    setup: &DnsSetup,
    farm: &Farm,
    what: &str,
    questions: &Questions,
    load: Workload,
) -> Result<Vec<Row>> {
    let mut used = Row::new(format!("{what}: processor time"), Unit::Micros, load.goal);
    let mut rates = Row::new(format!("{what}: flood"), Unit::PerSecond, load.rate_goal);
    let mut lost = [0; ServerKind::ALL.len()];
    let mut last = [Flood::default(); ServerKind::ALL.len()];
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

fn latency(setup: &DnsSetup, farm: &Farm, what: &str, questions: &Questions) -> Result<Vec<Row>> {
    let per_second = grouped(f64::from(PACE_PER_SECOND));
    let row = |part: &str| {
        Row::new(format!("{what}: latency at {per_second}/s, {part}"), Unit::Micros, Goal::NoWorse)
    };
    let (mut middle, mut tail) = (row("p50"), row("p99"));
    for _ in 0..setup.rounds {
        for server in &farm.servers {
            let (samples, lost) = pace(server.address, questions, PACE_PER_SECOND, setup.turn)?;
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
        row.add(server.kind, resident(server.pid)? as f64 / 1e6);
    }
    Ok(row)
}
