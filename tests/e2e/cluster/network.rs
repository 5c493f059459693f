//! Hosts that are network namespaces, each with one cable to a bridge in a namespace of its own.
//!
//! `cargo xtask storm` compiles this file as well, so it uses nothing of the other tests.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Networks made by this process so far.
static MADE: AtomicUsize = AtomicUsize::new(0);

/// Every name of a namespace begins with this; the id of the process that made it follows.
const PREFIX: &str = "dunlin-test-";

/// The advice of an error where namespaces cannot be made.
const NEEDS: &str = "this needs root, network namespaces and the programs that \
                     `cargo xtask test` installs (ip, nft, ethtool)";

/// The namespaces of one lab, removed when it ends.
pub(crate) struct Network {
    prefix: String,
    hosts: usize,
}

impl Network {
    /// Hosts 1 to `hosts` with the addresses 10.77.0.1 and fd77::1, and so on.
    pub(crate) fn new(hosts: usize) -> Result<Self> {
        remove_orphans();
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{PREFIX}{}-{number}-", std::process::id());
        // From here on, what was made is removed when this is dropped.
        let network = Self { prefix, hosts };
        let hub = network.hub();
        ip(&["netns", "add", &hub], "")?;
        let mut cables = String::from("link add name br0 type bridge\nlink set br0 up\n");
        for host in 1..=hosts {
            let namespace = network.namespace(host);
            ip(&["netns", "add", &namespace], "")?;
            cables +=
                &format!("link add name h{host} type veth peer name eth0 netns {namespace}\n");
            cables += &format!("link set h{host} master br0 up\n");
        }
        ip(&["-n", &hub, "-batch", "-"], &cables)?;
        for host in 1..=hosts {
            let (v4, v6) = (address(host), address_v6(host));
            let setup = format!(
                "addr add {v4}/24 dev eth0\naddr add {v6}/64 dev eth0 nodad\n\
                 link set eth0 up\nlink set lo up\n"
            );
            ip(&["-n", &network.namespace(host), "-batch", "-"], &setup)?;
        }
        Ok(network)
    }

    /// The name of a host's namespace.
    pub(crate) fn namespace(&self, host: usize) -> String {
        format!("{}h{host}", self.prefix)
    }

    /// The name of the namespace with the bridge, whose ends of the cables are `h1` and so on.
    pub(crate) fn hub(&self) -> String {
        format!("{}hub", self.prefix)
    }

    /// Replaces a host's firewall by these rules, in nftables' language. Rules are about received packets; those about sent
    /// ones begin with `out:`.
    pub(crate) fn set_firewall(&self, host: usize, rules: &[String]) -> Result<()> {
        let side = |is_out: bool| {
            let of_side = rules.iter().filter(|rule| rule.starts_with("out:") == is_out);
            of_side.map(|r| r.trim_start_matches("out:").to_owned()).collect::<Vec<_>>().join("\n")
        };
        let (incoming, outgoing) = (side(false), side(true));
        let table = format!(
            "flush ruleset\ntable inet lab {{\n\
             chain in {{\ntype filter hook input priority 0;\n{incoming}\n}}\n\
             chain out {{\ntype filter hook output priority 0;\n{outgoing}\n}}\n}}\n"
        );
        let namespace = self.namespace(host);
        run("ip", &["netns", "exec", &namespace, "nft", "-f", "-"], &table)
    }

    /// Lets `host` receive nothing from `others` any more; they still receive what it sends.
    pub(crate) fn deafen(&self, host: usize, others: &[usize]) -> Result<()> {
        let rules = others.iter().map(|other| format!("ip saddr {} drop", address(*other)));
        self.set_firewall(host, &rules.collect::<Vec<_>>())
    }

    /// Lets every host receive from all others again.
    pub(crate) fn heal(&self) -> Result<()> {
        (1..=self.hosts).try_for_each(|host| self.set_firewall(host, &[]))
    }

    /// A command that runs on a host, and ends with the thread that starts it.
    pub(crate) fn command(&self, host: usize, program: &str) -> Command {
        self.command_in(&self.namespace(host), program)
    }

    /// The same in a namespace of this name.
    pub(crate) fn command_in(&self, namespace: &str, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "ip", "netns", "exec", namespace, program]);
        command
    }

    /// Moves the calling thread to a host: sockets that it makes stay there.
    pub(crate) fn enter(&self, host: usize) -> Result<()> {
        let namespace = self.namespace(host);
        let file = File::open(path(&namespace)).with_context(|| namespace.clone())?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("cannot enter {namespace}; {NEEDS}"))
    }

    /// Runs something on a host, in a thread of its own, which ends there.
    pub(crate) fn on<T: Send>(&self, host: usize, act: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| self.enter(host).map(|()| act()));
            thread.join().map_err(|_| anyhow!("what was to run on host {host} panicked"))?
        })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let hosts = (1..=self.hosts).map(|host| self.namespace(host));
        for namespace in hosts.chain([self.hub()]) {
            // The namespace does not exist if the network could not be built.
            if path(&namespace).exists() {
                let _ = Command::new("ip").args(["netns", "del", &namespace]).status();
            }
        }
    }
}

/// A host's address.
pub(crate) fn address(host: usize) -> String {
    format!("10.77.0.{host}")
}

/// A host's IPv6 address.
pub(crate) fn address_v6(host: usize) -> String {
    format!("fd77::{host}")
}

fn path(namespace: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(namespace)
}

/// Removes the namespaces of test processes that were killed before they could.
fn remove_orphans() {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !PathBuf::from("/proc").join(pid).exists()) {
            // Another test process may have removed it first.
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
}

fn ip(arguments: &[&str], input: &str) -> Result<()> {
    run("ip", arguments, input)
}

/// Runs a command that has to succeed.
pub(crate) fn run(program: &str, arguments: &[&str], input: &str) -> Result<()> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{program}; {NEEDS}"))?;
    // A program that does not read its input reports the reason when it ends.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let out = child.wait_with_output()?;
    let error = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success(), "{program} {arguments:?}: {error}{input}; {NEEDS}");
    Ok(())
}
