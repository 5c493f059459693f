//! `dunlin token`

use anyhow::Result;
use clap::{Args, Subcommand};
use dunlin_agent::access::{NewToken, Scope, Tokens};
use serde_json::json;

use crate::context::Context;
use crate::failure::{DONE, Failure};

/// Make tokens for the API.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token, and the lines for api.tokens_file. Nothing is written and no agent is asked.
    Create {
        /// What people call it.
        #[arg(long)]
        name: String,
        /// What it is good for: read, register:PREFIX (first labels of services, or *) or admin. Several times
        /// for several.
        #[arg(long = "scope", required = true, value_parser = Scope::parse)]
        scopes: Vec<Scope>,
    },
}

pub(crate) fn token(args: TokenArgs, context: &Context) -> Result<u8> {
    let TokenCommand::Create { name, scopes } = args.command;
    let token = NewToken::generate()?;
    let entry = token.entry(&name, &scopes);
    // As the agent will read it.
    Tokens::parse(&entry).map_err(|e| Failure::wrong_use(e.to_string(), ""))?;
    if context.out.is_json() {
        context.out.json(&json!({ "token": token.secret(), "entry": entry }));
        return Ok(DONE);
    }
    context.out.line(format_args!(
        "{}\n\nThis is the token; it is shown only now. These lines go into api.tokens_file:\n\n{}",
        token.secret(),
        entry.trim_end()
    ));
    Ok(DONE)
}
