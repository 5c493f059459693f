//! What must be so when the faults are over: all agents know exactly what was acknowledged, every watch is told of a
//! last change, and nothing that was used is still held.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::ledger::{CHECKED_PORT, Kind, Ledger};
use super::stage::{Post, Stage, pause};
use super::watches::LAST_WEIGHT;
use super::writers::registration;
use crate::bench::cluster::fleet::Agent;
use crate::bench::cluster::http::Client;

/// From the end of the faults until all agents agree.
const AGREED_WITHIN: Duration = Duration::from_secs(60);
/// Between two comparisons.
const PAUSE: Duration = Duration::from_millis(500);
/// Lines of a log that are shown.
const LINES: usize = 5;

/// All that an agent knows: by the address of an instance, its service, id and port, and its health.
type Catalog = BTreeMap<String, (String, String)>;

/// Waits until all agents know the same, which is what was acknowledged. Returns how long that took.
pub(super) fn agree(stage: &Stage) -> Result<Duration> {
    let begun = Instant::now();
    loop {
        let difference = compare(stage);
        match difference {
            Ok(None) => return Ok(begun.elapsed()),
            Ok(Some(what)) if begun.elapsed() > AGREED_WITHIN => {
                bail!("{AGREED_WITHIN:?} after the faults: {what}");
            }
            Err(error) if begun.elapsed() > AGREED_WITHIN => return Err(error),
            Ok(_) | Err(_) => pause(PAUSE)?,
        }
    }
}

/// What differs, if anything does.
fn compare(stage: &Stage) -> Result<Option<String>> {
    let catalogs: Vec<Catalog> = stage.posts.iter().map(catalog).collect::<Result<_>>()?;
    for (post, catalog) in stage.posts.iter().zip(&catalogs) {
        if let Some(wrong) = unlike(&stage.ledger, catalog) {
            return Ok(Some(format!("{}: {wrong}", post.name)));
        }
        for (address, known) in catalog {
            let first = catalogs[0].get(address);
            if first != Some(known) {
                let name = &post.name;
                return Ok(Some(format!("{address}: n1 has {first:?} and {name} {known:?}")));
            }
        }
    }
    Ok(None)
}

/// Where a catalog is not what the ledger says.
fn unlike(ledger: &Ledger, catalog: &Catalog) -> Option<String> {
    let mut expected = BTreeSet::new();
    for slot in &ledger.slots {
        let address = slot.address.to_string();
        let ports = match slot.kind {
            Kind::Single | Kind::File => slot.last_ports(),
            // Registered all the time, healthy or not.
            Kind::Tcp | Kind::Ttl | Kind::Wild => vec![Some(CHECKED_PORT)],
        };
        let known = catalog.get(&address);
        let service = &ledger.services[slot.service].name;
        let fits = |port: &Option<u16>| match (port, known) {
            (Some(port), Some((what, _))) => *what == format!("{service} {} {port}", slot.id),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !ports.iter().any(fits) {
            return Some(format!("{known:?} of {}, for which {ports:?} was acknowledged", slot.id));
        }
        expected.insert(address);
    }
    let stranger = catalog.iter().find(|(address, _)| !expected.contains(*address));
    stranger.map(|stranger| format!("{stranger:?} was never registered"))
}

fn catalog(post: &Post) -> Result<Catalog> {
    let mut client = post.local()?;
    let mut get = |path: &str| -> Result<Value> {
        Ok(serde_json::from_slice(&client.expect("GET", path, b"")?)?)
    };
    let services = get("/api/services")?;
    let mut catalog = Catalog::new();
    for service in services["services"].as_array().context("no list of services")? {
        let name = service["service"].as_str().context("a service without a name")?;
        let whole = get(&format!("/api/services/{name}?health=any"))?;
        for instance in whole["instances"].as_array().context("no list of instances")? {
            let word = |key: &str| instance[key].as_str().unwrap_or_default().to_owned();
            let what = format!("{name} {} {}", word("id"), instance["port"]);
            let before = catalog.insert(word("address"), (what, word("health")));
            ensure!(before.is_none(), "{}: {} twice", post.name, word("address"));
        }
    }
    Ok(catalog)
}

/// Makes a last change in each service that is watched.
pub(super) fn change_all(stage: &Stage) -> Result<()> {
    let mut clients: Vec<Client> = stage.posts.iter().map(Post::local).collect::<Result<_>>()?;
    for service in &stage.ledger.services {
        let slot = &stage.ledger.slots[service.slots[0]];
        if slot.kind == Kind::Single {
            let body = registration(slot, slot.begin(true), LAST_WEIGHT);
            let path = format!("/api/instances/{}", slot.id);
            clients[slot.node].expect("PUT", &path, body.as_bytes())?;
            slot.acknowledge();
        }
    }
    stage.orders.end_watches.store(true, Ordering::Relaxed);
    Ok(())
}

/// What agents say in their logs that they should not have to.
fn read_logs(stage: &Stage, agents: &[Agent]) {
    for agent in agents {
        let log = agent.log();
        let is_bad = |line: &&str| line.contains(" ERROR ") || line.contains("panicked");
        let bad: Vec<&str> = log.lines().filter(is_bad).collect();
        if !bad.is_empty() {
            let first = bad[..bad.len().min(LINES)].join("\n");
            let (count, name) = (bad.len(), &agent.name);
            stage.violation(format!("{name} logged {count} errors, first:\n{first}"));
        }
    }
}

/// Stops all agents in good order, and reads what they logged.
pub(super) fn end(stage: &Stage, agents: &mut [Agent]) -> Result<()> {
    for agent in agents.iter_mut() {
        let status = agent.stop()?;
        if !status.success() {
            stage.violation(format!("{} ended with {status}", agent.name));
        }
    }
    read_logs(stage, agents);
    Ok(())
}
