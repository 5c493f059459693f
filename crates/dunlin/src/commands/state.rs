//! `dunlin drain`, `dunlin maintenance`: taking instances of this host, or all of it, out of answers and
//! putting them back.

use anyhow::Result;
use clap::Args;
use dunlin_api::{MaintenanceRequest, NodeDrainRequest};
use dunlin_core::model::InstanceId;
use serde_json::{Value, json};

use crate::access::Agent;
use crate::context::Context;
use crate::failure::DONE;

/// Give an instance, or the whole node, no new work.
#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    /// The instance, on this host.
    #[arg(required_unless_present = "node", conflicts_with = "node")]
    id: Option<InstanceId>,
    /// This host's node with all its instances.
    #[arg(long)]
    node: bool,
    /// Put it back.
    #[arg(long, visible_alias = "off")]
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
    match (args.id, args.undo) {
        (None, undo) => drain_node(!undo, &agent, context).await?,
        (Some(id), true) => {
            put_maintenance(&agent, &id, None).await?;
            context.out.note(format_args!("{id} is back in answers if healthy."));
        }
        (Some(id), false) => {
            put_drain(&agent, &id).await?;
            context.out.note(format_args!("{id} gets no new work."));
        }
    }
    Ok(DONE)
}

async fn drain_node(enabled: bool, agent: &Agent, context: &Context) -> Result<()> {
    let _: Option<Value> = agent.put("/api/node/drain", &NodeDrainRequest { enabled }).await?;
    context.out.note(if enabled {
        "The node is draining: no instance on it gets new work."
    } else {
        "The node's instances are back in answers if healthy."
    });
    Ok(())
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
