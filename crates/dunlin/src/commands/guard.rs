//! `dunlin guard`

use anyhow::Result;
use clap::{Args, Subcommand};
use dunlin_api::GuardList;
use dunlin_core::model::ServiceName;
use serde_json::Value;

use crate::context::Context;
use crate::failure::DONE;
use crate::render;

/// Show which services the guard holds, or release one.
///
/// When many instances of a service vanish at once, the guard goes on serving those that still accept
/// connections. Without a subcommand: lists the services it holds.
#[derive(Debug, Args)]
pub(crate) struct GuardArgs {
    #[command(subcommand)]
    command: Option<GuardCommand>,
}

#[derive(Debug, Subcommand)]
enum GuardCommand {
    /// Believe that a service's instances are gone: serve by health alone again.
    Release {
        /// Which one.
        service: ServiceName,
    },
}

pub(crate) async fn guard(args: GuardArgs, context: &Context) -> Result<u8> {
    let agent = context.agent();
    match args.command {
        None => {
            let list: GuardList = agent.get("/api/guard").await?;
            context.out.list(&list, &render::guarded(&list), "The guard holds nothing.");
        }
        Some(GuardCommand::Release { service }) => {
            let _: Value = agent.delete(&format!("/api/guard/{service}")).await?;
            context.out.note(format_args!("{service} is served by health alone."));
        }
    }
    Ok(DONE)
}
