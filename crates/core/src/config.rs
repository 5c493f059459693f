//! The agent's settings: every key with its type, default and meaning, in one place.
//!
//! A [`Config`] is read from the text of `dunlin.toml` and from `DUNLIN_SECTION__KEY` variables, both
//! of which the caller brings: nothing here opens a file or looks at the environment. What depends on
//! the machine (node name, address, data directory) stays `None` until the binary resolves it.
//!
//! The JSON schema, the reference page, the check for unknown keys and the comparison for a reload all
//! come from these types, so none of them can fall behind. A key is listed here only when it has an
//! effect in this release.

mod api;
mod duration;
mod error;
mod keys;
mod parse;
mod reference;
mod reload;
mod text;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use crate::model::limits::{META_PAIR_OCTETS, META_PAIRS};
use crate::model::{NodeName, ServiceName, ZoneName};

pub use api::{ApiConfig, ApiTls, SocketMode, SocketUsers};
pub use error::{ConfigError, Place};
pub use reload::{Change, ReloadDiff};
pub use text::DomainName;

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "Dunlin's configuration (dunlin.toml)")]
pub struct Config {
    /// This host: what it is called and where it stands.
    pub node: NodeConfig,
    /// The HTTP API.
    pub api: ApiConfig,
    /// The DNS server.
    pub dns: DnsConfig,
    /// How agents reach and trust each other. An agent without `cluster.tls` stands alone.
    pub cluster: ClusterConfig,
    /// Where instances come from.
    pub providers: ProvidersConfig,
    /// What is held back when many instances vanish at once.
    pub guard: GuardConfig,
    /// What the agent writes to standard error.
    pub log: LogConfig,
}

/// `[node]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NodeConfig {
    /// The node's name, one label, unique among all agents. When absent: the host's name up to the
    /// first dot, lower case, with '-' for whatever a label cannot hold.
    #[schemars(with = "Option<text::LabelText>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<NodeName>,
    /// The failure domain the node stands in: a room, a data centre, a region. Lookups prefer their own.
    #[schemars(with = "text::LabelText")]
    pub zone: ZoneName,
    /// Where this node's services are reached unless an instance says otherwise. When absent: the first
    /// address of an interface that is up and neither loopback nor link-local, IPv4 before IPv6, in the
    /// order in which the system lists interfaces; 127.0.0.1 if there is none. Set it on hosts with several.
    #[schemars(with = "Option<text::IpText>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Where the agent keeps its database and its local socket; one directory per agent. When absent:
    /// `/var/lib/dunlin` for root, else `$XDG_STATE_HOME/dunlin` or `~/.local/state/dunlin`.
    #[schemars(with = "Option<text::PathText>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// Free pairs that others see beside the node's name: at most 64 of 4 KiB.
    pub meta: BTreeMap<String, String>,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            name: None,
            zone: ZoneName::parse("z1").expect("z1 is a label and not reserved"),
            address: None,
            data_dir: None,
            meta: BTreeMap::new(),
        }
    }
}

/// `[dns]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DnsConfig {
    /// Whether the agent answers DNS at all.
    pub enabled: bool,
    /// Where DNS listens, UDP and TCP.
    #[serde(deserialize_with = "text::socket_address")]
    #[schemars(with = "text::SocketText")]
    pub listen: SocketAddr,
    /// The suffix of all names: `web` is asked for as `web.dunlin.internal`. The same on all agents.
    #[schemars(with = "text::DomainText")]
    pub domain: DomainName,
    /// How long others may keep an answer, positive or negative: whole seconds, at most 1 day. With more
    /// than a few seconds, clients go on using instances that are gone.
    #[serde(with = "duration")]
    #[schemars(with = "text::DurationText", extend("x-reload" = true))]
    pub ttl: Duration,
    /// Servers that questions outside the domain are forwarded to, in order: `address:port`, or an address
    /// for port 53. Without any, such questions are refused.
    #[serde(deserialize_with = "text::upstreams")]
    #[schemars(with = "Vec<text::SocketText>")]
    pub upstreams: Vec<SocketAddr>,
    /// The largest answer sent over UDP, in octets, 512 to 4096: larger ones are cut and asked for again
    /// over TCP. Above 1232, answers may be fragmented on the way and lost.
    #[schemars(range(min = 512, max = 4096))]
    pub udp_payload: u16,
    /// Threads that answer, each with its own sockets, 1 to 64. When absent: one per processor.
    #[schemars(range(min = 1, max = 64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<u16>,
    /// Replies per second over UDP to one network (IPv4 /24, IPv6 /56), so that questions with a forged
    /// sender cannot turn the agent against others; 0 for no limit. Each worker counts by itself.
    pub rate_limit: u32,
    /// Beyond `dns.rate_limit`, each so-many-th question gets an empty reply that sends its client to TCP,
    /// which cannot be forged; the others get none. 1 for all, 0 for none.
    pub rate_limit_slip: u32,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: (Ipv4Addr::LOCALHOST, 5300).into(),
            domain: DomainName::parse("dunlin.internal").expect("a valid name"),
            ttl: Duration::from_secs(1),
            upstreams: Vec::new(),
            udp_payload: 1232,
            workers: None,
            rate_limit: 0,
            rate_limit_slip: 2,
        }
    }
}

