//! `[providers]`: where instances come from.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds::{is_empty, require};
use super::{ConfigError, text};

/// The settings of `[providers]`.
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

impl ProvidersConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        require(!is_empty(&self.dir), "providers.dir", || {
            "is empty; name a folder like \"/etc/dunlin/services.d\"".to_owned()
        })
    }
}
