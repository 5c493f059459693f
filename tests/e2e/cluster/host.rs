//! One host of a lab, and the agent on it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use dunlin_agent::net::tls::issue::Issued;
use dunlin_api::client::{Client, ClientError, Endpoint, Timeouts};
use dunlin_core::config::ClusterTls;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::network::{Network, address, address_v6};
use crate::agent::{Process, binary, text};
use crate::wait::until;

/// The runtime of the clients of all tests.
pub(crate) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
});

/// One host.
pub(crate) struct Host {
    pub(crate) number: usize,
    pub(crate) dir: PathBuf,
    /// The words in front of the agent's command. The process that they start becomes the agent.
    pub(crate) wrapper: Vec<String>,
    network: Arc<Network>,
    process: Option<Process>,
}

impl Host {
    /// A host without certificates, whose agent joins these hosts when it is started.
    pub(crate) fn new(network: &Arc<Network>, number: usize, dir: &Path, join: &[String]) -> Self {
        let host = Self {
            number,
            dir: dir.join(format!("n{number}")),
            wrapper: Vec::new(),
            network: Arc::clone(network),
            process: None,
        };
        std::fs::create_dir_all(host.dir.join("services.d")).unwrap();
        host.configure(join);
        host
    }

    /// The node's name.
    pub(crate) fn name(&self) -> String {
        format!("n{}", self.number)
    }

    /// The node's zone: two hosts in `z1`, the rest in `z2`.
    pub(crate) fn zone(&self) -> &'static str {
        if self.number <= 2 { "z1" } else { "z2" }
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Where its certificates are.
    pub(crate) fn files(&self) -> ClusterTls {
        let file = |name| self.dir.join("tls").join(name);
        ClusterTls { ca: file("ca.crt"), cert: file("node.crt"), key: file("node.key") }
    }

    /// Writes the configuration, with the agents to join.
    pub(crate) fn configure(&self, join: &[String]) {
        let (own, dir) = (address(self.number), self.dir.display());
        let files = self.files();
        let config = format!(
            "[node]\nname = \"{name}\"\nzone = \"{zone}\"\naddress = \"{own}\"\n\
             data_dir = \"{dir}/data\"\n[api]\nlisten = \"127.0.0.1:5380\"\n\
             [dns]\nlisten = \"127.0.0.1:5300\"\n[providers]\ndir = \"{dir}/services.d\"\n\
             [cluster]\nlisten = \"{own}:5370\"\njoin = {join:?}\n\
             [cluster.tls]\nca = {ca:?}\ncert = {cert:?}\nkey = {key:?}\n",
            name = self.name(),
            zone = self.zone(),
            ca = files.ca,
            cert = files.cert,
            key = files.key,
        );
        std::fs::write(self.dir.join("dunlin.toml"), config).unwrap();
    }

    /// Lets the agent use IPv6 alone, and join the first host.
    pub(crate) fn speak_ipv6(&self) {
        let file = self.dir.join("dunlin.toml");
        let config = std::fs::read_to_string(&file).unwrap();
        let (seed, own) = (address(1), address(self.number));
        let config = config
            .replace("127.0.0.1:", "[::1]:")
            .replace(&format!("join = [\"{seed}:"), &format!("join = [\"[{}]:", address_v6(1)))
            .replace(&format!("{own}:"), &format!("[{}]:", address_v6(self.number)))
            .replace(&own, &address_v6(self.number));
        std::fs::write(file, config).unwrap();
    }

    /// Puts certificates in place: the authority's, and the node's with its key.
    pub(crate) fn certify(&self, authority: &str, issued: &Issued) {
        let files = self.files();
        std::fs::create_dir_all(self.dir.join("tls")).unwrap();
        std::fs::write(&files.ca, authority).unwrap();
        std::fs::write(&files.key, &issued.key).unwrap();
        let secret = Permissions::from_mode(0o600);
        std::fs::set_permissions(&files.key, secret).unwrap();
        std::fs::write(&files.cert, &issued.certificate).unwrap();
    }

    /// Sets how much the agent's clock is wrong from its next start on, for example `+1h`.
    pub(crate) fn set_clock(&mut self, offset: &str) {
        // The `faketime` command would stay between the test and the agent as a process of its own.
        let library = faketime_library().display().to_string();
        self.wrapper = vec![
            "env".to_owned(),
            format!("LD_PRELOAD={library}"),
            format!("FAKETIME={offset}"),
            "DONT_FAKE_MONOTONIC=1".to_owned(),
        ];
    }

    /// The agent's command line, to be run on the host.
    pub(crate) fn agent_command(&self) -> Command {
        let binary = binary().display().to_string();
        let mut words = self.wrapper.clone();
        words.extend([binary, "agent".to_owned()]);
        let mut command = self.command(&words[0]);
        command.args(&words[1..]).env("DUNLIN_CONFIG", self.dir.join("dunlin.toml"));
        command.stdin(Stdio::null());
        command
    }

    /// A command that runs on this host.
    pub(crate) fn command(&self, program: &str) -> Command {
        self.network.command(self.number, program)
    }

    /// Starts the agent without waiting for it.
    pub(crate) fn spawn(&mut self) {
        let log = self.dir.join("agent.log");
        let log = std::fs::File::options().append(true).create(true).open(log).unwrap();
        let mut command = self.agent_command();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(Process::spawn(&mut command));
    }

    /// Starts the agent and waits until it is ready.
    pub(crate) fn boot(&mut self) {
        self.spawn();
        self.wait_ready();
    }

