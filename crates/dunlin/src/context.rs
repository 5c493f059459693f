//! The context of a command, which is the same for all of them.

use std::path::PathBuf;

use dunlin_api::client::{Credentials, Endpoint};

use crate::output::Printer;

/// The options that all commands have in common.
#[derive(Debug)]
pub(crate) struct Context {
    /// The printer of results and messages.
    pub(crate) out: Printer,
    /// The configuration file that was named, if one was.
    pub(crate) config: Option<PathBuf>,
    /// The credentials that are shown to an agent.
    pub(crate) credentials: Credentials,
    /// The agent's address, if it was named.
    pub(crate) named_agent: Option<Endpoint>,
}
