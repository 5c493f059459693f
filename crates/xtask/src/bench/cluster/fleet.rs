//! Real agents in their own processes on loopback addresses, with data directories on the disk of the target folder.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::http::{Client, Events};
use super::proc;
use crate::run::Cmd;

const API_PORT: u16 = 5380;
const DNS_PORT: u16 = 5300;
const CLUSTER_PORT: u16 = 5370;
/// Agents that each is told to join, so that those do not run out of links in larger clusters.
const JOIN: usize = 5;
/// Folders of runs, by process id, in the target folder.
const SCRATCH: &str = "bench-run-";
/// For what should take a second at most.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_millis(2);

/// A folder that is removed in the end.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What remains lies in the target folder and does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Agents of one cluster. Dropping it kills them and removes all that they wrote.
pub(in crate::bench) struct Fleet {
    pub(in crate::bench) agents: Vec<Agent>,
    _scratch: Scratch,
}

/// One agent, running or not.
pub(in crate::bench) struct Agent {
    pub(in crate::bench) name: String,
    pub(in crate::bench) data: PathBuf,
    ip: Ipv4Addr,
    config: PathBuf,
    log: PathBuf,
    binary: PathBuf,
    child: Option<Child>,
}

impl Fleet {
    /// Starts agents and waits until each sees all others alive.
    pub(in crate::bench) fn start(binary: &Path, count: usize) -> Result<Self> {
        let mut fleet = Self::prepare(binary, count)?;
        for agent in &mut fleet.agents {
            agent.start()?;
        }
        fleet.wait_until_joined()?;
        Ok(fleet)
    }

    /// Makes certificates and configurations for agents, but starts none.
    pub(in crate::bench) fn prepare(binary: &Path, count: usize) -> Result<Self> {
        let target = binary.parent().and_then(Path::parent).context("no target folder")?;
        let run = std::process::id();
        let nanos = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().subsec_nanos();
        remove_abandoned(target);
        let dir = target.join(format!("{SCRATCH}{run}-{nanos}"));
        let scratch = Scratch(dir.clone());
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let tls = |args: &[&str]| {
            let program = binary.to_string_lossy();
            let command = Cmd::new(&program, ["tls"].into_iter().chain(args.iter().copied()));
            command.output().map(drop)
        };
        let out = dir.to_string_lossy();
        tls(&["ca", "create", "--out", &out])?;
        // A range of loopback addresses of this run's own, so that it disturbs no other.
        let subnet = [127, 16 + (run % 200) as u8, (run / 200 % 250) as u8];
        let mut agents = Vec::new();
        for number in 1..=count {
            let name = format!("n{number}");
            let (ca, key) = (format!("{out}/ca.crt"), format!("{out}/ca.key"));
            let (ca, key) = (ca.as_str(), key.as_str());
            let about = ["--node", &name, "--zone", "z1", "--ca", ca, "--ca-key", key];
            tls(&[&["cert", "create"][..], &about, &["--out", &out]].concat())?;
            let ip = |number| Ipv4Addr::new(subnet[0], subnet[1], subnet[2], number as u8);
            let others = (1..=count).filter(|other| *other != number).take(JOIN);
            let join: Vec<String> =
                others.map(|other| format!("\"{}:{CLUSTER_PORT}\"", ip(other))).collect();
            agents.push(Agent::prepare(binary, &dir, name, ip(number), &join.join(", "))?);
        }
        Ok(Self { agents, _scratch: scratch })
    }

