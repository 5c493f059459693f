//! Answers while instances change: what it costs, and how soon a change is in them.

use std::fmt::Write as _;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::farm::{Farm, Kind};
use super::load;
use super::process;
use super::questions::{Asked, Questions, Spread};
use super::row::{Goal, Row, Unit};
use super::{LARGE_PAYLOAD, LOAD_CORE, Setup, USUAL_PAYLOAD, Workload, flood_one};
use crate::bench::cluster::fleet::{Agent, wait_for};
use crate::bench::cluster::http::{Client, Events};
use crate::bench::stats::{median, percentile};

/// Services of which the changing agent has an instance: as many as one node may have instances.
const SERVICES: u64 = 10_000;
const SETS: u64 = 100;
const SETS_PER_SECOND: u32 = 10;
const SAMPLES: usize = 100;
const POLL_EVERY: Duration = Duration::from_millis(50);
const PROBE: &str = "probe.api.prod.shop";

/// The second agent joins, has instances of services of the first, and changes a thousand a second: in the rounds, by
/// turns with none.
pub(super) fn measure(setup: &Setup, farm: &mut Farm) -> Result<Vec<Row>> {
    farm.fleet.agents[1].start()?;
    farm.fleet.wait_until_joined()?;
    process::pin(farm.fleet.agents[1].pid()?, LOAD_CORE)?;
    let [measured, changing] = &farm.fleet.agents[..] else { return Ok(Vec::new()) };
    let mut changer = Changer::new(changing.client()?);
    for _ in 0..SETS {
        changer.change()?;
    }
    // Until the two agree, they are busy with that.
    let wanted = farm.rows + SERVICES;
    for agent in [measured, changing] {
        let mut client = agent.client()?;
        wait_for("all instances", || {
            thread::sleep(POLL_EVERY);
            Ok(agent.instances(&mut client)? >= wanted)
        })?;
    }
    for agent in [measured, changing] {
        process::wait_until_idle(agent.pid()?)?;
    }
    let questions = Questions::new(Asked::Both(Spread::Uniform), SERVICES, USUAL_PAYLOAD);
    let row = |what: &str, unit, goal| Row::new(format!("100,000 × 3, {what}"), unit, goal);
    let mut quiet = row("quiet: processor time", Unit::Micros, Goal::None);
    let mut quiet_memory = row("quiet: resident", Unit::Megabytes, Goal::Below(120.0));
    let mut used = Vec::new();
    let mut memory = Vec::new();
    for _ in 0..setup.rounds {
        process::wait_until_idle(farm.dunlin().pid)?;
        let found = flood_one(setup, farm.dunlin(), &questions, Workload::HITS)?;
        quiet.add(Kind::Dunlin, found.micros_per_answer());
        quiet_memory.add(Kind::Dunlin, resident(farm)?);
        let running = changer.start();
        let found = flood_one(setup, farm.dunlin(), &questions, Workload::HITS)?;
        used.push(found.micros_per_answer());
        memory.push(resident(farm)?);
        changer = running.stop()?;
    }
    let ceiling = |quiet: &Row| Goal::Below(1.1 * quiet.of(Kind::Dunlin).unwrap_or_default());
    let mut busy = row("1,000 changes/s: processor time", Unit::Micros, ceiling(&quiet));
    used.into_iter().for_each(|sample| busy.add(Kind::Dunlin, sample));
    let mut busy_memory = row("1,000 changes/s: resident", Unit::Megabytes, ceiling(&quiet_memory));
    memory.into_iter().for_each(|sample| busy_memory.add(Kind::Dunlin, sample));
    let running = changer.start();
    let delays = delays(measured, farm)?;
    running.stop()?;
    Ok([vec![quiet, busy, quiet_memory, busy_memory], delays].concat())
}

fn resident(farm: &Farm) -> Result<f64> {
    Ok(process::resident(farm.dunlin().pid)? as f64 / 1e6)
}

/// From a change until answers have it: after it was sent, and after a watch of the same agent told of it.
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
            Ok(weight_of(&socket, &question)? == Some(weight))
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
        row.add(Kind::Dunlin, time.as_secs_f64() * 1e6);
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
fn weight_of(socket: &UdpSocket, question: &Questions) -> Result<Option<u16>> {
    let mut answer = [0; LARGE_PAYLOAD as usize];
    let packet = question.packet(0);
    let Some(length) = load::ask(socket, packet, &mut answer)? else { return Ok(None) };
    // Behind the question, which was sent with an OPT record of 11 octets: a pointer, type, class, TTL and length of
    // the data, then priority and weight (RFC 2782).
    let weight = packet.len() - 11 + 12 + 2;
    let octets = answer[..length].get(weight..weight + 2);
    Ok(octets.and_then(|octets| octets.first_chunk()).map(|octets| u16::from_be_bytes(*octets)))
}

/// States sets of instances, each time another one with other weights.
struct Changer {
    client: Client,
    stated: u64,
}

struct Running {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Changer>>,
}

impl Changer {
    fn new(client: Client) -> Self {
        Self { client, stated: 0 }
    }

    /// Changes a hundredth of all instances.
    fn change(&mut self) -> Result<()> {
        let (set, weight) = (self.stated % SETS, self.stated / SETS % 2 + 1);
        let mut body = "{\"instances\":[".to_owned();
        for number in (0..SERVICES).skip(set as usize).step_by(SETS as usize) {
            let comma = if number == set { "" } else { "," };
            let service = super::store::service(number);
            let _ = write!(
                body,
                "{comma}{{\"id\":\"c{number}\",\"service\":\"{service}.api.prod.shop\",\"port\":80,\"weight\":{weight}}}"
            );
        }
        body.push_str("]}");
        self.client.expect("PUT", &format!("/api/providers/set{set}"), body.as_bytes())?;
        self.stated += 1;
        Ok(())
    }

    fn start(mut self) -> Running {
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut due = Instant::now();
            while !is_over.load(Ordering::Relaxed) {
                self.change().context("a change")?;
                due += Duration::from_secs(1) / SETS_PER_SECOND;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            Ok(self)
        });
        Running { stop, thread }
    }
}

impl Running {
    fn stop(self) -> Result<Changer> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the changer panicked"))?
    }
}
