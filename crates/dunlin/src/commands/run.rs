//! `dunlin run`: announces a service for as long as a command runs.
//!
//! The command comes first: it starts and goes on whether an agent answers or not. A task states the
//! instance to the agent every few seconds with a time to live, so that a killed `run` vanishes and a
//! restarted agent learns of it again.

mod announcer;
mod child;
mod environment;

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use dunlin_api::client::Timeouts;
use dunlin_core::model::{InstanceId, ServiceName};

use crate::context::Context;
use crate::failure::Failure;
use crate::registration::{DescribeArgs, parse_port};
use announcer::Announcer;
use environment::Injection;

/// Run a command and announce it as a service for as long as it runs.
///
/// Starts CMD and announces it as an instance of SERVICE until it ends. Its exit code is passed
/// through, 128 plus the signal's number if one killed it. SIGTERM and SIGINT drain the instance before
/// they are passed on; SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are passed on at once.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    dunlin run --service web:8080 --check http:/healthz -- ./server --port 8080\n  \
    dunlin run --service api:9000 --env DB=postgres.prod -- ./api    # DB=10.0.0.7:5432")]
pub(crate) struct RunArgs {
    /// What to announce: the service and the port where CMD listens.
    #[arg(long, value_name = "NAME:PORT", value_parser = parse_service)]
    service: (ServiceName, u16),
    /// The instance's id, unique on this node [default: NAME-PID].
    #[arg(long)]
    id: Option<InstanceId>,
    #[command(flatten)]
    describe: DescribeArgs,
    /// Set VAR to the host:port of a healthy instance of NAME before CMD starts; can be given several
    /// times. Without a healthy instance CMD is not started.
    #[arg(long = "env", value_name = "VAR=NAME", value_parser = environment::parse)]
    injections: Vec<Injection>,
    /// How long to wait for instances that --env needs.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    wait_env: Option<Duration>,
    /// The command and its arguments.
    #[arg(required = true, last = true, value_name = "CMD")]
    command: Vec<String>,
}

fn parse_service(text: &str) -> Result<(ServiceName, u16), String> {
    let (name, port) = text.rsplit_once(':').ok_or("expected NAME:PORT, as in web:8080")?;
    let name = ServiceName::parse(name).map_err(|e| e.to_string())?;
    Ok((name, parse_port(port)?))
}

/// An agent on the same host answers at once or is in trouble; the command must not wait for it.
const LOCAL_TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(1),
    answer: Duration::from_secs(5),
    silence: Duration::from_secs(60),
};

pub(crate) async fn run(args: RunArgs, context: &Context) -> Result<u8> {
    let agent = context.agent().with_timeouts(LOCAL_TIMEOUTS);
    let (service, port) = args.service;
    let id = match args.id {
        Some(id) => id,
        None => InstanceId::parse(&format!("{service}-{}", std::process::id()))
            .map_err(|e| Failure::wrong_use(e.to_string(), "Give it an --id."))?,
    };
    // The provider's name carries the id behind "run.".
    InstanceId::parse(&format!("run.{id}"))
        .map_err(|e| Failure::wrong_use(format!("id {id}: {e}"), "Give it a shorter --id."))?;
    let variables = environment::look_up(&agent, &args.injections, args.wait_env, context).await?;
    let signals = child::Signals::listen()?;
    let child = child::start(&args.command, variables)?;
    let registration = args.describe.into_registration(&id, &service, port);
    let announcer = Announcer::start(agent, id, registration, context.out);
    let code = child::attend(child, signals, &announcer, context.out).await;
    announcer.stop().await;
    code
}

#[cfg(test)]
mod tests {
    use super::parse_service;

    #[test]
    fn a_service_is_announced_with_its_port() {
        let (name, port) = parse_service("http.api.prod.shop:8080").unwrap();
        assert_eq!((name.as_str(), port), ("http.api.prod.shop", 8080));
        for (text, expected) in [
            ("web", "expected NAME:PORT"),
            ("web:", "expected a port"),
            ("web:0", "expected a port"),
            (":80", "empty label"),
            ("we b:80", "holds ' '"),
        ] {
            let error = parse_service(text).unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
