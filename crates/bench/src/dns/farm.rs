//! The servers side by side: Dunlin, NSD, Knot, unbound and a bare echo, all with the same names.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use dunlin_bench::rig::fleet::Fleet;
use dunlin_bench::rig::pace::ask;
use dunlin_bench::rig::process::Process;
use dunlin_bench::rig::processors::{Processors, pin};
use dunlin_bench::rig::program::{command, output};
use dunlin_bench::rig::release::Release;
use dunlin_bench::rig::seed::seed;
use dunlin_bench::rig::usage::wait_until_idle;
use dunlin_bench::rig::wait::wait_for;

use super::kind::ServerKind;
use super::mix::Mix;
use super::store::Store;

const PORT: u16 = 5300;
/// The longest datagram that all servers may send; clients ask for less.
const MAX_PAYLOAD: u16 = 4096;
/// How long one answer may take while servers load their names.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(100);

/// Where and how the servers run.
pub(super) struct Plan<'a> {
    pub(super) release: &'a Release,
    pub(super) store: Store,
    pub(super) workers: usize,
    /// The processors of the servers.
    pub(super) processors: Processors,
}

/// A running server and where it is reached.
pub(super) struct Server {
    pub(super) kind: ServerKind,
    pub(super) address: SocketAddr,
    pub(super) pid: u32,
    /// None for the agent, whose process the fleet holds.
    _process: Option<Process>,
}

/// All servers of one store. Dropped, all are ended.
pub(super) struct Farm {
    pub(super) servers: Vec<Server>,
    /// Two agents: the one that is measured, and one to make changes on, which is not started.
    pub(super) fleet: Fleet,
    /// Instances that are stored.
    pub(super) rows: u64,
}

impl Farm {
    /// Starts all servers and waits until each has answered.
    pub(super) fn start(plan: &Plan<'_>) -> Result<Self> {
        let mut fleet = Fleet::prepare(plan.release, 2)?;
        let measured = &mut fleet.agents[0];
        let lines = format!("workers = {}\nudp_payload = {MAX_PAYLOAD}", plan.workers);
        measured.configure_dns(&lines)?;
        seed(plan.release, &measured.data, &plan.store.shape())?;
        measured.start()?;
        pin(measured.pid()?, plan.processors)?;
        let home = measured.data.ancestors().nth(2).context("a folder of this run")?.to_owned();
        let mut servers = vec![Server {
            kind: ServerKind::Dunlin,
            address: measured.dns_address(),
            pid: measured.pid()?,
            _process: None,
        }];
        let records = plan.store.records();
        for (at, kind) in ServerKind::ALL.into_iter().enumerate().skip(1) {
            let dir = home.join(kind.name());
            fs::create_dir_all(&dir)?;
            let address = SocketAddr::from((own_address(at as u8), PORT));
            let (program, args) = prepare(kind, &dir, address, plan.workers, &records)?;
            let process = Process::serve(plan.processors, &dir.join("log"), &program, &args)?;
            servers.push(Server { kind, address, pid: process.pid(), _process: Some(process) });
        }
        let rows = plan.store.services * plan.store.copies;
        let farm = Self { servers, fleet, rows };
        for server in &farm.servers {
            server.wait_until_ready(&home)?;
        }
        for server in &farm.servers {
            wait_until_idle(server.pid)?;
        }
        Ok(farm)
    }

    /// The agent that is measured.
    pub(super) fn dunlin(&self) -> &Server {
        &self.servers[0]
    }
}

impl Server {
    fn wait_until_ready(&self, home: &Path) -> Result<()> {
        let questions = Mix::Targets.questions(1, MAX_PAYLOAD);
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(self.address)?;
        socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let mut answer = [0; MAX_PAYLOAD as usize];
        let ready = wait_for("a first answer", || {
            let length = ask(&socket, questions.packet(0), &mut answer);
            let is_answer = length.is_some() && (self.kind == ServerKind::Echo || answer[7] > 0);
            if !is_answer {
                thread::sleep(ANSWER_TIMEOUT);
            }
            Ok(is_answer)
        });
        ready.with_context(|| {
            let log = fs::read_to_string(home.join(self.kind.name()).join("log"));
            format!("{} says:\n{}", self.kind.name(), log.unwrap_or_default())
        })
    }
}

/// A loopback address of this run's own.
fn own_address(number: u8) -> Ipv4Addr {
    let run = std::process::id();
    Ipv4Addr::new(127, 250, (run % 250) as u8, number)
}

