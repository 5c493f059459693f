//! The agent's settings: every key with its type, default and meaning.
//!
//! A [`Config`] is read from the text of `dunlin.toml` and from `DUNLIN_SECTION__KEY` variables, both
//! of which the caller brings: nothing here opens a file or looks at the environment. What depends on
//! the machine (node name, address, data directory) stays `None` until the binary resolves it.
//!
//! Each section of the file has a module of its own with its keys, their defaults and their `validate`. The JSON
//! schema, the reference page, the check for unknown keys and the comparison for a reload all come from these
//! types, so none of them can fall behind; which keys a running agent takes over is declared once, in `reload.rs`.
//! A key is listed here only when it has an effect in this release.

mod api;
mod bounds;
mod cluster;
mod dns;
mod duration;
mod error;
mod guard;
mod keys;
mod log;
mod nearest;
mod node;
mod parse;
mod path;
mod providers;
mod reference;
mod reload;
mod text;

use schemars::{JsonSchema, Schema};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use api::{ApiConfig, ApiTls, SocketMode, SocketUsers};
use bounds::require;
pub use cluster::{ClusterConfig, ClusterTls};
pub use dns::DnsConfig;
pub use error::{ConfigError, Place};
pub use guard::{GuardConfig, GuardOverride};
pub use log::{LogConfig, LogFormat};
pub use node::NodeConfig;
pub use providers::ProvidersConfig;
pub use reload::{Change, ReloadDiff, Reloadable};
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

/// A whole configuration, to the code that reads, describes and compares one. Besides [`Config`] there are those of
/// tests, which hold what no section of this release holds yet.
trait Root: Serialize + DeserializeOwned + JsonSchema {
    /// The keys and sections that a running agent takes over, each as the names on its path.
    const RELOADABLE: &'static [&'static [&'static str]];

    /// Checks what types alone cannot.
    fn validate(&self) -> Result<(), ConfigError>;
}

impl Root for Config {
    const RELOADABLE: &'static [&'static [&'static str]] = Reloadable::KEYS;

    fn validate(&self) -> Result<(), ConfigError> {
        Self::validate(self)
    }
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
    /// everything else as TOML. Lists of sections (`[[section]]`) stand in the file alone, since a variable could
    /// name one of them only by its place in the list.
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
        keys::schema::<Self>()
    }

    /// The configuration reference as Markdown, one table per section.
    #[must_use]
    pub fn reference() -> String {
        reference::markdown::<Self>()
    }

    /// What a running agent takes over from these settings.
    #[must_use]
    pub fn reloadable(&self) -> Reloadable {
        Reloadable::of(self)
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
        let Self { node, api, dns, cluster, providers, guard, log: _ } = self;
        node.validate()?;
        api.validate()?;
        dns.validate()?;
        cluster.validate()?;
        guard.validate()?;
        providers.validate()?;
        let is_shared = dns.enabled && api.listen.port() != 0 && api.listen == dns.listen;
        require(!is_shared, "dns.listen", || format!("is {}, where the API listens", dns.listen))
    }
}

#[cfg(test)]
mod tests;
