//! What every command gets, whatever was typed.

use std::path::PathBuf;

use dunlin_api::client::{Credentials, Endpoint};

use crate::output::Printer;

/// The options that all commands have in common.
#[derive(Debug)]
pub(crate) struct Context {
    /// Where words go.
    pub(crate) out: Printer,
    /// The configuration file that was named, if one was.
    pub(crate) config: Option<PathBuf>,
    /// What is shown to an agent.
    pub(crate) credentials: Credentials,
    /// The agent's address, if it was named.
    pub(crate) named_agent: Option<Endpoint>,
}
