//! Hosts without machines: network namespaces, each with one cable to a bridge in a namespace of its own.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::agent::{Process, error_text};

/// Networks made by this process so far.
static MADE: AtomicUsize = AtomicUsize::new(0);

/// Every name begins so; behind it comes the id of the process that has it.
const PREFIX: &str = "dunlin-test-";

/// The namespaces of one lab, removed when it ends.
pub(crate) struct Network {
    prefix: String,
    hosts: usize,
}

impl Network {
    /// Hosts 1 to `hosts` with the addresses 10.77.0.1 and fd77::1, and so on.
    pub(crate) fn new(hosts: usize) -> Self {
        remove_orphans();
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{PREFIX}{}-{number}-", std::process::id());
        // From here on whatever was made is removed.
        let network = Self { prefix, hosts };
        let hub = network.hub();
        ip(&["netns", "add", &hub], "");
        let mut cables = String::from("link add name br0 type bridge\nlink set br0 up\n");
        for host in 1..=hosts {
            let namespace = network.namespace(host);
            ip(&["netns", "add", &namespace], "");
            cables +=
                &format!("link add name h{host} type veth peer name eth0 netns {namespace}\n");
            cables += &format!("link set h{host} master br0 up\n");
        }
        ip(&["-n", &hub, "-batch", "-"], &cables);
        for host in 1..=hosts {
            let (v4, v6) = (address(host), address_v6(host));
            let setup = format!(
                "addr add {v4}/24 dev eth0\naddr add {v6}/64 dev eth0 nodad\n\
                 link set eth0 up\nlink set lo up\n"
            );
            ip(&["-n", &network.namespace(host), "-batch", "-"], &setup);
        }
        network
    }

    /// The name of a host's namespace.
    pub(crate) fn namespace(&self, host: usize) -> String {
        format!("{}h{host}", self.prefix)
    }

    fn hub(&self) -> String {
        format!("{}hub", self.prefix)
    }

    /// Gives a host a firewall of these rules, in nftables' language, in place of what it had. Rules are for what
    /// comes in; those for what goes out begin with `out:`.
    pub(crate) fn set_firewall(&self, host: usize, rules: &[String]) {
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
        run("ip", &["netns", "exec", &namespace, "nft", "-f", "-"], &table);
    }

    /// `host` hears nothing from `others` any more; they still hear it.
    pub(crate) fn deafen(&self, host: usize, others: &[usize]) {
        let rules = others.iter().map(|other| format!("ip saddr {} drop", address(*other)));
        self.set_firewall(host, &rules.collect::<Vec<_>>());
    }

    /// Every host hears all others again.
    pub(crate) fn heal(&self) {
        for host in 1..=self.hosts {
            self.set_firewall(host, &[]);
        }
    }

    /// Puts a slow and lossy wire into the place of the bridge, until what is returned is dropped.
    pub(crate) fn worsen(&self, weather: &Weather) -> Process {
        for host in 1..=self.hosts {
            let namespace = self.namespace(host);
            // The wire carries whole frames, with the checksums that a network card would have put in.
            let offload = ["netns", "exec", &namespace, "ethtool", "-K", "eth0", "tx", "off"];
            run("ip", &offload, "");
            ip(&["-n", &self.hub(), "link", "set", &format!("h{host}"), "nomaster"], "");
        }
        let mut wire = self.command_in(&self.hub(), "python3");
        wire.args(["-c", include_str!("wire.py"), &weather.loss_percent.to_string()]);
        wire.args([weather.delay_millis.to_string(), weather.jitter_millis.to_string()]);
        wire.args((1..=self.hosts).map(|host| format!("h{host}")));
        Process::spawn(wire.stdin(Stdio::null()))
    }

    /// Makes the bridge the network again.
    pub(crate) fn calm(&self, wire: Process) {
        drop(wire);
        for host in 1..=self.hosts {
            let (hub, cable) = (self.hub(), format!("h{host}"));
            ip(&["-n", &hub, "link", "set", &cable, "master", "br0"], "");
        }
    }

    /// A command that runs on a host, and ends with the thread that starts it.
    pub(crate) fn command(&self, host: usize, program: &str) -> Command {
        self.command_in(&self.namespace(host), program)
    }

    fn command_in(&self, namespace: &str, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "ip", "netns", "exec", namespace, program]);
        command
    }

    /// Runs something on a host: sockets made in it stay there.
    pub(crate) fn on<T: Send>(&self, host: usize, act: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(path(&self.namespace(host))).unwrap();
        let enter_and_act = || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), network).expect("root may enter it");
            act()
        };
        // A thread of its own, which ends there.
        std::thread::scope(|scope| scope.spawn(enter_and_act).join().unwrap())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let hosts = (1..=self.hosts).map(|host| self.namespace(host));
        for namespace in hosts.chain([self.hub()]) {
            // Not there if the network could not be built.
            if path(&namespace).exists() {
                let _ = Command::new("ip").args(["netns", "del", &namespace]).status();
            }
        }
    }
}

/// How bad a wire is, in each direction.
pub(crate) struct Weather {
    pub(crate) loss_percent: u32,
    pub(crate) delay_millis: u32,
    pub(crate) jitter_millis: u32,
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
            // Another test may be faster.
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
}

fn ip(arguments: &[&str], input: &str) {
    run("ip", arguments, input);
}

/// Runs a command that has to succeed.
fn run(program: &str, arguments: &[&str], input: &str) {
    let why = "cluster tests need root, network namespaces and the programs that \
               `cargo xtask test` installs (ip, nft, ethtool, faketime)";
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}; {why}"));
    // A program that does not read what it is given says why when it ends.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let out = child.wait_with_output().unwrap();
    let error = error_text(&out);
    assert!(out.status.success(), "{program} {arguments:?}: {error}{input}; {why}");
}
