//! From the configuration and the machine to the settings an agent runs with.

use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use dunlin_core::config::Config;
use dunlin_core::model::NodeName;
use dunlin_core::model::limits::MAX_LABEL_OCTETS;

use crate::failure::Failure;
use crate::machine;

/// The largest configuration file that is read.
const MAX_CONFIG_OCTETS: u64 = 1024 * 1024;

/// Where the configuration is looked for when none is named.
const DEFAULT_FILES: [&str; 2] = ["dunlin.toml", "/etc/dunlin/dunlin.toml"];

/// A configuration and where it came from.
#[derive(Debug)]
pub(crate) struct LoadedConfig {
    pub(crate) config: Config,
    /// The file, or `None` when there was none: defaults and variables alone.
    pub(crate) file: Option<PathBuf>,
}

/// Reads the configuration file (the named one, else the first default one that is there) and the
/// `DUNLIN_SECTION__KEY` variables.
pub(crate) fn load(named: Option<&Path>) -> Result<LoadedConfig> {
    let candidates: Vec<&Path> = match named {
        Some(file) => vec![file],
        None => DEFAULT_FILES.iter().map(Path::new).collect(),
    };
    for file in candidates {
        match read(file) {
            Ok(text) => {
                let config = parse(&text, &file.display().to_string())?;
                let file = Some(file.to_owned());
                return Ok(LoadedConfig { config, file });
            }
            Err(e) if e.kind() == ErrorKind::NotFound && named.is_none() => {}
            Err(e) => {
                let message = format!("configuration file {}: {e}", file.display());
                return Err(Failure::wrong_use(message, "").into());
            }
        }
    }
    let config = parse("", "no file")?;
    Ok(LoadedConfig { config, file: None })
}

fn parse(text: &str, origin: &str) -> Result<Config> {
    let plain = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let variables = std::env::vars_os().filter_map(plain);
    Ok(Config::parse_with_env(text, origin, variables)?)
}

fn read(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(file)?;
    let octets = file.take(MAX_CONFIG_OCTETS + 1).read_to_string(&mut text)?;
    if octets as u64 > MAX_CONFIG_OCTETS {
        let message = format!("is larger than {MAX_CONFIG_OCTETS} octets");
        return Err(std::io::Error::new(ErrorKind::FileTooLarge, message));
    }
    Ok(text)
}

/// A configuration with everything filled in that depends on the machine.
#[derive(Debug)]
pub(crate) struct ResolvedConfig {
    pub(crate) config: Config,
    pub(crate) node_name: NodeName,
    pub(crate) address: IpAddr,
    pub(crate) data_dir: PathBuf,
}

impl ResolvedConfig {
    pub(crate) fn resolve(config: Config) -> Result<Self> {
        let node_name = match &config.node.name {
            Some(name) => name.clone(),
            None => node_name_from(&machine::host_name())?,
        };
        let address = match config.node.address {
            Some(address) => address,
            None => own_address(&machine::interface_addresses().unwrap_or_default()),
        };
        let data_dir = Self::data_dir(&config)?;
        Ok(Self { config, node_name, address, data_dir })
    }

    /// The folder in which the agent keeps its state.
    pub(crate) fn data_dir(config: &Config) -> Result<PathBuf> {
        if let Some(named) = &config.node.data_dir {
            return Ok(named.clone());
        }
        if machine::is_root() {
            return Ok("/var/lib/dunlin".into());
        }
        let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        data_dir_of_user(variable("XDG_STATE_HOME"), variable("HOME"))
            .ok_or_else(|| anyhow!("no home directory is known; set node.data_dir"))
    }
}

fn data_dir_of_user(state_home: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    let state_home = state_home.filter(|path| path.is_absolute());
    let state_home = state_home.or_else(|| Some(home?.join(".local/state")))?;
    Some(state_home.join("dunlin"))
}

/// The host's name up to the first dot, made into a label.
fn node_name_from(host: &str) -> Result<NodeName> {
    let first = host.split('.').next().unwrap_or_default();
    let fit = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let label: String = first.chars().map(fit).take(MAX_LABEL_OCTETS).collect();
    NodeName::parse(label.trim_matches('-'))
        .map_err(|_| anyhow!("the host's name {host:?} makes no node name; set node.name"))
}

/// The first address others can be expected to reach, IPv4 before IPv6. No packet is sent.
fn own_address(addresses: &[IpAddr]) -> IpAddr {
    let is_link_local = |a: &IpAddr| match a {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let usable = |a: &&IpAddr| !a.is_loopback() && !a.is_unspecified() && !is_link_local(a);
    let v4 = addresses.iter().filter(usable).find(|a| a.is_ipv4());
    let any = v4.or_else(|| addresses.iter().find(usable));
    any.copied().unwrap_or(Ipv4Addr::LOCALHOST.into())
}

/// Where to connect to reach a listener of this host: one on all addresses is on loopback too.
pub(crate) fn reachable(listen: SocketAddr) -> SocketAddr {
    let loopback: IpAddr = match listen {
        SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let ip = if listen.ip().is_unspecified() { loopback } else { listen.ip() };
    (ip, listen.port()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_name_becomes_a_label() {
        for (host, name) in
            [("web-1", "web-1"), ("Web_1.example.com", "web-1"), ("-x-", "x"), ("ü1", "1")]
        {
            assert_eq!(node_name_from(host).unwrap().as_str(), name);
        }
        assert!(node_name_from("").is_err());
        assert!(node_name_from("ü.example").is_err());
    }

    #[test]
    fn the_own_address_is_one_that_others_reach() {
        let parse =
            |texts: &[&str]| -> Vec<IpAddr> { texts.iter().map(|t| t.parse().unwrap()).collect() };
        for (addresses, expected) in [
            (parse(&["127.0.0.1", "fe80::1", "10.0.0.5", "10.0.0.6"]), "10.0.0.5"),
            (parse(&["::1", "2001:db8::1", "169.254.1.1"]), "2001:db8::1"),
            (parse(&["127.0.0.1", "2001:db8::1", "10.0.0.5"]), "10.0.0.5"),
            (parse(&[]), "127.0.0.1"),
        ] {
            assert_eq!(own_address(&addresses).to_string(), expected);
        }
    }

    #[test]
    fn the_state_of_a_user_stands_in_their_home() {
        let path = |p: &str| Some(PathBuf::from(p));
        let expected = path("/users/a/.local/state/dunlin");
        assert_eq!(data_dir_of_user(None, path("/users/a")), expected);
        assert_eq!(data_dir_of_user(path("relative"), path("/users/a")), expected);
        assert_eq!(data_dir_of_user(path("/s"), path("/users/a")), path("/s/dunlin"));
        assert_eq!(data_dir_of_user(None, None), None);
    }

    #[test]
    fn a_listener_on_all_addresses_is_reached_on_loopback() {
        for (listen, expected) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.5:1", "10.0.0.5:1")]
        {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), expected);
        }
    }

    #[test]
    fn a_named_file_must_be_there_and_not_huge() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("dunlin.toml");
        let error = load(Some(&file)).unwrap_err().to_string();
        assert!(error.contains("dunlin.toml: No such file"), "{error}");
        std::fs::write(&file, vec![b'#'; 2 << 20]).unwrap();
        let error = load(Some(&file)).unwrap_err().to_string();
        assert!(error.contains("is larger than 1048576 octets"), "{error}");
        std::fs::write(&file, "[dns]\nttl = \"7s\"").unwrap();
        assert_eq!(load(Some(&file)).unwrap().config.dns.ttl.as_secs(), 7);
    }
}
