//! `[cluster]`: how agents reach and trust each other.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds::{is_empty, require};
use super::{ConfigError, duration, text};

/// The limit of agents through which an agent joins the cluster.
const MAX_JOIN: usize = 64;

/// The settings of `[cluster]`.
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
    /// Agents from which this one learns of all others, at most 64: `host:port`, where the host is an address
    /// or a name, which is looked up at each try. One that answers is enough; name a few.
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

/// The settings of `[cluster.tls]`: files in PEM form.
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

impl ClusterConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let is_reachable =
            |a: &SocketAddr| !a.ip().is_unspecified() && !a.ip().is_multicast() && a.port() != 0;
        require(self.advertise.as_ref().is_none_or(is_reachable), "cluster.advertise", || {
            "is not an address that others can connect to, like \"10.0.0.5:5370\"".to_owned()
        })?;
        self.validate_join()?;
        self.tls.as_ref().map_or(Ok(()), ClusterTls::validate)
    }

    fn validate_join(&self) -> Result<(), ConfigError> {
        let count = self.join.len();
        require(count <= MAX_JOIN, "cluster.join", || {
            format!("names {count} agents; at most {MAX_JOIN} are allowed")
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
        })
    }
}

impl ClusterTls {
    fn validate(&self) -> Result<(), ConfigError> {
        for (key, path) in [("ca", &self.ca), ("cert", &self.cert), ("key", &self.key)] {
            require(!is_empty(path), &format!("cluster.tls.{key}"), || {
                "is missing; name the files of ca, cert and key, as `dunlin tls` makes them"
                    .to_owned()
            })?;
        }
        Ok(())
    }
}
