//! The parts from which `validate` of each section is made: conditions, and errors that describe valid values.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use super::{ConfigError, ConfigPlace};

/// Refuses a key's value unless a condition holds.
pub(super) fn require(
    holds: bool,
    key: &str,
    problem: impl FnOnce() -> String,
) -> Result<(), ConfigError> {
    if holds {
        return Ok(());
    }
    Err(ConfigError::BadValue {
        place: ConfigPlace::Nowhere,
        key: key.to_owned(),
        problem: problem(),
    })
}

/// Refuses a number outside of a range, whose ends are allowed.
pub(super) fn require_within<T>(key: &str, found: T, least: T, most: T) -> Result<(), ConfigError>
where
    T: PartialOrd + Display,
{
    require((&least..=&most).contains(&&found), key, || {
        format!("is {found}; {least} to {most} are allowed")
    })
}

/// Refuses a duration outside of a range, whose ends are allowed.
pub(super) fn require_time(
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

/// Refuses a share that is not between 0 and 1.
pub(super) fn require_share(key: &str, share: f64) -> Result<(), ConfigError> {
    require((0.0..=1.0).contains(&share), key, || {
        format!("is {share}; a share from 0 to 1 is allowed, e.g. 0.5 for half")
    })
}

/// Whether a path is the empty text, which names no file.
pub(super) fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}
