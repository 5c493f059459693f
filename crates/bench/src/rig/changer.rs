//! Changes at a steady rate, spread over all instances of an agent.

use std::time::Duration;

use anyhow::{Context, Result};

use super::client::Client;
use super::repeating::Repeating;
use super::statement::statement;

/// Weights are stated in turn up to this one.
const MAX_WEIGHT: usize = 100;

/// States sets of instances, one after another, each time with other weights than the last time.
pub struct Changer {
    client: Client,
    /// The service of each instance.
    services: Vec<String>,
    /// The number of sets that the instances are divided into.
    sets: usize,
    stated: usize,
}

impl Changer {
    /// A changer of one instance of each service.
    pub fn new(client: Client, services: Vec<String>, sets: usize) -> Self {
        Self { client, services, sets, stated: 0 }
    }

    /// States every set once.
    pub fn change_all(&mut self) -> Result<()> {
        (0..self.sets).try_for_each(|_| self.change())
    }

    fn change(&mut self) -> Result<()> {
        let (set, weight) = (self.stated % self.sets, self.stated / self.sets % MAX_WEIGHT + 1);
        let instance = |(number, service): (usize, &String)| {
            format!(
                "{{\"id\":\"c{number}\",\"service\":\"{service}\",\"port\":80,\"weight\":{weight}}}"
            )
        };
        let instances = self.services.iter().enumerate().skip(set).step_by(self.sets);
        let body = statement(instances.map(instance));
        self.client.expect("PUT", &format!("/api/providers/set{set}"), body.as_bytes())?;
        self.stated += 1;
        Ok(())
    }

    /// Continues on a thread of its own with as many sets as make `per_second` changes of instances.
    pub fn start(self, per_second: u32) -> Repeating<Self> {
        let set_interval = Duration::from_secs(1) * (self.services.len() / self.sets) as u32;
        Repeating::start(self, set_interval / per_second, |changer| {
            changer.change().context("a change")
        })
    }
}
