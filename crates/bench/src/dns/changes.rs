//! What answers cost while instances change, and how soon a change is in them.

use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use dunlin_bench::rig::agent::Agent;
use dunlin_bench::rig::changer::Changer;
use dunlin_bench::rig::events::Events;
use dunlin_bench::rig::pace::ask;
use dunlin_bench::rig::processors::{Processors, pin};
use dunlin_bench::rig::questions::{OPT_OCTETS, Questions};
use dunlin_bench::rig::stats::{median, percentile};
use dunlin_bench::rig::usage::{resident, wait_until_idle};
use dunlin_bench::rig::wait::wait_for;

use super::farm::Farm;
use super::kind::ServerKind;
use super::mix::{Mix, Spread};
use super::row::{Goal, Row, Unit};
use super::setup::{DnsSetup, LARGE_PAYLOAD, USUAL_PAYLOAD};
use super::store;
use super::workload::{Workload, flood_one};

/// Services of which the changing agent has an instance: as many as one node may have instances.
const SERVICES: u64 = 10_000;
/// The sets of instances, each of which is changed as a whole.
const SETS: usize = 100;
const CHANGES_PER_SECOND: u32 = 1_000;
const SAMPLES: usize = 100;
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const PROBE: &str = "probe.api.prod.shop";

/// Lets the second agent join with instances of services of the first, and measures the first one in turns without any
/// change and with a thousand a second.
pub(super) fn measure(setup: &DnsSetup, farm: &mut Farm) -> Result<Vec<Row>> {
    farm.fleet.agents[1].start()?;
    farm.fleet.wait_until_joined()?;
    pin(farm.fleet.agents[1].pid()?, Processors::Second)?;
    let [measured, changing] = &farm.fleet.agents[..] else { return Ok(Vec::new()) };
    let services = (0..SERVICES).map(|number| format!("{}.api.prod.shop", store::service(number)));
    let mut changer = Changer::new(changing.client()?, services.collect(), SETS);
    changer.change_all()?;
    // The two agents are busy until both have all instances.
    let wanted = farm.rows + SERVICES;
    for agent in [measured, changing] {
        let mut client = agent.client()?;
        wait_for("all instances", || {
            thread::sleep(POLL_INTERVAL);
            Ok(agent.instances(&mut client)? >= wanted)
        })?;
    }
    for agent in [measured, changing] {
        wait_until_idle(agent.pid()?)?;
    }
    let questions = Mix::Both(Spread::Uniform).questions(SERVICES, USUAL_PAYLOAD);
    let row = |what: &str, unit, goal| Row::new(format!("100,000 × 3, {what}"), unit, goal);
    let mut quiet = row("quiet: processor time", Unit::Micros, Goal::None);
    let mut quiet_memory = row("quiet: resident", Unit::Megabytes, Goal::Below(120.0));
    let mut used = Vec::new();
    let mut memory = Vec::new();
    for _ in 0..setup.rounds {
        wait_until_idle(farm.dunlin().pid)?;
        let found = flood_one(setup, farm.dunlin(), &questions, Workload::HITS)?;
        quiet.add(ServerKind::Dunlin, found.micros_per_answer());
        quiet_memory.add(ServerKind::Dunlin, megabytes(farm)?);
        let running = changer.start(CHANGES_PER_SECOND);
        let found = flood_one(setup, farm.dunlin(), &questions, Workload::HITS)?;
        used.push(found.micros_per_answer());
        memory.push(megabytes(farm)?);
        changer = running.stop()?;
    }
    let ceiling = |quiet: &Row| Goal::Below(1.1 * quiet.of(ServerKind::Dunlin).unwrap_or_default());
    let mut busy = row("1,000 changes/s: processor time", Unit::Micros, ceiling(&quiet));
    used.into_iter().for_each(|sample| busy.add(ServerKind::Dunlin, sample));
    let mut busy_memory = row("1,000 changes/s: resident", Unit::Megabytes, ceiling(&quiet_memory));
    memory.into_iter().for_each(|sample| busy_memory.add(ServerKind::Dunlin, sample));
    let running = changer.start(CHANGES_PER_SECOND);
    let delays = delays(measured, farm)?;
    running.stop()?;
    Ok([vec![quiet, busy, quiet_memory, busy_memory], delays].concat())
}

fn megabytes(farm: &Farm) -> Result<f64> {
    Ok(resident(farm.dunlin().pid)? as f64 / 1e6)
}

/// How long it takes until answers hold a change, since it was sent and since a watch of the same agent told of it.
fn delays(agent: &Agent, farm: &Farm) -> Result<Vec<Row>> {
    let (mut writer, mut events) = (agent.client()?, None);
    let question = Questions::one(&format!("{PROBE}.dunlin.internal"), LARGE_PAYLOAD);
    let socket = UdpSocket::bind((farm.dunlin().address.ip(), 0))?;
    socket.connect(farm.dunlin().address)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let (mut since_sent, mut since_told) = (Vec::new(), Vec::new());
    for weight in 1..=SAMPLES as u16 + 1 {
        let body = format!("{{\"service\":\"{PROBE}\",\"port\":8080,\"weight\":{weight}}}");
        let sent = Instant::now();
        writer.send("PUT", "/api/instances/probe", body.as_bytes())?;
        let Some(mut watch) = events.take() else {
            // The first registers what is to be watched.
            writer.good_answer()?;
            events = Some(agent.watch(PROBE)?);
            continue;
        };
        let watching = thread::spawn(move || -> Result<(Events, Instant)> {
            watch.wait_for_text(&format!("\"weight\":{weight},"))?;
            Ok((watch, Instant::now()))
        });
        wait_for("the change to be in answers", || {
            Ok(weight_of(&socket, &question) == Some(weight))
        })?;
        let answered = Instant::now();
        let (watch, told) = watching.join().map_err(|_| anyhow!("the watch panicked"))??;
        events = Some(watch);
        writer.good_answer()?;
        since_sent.push(answered - sent);
        since_told.push(answered.saturating_duration_since(told));
    }
    let row = |what: &str, time: Duration, goal| {
        let mut row =
            Row::new(format!("a change until it is in answers, {what}"), Unit::Micros, goal);
        row.add(ServerKind::Dunlin, time.as_secs_f64() * 1e6);
        row
    };
    let goal = Goal::Below(5000.0);
    Ok(vec![
        row("after its request, p50", median(&since_sent), Goal::None),
        row("after its request, p99", percentile(&since_sent, 99.0), Goal::None),
        row("after a watch told of it, p50", median(&since_told), goal),
        row("after a watch told of it, p99", percentile(&since_told, 99.0), goal),
    ])
}

/// The weight in the first record of the answer.
fn weight_of(socket: &UdpSocket, question: &Questions) -> Option<u16> {
    let mut answer = [0; LARGE_PAYLOAD as usize];
    let packet = question.packet(0);
    let length = ask(socket, packet, &mut answer)?;
    // Behind the question, which was sent with an OPT record, are a pointer, type, class, TTL and length of the data, then
    // priority and weight (RFC 2782).
    let weight = packet.len() - OPT_OCTETS + 12 + 2;
    let octets = answer[..length].get(weight..weight + 2);
    octets.and_then(|octets| octets.first_chunk()).map(|octets| u16::from_be_bytes(*octets))
}
