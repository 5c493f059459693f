//! Real agents of one cluster, with TLS and disks that are synced, on loopback addresses or at sites of the caller's choice.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::agent::{Agent, CLUSTER_PORT, Site};
use super::program::output;
use super::release::Release;
use super::wait::wait_for;

/// The number of other agents that each agent is told to join. In larger clusters more would use up all links of those
/// agents.
const MAX_JOIN: usize = 5;
/// The names of the folders of runs in the target folder begin with this; the process id of the run follows.
const SCRATCH: &str = "bench-run-";

/// The folder of one run, which is removed when this is dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // The next run removes what remains in the target folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Agents of one cluster. Dropping it kills them and removes all that they wrote.
pub struct Fleet {
    /// The agents in the order of their names n1, n2 and so on.
    pub agents: Vec<Agent>,
    _scratch: Scratch,
}

impl Fleet {
    /// Starts agents and waits until each sees all others alive.
    ///
    /// # Errors
    /// If an agent does not start, or they do not find each other within a minute.
    pub fn start(release: &Release, count: usize) -> Result<Self> {
        let mut fleet = Self::prepare(release, count)?;
        fleet.agents.iter_mut().try_for_each(Agent::start)?;
        fleet.wait_until_joined()?;
        Ok(fleet)
    }

    /// Makes certificates and configurations for agents on loopback addresses, but starts none.
    ///
    /// # Errors
    /// If the binary makes no certificates, or nothing can be written.
    pub fn prepare(release: &Release, count: usize) -> Result<Self> {
        let run = std::process::id();
        // Each run has a range of loopback addresses of its own, so that it disturbs no other.
        let subnet = [127, 16 + (run % 200) as u8, (run / 200 % 250) as u8];
        let ip = |number| Ipv4Addr::new(subnet[0], subnet[1], subnet[2], number as u8);
        let site = |number| Site { ip: ip(number), wrapper: Vec::new() };
        Self::prepare_at(release, (1..=count).map(site).collect())
    }

    /// As [`Fleet::prepare`], for agents at these sites.
    pub fn prepare_at(release: &Release, sites: Vec<Site>) -> Result<Self> {
        remove_abandoned(release.target());
        let nanos = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().subsec_nanos();
        let run = format!("{SCRATCH}{}-{nanos}", std::process::id());
        let dir = release.target().join(run);
        let scratch = Scratch(dir.clone());
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let binary = release.binary();
        let tls = |args: &[&str]| output(&binary, [&["tls"], args].concat()).map(drop);
        let out = dir.to_string_lossy();
        tls(&["ca", "create", "--out", &out])?;
        let (ca, key) = (format!("{out}/ca.crt"), format!("{out}/ca.key"));
        let ips: Vec<Ipv4Addr> = sites.iter().map(|site| site.ip).collect();
        let mut agents = Vec::new();
        for (at, site) in sites.into_iter().enumerate() {
            let name = format!("n{}", at + 1);
            let about = ["--node", &name, "--zone", "z1", "--ca", &ca, "--ca-key", &key];
            tls(&[&["cert", "create"][..], &about, &["--out", &out]].concat())?;
            let others = ips.iter().filter(|other| **other != site.ip).take(MAX_JOIN);
            let join: Vec<String> =
                others.map(|other| format!("\"{other}:{CLUSTER_PORT}\"")).collect();
            agents.push(Agent::prepare(&binary, &dir, name, site, &join.join(", "))?);
        }
        Ok(Self { agents, _scratch: scratch })
    }

    /// Waits until every running agent sees every other running one alive.
    ///
    /// # Errors
    /// If that takes more than a minute; the error holds the end of the log of the agent that does not see all.
    pub fn wait_until_joined(&self) -> Result<()> {
        let running: Vec<&Agent> = self.agents.iter().filter(|agent| agent.is_started()).collect();
        for agent in &running {
            let mut client = agent.local_client()?;
            wait_for("all agents to see each other", || {
                let nodes = client.expect("GET", "/api/nodes", b"")?;
                let nodes: Value = serde_json::from_slice(&nodes)?;
                let alive = |name: &str| {
                    let nodes = nodes["nodes"].as_array().into_iter().flatten();
                    nodes.clone().any(|n| n["name"] == *name && n["status"] == "alive")
                };
                Ok(running.iter().all(|other| alive(&other.name)))
            })
            .with_context(|| format!("{} says:\n{}", agent.name, agent.last_words()))?;
        }
        Ok(())
    }
}

/// Removes the folders of runs that were killed before they could remove their own.
fn remove_abandoned(target: &Path) {
    for entry in fs::read_dir(target).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let run = name.strip_prefix(SCRATCH).and_then(|rest| rest.split('-').next());
        if run.is_some_and(|run| !Path::new("/proc").join(run).exists()) {
            // The next run tries again to remove what cannot be removed now.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