/// Writes what a server needs into its folder. Returns the command that runs it in the foreground.
fn prepare(
    kind: ServerKind,
    dir: &Path,
    address: SocketAddr,
    workers: usize,
    records: &str,
) -> Result<(String, Vec<String>)> {
    let (ip, home) = (address.ip(), dir.display());
    let (config, zone) = (dir.join("config"), dir.join("zone"));
    let text = match kind {
        ServerKind::Nsd => format!(
            "server:\n  ip-address: {ip}@{PORT}\n  server-count: {workers}\n  reuseport: {}\n  username: \"\"\n  \
             chroot: \"\"\n  zonesdir: \"{home}\"\n  database: \"\"\n  pidfile: \"{home}/pid\"\n  \
             zonelistfile: \"{home}/zones\"\n  xfrdfile: \"{home}/xfrd\"\n  xfrdir: \"{home}\"\n  verbosity: 0\n  \
             ipv4-edns-size: {MAX_PAYLOAD}\n  rrl-ratelimit: 0\n  rrl-whitelist-ratelimit: 0\n\
             remote-control:\n  control-enable: no\n\
             zone:\n  name: dunlin.internal\n  zonefile: zone\n",
            if workers > 1 { "yes" } else { "no" },
        ),
        ServerKind::Knot => format!(
            "server:\n  listen: {ip}@{PORT}\n  udp-workers: {workers}\n  tcp-workers: 1\n  background-workers: 1\n  \
             rundir: \"{home}\"\n  udp-max-payload: {MAX_PAYLOAD}\n\
             database:\n  storage: \"{home}\"\n\
             log:\n  - target: stderr\n    any: warning\n\
             zone:\n  - domain: dunlin.internal\n    storage: \"{home}\"\n    file: zone\n    journal-content: none\n    \
             zonefile-sync: -1\n    semantic-checks: off\n",
        ),
        ServerKind::Unbound => {
            let data = records.lines().map(|record| format!("  local-data: \"{record}\"\n"));
            format!(
                "server:\n  interface: {ip}@{PORT}\n  num-threads: {workers}\n  so-reuseport: yes\n  username: \"\"\n  \
                 chroot: \"\"\n  directory: \"{home}\"\n  pidfile: \"{home}/pid\"\n  use-syslog: no\n  \
                 do-daemonize: no\n  access-control: 127.0.0.0/8 allow\n  edns-buffer-size: {MAX_PAYLOAD}\n  \
                 max-udp-size: {MAX_PAYLOAD}\n  rrset-roundrobin: no\n  local-zone: \"dunlin.internal.\" static\n{}\
                 remote-control:\n  control-enable: no\n",
                data.collect::<String>(),
            )
        }
        ServerKind::Echo | ServerKind::Dunlin => String::new(),
    };
    fs::write(&config, text)?;
    if matches!(kind, ServerKind::Nsd | ServerKind::Knot) {
        fs::write(&zone, records)?;
    }
    let config = config.display().to_string();
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    Ok(match kind {
        ServerKind::Nsd => ("nsd".to_owned(), words(&["-d", "-c", &config])),
        ServerKind::Knot => ("knotd".to_owned(), words(&["-c", &config])),
        ServerKind::Unbound => ("unbound".to_owned(), words(&["-d", "-c", &config])),
        ServerKind::Echo | ServerKind::Dunlin => {
            let own = std::env::current_exe()?.display().to_string();
            (own, words(&["echo", &address.to_string()]))
        }
    })
}

/// The versions of all servers. If one is missing, the error says what to install.
pub(super) fn versions(release: &Release) -> Result<String> {
    let mut versions = Vec::new();
    let mut missing = Vec::new();
    for (program, argument, package) in
        [("nsd", "-v", "nsd"), ("knotd", "--version", "knot"), ("unbound", "-V", "unbound")]
    {
        // NSD says its version on its standard error.
        let output = command(program, [argument]).output();
        let Ok(output) = output else {
            missing.push(package);
            continue;
        };
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        let number = |word: &str| word.starts_with(|c: char| c.is_ascii_digit());
        let version = said.split_whitespace().find(|word| number(word)).unwrap_or("?");
        versions.push(format!("{package} {}", version.trim_end_matches('.')));
    }
    if !missing.is_empty() {
        let packages = missing.join(" ");
        bail!(
            "missing; to install them, as root: apt-get install --no-install-recommends {packages}"
        );
    }
    let dunlin = output(release.binary(), ["--version"])?;
    Ok(format!("{} · {}", dunlin.trim(), versions.join(" · ")))
}
