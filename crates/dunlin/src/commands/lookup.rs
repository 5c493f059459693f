//! `dunlin lookup`

use std::time::SystemTime;

use anyhow::Result;
use clap::Args;
use dunlin_api::{CheckState, Instance, Service, Standing};
use dunlin_core::catalog::{self, Endpoint, Scope, ServiceView};
use dunlin_core::model::{ServiceName, ZoneName};

use crate::access::Agent;
use crate::context::Context;
use crate::failure::{DONE, Failure, is_unreachable};
use crate::last_known_good;
use crate::render;
use crate::settings::{self, ResolvedConfig};

/// Print where a service's healthy instances are, one address:port a line.
///
/// Prints those in the agent's own zone if there are any,
/// else those in the nearest zone that has some. Without any, prints nothing and ends with exit code 1.
///
/// While no agent runs, answers from what it last kept on disk, and says so on standard error.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  dunlin lookup web\n  curl http://$(dunlin lookup web | head -1)/"
)]
pub(crate) struct LookupArgs {
    /// The service.
    name: ServiceName,
    /// Only in this zone.
    #[arg(long, conflicts_with = "all")]
    zone: Option<ZoneName>,
    /// In all zones.
    #[arg(long)]
    all: bool,
}

pub(crate) async fn lookup(args: LookupArgs, context: &Context) -> Result<u8> {
    let scope = match &args.zone {
        Some(zone) => Scope::Zone(zone),
        None if args.all => Scope::Any,
        None => Scope::Nearest,
    };
    let found = find(&context.agent(), &args.name, scope, context).await?;
    if context.out.is_json() {
        context.out.json(&found);
    } else {
        for instance in &found.instances {
            context.out.line(render::endpoint(instance.address, instance.port));
        }
    }
    if found.instances.is_empty() {
        let place = args.zone.map(|z| format!(" in zone {z}")).unwrap_or_default();
        let message = format!("no instance of {} is healthy{place}", args.name);
        return Err(
            Failure::not_found(message, "`dunlin services` shows how each service fares.").into()
        );
    }
    Ok(DONE)
}

/// The instances that answers hold, from the agent, or from disk when there is none.
pub(super) async fn find(
    agent: &Agent,
    name: &ServiceName,
    scope: Scope<'_>,
    context: &Context,
) -> Result<Service> {
    match ask(agent, name, scope).await {
        Err(error) if is_unreachable(&error) && context.named_agent.is_none() => {
            from_disk(name, scope, context).map_err(|on_disk| {
                context.out.note(format_args!("{on_disk:#}"));
                error
            })
        }
        answer => answer,
    }
}

async fn ask(agent: &Agent, name: &ServiceName, scope: Scope<'_>) -> Result<Service> {
    let zone = match scope {
        Scope::Zone(zone) => format!("&zone={zone}"),
        Scope::Nearest | Scope::Any => String::new(),
    };
    let path = format!("/api/services/{name}?health=healthy{zone}");
    let mut service: Service = agent.get(&path).await?;
    if scope == Scope::Nearest {
        keep_nearest(&mut service.instances);
    }
    Ok(service)
}

/// Instances come sorted by distance, so the first one stands in the nearest zone that has any.
fn keep_nearest(instances: &mut Vec<Instance>) {
    if let Some(zone) = instances.first().map(|i| i.zone.clone()) {
        instances.retain(|i| i.zone == zone);
    }
}

fn from_disk(name: &ServiceName, scope: Scope<'_>, context: &Context) -> Result<Service> {
    let config = settings::load(context.config.as_deref())?.config;
    let kept = last_known_good::open(&ResolvedConfig::data_dir(&config)?)?;
    let age = SystemTime::now().duration_since(kept.written).unwrap_or_default();
    let age = humantime::format_duration(std::time::Duration::from_secs(age.as_secs()));
    context.out.note(format_args!(
        "No agent answers; this is what it last kept on disk, written {age} ago."
    ));
    let view = kept.view.service(name).ok_or_else(|| {
        Failure::not_found(format!("no service {name} was known"), "Start the agent to be sure.")
    })?;
    Ok(to_wire(view, scope))
}

fn to_wire(view: &ServiceView, scope: Scope<'_>) -> Service {
    Service {
        service: view.name.to_string(),
        index: view.index,
        guarded: view.guard.is_some(),
        instances: view.answered(scope).map(instance_to_wire).collect(),
    }
}

fn instance_to_wire(e: &Endpoint) -> Instance {
    let text = |t: &std::sync::Arc<str>| t.to_string();
    let checks = e.checks.iter().map(|(id, row)| CheckState {
        id: id.to_string(),
        status: row.status.as_str().to_owned(),
        output: row.output.to_string(),
        since: row.since.to_string(),
    });
    Instance {
        id: e.instance.id.to_string(),
        node: e.node.name.to_string(),
        zone: e.node.zone.to_string(),
        address: e.instance.address,
        port: e.instance.port.get(),
        weight: e.instance.weight,
        tags: e.instance.profile.tags.iter().map(text).collect(),
        meta: e.instance.profile.meta.iter().map(|(k, v)| (text(k), text(v))).collect(),
        health: e.health.to_string(),
        standing: match e.standing {
            catalog::Standing::Regular => None,
            catalog::Standing::Held => Some(Standing::Held),
            catalog::Standing::Panic => Some(Standing::Panic),
        },
        reason: None,
        checks: checks.collect(),
    }
}