/// `[cluster]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterConfig {
    /// Where other agents reach this one: TLS over TCP, and sealed datagrams over UDP on the same port.
    /// The agent listens here only when `cluster.tls` is set.
    #[serde(deserialize_with = "text::socket_address")]
    #[schemars(with = "text::SocketText")]
    pub listen: SocketAddr,
    /// The address that other agents are told to use. When absent: `node.address` with the port of
    /// `cluster.listen`. Set it where others reach this host by another address than it knows.
    #[serde(
        deserialize_with = "text::optional_socket_address",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<text::SocketText>")]
    pub advertise: Option<SocketAddr>,
    /// Agents to learn of the others from: `host:port`, where the host is an address or a name, which is
    /// looked up at each try. One that answers is enough; name a few. At most 64.
    #[schemars(with = "Vec<text::HostText>")]
    pub join: Vec<String>,
    /// How long it is remembered that something was deleted. A node that was away for longer is told its
    /// peers' whole state instead of what changed.
    #[serde(with = "duration")]
    #[schemars(with = "text::DurationText")]
    pub reap_after: Duration,
    /// Whether an agent that is stopped (SIGTERM) tells the others that it left, so that its instances
    /// vanish from their answers at once. If not, others notice nothing when it is back within about a
    /// second, as in an update of the agent.
    pub leave_on_stop: bool,
    /// What agents know each other by; `dunlin tls` makes such files. All three keys are needed. The
    /// files are watched: new content is taken without a restart.
    #[schemars(with = "ClusterTls")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClusterTls>,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::UNSPECIFIED, 5370).into(),
            advertise: None,
            join: Vec::new(),
            reap_after: Duration::from_secs(72 * 3600),
            leave_on_stop: true,
            tls: None,
        }
    }
}

/// `[cluster.tls]`: files in PEM form.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterTls {
    /// Certificates of the cluster's own authorities. An agent whose certificate none of them has signed
    /// is refused. Two while one takes the place of the other.
    #[schemars(with = "text::PathText")]
    #[serde(skip_serializing_if = "is_empty")]
    pub ca: PathBuf,
    /// This agent's certificate, which names its node and zone, and what stands between it and the
    /// authority, if anything.
    #[schemars(with = "text::PathText")]
    #[serde(skip_serializing_if = "is_empty")]
    pub cert: PathBuf,
    /// The certificate's private key. Only the agent's user should be able to read it.
    #[schemars(with = "text::PathText")]
    #[serde(skip_serializing_if = "is_empty")]
    pub key: PathBuf,
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

/// `[providers]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProvidersConfig {
    /// The services folder: each `*.toml` and `*.json` file in it states instances of this host. Write
    /// files elsewhere and rename them into it.
    #[schemars(with = "text::PathText")]
    pub dir: PathBuf,
}

impl Default for ProvidersConfig {
    fn default() -> Self {
        Self { dir: "/etc/dunlin/services.d".into() }
    }
}

