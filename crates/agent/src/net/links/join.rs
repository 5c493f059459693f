//! Finds the cluster: dials the configured agents as long as there is no link.

use std::sync::Arc;
use std::time::Duration;

use tracing::debug;

use super::dial::dial;
use crate::net::Context;
use crate::net::context::JOIN_SUBJECT;

/// The shortest time between two attempts to join. It doubles with each attempt, up to the longest.
const MIN_JOIN_INTERVAL: Duration = Duration::from_millis(200);
const MAX_JOIN_INTERVAL: Duration = Duration::from_secs(10);

/// Dials the agents to join, in turn, as long as there is no link; until the agent stops.
pub(in crate::net) async fn join_all(context: Arc<Context>, join: Vec<String>) {
    let mut interval = MIN_JOIN_INTERVAL;
    let stop = context.stop().clone();
    loop {
        if context.lanes.load().is_empty() {
            for host in &join {
                let Some(()) = stop.run_until_cancelled(join_one(&context, host)).await else {
                    return;
                };
            }
        } else {
            context.shared.problems.clear(JOIN_SUBJECT);
            interval = MIN_JOIN_INTERVAL;
        }
        if stop.run_until_cancelled(tokio::time::sleep(interval)).await.is_none() {
            return;
        }
        interval = (interval * 2).min(MAX_JOIN_INTERVAL);
    }
}

async fn join_one(context: &Arc<Context>, host: &str) {
    let Err(problem) = try_host(context, host).await else { return };
    debug!(problem, "not joined");
    if context.lanes.load().is_empty() {
        context.shared.problems.set(JOIN_SUBJECT, problem);
    }
}

/// Tries all addresses of a host. An address of this agent ends the attempt.
async fn try_host(context: &Arc<Context>, host: &str) -> Result<(), String> {
    let addresses =
        tokio::net::lookup_host(host).await.map_err(|error| format!("{host}: {error}"))?;
    let mut problem = format!("{host} has no address");
    for address in addresses {
        if context.transport().is_own(address) {
            return Ok(());
        }
        let Err(error) = dial(context, address, None).await else { return Ok(()) };
        if error.is_refusal() {
            context.report(address.ip(), error.fault(), &error.to_string());
        }
        problem = format!("{host}: {error}");
    }
    Err(problem)
}
