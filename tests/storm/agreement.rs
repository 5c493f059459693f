//! Whether all agents know exactly what was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::ledger::{CHECKED_PORT, Ledger, SlotKind};
use super::stage::{Post, Stage, pause};

/// How long it may take from the end of the faults until all agents agree.
const AGREE_TIMEOUT: Duration = Duration::from_secs(60);
/// The time between two comparisons.
const COMPARE_INTERVAL: Duration = Duration::from_millis(500);
/// All instances that an agent knows: by address, the service, id and port, and the health.
type Catalog = BTreeMap<String, (String, String)>;

/// Waits until all agents know the same instances, which are those that were acknowledged. Returns how long that took.
pub(super) fn wait_for(stage: &Stage) -> Result<Duration> {
    let begun = Instant::now();
    loop {
        let difference = compare(stage);
        match difference {
            Ok(None) => return Ok(begun.elapsed()),
            Ok(Some(what)) if begun.elapsed() > AGREE_TIMEOUT => {
                bail!("{AGREE_TIMEOUT:?} after the faults: {what}");
            }
            Err(error) if begun.elapsed() > AGREE_TIMEOUT => return Err(error),
            Ok(_) | Err(_) => pause(COMPARE_INTERVAL)?,
        }
    }
}

/// The first difference that is found, if there is one.
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

/// The first difference between a catalog and the ledger.
fn unlike(ledger: &Ledger, catalog: &Catalog) -> Option<String> {
    let mut expected = BTreeSet::new();
    for slot in &ledger.slots {
        let address = slot.address.to_string();
        let ports = match slot.kind {
            SlotKind::Single | SlotKind::File => slot.last_ports(),
            // These are registered all the time, healthy or not.
            SlotKind::Tcp | SlotKind::Ttl | SlotKind::Wild => vec![Some(CHECKED_PORT)],
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
    let unknown = catalog.iter().find(|(address, _)| !expected.contains(*address));
    unknown.map(|unknown| format!("{unknown:?} was never registered"))
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
