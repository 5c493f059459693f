//! The state that all threads of a storm share: the agents' addresses, the ledger, counters, orders and violations.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dunlin_bench::rig::client::Client;

use super::chronicle::{Chronicle, Fault};
use super::interrupt;
use super::ledger::Ledger;

/// The most violations whose text is kept; further ones are only counted.
const MAX_VIOLATIONS: usize = 40;
/// The time between two reads of a flag.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The addresses and folders of an agent.
pub(super) struct Post {
    pub(super) name: String,
    pub(super) api: SocketAddr,
    pub(super) dns: SocketAddr,
    pub(super) socket: PathBuf,
    pub(super) services: PathBuf,
}

impl Post {
    /// A client over the local socket, which is reached from every network namespace.
    pub(super) fn local(&self) -> Result<Client> {
        Client::unix(&self.socket)
    }
}

/// A connection that is kept from request to request and opened again when it has failed.
#[derive(Default)]
pub(super) struct KeptClient(Option<(Client, Instant)>);

impl KeptClient {
    /// The open connection, or a new one of `connect`.
    pub(super) fn open(&mut self, connect: impl FnOnce() -> Result<Client>) -> Result<&mut Client> {
        if self.0.is_none() {
            let since = Instant::now();
            self.0 = Some((connect()?, since));
        }
        self.0.as_mut().map(|(client, _)| client).context("it was just made")
    }

    /// Closes it. Returns when it was opened, since any fault of the agent since then may have ended it.
    pub(super) fn close(&mut self) -> Instant {
        self.0.take().map_or_else(Instant::now, |(_, since)| since)
    }
}

/// Counters of what was done and observed.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) answers_http: AtomicU64,
    pub(super) answers_dns: AtomicU64,
    /// Answers about single instances: those where one answer was right, and those where several were.
    pub(super) firm: AtomicU64,
    pub(super) loose: AtomicU64,
    pub(super) dns_lost: AtomicU64,
    pub(super) acknowledged: AtomicU64,
    pub(super) refused: AtomicU64,
    /// Requests that failed, so that it is not known whether they were carried out.
    pub(super) unknown: AtomicU64,
    pub(super) files_written: AtomicU64,
    pub(super) files_spoiled: AtomicU64,
    pub(super) flaps: AtomicU64,
    pub(super) pushes: AtomicU64,
    pub(super) watches_open: AtomicU64,
    pub(super) watches_reopened: AtomicU64,
    pub(super) events: AtomicU64,
    pub(super) faults: [AtomicU64; Fault::NAMES.len()],
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// Reads a counter.
pub(super) fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Orders to the threads.
#[derive(Default)]
pub(super) struct Orders {
    pub(super) end_changes: AtomicBool,
    pub(super) end_lookups: AtomicBool,
    pub(super) end_watches: AtomicBool,
}

/// The state that all threads share.
pub(super) struct Stage {
    pub(super) ledger: Ledger,
    pub(super) posts: Vec<Post>,
    pub(super) tally: Tally,
    pub(super) orders: Orders,
    pub(super) begun: Instant,
    chronicle: RwLock<Chronicle>,
    violations: Mutex<(u64, Vec<String>)>,
    /// How long lookups took over HTTP and over DNS, at agents that nothing was done to.
    latencies: [Mutex<Vec<Duration>>; 2],
}

impl Stage {
    pub(super) fn new(ledger: Ledger, posts: Vec<Post>) -> Arc<Self> {
        Arc::new(Self {
            ledger,
            posts,
            tally: Tally::default(),
            orders: Orders::default(),
            begun: Instant::now(),
            chronicle: RwLock::new(Chronicle::new()),
            violations: Mutex::default(),
            latencies: Default::default(),
        })
    }

    pub(super) fn chronicle(&self) -> RwLockReadGuard<'_, Chronicle> {
        self.chronicle.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn chronicle_mut(&self) -> RwLockWriteGuard<'_, Chronicle> {
        self.chronicle.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes and prints a violation: the product did what it must not do.
    pub(super) fn violation(&self, what: impl Display) {
        let at = self.begun.elapsed().as_secs_f64();
        let now = self.chronicle().describe();
        let text = format!("at {at:.1} s, {now}: {what}");
        let mut violations = self.violations();
        violations.0 += 1;
        if violations.1.len() < MAX_VIOLATIONS {
            eprintln!("VIOLATION {text}");
            violations.1.push(text);
        }
    }

    /// How many violations there were, and the first of them.
    pub(super) fn violations(&self) -> MutexGuard<'_, (u64, Vec<String>)> {
        self.violations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Samples of lookups over HTTP (0) or DNS (1).
    pub(super) fn latencies(&self, kind: usize) -> MutexGuard<'_, Vec<Duration>> {
        self.latencies[kind].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an agent runs at the moment.
    pub(super) fn is_up(&self, agent: usize) -> bool {
        self.chronicle().is_up(agent)
    }

    /// Whether no fault has touched an agent's process since a moment.
    pub(super) fn is_untouched(&self, agent: usize, since: Instant) -> bool {
        self.chronicle().is_untouched(agent, since)
    }
}

/// Waits.
///
/// # Errors
/// If a signal to end comes meanwhile.
pub(super) fn pause(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    loop {
        ensure!(!interrupt::is_wanted(), "interrupted");
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        // pause: between two reads of what ends the wait.
        thread::sleep(left.min(POLL_INTERVAL));
    }
}

/// Waits at most `time` until a flag is set. Returns whether it is.
pub(super) fn is_set_within(flag: &AtomicBool, time: Duration) -> bool {
    let end = Instant::now() + time;
    loop {
        if flag.load(Ordering::Relaxed) || interrupt::is_wanted() {
            return true;
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        // pause: between two reads of what ends the wait.
        thread::sleep(left.min(POLL_INTERVAL));
    }
}
