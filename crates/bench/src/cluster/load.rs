//! What the agents are made to do: single writes at full speed, sets of providers, and a probe that times one change.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::fleet::Agent;
use super::http::{Client, Events, holds};

/// Weights that are used in turn.
const WEIGHTS: u32 = 60_000;

/// The body that registers an instance.
pub(super) fn registration(service: &str, weight: u32) -> String {
    format!("{{\"service\":\"{service}\",\"port\":8080,\"weight\":{weight}}}")
}

/// Threads that write as fast as their agent acknowledges, each one instance of a service of its own.
pub(super) struct Writers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<Vec<Duration>>>>,
    start: Instant,
}

/// What writers got done.
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
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for number in 0..count {
            let (mut client, stop) = (agent.client()?, Arc::clone(&stop));
            let service = format!("load{number}-{}", agent.name);
            let path = format!("/api/instances/{service}");
            threads.push(thread::spawn(move || {
                let mut times = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let weight = times.len() as u32 % WEIGHTS + 1;
                    let start = Instant::now();
                    client.expect("PUT", &path, registration(&service, weight).as_bytes())?;
                    times.push(start.elapsed());
                }
                Ok(times)
            }));
        }
        Ok(Self { stop, threads, start: Instant::now() })
    }

    /// Ends when all that was sent is acknowledged.
    pub(super) fn stop(self) -> Result<Written> {
        self.stop.store(true, Ordering::Relaxed);
        let mut acknowledged = Vec::new();
        for thread in self.threads {
            let times = thread.join().map_err(|_| anyhow!("a writer panicked"))??;
            acknowledged.extend(times);
        }
        Ok(Written { acknowledged, took: self.start.elapsed() })
    }
}

/// States sets of instances that change as a whole: every PUT is a commit of `rows` rows.
pub(super) struct Sets {
    client: Client,
    /// Per provider its path and two sets, in turn.
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
    let mut body = "{\"instances\":[".to_owned();
    for row in 0..rows {
        let comma = if row == 0 { "" } else { "," };
        let service = row % 10;
        let _ = write!(
            body,
            "{comma}{{\"id\":\"{name}-{row}\",\"service\":\"s{service}-{name}\",\"port\":80,\"weight\":{weight}}}"
        );
    }
    body.push_str("]}");
    body
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
        Self::of(writer.client()?, watcher.watch(&service)?, service)
    }

    /// With a client and a watch of one's own.
    pub(super) fn of(writer: Client, watch: Events, service: String) -> Result<Self> {
        let path = format!("/api/instances/{service}");
        let mut probe = Self { writer, watch, service, path, weight: 0 };
        probe.change()?;
        Ok(probe)
    }

    /// Changes the instance's weight: the time until the watch tells of it.
    pub(super) fn change(&mut self) -> Result<Duration> {
        self.weight = self.weight % WEIGHTS + 1;
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
