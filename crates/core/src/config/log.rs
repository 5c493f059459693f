//! `[log]`: what the agent writes to standard error. Whether a filter can be used is checked by the program, which
//! knows the filters.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The settings of `[log]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// What is written: a level (`error`, `warn`, `info`, `debug`, `trace`), or levels per part, as in
    /// `info,dunlin_agent::dns=debug`.
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
    /// Lines of text for people to read.
    Text,
    /// One JSON object per line.
    Json,
}
