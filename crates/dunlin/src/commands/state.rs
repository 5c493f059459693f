//! `dunlin drain`, `dunlin maintenance`: taking instances of this host out of answers and putting them
//! back.

use anyhow::Result;
use clap::Args;
use dunlin_api::MaintenanceRequest;
use dunlin_core::model::InstanceId;
use serde_json::{Value, json};

use crate::access::Agent;
use crate::cli::Context;
use crate::failure::DONE;

/// Give an instance no new work.
#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    /// The instance, on this host.
    id: InstanceId,
    /// Put it back.
    #[arg(long)]
    undo: bool,
}

/// Take an instance out of answers, or put it back.
#[derive(Debug, Args)]
pub(crate) struct MaintenanceArgs {
    /// The instance, on this host.
    id: InstanceId,
    /// Why it is taken out, for other people to read.
    #[arg(long, required_unless_present = "off", conflicts_with = "off")]
    reason: Option<String>,
    /// Put it back.
    #[arg(long)]
    off: bool,
}

pub(crate) async fn drain(args: DrainArgs, context: &Context) -> Result<u8> {
    let agent = context.agent();
    if args.undo {
        put_maintenance(&agent, &args.id, None).await?;
        context.out.note(format_args!("{} is back in answers if healthy.", args.id));
        return Ok(DONE);
    }
    put_drain(&agent, &args.id).await?;
    context.out.note(format_args!("{} gets no new work.", args.id));
    Ok(DONE)
}

pub(crate) async fn maintenance(args: MaintenanceArgs, context: &Context) -> Result<u8> {
    put_maintenance(&context.agent(), &args.id, args.reason).await?;
    let state = if args.off { "is back in answers if healthy" } else { "is in maintenance" };
    context.out.note(format_args!("{} {state}.", args.id));
    Ok(DONE)
}

/// Asks the agent to drain an instance.
pub(super) async fn put_drain(agent: &Agent, id: &InstanceId) -> Result<()> {
    let _: Value = agent.put(&format!("/api/instances/{id}/drain"), &json!({})).await?;
    Ok(())
}

async fn put_maintenance(agent: &Agent, id: &InstanceId, reason: Option<String>) -> Result<()> {
    let request =
        MaintenanceRequest { enabled: reason.is_some(), reason: reason.unwrap_or_default() };
    let _: Value = agent.put(&format!("/api/instances/{id}/maintenance"), &request).await?;
    Ok(())
}
