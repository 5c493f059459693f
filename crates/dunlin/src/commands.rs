//! One file per group of commands; each takes its arguments and the shared context, and gives back the
//! exit code.

pub(crate) mod agent;
mod completions;
pub(crate) mod config;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod guard;
pub(crate) mod lookup;
pub(crate) mod nodes;
pub(crate) mod providers;
pub(crate) mod register;
pub(crate) mod run;
pub(crate) mod services;
pub(crate) mod state;
pub(crate) mod tls;
pub(crate) mod token;
pub(crate) mod watch;

use anyhow::Result;

use crate::cli::Command;
use crate::context::Context;
use crate::failure::DONE;

/// Performs a command and returns its exit code.
pub(crate) async fn perform(command: Command, context: &Context) -> Result<u8> {
    match command {
        Command::Agent(args) => agent::agent(args, context).await,
        Command::Dev(args) => dev::dev(args, context).await,
        Command::Services => services::services(context).await,
        Command::Lookup(args) => lookup::lookup(args, context).await,
        Command::Watch(args) => watch::watch(args, context).await,
        Command::Register(args) => register::register(args, context).await,
        Command::Deregister(args) => register::deregister(args, context).await,
        Command::Run(args) => run::run(args, context).await,
        Command::Providers => providers::providers(context).await,
        Command::Nodes => nodes::nodes(context).await,
        Command::Events(args) => events::events(args, context).await,
        Command::Drain(args) => state::drain(args, context).await,
        Command::Maintenance(args) => state::maintenance(args, context).await,
        Command::Guard(args) => guard::guard(args, context).await,
        Command::Config(args) => config::config(args, context),
        Command::Tls(args) => tls::tls(args, context),
        Command::Token(args) => token::token(args, context),
        Command::Completions { shell } => {
            completions::completions(shell, context);
            Ok(DONE)
        }
        Command::Doctor(args) => doctor::doctor(args, context).await,
    }
}
