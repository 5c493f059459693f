//! A thousand changes a second, spread over all services.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::WATCHES;
use crate::bench::cluster::http::Client;

/// Sets of instances, each changed as a whole.
const SETS: usize = 1_000;
const SETS_PER_SECOND: u32 = 100;

/// States sets, each time another one with other weights.
pub(super) struct Changes {
    client: Client,
    stated: usize,
}

/// Changes that go on.
pub(super) struct Running {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Changes {
    pub(super) fn new(client: Client) -> Self {
        Self { client, stated: 0 }
    }

    /// An instance of every service.
    pub(super) fn state_all(&mut self) -> Result<()> {
        (0..SETS).try_for_each(|_| self.state())
    }

    fn state(&mut self) -> Result<()> {
        let (set, weight) = (self.stated % SETS, self.stated / SETS % 100 + 1);
        let mut body = "{\"instances\":[".to_owned();
        for service in (set..WATCHES).step_by(SETS) {
            let comma = if service == set { "" } else { "," };
            let _ = write!(
                body,
                "{comma}{{\"id\":\"c{service}\",\"service\":\"w{service}\",\"port\":80,\"weight\":{weight}}}"
            );
        }
        body.push_str("]}");
        self.client.expect("PUT", &format!("/api/providers/set{set}"), body.as_bytes())?;
        self.stated += 1;
        Ok(())
    }

    pub(super) fn start(mut self) -> Running {
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut due = Instant::now();
            while !is_over.load(Ordering::Relaxed) {
                self.state().context("a change")?;
                due += Duration::from_secs(1) / SETS_PER_SECOND;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            Ok(())
        });
        Running { stop, thread }
    }
}

impl Running {
    pub(super) fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the changer panicked"))?
    }
}
