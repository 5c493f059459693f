//! One real agent in a process of its own, with its data directory on the disk of the target folder.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde_json::Value;

use super::client::Client;
use super::events::Events;
use super::process::Process;
use super::program::command;
use super::usage;
use super::wait::wait_for;

const API_PORT: u16 = 5380;
const DNS_PORT: u16 = 5300;
/// The port on which agents reach each other.
pub(super) const CLUSTER_PORT: u16 = 5370;
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// The number of lines at the end of a log that an error message holds.
const LAST_LINES: usize = 8;

/// An agent, running or not. Dropping it kills it.
pub struct Agent {
    /// The name of its node.
    pub name: String,
    pub data: PathBuf,
    /// The folder of its provider files.
    pub services: PathBuf,
    site: Site,
    config: PathBuf,
    log: PathBuf,
    binary: PathBuf,
    process: Option<Process>,
}

/// Where an agent runs.
#[derive(Debug, Clone)]
pub struct Site {
    /// The address of all its listeners.
    pub ip: Ipv4Addr,
    /// The words in front of the agent's command, for example those that move it to a network namespace. The program that
    /// they start must become the agent and keep its process id.
    pub wrapper: Vec<String>,
}

impl Agent {
    /// Writes the configuration of an agent without starting it. Its certificates must be in `dir`.
    pub(super) fn prepare(
        binary: &Path,
        dir: &Path,
        name: String,
        site: Site,
        join: &str,
    ) -> Result<Self> {
        let ip = site.ip;
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
        Ok(Self { name, data, services, site, config, log, binary, process: None })
    }

    /// Adds lines to the `[dns]` section of its configuration.
    pub fn configure_dns(&self, lines: &str) -> Result<()> {
        let text = fs::read_to_string(&self.config)?;
        Ok(fs::write(&self.config, text.replace("[dns]\n", &format!("[dns]\n{lines}\n")))?)
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// If it is not ready within a minute; the error holds the end of its log.
    pub fn start(&mut self) -> Result<()> {
        self.spawn()?;
        let ready = wait_for("an agent to be ready", || {
            // By the local socket, which can be reached from every network namespace.
            let ask = |mut client: Client| client.expect("GET", "/readyz", b"");
            Ok(self.local_client().and_then(ask).is_ok())
        });
        ready.with_context(|| format!("{} says:\n{}", self.name, self.last_words()))
    }

    /// Starts the agent without waiting until it is ready.
    pub fn spawn(&mut self) -> Result<()> {
        let (binary, config) = (self.binary.to_string_lossy(), self.config.to_string_lossy());
        // The agents end with this program, however it ends.
        let prefix = ["--pdeathsig", "KILL", "--"].into_iter();
        let wrapper = self.site.wrapper.iter().map(String::as_str);
        let args = prefix.chain(wrapper).chain([&*binary, "agent", "--config", &*config]);
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = command("setpriv", args);
        command.stdout(Stdio::null()).stderr(log);
        self.process = Some(Process::spawn(&mut command)?);
        Ok(())
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }

    /// Kills the agent, which can tell no other agent before it ends, as in a power cut.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("it does not run")?.kill()
    }

    /// Asks it to stop, and waits until it has.
    ///
    /// # Errors
    /// If it does not run, or has not stopped within a minute.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        let process = self.process.as_mut().context("it does not run")?;
        let status = process.stop(STOP_TIMEOUT).with_context(|| self.name.clone())?;
        self.process = None;
        Ok(status)
    }

    /// Whether it was started and neither killed nor stopped since.
    pub fn is_started(&self) -> bool {
        self.process.is_some()
    }

    /// The exit status of an agent that has ended by itself.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.process.as_mut().map(Process::ended).transpose()?.flatten())
    }

    /// All that it has logged since its first start.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal to the agent's process.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.as_ref().context("it does not run")?.signal(signal)
    }

    pub fn pid(&self) -> Result<u32> {
        Ok(self.process.as_ref().context("it does not run")?.pid())
    }

    /// Where its API listens.
    pub fn address(&self) -> SocketAddr {
        (self.site.ip, API_PORT).into()
    }

    /// Where its DNS server listens.
    pub fn dns_address(&self) -> SocketAddr {
        (self.site.ip, DNS_PORT).into()
    }

    /// Where its local socket is.
    pub fn socket(&self) -> PathBuf {
        self.data.join("agent.sock")
    }

    /// A client over TCP.
    pub fn client(&self) -> Result<Client> {
        Client::tcp(self.address())
    }

    /// A client over the local socket, whose octets no network interface counts.
    pub fn local_client(&self) -> Result<Client> {
        Client::unix(&self.socket())
    }

    /// A watch of a service.
    pub fn watch(&self, service: &str) -> Result<Events> {
        Events::open(self.address(), &format!("/api/services/{service}/watch"))
    }

    /// The stream of the agent's events.
    pub fn events(&self) -> Result<Events> {
        Events::open(self.address(), "/api/events")
    }

    /// The version up to which it has a node's rows.
    pub fn head_of(&self, node: &str) -> Result<u64> {
        let body = self.client()?.expect("GET", &format!("/api/nodes/{node}"), b"")?;
        let node: Value = serde_json::from_slice(&body)?;
        node["head"].as_u64().context("a node without a head")
    }

    /// Waits until it has a node's rows up to `head`.
    ///
    /// # Errors
    /// If it has not got them within a minute.
    pub fn wait_for_head(&self, node: &str, head: u64) -> Result<()> {
        let mut client = self.client()?;
        let path = format!("/api/nodes/{node}");
        wait_for("rows to arrive", || {
            // The agent does not know a node before the first row of that node has arrived.
            let answer = client.ask("GET", &path, b"")?;
            let node: Value = serde_json::from_slice(&answer.body)?;
            Ok(node["head"].as_u64().is_some_and(|at| at >= head))
        })
    }

    /// How many instances the agent knows, of all nodes together.
    pub fn instances(&self, client: &mut Client) -> Result<u64> {
        Ok(client.metric("dunlin_catalog_instances{")?.unwrap_or_default() as u64)
    }

    /// Its anonymous memory: resident octets that no file backs.
    pub fn anonymous_memory(&self) -> Result<u64> {
        usage::anonymous_memory(self.pid()?)
    }

    /// Processor time that it has used since it was started.
    pub fn processor_time(&self) -> Result<Duration> {
        usage::processor_time(self.pid()?)
    }
}
