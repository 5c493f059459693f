//! What can be wrong with a configuration, and where.

use std::fmt;

use thiserror::Error;

/// Where a setting was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a line of a file.
    File {
        /// Its name, as the caller called it.
        origin: String,
        /// Counted from 1.
        line: usize,
    },
    /// In a variable of the environment.
    Variable {
        /// Its name.
        name: String,
    },
    /// Nowhere: a default, or a value made by code.
    Nowhere,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { origin, line } => write!(f, "{origin}:{line}: "),
            Self::Variable { name } => write!(f, "variable {name}: "),
            Self::Nowhere => Ok(()),
        }
    }
}

/// Why a configuration is not taken. Its author is at fault; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The text is not TOML.
    #[error("{place}not valid TOML: {problem}")]
    Syntax {
        /// Where it stops being TOML.
        place: Place,
        /// What is wrong there.
        problem: String,
    },
    /// A key that does not exist.
    #[error("{place}unknown key {key:?}{}", suggestion(nearest.as_deref()))]
    UnknownKey {
        /// Where it stands.
        place: Place,
        /// The key with its sections.
        key: String,
        /// The key that may have been meant.
        nearest: Option<String>,
    },
    /// A key whose value has the wrong type or is out of bounds.
    #[error("{place}{key}: {problem}")]
    BadValue {
        /// Where it stands.
        place: Place,
        /// The key with its sections.
        key: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

impl ConfigError {
    /// Says where a key was given, if that is not known yet.
    pub(super) fn placed(self, find: impl FnOnce(&str) -> Option<Place>) -> Self {
        if let Self::BadValue { place: Place::Nowhere, key, problem } = self {
            let place = find(&key).unwrap_or(Place::Nowhere);
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
