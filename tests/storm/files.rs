//! Provider files that are rewritten all the time, and sometimes spoiled: the last good statement must stay in force.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dunlin_bench::rig::client::Client;
use dunlin_bench::rig::random::Random;
use dunlin_bench::rig::statement::statement;
use serde_json::Value;

use super::chronicle::RECOVERY;
use super::ledger::Slot;
use super::stage::{Post, Stage, add, is_set_within};

/// The instances that a file states.
pub(super) const INSTANCES: usize = 4;
/// The time between two changes of files on a host.
const CHANGE_INTERVAL: Duration = Duration::from_millis(200);
/// The time between two requests that show whether a file is taken.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// A running agent takes a file within this time: it reads the folder every ten seconds even where inotify reports nothing.
const TAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// A provider file. The service that it states begins with `file`, and the file has its name.
struct ProviderFile {
    slots: Vec<usize>,
    path: PathBuf,
    is_toml: bool,
}

/// The provider files of one host.
pub(super) struct Files<'a> {
    stage: &'a Stage,
    post: &'a Post,
    agent: usize,
    random: Random,
    files: Vec<ProviderFile>,
}

impl<'a> Files<'a> {
    pub(super) fn new(stage: &'a Stage, agent: usize, services: &[usize], seed: u64) -> Self {
        let post = &stage.posts[agent];
        let file = |(at, service): (usize, &usize)| {
            let service = &stage.ledger.services[*service];
            let is_toml = at % 2 == 0;
            let ending = if is_toml { "toml" } else { "json" };
            let path = post.services.join(format!("{}.{ending}", service.name));
            ProviderFile { slots: service.slots.clone(), path, is_toml }
        };
        let files = services.iter().enumerate().map(file).collect();
        Self { stage, post, agent, random: Random(seed), files }
    }

    /// Writes each file once, and waits until it is taken.
    pub(super) fn begin(&mut self) -> Result<()> {
        (0..self.files.len()).try_for_each(|file| self.restate(file, true))
    }

    /// Rewrites and spoils files until the end of changes, and leaves good ones behind.
    pub(super) fn run(&mut self) {
        let result = loop {
            if is_set_within(&self.stage.orders.end_changes, CHANGE_INTERVAL) {
                break self.begin();
            }
            let file = self.random.below(self.files.len() as u64) as usize;
            let result = if self.random.below(5) < 2 {
                self.spoil(file)
            } else {
                let is_whole = self.random.below(2) == 0;
                self.restate(file, is_whole)
            };
            if result.is_err() {
                break result;
            }
        };
        if let Err(error) = result {
            self.stage.violation(format!("{}: {error:#}", self.post.name));
        }
    }

    /// Writes a file with new ports, and without its last instance unless `is_whole`. Waits until its agent shows that.
    fn restate(&mut self, file: usize, is_whole: bool) -> Result<()> {
        let stage = self.stage;
        let file = &self.files[file];
        let slots: Vec<&Slot> = file.slots.iter().map(|slot| &stage.ledger.slots[*slot]).collect();
        let mut ports = Vec::new();
        for (at, slot) in slots.iter().enumerate() {
            let is_present = is_whole || at + 1 < slots.len();
            let port = slot.begin(is_present);
            ports.push(is_present.then_some(port));
        }
        let content = if file.is_toml { toml(&slots, &ports) } else { json(&slots, &ports) };
        let draft = file.path.with_file_name(".draft");
        fs::write(&draft, content)?;
        fs::rename(&draft, &file.path)?;
        add(&stage.tally.files_written, 1);
        self.wait_until_taken(&slots, &ports)?;
        slots.iter().for_each(|slot| slot.acknowledge());
        Ok(())
    }

    fn wait_until_taken(&self, slots: &[&Slot], ports: &[Option<u16>]) -> Result<()> {
        let service = &self.stage.ledger.services[slots[0].service].name;
        let mut patience = Instant::now() + TAKE_TIMEOUT;
        // Faults in the meantime extend the time, which has a limit all the same.
        let end = Instant::now() + 10 * TAKE_TIMEOUT;
        let mut client = None;
        loop {
            let begun = Instant::now();
            let seen = self.look(&mut client, service, slots);
            if seen.as_ref().is_ok_and(|seen| seen == ports) {
                return Ok(());
            }
            if seen.is_err() {
                client = None;
            }
            if !self.stage.is_untouched(self.agent, begun) {
                patience = Instant::now() + TAKE_TIMEOUT + RECOVERY;
            }
            let is_late = Instant::now() > patience.min(end);
            ensure!(
                !is_late,
                "{service} was not taken: {ports:?} were stated and {seen:?} is shown"
            );
            // pause: between two looks; the file has to be taken even if the storm is told to end.
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// The ports of these slots that the host's own agent shows.
    fn look(
        &self,
        client: &mut Option<Client>,
        service: &str,
        slots: &[&Slot],
    ) -> Result<Vec<Option<u16>>> {
        if client.is_none() {
            *client = Some(self.post.local()?);
        }
        let client = client.as_mut().context("it was just made")?;
        let answer = client.ask("GET", &format!("/api/services/{service}?health=any"), b"")?;
        let answer: Value = serde_json::from_slice(&answer.body)?;
        let instances = answer["instances"].as_array().map(Vec::as_slice).unwrap_or_default();
        let port = |slot: &&Slot| {
            let found = instances.iter().find(|instance| instance["id"] == slot.id.as_str());
            found.and_then(|instance| u16::try_from(instance["port"].as_u64()?).ok())
        };
        Ok(slots.iter().map(port).collect())
    }

    /// Replaces a file by something that is no statement.
    fn spoil(&mut self, file: usize) -> Result<()> {
        let kind = self.random.below(4);
        let file = &self.files[file];
        let good = fs::read(&file.path)?;
        let content = match kind {
            0 => Vec::new(),
            1 => vec![0xff; 300],
            2 => b"instance = [{ id = \"x\", service = 7 }]".to_vec(),
            // The cut is within the first string, so that no parser can take the beginning for a whole file.
            _ => good.iter().copied().take(good.len().min(24)).collect(),
        };
        if self.random.below(2) == 0 {
            // The file is written in place, as careless programs do.
            fs::write(&file.path, content)?;
        } else {
            let draft = file.path.with_file_name(".draft");
            fs::write(&draft, content)?;
            fs::rename(&draft, &file.path)?;
        }
        add(&self.stage.tally.files_spoiled, 1);
        Ok(())
    }
}

fn toml(slots: &[&Slot], ports: &[Option<u16>]) -> String {
    let mut text = String::new();
    for (id, service, address, port) in stated(slots, ports) {
        let _ = write!(
            text,
            "[[instance]]\nid = \"{id}\"\nservice = \"{service}\"\naddress = \"{address}\"\nport = {port}\n"
        );
    }
    text
}

fn json(slots: &[&Slot], ports: &[Option<u16>]) -> String {
    let instances = stated(slots, ports).map(|(id, service, address, port)| {
        let stated =
            serde_json::json!({"id": id, "service": service, "address": address, "port": port});
        stated.to_string()
    });
    statement(instances)
}

fn stated<'a>(
    slots: &'a [&Slot],
    ports: &'a [Option<u16>],
) -> impl Iterator<Item = (&'a str, &'a str, String, u16)> {
    slots.iter().zip(ports).filter_map(|(slot, port)| {
        let service = slot.id.rsplit_once('.')?.0;
        Some((slot.id.as_str(), service, slot.address.to_string(), (*port)?))
    })
}
