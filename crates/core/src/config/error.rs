//! The faults of a configuration, and the place of each.

use std::fmt;

use thiserror::Error;

/// The place where a setting was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigPlace {
    /// The setting was given in a line of a file.
    File {
        /// The caller's name for the file.
        origin: String,
        /// The number of the line, counted from 1.
        line: usize,
    },
    /// The setting was given in a variable of the environment.
    Variable {
        /// The name of the variable.
        name: String,
    },
    /// The setting was not given: it is a default, or a value made by code.
    Nowhere,
}

impl fmt::Display for ConfigPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { origin, line } => write!(f, "{origin}:{line}: "),
            Self::Variable { name } => write!(f, "variable {name}: "),
            Self::Nowhere => Ok(()),
        }
    }
}

/// Why a configuration is refused. Its author is at fault; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The text is not TOML.
    #[error("{place}not valid TOML: {problem}")]
    Syntax {
        /// Where the text stops being TOML.
        place: ConfigPlace,
        /// A description of the fault.
        problem: String,
    },
    /// The configuration has a key that does not exist.
    #[error("{place}unknown key {key:?}{}", suggestion(nearest.as_deref()))]
    UnknownKey {
        /// Where the key was given.
        place: ConfigPlace,
        /// The key with its sections.
        key: String,
        /// The key that may have been meant.
        nearest: Option<String>,
    },
    /// The value of a key has the wrong type or is out of bounds.
    #[error("{place}{key}: {problem}")]
    BadValue {
        /// Where the key was given.
        place: ConfigPlace,
        /// The key with its sections.
        key: String,
        /// A description of the fault and of valid values.
        problem: String,
    },
}

impl ConfigError {
    /// Adds the place where a key was given, if it is not known yet.
    pub(super) fn placed(self, find: impl FnOnce(&str) -> Option<ConfigPlace>) -> Self {
        if let Self::BadValue { place: ConfigPlace::Nowhere, key, problem } = self {
            let place = find(&key).unwrap_or(ConfigPlace::Nowhere);
            return Self::BadValue { place, key, problem };
        }
        self
    }
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(
        || "; `dunlin config reference` lists all keys".to_owned(),
        |key| format!("; did you mean {key:?}?"),
    )
}
