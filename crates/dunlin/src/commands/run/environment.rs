//! `--env VAR=NAME`: addresses of other services, looked up before the command starts.

use std::time::Duration;

use anyhow::Result;
use dunlin_core::catalog::Scope;
use dunlin_core::model::ServiceName;
use tokio::time::{Instant, sleep};

use crate::access::Agent;
use crate::commands::lookup;
use crate::context::Context;
use crate::failure::{Failure, NOT_FOUND, exit_code, is_unreachable};
use crate::render;

/// Time between two lookups with `--wait-env`.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// A variable and the service whose address it is to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Injection {
    variable: String,
    service: ServiceName,
}

pub(super) fn parse(text: &str) -> Result<Injection, String> {
    let (variable, service) = text.split_once('=').ok_or("expected VAR=NAME, as in DB=postgres")?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let digit_first = variable.starts_with(|c: char| c.is_ascii_digit());
    if variable.is_empty() || digit_first || !variable.chars().all(allowed) {
        return Err(format!("{variable:?} is not the name of a variable"));
    }
    let service = ServiceName::parse(service).map_err(|e| e.to_string())?;
    let variable = variable.to_owned();
    Ok(Injection { variable, service })
}

/// Looks up every address, waiting for instances to become healthy if that is wanted.
pub(super) async fn look_up(
    agent: &Agent,
    injections: &[Injection],
    wait: Option<Duration>,
    context: &Context,
) -> Result<Vec<(String, String)>> {
    let deadline = Instant::now() + wait.unwrap_or_default();
    let mut variables = Vec::new();
    for injection in injections {
        let address = loop {
            match address_of(agent, &injection.service, context).await {
                Err(error) if is_worth_waiting(&error) && Instant::now() < deadline => {
                    sleep(RETRY_INTERVAL).await;
                }
                answer => break answer?,
            }
        };
        variables.push((injection.variable.clone(), address));
    }
    Ok(variables)
}

fn is_worth_waiting(error: &anyhow::Error) -> bool {
    exit_code(error) == NOT_FOUND || is_unreachable(error)
}

async fn address_of(agent: &Agent, service: &ServiceName, context: &Context) -> Result<String> {
    let found = lookup::find(agent, service, Scope::Nearest, context).await?;
    // Instances of weight 0 take work only when nothing else is left.
    let first = found.instances.iter().find(|i| i.weight > 0).or(found.instances.first());
    let first = first.ok_or_else(|| {
        Failure::not_found(
            format!("no instance of {service} is healthy, so the command was not started"),
            "With --wait-env 30s it is waited for.",
        )
    })?;
    Ok(render::endpoint(first.address, first.port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_gets_the_address_of_a_service() {
        let injection = parse("DB_1=postgres.prod").unwrap();
        assert_eq!(
            (injection.variable.as_str(), injection.service.as_str()),
            ("DB_1", "postgres.prod")
        );
        for bad in ["DB", "=web", "1A=web", "A-B=web", "A=we b", "A="] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
