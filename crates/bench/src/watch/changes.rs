//! A thousand changes a second, spread over all services.

use std::time::Duration;

use anyhow::{Context, Result};
use dunlin_bench::rig::client::Client;
use dunlin_bench::rig::repeating::Repeating;
use dunlin_bench::rig::statement::statement;

use super::WATCHES;

/// Sets of instances, each of which is changed as a whole.
const SETS: usize = 1_000;
/// A hundred sets of ten instances a second.
const SET_INTERVAL: Duration = Duration::from_millis(10);

/// States one set after another, each time with other weights than the last time.
pub(super) struct Changes {
    client: Client,
    stated: usize,
}

impl Changes {
    pub(super) fn new(client: Client) -> Self {
        Self { client, stated: 0 }
    }

    /// States an instance of every service.
    pub(super) fn state_all(&mut self) -> Result<()> {
        (0..SETS).try_for_each(|_| self.state())
    }

    fn state(&mut self) -> Result<()> {
        let (set, weight) = (self.stated % SETS, self.stated / SETS % 100 + 1);
        let instance = |service: usize| {
            format!(
                "{{\"id\":\"c{service}\",\"service\":\"w{service}\",\"port\":80,\"weight\":{weight}}}"
            )
        };
        let body = statement((set..WATCHES).step_by(SETS).map(instance));
        self.client.expect("PUT", &format!("/api/providers/set{set}"), body.as_bytes())?;
        self.stated += 1;
        Ok(())
    }

    /// Continues on a thread of its own.
    pub(super) fn start(self) -> Repeating<Self> {
        Repeating::start(self, SET_INTERVAL, |changes| changes.state().context("a change"))
    }
}