/// `[guard]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-reload" = true))]
pub struct GuardConfig {
    /// The share of a service's healthy instances that may vanish within the window and be believed at
    /// once, 0 to 1. 1 switches the guard off.
    #[schemars(range(min = 0, max = 1))]
    pub max_drop: f64,
    /// The time over which a drop is measured, 1 second to 1 hour.
    #[serde(with = "duration")]
    #[schemars(with = "text::DurationText")]
    pub window: Duration,
    /// How long vanished instances that still accept connections are served at most, 1 second to 1 day.
    #[serde(with = "duration")]
    #[schemars(with = "text::DurationText")]
    pub hold: Duration,
    /// A drop of fewer instances than this is always believed, at least 1.
    #[schemars(range(min = 1))]
    pub min_instances: u32,
    /// Whether a service without any healthy instance is answered with all that are still reachable.
    pub panic: bool,
    /// Other values for single services: `[guard.service."http.api.prod.shop"]`.
    #[schemars(with = "BTreeMap<String, GuardOverride>")]
    pub service: BTreeMap<ServiceName, GuardOverride>,
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self {
            max_drop: 0.5,
            window: Duration::from_secs(30),
            hold: Duration::from_secs(600),
            min_instances: 3,
            panic: true,
            service: BTreeMap::new(),
        }
    }
}

/// Other values for one service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GuardOverride {
    /// Instead of `guard.max_drop` for this service.
    #[schemars(range(min = 0, max = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_drop: Option<f64>,
    /// Instead of `guard.panic` for this service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub panic: Option<bool>,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// What is written: a level (`error`, `warn`, `info`, `debug`, `trace`), or levels per part, as in
    /// `info,dunlin_agent::dns=debug`.
    #[schemars(extend("x-reload" = true))]
    pub filter: String,
    /// How it is written: `text` for people, `json` for programs, one object per line.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Text }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Config {
    /// Reads the text of a configuration file; `origin` is what errors call it, usually its path.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key and line.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ConfigError> {
        Self::parse_with_env(text, origin, [])
    }

    /// Like [`Config::parse`], with variables laid over the file: `DUNLIN_DNS__TTL=5s` is `dns.ttl`.
    /// Variables that do not begin with `DUNLIN_` or hold no `__` are passed over.
    ///
    /// A value is read as its key's type asks: text as it is, lists as TOML or separated by commas,
    /// everything else as TOML.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key and its line or variable.
    pub fn parse_with_env(
        text: &str,
        origin: &str,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        parse::parse(text, origin, env)
    }

    /// The settings as they would stand in a file, defaults included.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("settings are tables of plain values")
    }

    /// The JSON schema (draft 2020-12) of the configuration file. `x-reload` marks what SIGHUP applies.
    #[must_use]
    pub fn schema() -> Schema {
        keys::schema()
    }

    /// The configuration reference as Markdown, one table per section.
    #[must_use]
    pub fn reference() -> String {
        reference::markdown()
    }

    /// What changes from these settings to `new`, and which of it needs a restart.
    #[must_use]
    pub fn diff_reload(&self, new: &Self) -> ReloadDiff {
        reload::diff(self, new)
    }

    /// Checks what types alone cannot: ranges, and values that depend on each other.
    ///
    /// # Errors
    /// The first key that is out of bounds.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_node()?;
        self.api.validate()?;
        self.validate_dns()?;
        self.cluster.validate()?;
        self.guard.validate()?;
        require(!self.providers.dir.as_os_str().is_empty(), "providers.dir", || {
            "is empty; name a folder like \"/etc/dunlin/services.d\"".to_owned()
        })?;
        require(
            self.api.listen.port() == 0 || !self.dns.enabled || self.api.listen != self.dns.listen,
            "dns.listen",
            || format!("is {}, where the API listens", self.dns.listen),
        )
    }

    fn validate_node(&self) -> Result<(), ConfigError> {
        let node = &self.node;
        require(
            !node.address.is_some_and(|a| a.is_unspecified() || a.is_multicast()),
            "node.address",
            || "is not an address that others can connect to".to_owned(),
        )?;
        require(
            !node.data_dir.as_ref().is_some_and(|d| d.as_os_str().is_empty()),
            "node.data_dir",
            || "is empty".to_owned(),
        )?;
        let pairs = node.meta.len();
        require(pairs <= META_PAIRS, "node.meta", || {
            format!("has {pairs} pairs; at most {META_PAIRS} are allowed")
        })?;
        for (key, value) in &node.meta {
            let octets = key.len() + value.len();
            require(octets <= META_PAIR_OCTETS, "node.meta", || {
                format!("pair {key:?} has {octets} octets; at most {META_PAIR_OCTETS} are allowed")
            })?;
        }
        Ok(())
    }

    fn validate_dns(&self) -> Result<(), ConfigError> {
        let dns = &self.dns;
        require(
            dns.ttl <= Duration::from_secs(86_400) && dns.ttl.subsec_nanos() == 0,
            "dns.ttl",
            || {
                let found = humantime::format_duration(dns.ttl);
                format!("is {found}; whole seconds up to 1day are allowed")
            },
        )?;
        within("dns.udp_payload", dns.udp_payload, 512, 4096)?;
        if let Some(workers) = dns.workers {
            within("dns.workers", workers, 1, 64)?;
        }
        within("dns.rate_limit", dns.rate_limit, 0, 1_000_000)?;
        within("dns.rate_limit_slip", dns.rate_limit_slip, 0, 100)?;
        let itself = dns.upstreams.iter().find(|u| **u == dns.listen);
        require(itself.is_none(), "dns.upstreams", || {
            format!("holds {}, where this server itself listens", dns.listen)
        })?;
        let upstreams = dns.upstreams.len();
        require(upstreams <= 8, "dns.upstreams", || {
            format!("has {upstreams} servers; at most 8 are allowed")
        })
    }
}

