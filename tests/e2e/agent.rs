//! Agents and servers as processes of their own.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::wait::{until, until_some};

/// The binary under test: the release build under `cargo xtask test`, else the one cargo just built.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("DUNLIN_BIN").map_or_else(debug_binary, PathBuf::from)
}

/// The binary that cargo built with this test, which holds the code that is compiled for tests alone.
pub(crate) fn debug_binary() -> PathBuf {
    env!("CARGO_BIN_EXE_dunlin").into()
}

/// Whether a tool is installed. If it is not, the test fails in CI; elsewhere a line is printed.
pub(crate) fn has(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    dirs.extend(["/usr/sbin".into(), "/sbin".into()]);
    let is_there = dirs.iter().any(|dir| dir.join(tool).is_file());
    assert!(is_there || std::env::var_os("CI").is_none(), "{tool} is not installed");
    if !is_there {
        eprintln!("NOT RUN: {tool} is not installed; `cargo xtask test` as root installs it");
    }
    is_there
}

/// A process that is killed when the test ends.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self(command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")))
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that is free at the moment, for UDP and TCP.
pub(crate) fn free_port() -> u16 {
    until_some("a port free for UDP and TCP", || {
        let tcp = TcpListener::bind("127.0.0.1:0").ok()?;
        let address = tcp.local_addr().ok()?;
        UdpSocket::bind(address).ok()?;
        Some(address.port())
    })
}

/// An agent with its own directory and ports, or the place where one can be started.
pub(crate) struct Agent {
    pub(crate) dir: TempDir,
    pub(crate) api: SocketAddr,
    pub(crate) dns: SocketAddr,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) program: PathBuf,
    process: Option<Process>,
}

impl Agent {
    /// The place of an agent that is not started yet.
    pub(crate) fn place() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("services.d")).unwrap();
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let (api, dns) = (address(free_port()), address(free_port()));
        Self { dir, api, dns, environment: vec![], program: binary(), process: None }
    }

    pub(crate) fn start() -> Self {
        let mut agent = Self::place();
        agent.boot();
        agent
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env("DUNLIN_NODE__NAME", "n1")
            .env("DUNLIN_NODE__ADDRESS", "127.0.0.1")
            .env("DUNLIN_NODE__DATA_DIR", self.data_dir())
            .env("DUNLIN_PROVIDERS__DIR", self.dir.path().join("services.d"))
            .env("DUNLIN_API__LISTEN", self.api.to_string())
            .env("DUNLIN_DNS__LISTEN", self.dns.to_string())
            .envs(self.environment.iter().cloned())
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    /// Starts the process without waiting for it.
    pub(crate) fn spawn(&self) -> Process {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("agent.log"))
            .unwrap();
        Process::spawn(self.command().arg("agent").stdout(Stdio::null()).stderr(log))
    }

    /// Starts the agent and waits until it is ready.
    pub(crate) fn boot(&mut self) {
        self.process = Some(self.spawn());
        until("the agent is ready", || {
            if let Some(status) = self.process().0.try_wait().unwrap() {
                panic!("the agent ended with {status}:\n{}", self.log());
            }
            self.curl(&["/readyz"]).0 == 200
        });
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the agent was started")
    }

    pub(crate) fn kill(&mut self) {
        self.process().kill();
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("agent.log")).unwrap_or_default()
    }

    /// Asks the API with curl: arguments, the path last. Returns the status (0: none) and the body.
    pub(crate) fn curl(&self, arguments: &[&str]) -> (u16, String) {
        let (path, options) = arguments.split_last().unwrap();
        let out = Command::new("curl")
            .args(["-sS", "--max-time", "30", "-w", "\n%{http_code}"])
            .args(options)
            .arg(format!("http://{}{path}", self.api))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap_or(("", "0"));
        (status.parse().unwrap_or(0), body.to_owned())
    }

    pub(crate) fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.curl(&[path]).1).unwrap_or(Value::Null)
    }

    pub(crate) fn put(&self, path: &str, body: &str) -> (u16, String) {
        self.curl(&["-X", "PUT", "-d", body, path])
    }

    /// Registers an instance and expects it to be taken.
    pub(crate) fn register(&self, id: &str, body: &str) {
        let (status, answer) = self.put(&format!("/api/instances/{id}"), body);
        assert!(matches!(status, 200 | 201), "{status} {answer}");
    }

    /// Runs a command of the command line against this agent.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    /// `dunlin lookup NAME`, as lines.
    pub(crate) fn lookup(&self, name: &str) -> Vec<String> {
        text(&self.cli(&["lookup", name])).lines().map(str::to_owned).collect()
    }

    /// The output of `dig +short`.
    pub(crate) fn dig(&self, arguments: &[&str]) -> String {
        let port = self.dns.port().to_string();
        let out = Command::new("dig")
            .args(["@127.0.0.1", "-p", &port, "+tries=1", "+time=5"])
            .args(arguments)
            .output()
            .unwrap();
        text(&out)
    }

    pub(crate) fn write_services(&self, name: &str, content: &[u8]) {
        let dir = self.dir.path().join("services.d");
        let draft = dir.join(".draft");
        std::fs::File::create(&draft).unwrap().write_all(content).unwrap();
        std::fs::rename(draft, dir.join(name)).unwrap();
    }
}

pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn error_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A real HTTP server on a port: it answers every GET with 200.
pub(crate) struct WebServer {
    pub(crate) port: u16,
    root: TempDir,
    process: Option<Process>,
}

impl WebServer {
    pub(crate) fn start() -> Self {
        let mut server =
            Self { port: free_port(), root: tempfile::tempdir().unwrap(), process: None };
        server.boot();
        server
    }

    pub(crate) fn boot(&mut self) {
        self.process = Some(Process::spawn(&mut http_server(self.port, self.root.path())));
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        until("the server listens", || TcpStream::connect(address).is_ok());
    }

    pub(crate) fn kill(&mut self) {
        self.process = None;
    }
}

/// The command line of a small HTTP server.
pub(crate) fn http_server(port: u16, root: &Path) -> Command {
    let mut command = Command::new("python3");
    command
        .args(["-m", "http.server", &port.to_string(), "--bind", "127.0.0.1"])
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}
