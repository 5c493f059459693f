//! The load on the agents: single writes at full speed, sets of providers, and a probe that times one change.

use std::time::{Duration, Instant};

use anyhow::Result;
use dunlin_bench::rig::agent::Agent;
use dunlin_bench::rig::client::{Client, holds};
use dunlin_bench::rig::events::Events;
use dunlin_bench::rig::repeating::Repeating;
use dunlin_bench::rig::statement::statement;

/// The largest weight that a writer states before it begins with 1 again.
const MAX_WEIGHT: u32 = 60_000;

/// The body that registers an instance.
pub(super) fn registration(service: &str, weight: u32) -> String {
    format!("{{\"service\":\"{service}\",\"port\":8080,\"weight\":{weight}}}")
}

/// Threads that write as fast as their agent acknowledges, each one instance of a service of its own.
pub(super) struct Writers {
    threads: Vec<Repeating<Writer>>,
    start: Instant,
}

/// A writer with its connection, and how long each of its writes took.
struct Writer {
    client: Client,
    path: String,
    service: String,
    acknowledged: Vec<Duration>,
}

impl Writer {
    fn write(&mut self) -> Result<()> {
        let weight = self.acknowledged.len() as u32 % MAX_WEIGHT + 1;
        let body = registration(&self.service, weight);
        let start = Instant::now();
        self.client.expect("PUT", &self.path, body.as_bytes())?;
        self.acknowledged.push(start.elapsed());
        Ok(())
    }
}

/// What writers did until they were stopped.
pub(super) struct Written {
    /// How long each write took until it was acknowledged.
    pub(super) acknowledged: Vec<Duration>,
    pub(super) took: Duration,
}

impl Written {
    pub(super) fn per_second(&self) -> f64 {
        self.acknowledged.len() as f64 / self.took.as_secs_f64()
    }
}

impl Writers {
    pub(super) fn start(agent: &Agent, count: usize) -> Result<Self> {
        let writer = |number: usize| -> Result<Writer> {
            let service = format!("load{number}-{}", agent.name);
            let path = format!("/api/instances/{service}");
            Ok(Writer { client: agent.client()?, path, service, acknowledged: Vec::new() })
        };
        let mut threads = Vec::new();
        for number in 0..count {
            threads.push(Repeating::start(writer(number)?, Duration::ZERO, Writer::write));
        }
        Ok(Self { threads, start: Instant::now() })
    }

    /// Stops them. Returns when all that was sent is acknowledged.
    pub(super) fn stop(self) -> Result<Written> {
        self.threads.iter().for_each(Repeating::halt);
        let mut acknowledged = Vec::new();
        for thread in self.threads {
            acknowledged.extend(thread.stop()?.acknowledged);
        }
        Ok(Written { acknowledged, took: self.start.elapsed() })
    }
}

/// States sets of instances that change as a whole: every PUT is a commit of `rows` rows.
pub(super) struct Sets {
    client: Client,
    /// The path of each provider, and the two sets that it states in turn.
    bodies: Vec<(String, [String; 2])>,
    stated: usize,
}

impl Sets {
    pub(super) fn new(agent: &Agent, providers: usize, rows: usize) -> Result<Self> {
        let bodies = (0..providers).map(|provider| {
            let name = format!("set{provider}");
            let sets = [1, 2].map(|weight| set(&format!("{name}-{}", agent.name), rows, weight));
            (format!("/api/providers/{name}"), sets)
        });
        Ok(Self { client: agent.client()?, bodies: bodies.collect(), stated: 0 })
    }

    /// States the next provider's set and waits until it is acknowledged.
    pub(super) fn state_next(&mut self) -> Result<()> {
        let (path, sets) = &self.bodies[self.stated % self.bodies.len()];
        let body = &sets[self.stated / self.bodies.len() % 2];
        self.client.expect("PUT", path, body.as_bytes())?;
        self.stated += 1;
        Ok(())
    }

    /// How many sets have been stated.
    pub(super) fn stated(&self) -> usize {
        self.stated
    }

    /// States sets for a while. Returns how long each took.
    pub(super) fn state_for(&mut self, time: Duration) -> Result<Vec<Duration>> {
        let start = Instant::now();
        let mut times = Vec::new();
        while start.elapsed() < time {
            let begun = Instant::now();
            self.state_next()?;
            times.push(begun.elapsed());
        }
        Ok(times)
    }
}

/// A provider's complete set: instances of ten services, all of one weight.
pub(super) fn set(name: &str, rows: usize, weight: u32) -> String {
    statement((0..rows).map(|row| {
        let service = row % 10;
        format!(
            "{{\"id\":\"{name}-{row}\",\"service\":\"s{service}-{name}\",\"port\":80,\"weight\":{weight}}}"
        )
    }))
}

/// One instance on one agent and a watch of its service on another.
pub(super) struct Probe {
    writer: Client,
    watch: Events,
    service: String,
    path: String,
    weight: u32,
}

impl Probe {
    /// Registers the instance and waits until the watch tells of it.
    pub(super) fn new(writer: &Agent, watcher: &Agent) -> Result<Self> {
        let service = format!("probe-{}-{}", writer.name, watcher.name);
        let path = format!("/api/instances/{service}");
        let (writer, watch) = (writer.client()?, watcher.watch(&service)?);
        let mut probe = Self { writer, watch, service, path, weight: 0 };
        probe.change()?;
        Ok(probe)
    }

    /// Changes the instance's weight: the time until the watch tells of it.
    pub(super) fn change(&mut self) -> Result<Duration> {
        self.weight = self.weight % MAX_WEIGHT + 1;
        let body = registration(&self.service, self.weight);
        let sign = format!("\"weight\":{},", self.weight);
        let start = Instant::now();
        self.writer.send("PUT", &self.path, body.as_bytes())?;
        self.watch.wait_for_text(&sign)?;
        let told = start.elapsed();
        self.writer.good_answer()?;
        Ok(told)
    }

    /// Deregisters the instance, which is urgent news: the time until the watch tells of it. Then puts it back.
    pub(super) fn deregister(&mut self) -> Result<Duration> {
        let start = Instant::now();
        self.writer.send("DELETE", &self.path, b"")?;
        self.watch.wait_for(|event| holds(event, b"\"instances\":[]"))?;
        let told = start.elapsed();
        self.writer.good_answer()?;
        self.change()?;
        Ok(told)
    }
}