impl ClusterConfig {
    /// Agents to join through at most.
    const MOST_JOIN: usize = 64;

    fn validate(&self) -> Result<(), ConfigError> {
        let is_reachable =
            |a: &SocketAddr| !a.ip().is_unspecified() && !a.ip().is_multicast() && a.port() != 0;
        require(self.advertise.as_ref().is_none_or(is_reachable), "cluster.advertise", || {
            "is not an address that others can connect to, like \"10.0.0.5:5370\"".to_owned()
        })?;
        let count = self.join.len();
        require(count <= Self::MOST_JOIN, "cluster.join", || {
            format!("names {count} agents; at most {} are allowed", Self::MOST_JOIN)
        })?;
        for host in &self.join {
            require(text::is_host_and_port(host), "cluster.join", || {
                format!(
                    "{host:?} is not a host with a port, like \"agent-1.example.com:5370\", \
                     \"10.0.0.5:5370\" or \"[2001:db8::5]:5370\""
                )
            })?;
        }
        require(self.join.is_empty() || self.tls.is_some(), "cluster.join", || {
            "needs cluster.tls, since agents know each other by certificates; make them with \
             `dunlin tls ca create` and `dunlin tls cert create --node NAME --zone ZONE`"
                .to_owned()
        })?;
        let Some(tls) = &self.tls else { return Ok(()) };
        for (key, path) in [("ca", &tls.ca), ("cert", &tls.cert), ("key", &tls.key)] {
            require(!is_empty(path), &format!("cluster.tls.{key}"), || {
                "is missing; name the files of ca, cert and key, as `dunlin tls` makes them"
                    .to_owned()
            })?;
        }
        Ok(())
    }
}

impl GuardConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let (second, hour, day) = (1, 3600, 86_400);
        let seconds = Duration::from_secs;
        require_share("guard.max_drop", self.max_drop)?;
        require_time("guard.window", self.window, seconds(second), seconds(hour))?;
        require_time("guard.hold", self.hold, seconds(second), seconds(day))?;
        within("guard.min_instances", self.min_instances, 1, 10_000_000)?;
        for (service, own) in &self.service {
            if let Some(max_drop) = own.max_drop {
                require_share(&format!("guard.service.{service}.max_drop"), max_drop)?;
            }
        }
        Ok(())
    }
}

fn require(holds: bool, key: &str, problem: impl FnOnce() -> String) -> Result<(), ConfigError> {
    if holds {
        return Ok(());
    }
    Err(ConfigError::BadValue { place: Place::Nowhere, key: key.to_owned(), problem: problem() })
}

fn require_share(key: &str, share: f64) -> Result<(), ConfigError> {
    require((0.0..=1.0).contains(&share), key, || {
        format!("is {share}; a share from 0 to 1 is allowed, e.g. 0.5 for half")
    })
}

fn require_time(
    key: &str,
    found: Duration,
    least: Duration,
    most: Duration,
) -> Result<(), ConfigError> {
    require((least..=most).contains(&found), key, || {
        let [found, least, most] = [found, least, most].map(humantime::format_duration);
        format!("is {found}; {least} to {most} are allowed")
    })
}

fn within<T>(key: &str, found: T, least: T, most: T) -> Result<(), ConfigError>
where
    T: PartialOrd + std::fmt::Display,
{
    require((&least..=&most).contains(&&found), key, || {
        format!("is {found}; {least} to {most} are allowed")
    })
}

#[cfg(test)]
mod tests;