    pub(crate) fn wait_ready(&mut self) {
        let name = self.name();
        until(&format!("{name} is ready"), || {
            if let Some(status) = self.process().0.try_wait().unwrap() {
                panic!("the agent of {name} ended with {status}:\n{}", self.log());
            }
            self.get("/readyz").is_some()
        });
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the agent was started")
    }

    /// Sends the agent's process a signal.
    pub(crate) fn process_signal(&self, signal: &str) {
        self.process.as_ref().expect("the agent was started").signal(signal);
    }

    /// Ends the agent at once.
    pub(crate) fn kill(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        process.kill();
        // The library of a wrong clock leaves these files in shared memory.
        for name in ["faketime_shm_", "sem.faketime_sem_"] {
            let _ = std::fs::remove_file(format!("/dev/shm/{name}{}", process.0.id()));
        }
    }

    /// Stops the agent gracefully.
    pub(crate) fn stop(&mut self) {
        self.process_signal("-TERM");
        self.wait_end();
    }

    /// Waits until the agent has ended gracefully. (A second signal would end it at once.)
    pub(crate) fn wait_end(&mut self) {
        let status = self.process().0.wait().unwrap();
        self.kill();
        assert!(status.success(), "{}: {status}\n{}", self.name(), self.log());
    }

    /// The log of the agent since its first start.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("agent.log")).unwrap_or_default()
    }

    fn client(&self) -> Client {
        let socket = Endpoint::Unix(self.data_dir().join("agent.sock"));
        let answer = Duration::from_secs(10);
        Client::with_timeouts(socket, Timeouts { answer, ..Timeouts::default() })
    }

    /// The answer of the agent; none if it refuses or does not answer.
    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        RUNTIME.block_on(self.client().get(path)).ok()
    }

    pub(crate) fn put(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        RUNTIME.block_on(self.client().put(path, body))
    }

    pub(crate) fn delete(&self, path: &str) -> Result<Value, ClientError> {
        RUNTIME.block_on(self.client().delete(path))
    }

    /// Registers an instance on this host.
    pub(crate) fn register(&self, service: &str, id: &str, weight: usize) {
        let body = json!({"service": service, "port": 8000, "weight": weight});
        if let Err(error) = self.put(&format!("/api/instances/{id}"), &body) {
            panic!("{}: {id}: {error}", self.name());
        }
    }

    pub(crate) fn deregister(&self, id: &str) {
        self.delete(&format!("/api/instances/{id}")).unwrap();
    }

    /// The status of each node in the view of this agent.
    pub(crate) fn statuses(&self) -> BTreeMap<String, String> {
        let nodes = self.get("/api/nodes").unwrap_or_default();
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let nodes = nodes["nodes"].as_array().cloned().unwrap_or_default();
        nodes.iter().map(|node| (word(&node["name"]), word(&node["status"]))).collect()
    }

    /// The status of one node in the view of this agent.
    pub(crate) fn status_of(&self, node: &str) -> String {
        self.statuses().remove(node).unwrap_or_default()
    }

    /// The ids of a service's instances that this agent answers with.
    pub(crate) fn answered(&self, service: &str) -> BTreeSet<String> {
        let answer = self.get(&format!("/api/services/{service}")).unwrap_or_default();
        let instances = answer["instances"].as_array().cloned().unwrap_or_default();
        instances.iter().filter_map(|i| i["id"].as_str().map(str::to_owned)).collect()
    }

    /// Every instance that this agent knows, with all its fields, in an order that is the same for all agents.
    pub(crate) fn catalog(&self) -> Option<Vec<String>> {
        let services = self.get("/api/services")?["services"].as_array()?.clone();
        let mut lines = Vec::new();
        for service in services {
            let name = service["service"].as_str()?;
            let whole = self.get(&format!("/api/services/{name}?health=any"))?;
            let instances = whole["instances"].as_array()?;
            lines.extend(instances.iter().map(|instance| format!("{name} {instance}")));
        }
        lines.sort_unstable();
        Some(lines)
    }

    /// The problems that the agent reports at the moment.
    pub(crate) fn problems(&self) -> String {
        self.get("/api/status").map(|status| status["problems"].to_string()).unwrap_or_default()
    }

    /// The value of a metric, with its labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let socket = self.data_dir().join("agent.sock");
        let out = Command::new("curl")
            .args(["-sS", "--max-time", "10", "http://agent/metrics", "--unix-socket"])
            .arg(socket)
            .output()
            .unwrap();
        let text = text(&out);
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
        lines.find_map(|rest| rest.strip_prefix(' ')?.trim().parse().ok()).unwrap_or_default()
    }

    /// The addresses that this agent answers in DNS.
    pub(crate) fn dig(&self, name: &str) -> BTreeSet<String> {
        self.dig_at("127.0.0.1", &[name])
    }

    /// The same, asked at an address of its own, with more words for `dig`.
    pub(crate) fn dig_at(&self, server: &str, question: &[&str]) -> BTreeSet<String> {
        let out = self
            .command("dig")
            .args([&format!("@{server}"), "-p", "5300", "+short", "+tries=1", "+time=5"])
            .args(question)
            .output()
            .unwrap();
        text(&out).lines().map(str::to_owned).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The library that Debian's package `faketime` installs.
fn faketime_library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let libraries = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    let found = libraries.into_iter().find(|path| path.is_file());
    found.expect("faketime is installed; `cargo xtask test` as root installs it")
}
