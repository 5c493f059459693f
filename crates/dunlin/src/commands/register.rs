//! `dunlin register`, `dunlin deregister`

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use dunlin_api::{Instance, Registration, Service};
use dunlin_core::model::{InstanceId, ServiceName};
use serde_json::Value;
use tokio::time::timeout;

use crate::access::Agent;
use crate::context::Context;
use crate::failure::{DONE, Failure};
use crate::registration::{DescribeArgs, parse_port, read_file};

/// Octets of a registration file; the agent takes no larger body.
const MAX_FILE_OCTETS: u64 = 1024 * 1024;

/// Register instances on this host; they stay until deregistered.
///
/// Registers what a file describes, or one instance by flags. It stays registered, over restarts of the
/// agent and the host, until `dunlin deregister`. For a program that comes and goes, see `dunlin run`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    dunlin register --service web --port 8080 --check http:/healthz --wait\n  \
    dunlin register web.toml")]
pub(crate) struct RegisterArgs {
    /// A file as in the services folder, TOML or JSON; `-` is standard input.
    #[arg(required_unless_present = "service", conflicts_with = "service")]
    file: Option<PathBuf>,
    /// The service it belongs to.
    #[arg(long, requires = "port")]
    service: Option<ServiceName>,
    /// Where it listens.
    #[arg(long, requires = "service", value_parser = parse_port)]
    port: Option<u16>,
    /// Its id, unique on this node [default: SERVICE-PORT].
    #[arg(long, requires = "service")]
    id: Option<InstanceId>,
    #[command(flatten)]
    describe: DescribeArgs,
    /// Wait until it is healthy, at most this long [default: 30s].
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true,
        default_missing_value = "30s", value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
}

/// Remove an instance of this host.
#[derive(Debug, Args)]
pub(crate) struct DeregisterArgs {
    /// The instance, on this host.
    id: InstanceId,
}

pub(crate) async fn register(args: RegisterArgs, context: &Context) -> Result<u8> {
    let wait = args.wait;
    let registrations = registrations(args)?;
    let agent = context.agent();
    let mut stored = Vec::new();
    for registration in &registrations {
        let path = format!("/api/instances/{}", registration.id);
        let instance: Instance = agent.put(&path, registration).await?;
        context.out.note(format_args!("{} is registered: {}.", instance.id, instance.health));
        stored.push((registration.service.as_str(), instance));
    }
    if let Some(wait) = wait {
        for (service, instance) in &mut stored {
            *instance = until_healthy(&agent, service, instance, wait).await?;
            context.out.note(format_args!("{} is {}.", instance.id, instance.health));
        }
    }
    if context.out.is_json() {
        let instances: Vec<_> = stored.into_iter().map(|(_, instance)| instance).collect();
        context.out.json(&instances);
    }
    Ok(DONE)
}

pub(crate) async fn deregister(args: DeregisterArgs, context: &Context) -> Result<u8> {
    let _: Value = context.agent().delete(&format!("/api/instances/{}", args.id)).await?;
    context.out.note(format_args!("{} is deregistered.", args.id));
    Ok(DONE)
}

fn registrations(args: RegisterArgs) -> Result<Vec<Registration>> {
    if let Some(file) = args.file {
        return from_file(&file).map_err(|e| Failure::wrong_use(format!("{e:#}"), "").into());
    }
    // clap makes sure that service and port come together.
    let (Some(service), Some(port)) = (args.service, args.port) else {
        return Err(Failure::wrong_use("--service and --port belong together", "").into());
    };
    let id = match args.id {
        Some(id) => id,
        None => InstanceId::parse(&format!("{service}-{port}"))
            .map_err(|e| Failure::wrong_use(format!("{e}"), "Give it an --id."))?,
    };
    Ok(vec![args.describe.into_registration(&id, &service, port)])
}

fn from_file(file: &Path) -> Result<Vec<Registration>> {
    let is_stdin = file == Path::new("-");
    let origin = if is_stdin { "standard input".to_owned() } else { file.display().to_string() };
    let mut text = String::new();
    let read = if is_stdin {
        std::io::stdin().take(MAX_FILE_OCTETS + 1).read_to_string(&mut text)
    } else {
        let opened = std::fs::File::open(file);
        opened.and_then(|f| f.take(MAX_FILE_OCTETS + 1).read_to_string(&mut text))
    };
    let octets = read.with_context(|| format!("{origin} cannot be read"))?;
    anyhow::ensure!(octets as u64 <= MAX_FILE_OCTETS, "{origin} is larger than 1 MiB");
    let registrations = read_file(&text, &origin)?;
    anyhow::ensure!(!registrations.is_empty(), "{origin} holds no instance");
    Ok(registrations)
}

/// Waits until an instance is in answers, and returns its last state.
async fn until_healthy(
    agent: &Agent,
    service: &str,
    instance: &Instance,
    wait: Duration,
) -> Result<Instance> {
    let mut last = instance.clone();
    let waiting = async {
        while !is_healthy(&last) {
            let mut stream = agent.stream(&format!("/api/services/{service}/watch"), None).await?;
            while let Some(event) = stream.next().await? {
                if let Some(found) = find_in(&event.data, instance) {
                    last = found;
                }
                if is_healthy(&last) {
                    break;
                }
            }
        }
        anyhow::Ok(())
    };
    match timeout(wait, waiting).await {
        Ok(result) => result.map(|()| last),
        Err(_) => Err(not_healthy(&last, wait).into()),
    }
}

fn is_healthy(instance: &Instance) -> bool {
    matches!(instance.health.as_str(), "passing" | "warning")
}

fn find_in(data: &str, wanted: &Instance) -> Option<Instance> {
    let service: Service = serde_json::from_str(data).ok()?;
    let is_wanted = |i: &Instance| i.id == wanted.id && i.node == wanted.node;
    service.instances.into_iter().find(is_wanted)
}

fn not_healthy(instance: &Instance, wait: Duration) -> Failure {
    let checks = instance.checks.iter().filter(|c| c.status == "critical");
    let why: Vec<_> = checks.map(|c| format!("{}: {}", c.id, c.output)).collect();
    let wait = humantime::format_duration(wait);
    let message = format!("{} is {} after {wait}", instance.id, instance.health);
    Failure::not_found(message, why.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{WRONG_USE, exit_code};

    #[test]
    fn a_file_that_cannot_be_used_is_wrong_use() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("web.toml");
        for text in [None, Some(""), Some("[[instance]]\nx = 1"), Some("\u{1}")] {
            if let Some(text) = text {
                std::fs::write(&file, text).unwrap();
            }
            let args = RegisterArgs {
                file: Some(file.clone()),
                service: None,
                port: None,
                id: None,
                describe: DescribeArgs::default(),
                wait: None,
            };
            let error = registrations(args).unwrap_err();
            assert_eq!(exit_code(&error), WRONG_USE, "{text:?}");
            assert!(error.to_string().contains("web.toml"), "{error}");
        }
    }
}
