//! Real agents in their own processes on loopback addresses, with data directories on the disk of the target folder.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
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
pub(crate) struct Fleet {
    pub(crate) agents: Vec<Agent>,
    _scratch: Scratch,
}

/// One agent, running or not.
pub(crate) struct Agent {
    pub(crate) name: String,
    pub(crate) data: PathBuf,
    /// Where its provider files are.
    pub(crate) services: PathBuf,
    place: Place,
    config: PathBuf,
    log: PathBuf,
    binary: PathBuf,
    child: Option<Child>,
}

/// Where an agent runs.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) ip: Ipv4Addr,
    /// The words in front of its command, such as those that move it to a network namespace. They become its
    /// process.
    pub(crate) wrapper: Vec<String>,
}

impl Fleet {
    /// Starts agents and waits until each sees all others alive.
    pub(crate) fn start(binary: &Path, count: usize) -> Result<Self> {
        let mut fleet = Self::prepare(binary, count)?;
        for agent in &mut fleet.agents {
            agent.start()?;
        }
        fleet.wait_until_joined()?;
        Ok(fleet)
    }

    /// Makes certificates and configurations for agents, but starts none.
    pub(crate) fn prepare(binary: &Path, count: usize) -> Result<Self> {
        let run = std::process::id();
        // A range of loopback addresses of this run's own, so that it disturbs no other.
        let subnet = [127, 16 + (run % 200) as u8, (run / 200 % 250) as u8];
        let ip = |number| Ipv4Addr::new(subnet[0], subnet[1], subnet[2], number as u8);
        let place = |number| Place { ip: ip(number), wrapper: Vec::new() };
        Self::prepare_at(binary, (1..=count).map(place).collect())
    }

    /// The same for agents at these places.
    pub(crate) fn prepare_at(binary: &Path, places: Vec<Place>) -> Result<Self> {
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
        let ips: Vec<Ipv4Addr> = places.iter().map(|place| place.ip).collect();
        let mut agents = Vec::new();
        for (at, place) in places.into_iter().enumerate() {
            let number = at + 1;
            let name = format!("n{number}");
            let (ca, key) = (format!("{out}/ca.crt"), format!("{out}/ca.key"));
            let (ca, key) = (ca.as_str(), key.as_str());
            let about = ["--node", &name, "--zone", "z1", "--ca", ca, "--ca-key", key];
            tls(&[&["cert", "create"][..], &about, &["--out", &out]].concat())?;
            let others = ips.iter().filter(|other| **other != place.ip).take(JOIN);
            let join: Vec<String> =
                others.map(|other| format!("\"{other}:{CLUSTER_PORT}\"")).collect();
            agents.push(Agent::prepare(binary, &dir, name, place, &join.join(", "))?);
        }
        Ok(Self { agents, _scratch: scratch })
    }

    /// Waits until every running agent sees every other running one alive.
    pub(crate) fn wait_until_joined(&self) -> Result<()> {
        let running: Vec<&Agent> = self.agents.iter().filter(|a| a.child.is_some()).collect();
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

impl Agent {
    fn prepare(binary: &Path, dir: &Path, name: String, place: Place, join: &str) -> Result<Self> {
        let ip = place.ip;
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
        let binary = binary.to_owned();
        Ok(Self { name, data, services, place, config, log, binary, child: None })
    }

    /// Adds lines to the `[dns]` part of its configuration.
    pub(crate) fn configure_dns(&self, lines: &str) -> Result<()> {
        let text = fs::read_to_string(&self.config)?;
        Ok(fs::write(&self.config, text.replace("[dns]\n", &format!("[dns]\n{lines}\n")))?)
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn start(&mut self) -> Result<()> {
        self.spawn()?;
        let ready = wait_for("an agent to be ready", || {
            // By the local socket, which is there from wherever we are.
            let ask = |mut client: Client| client.expect("GET", "/readyz", b"");
            Ok(self.local_client().and_then(ask).is_ok())
        });
        ready.with_context(|| format!("{} says:\n{}", self.name, self.last_words()))
    }

    /// Starts it and does not wait.
    pub(crate) fn spawn(&mut self) -> Result<()> {
        let config = self.config.to_string_lossy();
        let binary = self.binary.to_string_lossy();
        // Whatever ends this program ends the agents, too.
        let wrapper = self.place.wrapper.iter().map(String::as_str);
        let args = ["--pdeathsig", "KILL", "--"].into_iter().chain(wrapper);
        let args = args.chain([&*binary, "agent", "--config", &*config]);
        let command = Cmd::new("setpriv", args);
        let mut process = command.command();
        let log = File::options().create(true).append(true).open(&self.log)?;
        process.stdout(Stdio::null()).stderr(log);
        self.child = Some(process.spawn().with_context(|| format!("cannot start {command}"))?);
        Ok(())
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }

    /// Kills it as a power cut would kill the process: without a chance to say anything.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("it does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(&mut self) -> Result<ExitStatus> {
        self.signal("TERM")?;
        let name = self.name.clone();
        let child = self.child.as_mut().context("it does not run")?;
        let mut status = None;
        wait_for(&format!("{name} to stop"), || {
            status = child.try_wait()?;
            Ok(status.is_some())
        })?;
        self.child = None;
        status.context("it has stopped")
    }

    /// Whether it has ended by itself, and how.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.as_mut().map(Child::try_wait).transpose()?.flatten())
    }

    /// All that it has logged in all its lives.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends it a signal, such as `STOP`.
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        Cmd::new("kill", [&format!("-{name}") as &str, &self.pid()?.to_string()]).run()
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        Ok(self.child.as_ref().context("it does not run")?.id())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (self.place.ip, API_PORT).into()
    }

    pub(crate) fn dns_address(&self) -> SocketAddr {
        (self.place.ip, DNS_PORT).into()
    }

    pub(crate) fn client(&self) -> Result<Client> {
        Client::tcp(self.address())
    }

    /// A client whose octets do not go over the loopback device.
    pub(crate) fn local_client(&self) -> Result<Client> {
        Client::unix(&self.data.join("agent.sock"))
    }

    pub(crate) fn watch(&self, service: &str) -> Result<Events> {
        Events::open(self.address(), &format!("/api/services/{service}/watch"))
    }

    pub(crate) fn events(&self) -> Result<Events> {
        Events::open(self.address(), "/api/events")
    }

    /// How far it has a node's rows.
    pub(crate) fn head_of(&self, node: &str) -> Result<u64> {
        let body = self.client()?.expect("GET", &format!("/api/nodes/{node}"), b"")?;
        let node: Value = serde_json::from_slice(&body)?;
        node["head"].as_u64().context("a node without a head")
    }

    /// Waits until it has a node's rows up to `head`.
    pub(crate) fn wait_for_head(&self, node: &str, head: u64) -> Result<()> {
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
    pub(crate) fn instances(&self, client: &mut Client) -> Result<u64> {
        Ok(client.metric("dunlin_catalog_instances{")?.unwrap_or_default() as u64)
    }

    pub(crate) fn anonymous_memory(&self) -> Result<u64> {
        proc::anonymous_memory(self.pid()?)
    }

    pub(crate) fn processor_time(&self) -> Result<Duration> {
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
pub(crate) fn wait_for(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !is_so()? {
        if start.elapsed() > PATIENCE {
            bail!("waited {PATIENCE:?} in vain for {what}");
        }
        thread::sleep(POLL_EVERY);
    }
    Ok(())
}
