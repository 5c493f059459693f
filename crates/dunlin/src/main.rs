//! `dunlin`: the agent and all commands in one binary.
//!
//! The story: read the command line, find out where the agent listens (nothing is opened yet), do what
//! was asked, and end with an exit code that scripts can rely on. All that is printed goes through
//! [`output`]; all that ends badly goes through [`failure`].

mod access;
mod cli;
mod commands;
mod context;
mod credentials;
mod failure;
mod last_known_good;
mod logging;
mod machine;
mod output;
mod registration;
mod render;
mod settings;

use std::process::ExitCode;

use clap::Parser;

use cli::Cli;

fn main() -> ExitCode {
    // One provider for all TLS in this process, chosen before anything could ask for one. It fails only
    // when one is installed already, and nothing ran before this.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cli = Cli::parse();
    let context = match cli.context() {
        Ok(context) => context,
        Err(error) => return failure::report(cli.printer(), &error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failure::report(context.out, &error.into()),
    };
    match runtime.block_on(commands::perform(cli.command, &context)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => failure::report(context.out, &error),
    }
}
