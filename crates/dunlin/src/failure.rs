//! How commands end: exit codes, and what is said about an error.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use dunlin_api::client::ClientError;
use dunlin_core::config::ConfigError;

use crate::output::Printer;

/// Everything was done.
pub(crate) const DONE: u8 = 0;
/// Something was not found, is unhealthy, or failed.
pub(crate) const NOT_FOUND: u8 = 1;
/// The command was used wrongly; nothing was changed.
pub(crate) const WRONG_USE: u8 = 2;
/// No agent answered.
pub(crate) const UNREACHABLE: u8 = 3;

/// An error with an exit code and a hint how to go on.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
    hint: String,
}

impl Failure {
    pub(crate) fn not_found(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(NOT_FOUND, message.into(), hint.into())
    }

    pub(crate) fn wrong_use(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(WRONG_USE, message.into(), hint.into())
    }

    pub(crate) fn unreachable(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(UNREACHABLE, message.into(), hint.into())
    }

    fn new(code: u8, message: String, hint: String) -> Self {
        Self { code, message, hint }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {}

/// Whether an error means that no agent answered.
pub(crate) fn is_unreachable(error: &anyhow::Error) -> bool {
    exit_code(error) == UNREACHABLE
}

/// The exit code an error ends the process with.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return failure.code;
    }
    if error.downcast_ref::<ConfigError>().is_some() {
        return WRONG_USE;
    }
    match error.downcast_ref::<ClientError>() {
        Some(ClientError::Unreachable { .. }) => UNREACHABLE,
        Some(ClientError::Api { status: 400 | 401 | 403 | 413 | 415 | 422, .. }) => WRONG_USE,
        Some(ClientError::Api { .. } | ClientError::Protocol { .. }) | None => NOT_FOUND,
    }
}

/// Says what went wrong, and how to go on where that is known.
pub(crate) fn report(out: Printer, error: &anyhow::Error) -> ExitCode {
    out.note(format_args!("dunlin: {error:#}"));
    if let Some(hint) = hint(error).filter(|h| !h.is_empty()) {
        out.note(hint);
    }
    ExitCode::from(exit_code(error))
}

fn hint(error: &anyhow::Error) -> Option<&str> {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return Some(&failure.hint);
    }
    match error.downcast_ref::<ClientError>()? {
        ClientError::Api { hint, .. } => Some(hint),
        ClientError::Unreachable { .. } | ClientError::Protocol { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_the_exit_code_of_its_kind() {
        let api = |status| ClientError::Api { status, error: "no".into(), hint: String::new() };
        let bad_config = dunlin_core::config::Config::parse("x = 1", "f").unwrap_err();
        for (error, code) in [
            (anyhow::Error::from(api(404)), NOT_FOUND),
            (api(409).into(), NOT_FOUND),
            (api(400).into(), WRONG_USE),
            (api(403).into(), WRONG_USE),
            (api(500).into(), NOT_FOUND),
            (bad_config.into(), WRONG_USE),
            (Failure::unreachable("a", "b").into(), UNREACHABLE),
            (Failure::wrong_use("a", "b").into(), WRONG_USE),
            (anyhow::anyhow!("disk full"), NOT_FOUND),
            (anyhow::Error::from(api(400)).context("reading x"), WRONG_USE),
        ] {
            assert_eq!(exit_code(&error), code, "{error:?}");
        }
    }
}