    /// Waits until every running agent sees every other running one alive.
    pub(in crate::bench) fn wait_until_joined(&self) -> Result<()> {
        let running: Vec<&Agent> = self.agents.iter().filter(|a| a.child.is_some()).collect();
        for agent in &running {
            let mut client = agent.client()?;
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

impl Agent {
    fn prepare(binary: &Path, dir: &Path, name: String, ip: Ipv4Addr, join: &str) -> Result<Self> {
        let home = dir.join(&name);
        let (data, services) = (home.join("data"), home.join("services"));
        fs::create_dir_all(&services)?;
        fs::create_dir_all(&data)?;
        let config = home.join("dunlin.toml");
        let tls = |file: &str| dir.join(file).display().to_string();
        let text = format!(
            "[node]\nname = \"{name}\"\nzone = \"z1\"\naddress = \"{ip}\"\ndata_dir = \"{}\"\n\
             [api]\nlisten = \"{ip}:{API_PORT}\"\ninsecure = true\n\
             [dns]\nlisten = \"{ip}:{DNS_PORT}\"\n\
             [providers]\ndir = \"{}\"\n\
             [cluster]\nlisten = \"{ip}:{CLUSTER_PORT}\"\njoin = [{join}]\n\
             [cluster.tls]\nca = \"{}\"\ncert = \"{}\"\nkey = \"{}\"\n",
            data.display(),
            services.display(),
            tls("ca.crt"),
            tls(&format!("{name}.crt")),
            tls(&format!("{name}.key")),
        );
        fs::write(&config, text)?;
        let log = home.join("log");
        Ok(Self { name, data, ip, config, log, binary: binary.to_owned(), child: None })
    }

    /// Adds lines to the `[dns]` part of its configuration.
    pub(in crate::bench) fn configure_dns(&self, lines: &str) -> Result<()> {
        let text = fs::read_to_string(&self.config)?;
        Ok(fs::write(&self.config, text.replace("[dns]\n", &format!("[dns]\n{lines}\n")))?)
    }

    /// Starts it and waits until it is ready.
    pub(in crate::bench) fn start(&mut self) -> Result<()> {
        self.spawn()?;
        let path = |result: Result<Vec<u8>>| result.is_ok();
        let address = self.address();
        let ready = wait_for("an agent to be ready", || {
            Ok(Client::tcp(address)
                .is_ok_and(|mut client| path(client.expect("GET", "/readyz", b""))))
        });
        ready.with_context(|| format!("{} says:\n{}", self.name, self.last_words()))
    }

    /// Starts it and does not wait.
    pub(in crate::bench) fn spawn(&mut self) -> Result<()> {
        let config = self.config.to_string_lossy();
        let binary = self.binary.to_string_lossy();
        // Whatever ends this program ends the agents, too.
        let args = ["--pdeathsig", "KILL", "--", &*binary, "agent", "--config", &*config];
        let command = Cmd::new("setpriv", args);
        let mut process = command.command();
        let log = File::options().create(true).append(true).open(&self.log)?;
        process.stdout(Stdio::null()).stderr(log);
        self.child = Some(process.spawn().with_context(|| format!("cannot start {command}"))?);
        Ok(())
    }

    /// The end of its log.
    pub(in crate::bench) fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }

    /// Kills it as a power cut would kill the process: without a chance to say anything.
    pub(in crate::bench) fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("it does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Sends it a signal, such as `STOP`.
    pub(in crate::bench) fn signal(&self, name: &str) -> Result<()> {
        Cmd::new("kill", [&format!("-{name}") as &str, &self.pid()?.to_string()]).run()
    }

    pub(in crate::bench) fn pid(&self) -> Result<u32> {
        Ok(self.child.as_ref().context("it does not run")?.id())
    }

    pub(in crate::bench) fn address(&self) -> SocketAddr {
        (self.ip, API_PORT).into()
    }

    pub(in crate::bench) fn dns_address(&self) -> SocketAddr {
        (self.ip, DNS_PORT).into()
    }

    pub(in crate::bench) fn client(&self) -> Result<Client> {
        Client::tcp(self.address())
    }

    /// A client whose octets do not go over the loopback device.
    pub(in crate::bench) fn local_client(&self) -> Result<Client> {
        Client::unix(&self.data.join("agent.sock"))
    }

    pub(in crate::bench) fn watch(&self, service: &str) -> Result<Events> {
        Events::open(self.address(), &format!("/api/services/{service}/watch"))
    }

    pub(in crate::bench) fn events(&self) -> Result<Events> {
        Events::open(self.address(), "/api/events")
    }

    /// How far it has a node's rows.
    pub(in crate::bench) fn head_of(&self, node: &str) -> Result<u64> {
        let body = self.client()?.expect("GET", &format!("/api/nodes/{node}"), b"")?;
        let node: Value = serde_json::from_slice(&body)?;
        node["head"].as_u64().context("a node without a head")
    }

    /// Waits until it has a node's rows up to `head`.
    pub(in crate::bench) fn wait_for_head(&self, node: &str, head: u64) -> Result<()> {
        let mut client = self.client()?;
        let path = format!("/api/nodes/{node}");
        wait_for("rows to arrive", || {
            // A node of which nothing has come is not known.
            let answer = client.ask("GET", &path, b"")?;
            let node: Value = serde_json::from_slice(&answer.body)?;
            Ok(node["head"].as_u64().is_some_and(|at| at >= head))
        })
    }

    /// How many instances it knows, wherever they are.
    pub(in crate::bench) fn instances(&self, client: &mut Client) -> Result<u64> {
        let metrics = String::from_utf8(client.expect("GET", "/metrics", b"")?)?;
        let counts = metrics.lines().filter(|line| line.starts_with("dunlin_catalog_instances{"));
        let counts = counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Ok(counts.sum::<f64>() as u64)
    }

    pub(in crate::bench) fn anonymous_memory(&self) -> Result<u64> {
        proc::anonymous_memory(self.pid()?)
    }

    pub(in crate::bench) fn processor_time(&self) -> Result<Duration> {
        proc::processor_time(self.pid()?)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // An agent that has ended needs neither.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Removes what runs have left that were themselves killed.
fn remove_abandoned(target: &Path) {
    for entry in fs::read_dir(target).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let run = name.strip_prefix(SCRATCH).and_then(|rest| rest.split('-').next());
        if run.is_some_and(|run| !Path::new("/proc").join(run).exists()) {
            // The next run tries again.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Polls until something is so.
pub(in crate::bench) fn wait_for(
    what: &str,
    mut is_so: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let start = Instant::now();
    while !is_so()? {
        if start.elapsed() > PATIENCE {
            bail!("waited {PATIENCE:?} in vain for {what}");
        }
        thread::sleep(POLL_EVERY);
    }
    Ok(())
}
