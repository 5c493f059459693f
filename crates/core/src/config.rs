//! The agent's settings: every key with its type, default and meaning.
//!
//! A [`Config`] is read from the text of `dunlin.toml` and from `DUNLIN_SECTION__KEY` variables, both of which the
//! caller provides: nothing here opens a file or reads the environment. Values that depend on the machine (node name,
//! address, data directory) stay `None` until the binary resolves them.
//!
//! Each section of the file has a module of its own with its keys, their defaults and their `validate`. The JSON
//! schema, the reference page, the check for unknown keys and the comparison for a reload are all derived from these
//! types, so they cannot become outdated. The keys that a running agent applies are declared once, in `reload.rs`.
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
pub use error::{ConfigError, ConfigPlace};
pub use guard::{GuardConfig, GuardOverride};
pub use log::{LogConfig, LogFormat};
pub use node::NodeConfig;
pub use providers::ProvidersConfig;
pub use reload::{ConfigChange, ReloadDiff, Reloadable};
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

/// A whole configuration, as the code that reads, describes and compares one sees it. Besides [`Config`] there are those
/// of tests, which use features that no section of this release uses yet.
trait Root: Serialize + DeserializeOwned + JsonSchema {
    /// The keys and sections that a running agent applies, each as the names on its path.
    const RELOADABLE: &'static [&'static [&'static str]];

    /// Checks the conditions that types alone cannot express.
    fn validate(&self) -> Result<(), ConfigError>;
}

impl Root for Config {
    const RELOADABLE: &'static [&'static [&'static str]] = Reloadable::KEYS;

    fn validate(&self) -> Result<(), ConfigError> {
        Self::validate(self)
    }
}

impl Config {
    /// Reads the text of a configuration file; errors call it `origin`, which is usually its path.
    ///
    /// # Errors
    /// The first fault, with its key and line.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ConfigError> {
        Self::parse_with_env(text, origin, [])
    }

    /// Like [`Config::parse`], with variables that override the file: `DUNLIN_DNS__TTL=5s` is `dns.ttl`.
    /// Variables that do not begin with `DUNLIN_` or hold no `__` are ignored.
    ///
    /// A value is read according to its key's type: text as it is, lists as TOML or separated by commas, everything
    /// else as TOML. Lists of sections (`[[section]]`) are allowed in the file alone, since a variable could name one of
    /// them only by its position in the list.
    ///
    /// # Errors
    /// The first fault, with its key and its line or variable.
    pub fn parse_with_env(
        text: &str,
        origin: &str,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        parse::parse(text, origin, env)
    }

    /// The settings as the text of a configuration file, defaults included.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("settings are tables of plain values")
    }

    /// The JSON schema (draft 2020-12) of the configuration file. `x-reload` marks the keys that SIGHUP applies.
    #[must_use]
    pub fn schema() -> Schema {
        keys::schema::<Self>()
    }

    /// The configuration reference as Markdown, one table per section.
    #[must_use]
    pub fn reference() -> String {
        reference::markdown::<Self>()
    }

    /// The settings that a running agent applies on a reload.
    #[must_use]
    pub fn reloadable(&self) -> Reloadable {
        Reloadable::of(self)
    }

    /// The changes from these settings to `new`, and which of them need a restart.
    #[must_use]
    pub fn diff_reload(&self, new: &Self) -> ReloadDiff {
        reload::diff(self, new)
    }

    /// Checks the conditions that types alone cannot express: ranges, and values that depend on each other.
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
