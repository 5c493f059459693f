//! Other programs that end-to-end tests and the storm talk to, and how to get them on Debian.

use std::env;

use anyhow::{Result, bail};

use crate::run::{Cmd, Steps, search_path};

/// A program that some tests need.
#[derive(Debug, PartialEq)]
pub(crate) struct Peer {
    pub(crate) command: &'static str,
    /// Debian's package that holds it.
    package: &'static str,
    /// What cannot be tested without it.
    serves: &'static str,
}

const fn peer(command: &'static str, package: &'static str, serves: &'static str) -> Peer {
    Peer { command, package, serves }
}

const PEERS: &[Peer] = &[
    peer("dig", "dnsutils", "DNS answers as BIND's client reads them"),
    peer("kdig", "knot-dnsutils", "DNS answers as Knot's client reads them"),
    peer("delv", "bind9-dnsutils", "DNS answers as a validating resolver reads them"),
    // This is no command: dnspython is a module of Python, and this is one of its files.
    peer(
        "/usr/lib/python3/dist-packages/dns/message.py",
        "python3-dnspython",
        "DNS answers as dnspython reads them",
    ),
    peer("unbound", "unbound", "a recursive resolver with a stub zone"),
    peer("haproxy", "haproxy", "HAProxy's server templates on SRV"),
    peer("curl", "curl", "the HTTP API from outside"),
    peer("sqlite3", "sqlite3", "the store as SQLite's own shell reads it"),
    peer("python3", "python3", "the servers of the tour"),
    peer("ip", "iproute2", "hosts in network namespaces"),
    peer("nft", "nftables", "networks that split, and firewalls"),
    peer("ethtool", "ethtool", "networks that lose and delay"),
    peer("dnsperf", "dnsperf", "a flood of questions in a storm"),
    peer("faketime", "faketime", "hosts whose clock is wrong"),
];

/// Whether this is a CI run, in which nothing may be left out.
pub(crate) fn in_ci() -> bool {
    env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}

/// Installs the missing peers where that is possible and returns those that are still missing, none in CI.
pub(crate) fn provide(steps: &mut Steps) -> Result<Vec<&'static Peer>> {
    let absent = missing();
    if !absent.is_empty() && can_install() {
        let installed = install(steps, &absent);
        if in_ci() {
            installed?;
        } else if let Err(error) = installed {
            eprintln!("warning: {error:#}");
        }
    }
    let absent = missing();
    print_missing(&absent);
    if in_ci() && !absent.is_empty() {
        let missing = || bail!("CI skips nothing, and {} peers are missing", absent.len());
        steps.check("peers", &apt_install(&absent).to_string(), missing)?;
    }
    Ok(absent)
}

/// Prints which programs are missing, what is therefore not tested, and how to get them.
pub(crate) fn print_missing(missing: &[&Peer]) {
    for Peer { command, serves, .. } in missing {
        println!("MISSING: {command}; not tested: {serves}");
    }
    if !missing.is_empty() {
        println!("to install what is missing, as root: {}", apt_install(missing));
    }
}

fn missing() -> Vec<&'static Peer> {
    PEERS.iter().filter(|peer| !is_installed(peer.command)).collect()
}

fn is_installed(command: &str) -> bool {
    env::split_paths(&search_path()).any(|folder| folder.join(command).is_file())
}

fn can_install() -> bool {
    let is_root = Cmd::new("id", ["-u"]).output().is_ok_and(|id| id.trim() == "0");
    is_root && is_installed("apt-get")
}

fn install(steps: &mut Steps, peers: &[&Peer]) -> Result<()> {
    let update = Cmd::new("apt-get", ["update", "--quiet"]);
    steps.command("package lists", &update)?;
    steps.command("install peers", &apt_install(peers))
}

fn apt_install(peers: &[&Peer]) -> Cmd {
    let options = ["install", "--yes", "--quiet", "--no-install-recommends"];
    let packages = peers.iter().map(|peer| peer.package);
    Cmd::new("apt-get", options.into_iter().chain(packages))
        .env("DEBIAN_FRONTEND", "noninteractive")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_install_command_names_the_missing_packages_only() {
        let missing: Vec<_> = PEERS.iter().filter(|peer| peer.command.contains("dig")).collect();
        let command = apt_install(&missing).to_string();
        assert!(command.ends_with("--no-install-recommends dnsutils knot-dnsutils"), "{command}");
    }

    #[test]
    fn a_command_is_looked_for_on_the_search_path() {
        assert!(is_installed("sh"));
        assert!(!is_installed("no-such-program"));
    }
}
